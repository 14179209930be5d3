//! More connections than the process may have descriptors, and more rings than a thread may
//! register.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectError, Introspect, ListenerConfig, UringBackend,
    UringConfig,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

fn loopback() -> ListenerConfig {
    ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// What one side has seen.
#[derive(Default)]
struct Seen {
    opened: usize,
    bytes: usize,
    closed: usize,
}

/// One turn; echoes if `echo` is set.
fn turn(backend: &mut UringBackend, batch: &mut Completions, seen: &mut Seen, echo: bool) {
    backend.poll(Duration::from_millis(1), batch).unwrap();
    for completion in batch.drain() {
        match completion {
            Completion::Accepted { .. } | Completion::Connected { .. } => seen.opened += 1,
            Completion::Received { connection, buffer } => {
                seen.bytes += buffer.len();
                if echo {
                    backend.send(connection, buffer.freeze()).unwrap();
                }
            }
            Completion::Closed { .. } => seen.closed += 1,
            Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
        }
    }
}

/// As many connections as RLIMIT_NOFILE allows one table (20 000 at most), on a ring for each side:
/// twice that many sockets in one process, which then has a handful of descriptors.
#[test]
fn one_ring_holds_as_many_connections_as_the_limit_on_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000);
    let count = (limit as usize).min(20_000);
    let mut config = BackendConfig::small(count);
    config.send_pieces_shared = count;
    let mut server = UringBackend::new(&config, &UringConfig::default()).unwrap();
    let mut client = UringBackend::new(&config, &UringConfig::default()).unwrap();
    let (_, address) = server.listen(&loopback()).unwrap();
    let mut batch = Completions::with_capacity(config.batch_max);
    let (mut of_server, mut of_client) = (Seen::default(), Seen::default());
    let start = Instant::now();
    let mut ids = Vec::new();
    while of_server.opened < count || of_client.opened < count {
        for _ in 0..256.min(count - ids.len()) {
            // From several addresses: the kernel's search for a free port gets slow as one runs out
            // of them.
            let local = SocketAddr::from(([127, 0, 0, 2 + (ids.len() % 16) as u8], 0));
            ids.push(client.connect(Some(local), address).unwrap());
        }
        turn(&mut client, &mut batch, &mut of_client, false);
        turn(&mut server, &mut batch, &mut of_server, true);
        assert!(start.elapsed() < PATIENCE, "{} of {count}", of_server.opened);
    }
    assert!(matches!(client.connect(None, address), Err(ConnectError::TableFull)));
    assert_eq!((server.connection_count(), client.connection_count()), (count, count));
    let hello = client.pools().copy(b"hello").unwrap().freeze();
    for id in &ids {
        client.send(*id, hello.clone()).unwrap();
    }
    while of_client.bytes < 5 * count {
        turn(&mut client, &mut batch, &mut of_client, false);
        turn(&mut server, &mut batch, &mut of_server, true);
        assert!(start.elapsed() < PATIENCE, "{} bytes of {}", of_client.bytes, 5 * count);
    }
    for id in ids {
        client.close(id);
    }
    while of_client.closed < count || of_server.closed < count {
        turn(&mut client, &mut batch, &mut of_client, false);
        turn(&mut server, &mut batch, &mut of_server, true);
        assert!(start.elapsed() < PATIENCE, "{} closed of {count}", of_server.closed);
    }
    assert_eq!(server.counters().accept_errors, 0);
    drop(hello);
    assert!(server.pools().is_full() && client.pools().is_full());
}

/// A thread can register 16 rings; the others are entered by their descriptors and work the same.
#[test]
fn many_rings_live_on_one_thread() {
    let config = BackendConfig::small(100);
    let mut rings: Vec<_> = (0..24)
        .map(|_| {
            let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
            let (_, address) = backend.listen(&loopback()).unwrap();
            (backend, address, Seen::default())
        })
        .collect();
    assert!(rings.iter().any(|(backend, ..)| !backend.setup().registered));
    let addresses: Vec<_> = rings.iter().map(|(_, address, _)| *address).collect();
    let mut batch = Completions::with_capacity(config.batch_max);
    for (number, (backend, ..)) in rings.iter_mut().enumerate() {
        for step in 1..=20 {
            let to = addresses[(number + step) % addresses.len()];
            let id = backend.connect(None, to).unwrap();
            let hello = backend.pools().copy(b"hello").unwrap().freeze();
            backend.send(id, hello).unwrap();
        }
    }
    let start = Instant::now();
    while rings.iter().any(|(_, _, seen)| seen.opened < 40 || seen.bytes < 20 * 5) {
        for (backend, _, seen) in &mut rings {
            turn(backend, &mut batch, seen, false);
        }
        assert!(start.elapsed() < PATIENCE);
    }
}
