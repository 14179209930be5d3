//! After two backends are made, nothing that they do allocates: opening, echoing, fanning out,
//! repairing losses, waiting for slow peers, closing, and being flooded.
#![allow(unsafe_code)]

use dpdk_backend::backend::{Clock, PollBackend, PollConfig};
use dpdk_backend::device::{Capture, CaptureRing, Impair, ImpairConfig, Loopback};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::wire::Mac;
use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectionId, Introspect, ListenerConfig, Timestamp,
    Waker,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Counts the allocations of threads that asked for it.
struct Counting;

// SAFETY: every call is passed to the system's allocator unchanged.
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

struct VirtualClock(Rc<Cell<Timestamp>>);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.get()
    }

    fn idle(&mut self, at_most: Duration, _waker: &Waker) {
        self.0.set(self.0.get() + at_most);
    }
}

type End = PollBackend<Capture<Impair<Loopback>>, VirtualClock>;

fn end(number: u8, device: Loopback, now: &Rc<Cell<Timestamp>>) -> End {
    let ip = IpAddr::from([10, 0, 0, number]);
    let interface = InterfaceConfig::new(Mac([2, 0, 0, 0, 0, number]), ip, 24);
    let mut config = PollConfig::new(&BackendConfig::small(64), interface, [3, u64::from(number)]);
    config.tcp.tables.half_open_max = 16; // some get cookies
    config.tcp.tables.time_wait_max = 32;
    let line = ImpairConfig {
        drop: 0.02,
        duplicate: 0.01,
        corrupt: 0.01,
        reorder: 0.05,
        reorder_delay: Duration::from_millis(3),
        ..ImpairConfig::calm(Duration::from_millis(1))
    };
    let device =
        Capture::new(Impair::new(device, line, u64::from(number)), Some(CaptureRing::new(64, 96)), 0);
    PollBackend::new(&config, device, VirtualClock(Rc::clone(now))).unwrap()
}

#[derive(Default)]
struct Tally {
    accepted: u32,
    closed: u32,
    received: usize,
}

fn serve(server: &mut End, batch: &mut Completions, live: &mut Vec<ConnectionId>, tally: &mut Tally) {
    server.poll(Duration::ZERO, batch).unwrap();
    for completion in batch.drain() {
        match completion {
            Completion::Accepted { connection, .. } => {
                live.push(connection);
                tally.accepted += 1;
            }
            Completion::Received { connection, buffer } => {
                tally.received += buffer.len();
                let _ = server.send(connection, buffer.freeze());
            }
            Completion::Closed { connection, .. } => live.retain(|other| *other != connection),
            _ => {}
        }
    }
}

fn drive(
    server: &mut End,
    client: &mut End,
    address: SocketAddr,
    tally: &mut Tally,
    lists: &mut [Vec<ConnectionId>; 2],
) {
    let mut batches = [Completions::with_capacity(256), Completions::with_capacity(256)];
    ALLOCATIONS.set(Some(0));
    for round in 0..20_000_u32 {
        if round.is_multiple_of(8)
            && let Ok(id) = client.connect(None, address)
        {
            lists[1].push(id);
            if let Some(mut buffer) = client.pools().take(3000) {
                buffer.set_len(3000);
                let _ = client.send(id, buffer.freeze());
            }
        }
        if round.is_multiple_of(50)
            && let Some(mut buffer) = server.pools().take(600)
        {
            buffer.set_len(600);
            let all = buffer.freeze();
            for id in &lists[0] {
                let _ = server.send(*id, all.clone());
            }
        }
        serve(server, &mut batches[0], &mut lists[0], tally);
        client.poll(Duration::from_micros(300), &mut batches[1]).unwrap();
        for completion in batches[1].drain() {
            match completion {
                Completion::Received { connection, .. } if connection.generation().is_multiple_of(3) => {
                    client.finish(connection, None);
                }
                Completion::Received { connection, .. } => client.close(connection),
                Completion::Closed { connection, .. } => {
                    lists[1].retain(|other| *other != connection);
                    tally.closed += 1;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_steady_state_does_not_allocate() {
    let now = Rc::new(Cell::new(Timestamp::from_nanos(1_000_000_000)));
    let (a, b) = Loopback::pair(256);
    let (mut server, mut client) = (end(1, a, &now), end(2, b, &now));
    let any = SocketAddr::from(([10, 0, 0, 1], 0));
    let (_, address) = server.listen(&ListenerConfig::new(any)).unwrap();
    let mut tally = Tally::default();
    let mut lists = [Vec::with_capacity(64), Vec::with_capacity(64)];
    // The batches of `drive` are the test's own.
    drive(&mut server, &mut client, address, &mut tally, &mut lists);
    let allocations = ALLOCATIONS.replace(None);
    assert_eq!(allocations, Some(0), "{:?}", server.counters());
    let counters = *server.stack().counters();
    assert!(tally.accepted > 500 && tally.closed > 500 && tally.received > 1_000_000, "{}", tally.accepted);
    assert!(counters.retransmits > 50 && counters.out_of_order > 0, "{counters:?}");
}
