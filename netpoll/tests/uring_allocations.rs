//! After a backend is made and listens, nothing it does allocates: not accepting, receiving,
//! sending, waiting for slow peers, demoting, connecting or closing.
#![allow(unsafe_code)]

use netpoll::{
    Backend, BackendConfig, Completion, Completions, Introspect, ListenerConfig, PoolSize, UringBackend,
    UringConfig,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

thread_local! {
    static ALLOCATIONS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Counts the allocations of threads that asked for it.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get().map(|count| count + 1)));
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Clients that send a word, read the answer slowly and go, some without a word; 300 in all.
fn clients(address: SocketAddr) {
    for round in 0..75 {
        let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        for (position, client) in clients.iter_mut().enumerate() {
            if position != round % 4 {
                client.write_all(&[b'x'; 3000]).unwrap();
            }
        }
        std::thread::sleep(Duration::from_micros(500));
        for (position, client) in clients.iter_mut().enumerate() {
            if position != round % 4 {
                client.read_exact(&mut [0; 3000]).unwrap();
            }
        }
    }
}

#[test]
fn the_steady_state_does_not_allocate() {
    let mut config = BackendConfig::small(8);
    config.pools.receive = PoolSize { size: 512, count: 4 };
    config.idle_demote = Some(Duration::from_micros(100));
    let uring = UringConfig { sq_entries: 16, cq_entries: 16, ..UringConfig::default() };
    let mut backend = UringBackend::new(&config, &uring).unwrap();
    let mut listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    listener.send_buffer = Some(4096);
    let (_, address) = backend.listen(&listener).unwrap();
    let mut batch = Completions::with_capacity(config.batch_max);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            clients(address);
            done.store(true, Ordering::Relaxed);
        });
        ALLOCATIONS.set(Some(0));
        let mut closed = 0;
        let start = Instant::now();
        while !done.load(Ordering::Relaxed) || closed < 300 {
            assert!(start.elapsed() < Duration::from_secs(60), "{closed} closed, {:?}", backend.counters());
            backend.poll(Duration::from_millis(1), &mut batch).unwrap();
            for completion in batch.drain() {
                match completion {
                    Completion::Received { connection, buffer } => {
                        let _ = backend.send(connection, buffer.freeze());
                    }
                    Completion::Closed { .. } => closed += 1,
                    Completion::Accepted { connection, .. } if connection.generation() % 7 == 3 => {
                        // The discard port, which has no listener.
                        let begun = backend.connect(None, SocketAddr::from(([127, 0, 0, 1], 9)));
                        closed -= i32::from(begun.is_ok());
                    }
                    _ => {}
                }
            }
        }
        let allocations = ALLOCATIONS.replace(None);
        assert_eq!(allocations, Some(0), "{:?}", backend.counters());
    });
    let counters = backend.counters();
    assert!(counters.accepts >= 300 && counters.receive_pauses > 0 && counters.demotions > 0, "{counters:?}");
}
