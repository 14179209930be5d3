//! What io_uring does to the unwary, each trap sprung on purpose: against plain sockets of the
//! standard library.

use netpoll::{
    Backend, BackendConfig, CloseReason, Completion, Completions, ConnectionId, Introspect, ListenerConfig,
    PoolSize, Queues, UringBackend, UringConfig,
};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A backend with one listener, and what it has reported.
struct Host {
    backend: UringBackend,
    address: SocketAddr,
    batch: Completions,
    accepted: Vec<(ConnectionId, SocketAddr)>,
    received: HashMap<ConnectionId, Vec<u8>>,
    closed: Vec<(ConnectionId, CloseReason)>,
    sent: usize,
    /// Buffers are kept instead of dropped.
    hoarding: bool,
    hoard: Vec<netpoll::Buffer>,
}

impl Host {
    fn new(config: &BackendConfig, uring: &UringConfig) -> Host {
        Host::listening(config, uring, &ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    fn listening(config: &BackendConfig, uring: &UringConfig, listener: &ListenerConfig) -> Host {
        let mut backend = UringBackend::new(config, uring).unwrap();
        let (_, address) = backend.listen(listener).unwrap();
        Host {
            backend,
            address,
            batch: Completions::with_capacity(config.batch_max),
            accepted: Vec::new(),
            received: HashMap::new(),
            closed: Vec::new(),
            sent: 0,
            hoarding: false,
            hoard: Vec::new(),
        }
    }

    fn poll(&mut self) {
        self.backend.poll(Duration::from_millis(1), &mut self.batch).unwrap();
        for completion in self.batch.drain() {
            match completion {
                Completion::Accepted { connection, peer, .. } => self.accepted.push((connection, peer)),
                Completion::Connected { .. } => panic!("nothing connects from here"),
                Completion::Received { connection, buffer } => {
                    self.received.entry(connection).or_default().extend_from_slice(buffer.as_slice());
                    if self.hoarding {
                        self.hoard.push(buffer);
                    }
                }
                Completion::Sent { .. } => self.sent += 1,
                Completion::PeerFinished { .. } => {}
                Completion::Closed { connection, reason } => self.closed.push((connection, reason)),
            }
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Host) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}: {:?}", self.backend.counters());
            self.poll();
        }
    }

    fn poll_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.poll();
        }
    }

    /// `count` clients, all accepted.
    fn clients(&mut self, count: usize) -> Vec<TcpStream> {
        let before = self.accepted.len();
        let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(self.address).unwrap()).collect();
        self.until("accepts", |host| host.accepted.len() == before + count);
        clients
    }

    fn bytes_received(&self) -> usize {
        self.received.values().map(Vec::len).sum()
    }

    fn id_of(&self, client: &TcpStream) -> ConnectionId {
        let local = client.local_addr().unwrap();
        self.accepted.iter().find(|(_, peer)| *peer == local).expect("the peer's address is right").0
    }
}

/// The `position`th byte of every stream here.
fn pattern(position: usize) -> u8 {
    (position % 251) as u8
}

fn is_pattern(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(position, byte)| *byte == pattern(position))
}

#[test]
fn an_overflowing_completion_queue_delays_and_loses_nothing() {
    let uring = UringConfig { sq_entries: 16, cq_entries: 16, ..UringConfig::default() };
    let mut host = Host::new(&BackendConfig::small(64), &uring);
    assert_eq!(host.backend.setup().cq_entries, 16);
    let mut clients = host.clients(64);
    for round in 1..=3 {
        for client in &mut clients {
            client.write_all(b"0123456789").unwrap();
        }
        host.until("all bytes", |host| host.bytes_received() == round * 640);
    }
    let counters = host.backend.counters();
    assert!(counters.overflows > 0, "the queue never overflowed: {counters:?}");
    assert!(counters.rearms > 0, "no receive had to be armed again: {counters:?}");
    assert!(host.received.values().all(|bytes| bytes == &b"0123456789".repeat(3)));
}

#[test]
fn failed_sends_behind_unread_completions_are_not_taken_for_sent() {
    failing_sends_with_a_batch_of_one(&UringConfig::default());
}

#[test]
fn failed_sends_on_the_overflow_list_are_not_taken_for_sent() {
    failing_sends_with_a_batch_of_one(&UringConfig {
        sq_entries: 16,
        cq_entries: 16,
        ..UringConfig::default()
    });
}

fn failing_sends_with_a_batch_of_one(uring: &UringConfig) {
    let mut config = BackendConfig::small(48);
    config.batch_max = 1;
    let mut listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    listener.send_buffer = Some(16 << 10);
    let mut host = Host::listening(&config, uring, &listener);
    let mut clients = host.clients(48);
    // Their bytes fill the completion queue first, and one completion a turn is taken out.
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
    }
    host.until("the first bytes", |host| host.bytes_received() > 0);
    // More than 48 × SO_SNDBUF and the peers' windows hold: most sends fail, far more at once than
    // the queue takes.
    let mut block = host.backend.pools().take(128 << 10).unwrap();
    block.append(&(0..128 << 10).map(pattern).collect::<Vec<_>>());
    let block = block.freeze();
    for (id, _) in host.accepted.clone() {
        host.backend.send(id, block.clone()).unwrap();
    }
    host.until("all bytes in", |host| host.bytes_received() == 48 * 5);
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut bytes = vec![0; 128 << 10];
                client.read_exact(&mut bytes).unwrap();
                assert!(is_pattern(&bytes));
            })
        })
        .collect();
    host.until("all bytes out", |_| readers.iter().all(|reader| reader.is_finished()));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let counters = host.backend.counters();
    assert!(counters.send_waits > 0, "no send had to wait: {counters:?}");
    host.until("confirmations", |host| {
        let ids = host.accepted.clone();
        ids.iter().all(|(id, _)| host.backend.queued_bytes(*id) == 0)
    });
    assert_eq!(host.backend.counters().send_bytes, 48 * (128 << 10));
}

/// A send fails and is resolved while an earlier one is being confirmed. By the time that its own
/// confirmation would be due, the next send of the same connection is under way, and fails too.
#[test]
fn a_confirmation_belongs_to_one_send() {
    const PIECE: usize = 128 << 10;
    const PIECES: usize = 6;
    let mut config = BackendConfig::small(12);
    config.batch_max = 2;
    let mut listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    listener.send_buffer = Some(16 << 10);
    let mut host = Host::listening(&config, &UringConfig::default(), &listener);
    let mut slow = host.clients(1).pop().unwrap();
    let quick = host.clients(1).pop().unwrap();
    let mut noise = host.clients(9);
    let (slow_id, quick_id) = (host.id_of(&slow), host.id_of(&quick));
    host.poll_for(Duration::from_millis(5));
    let pause = || std::thread::sleep(Duration::from_millis(20));
    let mut chatter = |clients: std::ops::Range<usize>| {
        noise[clients].iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        pause();
    };
    chatter(0..5);
    host.poll(); // two of five completions, the others stay in the queue
    let small = host.backend.pools().copy(b"small").unwrap().freeze();
    host.backend.send(quick_id, small).unwrap();
    host.poll(); // four: the small send is certain when the fifth has been seen
    let mut block = host.backend.pools().take(PIECE).unwrap();
    block.append(&(0..PIECE).map(pattern).collect::<Vec<_>>());
    let block = block.freeze();
    (0..PIECES).for_each(|_| host.backend.send(slow_id, block.clone()).unwrap());
    host.poll(); // the fifth, and the failure of the large send
    assert_eq!(host.backend.counters().send_waits, 1);
    let mut received = vec![];
    slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut chunk = vec![0; 64 << 10];
    while let Ok(count) = slow.read(&mut chunk) {
        received.extend_from_slice(&chunk[..count]);
    }
    chatter(5..9);
    host.poll(); // there is room to send again, and two of four
    // The second send fails; then the other two, and the mark that the first one's confirmation
    // waited for.
    host.poll();
    host.poll();
    assert_eq!(host.backend.counters().send_waits, 2);
    assert!(host.backend.queued_bytes(slow_id) > 0, "the peer has not taken the rest");
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let reader = std::thread::spawn(move || {
        let from = received.len();
        received.resize(PIECE * PIECES, 0);
        slow.read_exact(&mut received[from..]).map(|()| (received, slow))
    });
    host.until("the reader", |_| reader.is_finished());
    let (received, _slow) = reader.join().unwrap().expect("all bytes");
    assert!(received.chunks(PIECE).all(|piece| *piece == *block), "bytes are missing");
}

#[test]
fn a_ring_without_buffers_pauses_and_resumes() {
    let mut config = BackendConfig::small(16);
    config.pools.receive = PoolSize { size: 1024, count: 4 };
    let mut host = Host::new(&config, &UringConfig::default());
    let mut clients = host.clients(16);
    host.hoarding = true;
    for client in &mut clients {
        client.write_all(&(0..3000).map(pattern).collect::<Vec<_>>()).unwrap();
    }
    host.until("a pause", |host| host.backend.counters().receive_pauses > 0);
    host.poll_for(Duration::from_millis(20));
    assert_eq!(host.hoard.len(), 4, "four buffers there are");
    host.hoarding = false;
    host.hoard.clear();
    host.until("all bytes", |host| host.bytes_received() == 16 * 3000);
    assert!(host.received.values().all(|bytes| is_pattern(bytes)));
    assert!(host.backend.counters().rearms > 0);
    assert!(host.backend.pools().is_full(), "buffers that wait with the kernel count as free");
}

#[test]
fn as_many_buffers_are_lent_as_are_used_and_a_burst_gets_more() {
    let mut config = BackendConfig::small(200);
    config.pools.receive = PoolSize { size: 1024, count: 512 };
    let mut host = Host::new(&config, &UringConfig::default());
    let mut clients = host.clients(200);
    for round in 1..=1000 {
        clients[round % 200].write_all(b"one").unwrap();
        host.until("a word", |host| host.bytes_received() == 3 * round);
    }
    let touched = host.backend.pools().receive_level().touched;
    assert!(touched <= 40, "{touched} buffers went round, and one was in use at a time");
    for round in 1..=3 {
        clients.iter_mut().for_each(|client| client.write_all(&[b'x'; 10_000]).unwrap());
        host.until("all words", |host| host.bytes_received() == 3000 + round * 2_000_000);
    }
    let counters = host.backend.counters();
    assert!(counters.lend_shortages > 0, "2000 at once found 32: {counters:?}");
    assert_eq!(counters.receive_pauses, 0, "buffers were free: {counters:?}");
    assert_eq!(host.backend.pools().receive_level().exhausted, 0);
    assert!(host.backend.pools().is_full(), "buffers that wait with the kernel count as free");
}

#[test]
fn closing_over_an_armed_receive_closes() {
    let mut host = Host::new(&BackendConfig::small(2), &UringConfig::default());
    let mut old = host.clients(1).pop().unwrap();
    let id = host.id_of(&old);
    host.poll_for(Duration::from_millis(5));
    host.backend.close(id);
    host.until("the close", |host| host.closed == [(id, CloseReason::Local)]);
    old.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(old.read(&mut [0; 1]).unwrap(), 0, "FIN");
    // What the old peer still sends reaches no connection, in particular not the next in the same
    // slot.
    let mut new = host.clients(1).pop().unwrap();
    while host.id_of(&new).index() != id.index() {
        let (other, before) = (host.id_of(&new), host.closed.len());
        host.backend.close(other); // accepts in flight have set its slot aside
        host.until("the close", |host| host.closed.len() > before);
        new = host.clients(1).pop().unwrap();
    }
    let _ = old.write_all(b"from the dead");
    new.write_all(b"alive").unwrap();
    let new_id = host.id_of(&new);
    host.until("bytes", |host| host.bytes_received() == 5);
    host.poll_for(Duration::from_millis(10));
    assert_eq!(host.received.keys().collect::<Vec<_>>(), [&new_id]);
    assert!(new_id.index() == id.index() && new_id != id);
}

/// Accepts in flight reserve slots anywhere; without connections they move to the front, and the
/// table starts over.
#[test]
fn a_trimmed_table_begins_at_its_front() {
    let mut config = BackendConfig::small(1000);
    config.pools.receive = PoolSize { size: 4096, count: 64 };
    let uring = UringConfig { accepts_in_flight: 16, ..UringConfig::default() };
    let mut host = Host::new(&config, &uring);
    let mut past = vec![];
    for round in 0..3 {
        let mut clients = host.clients(200);
        clients.iter_mut().for_each(|client| client.write_all(b"hello").unwrap());
        host.until("words", |host| host.bytes_received() == 1000 * (round + 1));
        drop(clients);
        host.until("ends", |host| host.closed.len() == 200 * (round + 1));
        past.extend(host.closed.iter().map(|(id, _)| *id));
        host.backend.trim();
        host.poll_for(Duration::from_millis(2));
        assert_eq!(host.backend.counters().renewals, 1 + round as u64);
        host.backend.trim(); // again: there is nothing to be gained
        host.poll_for(Duration::from_millis(2));
        assert_eq!(host.backend.counters().renewals, 1 + round as u64);
    }
    let mut clients = host.clients(16);
    let ids: Vec<_> = clients.iter().map(|client| host.id_of(client)).collect();
    assert!(ids.iter().all(|id| id.index() < 32 && !past.contains(id)), "{ids:?}");
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    host.until("words", |host| host.bytes_received() == 3016);
    // While a connection is there nothing is cancelled.
    host.backend.trim();
    host.poll_for(Duration::from_millis(2));
    assert_eq!((host.backend.connection_count(), host.clients(1).len()), (16, 1));
}

/// The kernel wakes a receive once for bytes and a reset that arrive together, and forgets the
/// reset.
#[test]
fn a_reset_right_behind_the_last_bytes_is_heard() {
    let mut host = Host::new(&BackendConfig::small(64), &UringConfig::default());
    for armed in [false, true] {
        let mut clients: Vec<_> = (0..20).map(|_| TcpStream::connect(host.address).unwrap()).collect();
        if armed {
            let before = host.accepted.len();
            host.until("accepts", |host| host.accepted.len() == before + 20);
            host.poll_for(Duration::from_millis(5));
        }
        let before = host.closed.len();
        for mut client in clients.drain(..) {
            client.write_all(b"abc").unwrap();
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        host.until("resets", |host| host.closed.len() == before + 20);
        assert!(host.closed[before..].iter().all(|(_, reason)| *reason == CloseReason::PeerReset));
    }
    assert_eq!(host.bytes_received(), 2 * 20 * 3);
}

/// Accepts of quiet listeners take no connection's place.
#[test]
fn idle_listeners_take_no_connections_place() {
    let mut host = Host::new(&BackendConfig::small(10), &UringConfig::default());
    for _ in 0..7 {
        host.backend.listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    }
    host.poll_for(Duration::from_millis(5));
    let clients = host.clients(10);
    assert_eq!((clients.len(), host.backend.connection_count()), (10, 10));
}

/// However many connections come to one listener, the others' accepts stay theirs, and no more.
#[test]
fn a_busy_listener_keeps_its_share_of_accepts() {
    let mut host = Host::new(&BackendConfig::small(1000), &UringConfig::default());
    let listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    (_, host.address) = host.backend.listen(&listener).unwrap();
    for _ in 0..20 {
        host.clients(20);
    }
    assert_eq!(host.accepted.len(), 400);
}

#[test]
fn a_full_table_leaves_peers_in_the_backlog() {
    let mut host = Host::new(&BackendConfig::small(4), &UringConfig::default());
    let clients: Vec<_> = (0..8).map(|_| TcpStream::connect(host.address).unwrap()).collect();
    host.until("a full table", |host| host.accepted.len() == 4);
    host.poll_for(Duration::from_millis(20));
    assert_eq!((host.accepted.len(), host.backend.connection_count()), (4, 4));
    for turn in 0..4 {
        host.backend.close(host.accepted[turn].0);
        host.until("the next", |host| host.accepted.len() == 5 + turn && host.closed.len() == 1 + turn);
    }
    assert_eq!(host.backend.counters().accept_errors, 0, "no accept failed for want of a slot");
    for client in &clients {
        client.set_nonblocking(true).unwrap();
        let alive = host.closed.iter().all(|(id, _)| *id != host.id_of(client));
        let open = matches!(client.peek(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        assert_eq!(open, alive, "only those that were closed here have seen an end");
    }
}

#[test]
fn connects_that_take_the_room_of_accepts_do_not_exceed_the_bound() {
    let mut host = Host::new(&BackendConfig::small(4), &UringConfig::default());
    host.poll_for(Duration::from_millis(2));
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours: Vec<_> =
        (0..4).map(|_| host.backend.connect(None, elsewhere.local_addr().unwrap()).unwrap()).collect();
    let _client = TcpStream::connect(host.address).unwrap();
    for _ in 0..20 {
        host.backend.poll(Duration::from_millis(1), &mut host.batch).unwrap();
        for completion in host.batch.drain() {
            assert!(matches!(completion, Completion::Connected { .. }), "{completion:?} beyond the bound");
        }
    }
    assert_eq!(host.backend.connection_count(), 4);
    host.backend.close(ours[0]);
    host.until("the parked one", |host| host.accepted.len() == 1);
}

#[test]
fn what_a_slow_peer_does_not_take_waits_and_stays_in_order() {
    let mut listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    listener.send_buffer = Some(16 << 10);
    let mut config = BackendConfig::small(1);
    config.pools.blocks[0].count = 4096;
    config.pools.blocks.push(PoolSize { size: 512 << 10, count: 2 });
    config.send_queue_bytes_max = 8 << 20;
    let mut host = Host::listening(&config, &UringConfig::default(), &listener);
    let mut client = host.clients(1).pop().unwrap();
    let id = host.id_of(&client);
    let mut total = 0;
    // One piece far larger than the socket takes, then small ones that must not overtake it, in the
    // same turn and in later ones.
    for size in [300_000, 1000, 1000].into_iter().chain([177; 600]) {
        let mut piece = host.backend.pools().take(size).unwrap();
        piece.append(&(total..total + size).map(pattern).collect::<Vec<_>>());
        host.backend.send(id, piece.freeze()).unwrap();
        total += size;
        if total % 5 == 0 {
            host.poll();
        }
    }
    host.poll_for(Duration::from_millis(20));
    assert!(host.backend.queued_bytes(id) > 0, "the socket can't have taken all of it");
    assert!(host.backend.counters().send_waits > 0 && host.sent == 0);
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; total];
        for chunk in bytes.chunks_mut(5000) {
            client.read_exact(chunk).unwrap();
        }
        (is_pattern(&bytes), client)
    });
    host.until("an empty queue", |host| host.sent > 0 && host.backend.queued_bytes(id) == 0);
    host.until("the reader", |_| reader.is_finished());
    assert!(reader.join().unwrap().0, "bytes came out of order");
    assert_eq!(host.sent, 1, "one wait, one notice");
}

#[test]
fn a_reused_slot_hears_nothing_of_its_former_owner() {
    let mut host = Host::new(&BackendConfig::small(3), &UringConfig::default());
    let mut seen = std::collections::HashSet::new();
    for round in 0..300_u32 {
        let mut client = TcpStream::connect(host.address).unwrap();
        client.write_all(&round.to_ne_bytes()).unwrap();
        host.until("the accept", |host| host.accepted.len() == 1);
        let (id, _) = host.accepted.pop().unwrap();
        assert!(seen.insert(id), "{id:?} was used twice");
        if round % 3 != 0 {
            host.until("the bytes", |host| host.received.contains_key(&id));
            assert_eq!(host.received.remove(&id).unwrap(), round.to_ne_bytes());
        }
        let _ = client.write_all(b"late");
        if round % 2 == 0 {
            host.backend.close(id);
        }
        drop(client);
        host.until("the close", |host| host.closed.iter().any(|(closed, _)| *closed == id));
        host.received.clear();
    }
    host.poll_for(Duration::from_millis(5));
    assert!(host.received.is_empty() && host.closed.len() == 300);
    assert!(host.backend.pools().is_full());
}

/// The kernel looks a shutdown's slot up when one of its worker threads runs. On a loaded machine
/// the connection may be gone by then, and another one in its slot.
#[test]
fn a_late_shutdown_hits_no_other_connection() {
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let over = std::sync::Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut host = Host::new(&BackendConfig::small(2), &UringConfig::default());
    for round in 0..300 {
        let mut client = host.clients(1).pop().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let id = host.id_of(&client);
        let last = host.backend.pools().copy(b"last one").unwrap().freeze();
        host.backend.finish(id, Some(last));
        client.set_nonblocking(true).unwrap();
        let mut bytes = [0; 8];
        host.until("the last message", |_| match client.read(&mut bytes) {
            Ok(count) => {
                assert_eq!((&bytes[..count], round), (&b"last one"[..], round), "ended without a word");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "in round {round}");
                false
            }
        });
        drop(client); // does not wait for FIN
        host.until("the end", |host| host.closed.last().is_some_and(|(closed, _)| *closed == id));
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(host.closed.iter().all(|(_, reason)| *reason == CloseReason::Local), "{:?}", host.closed);
}

#[test]
fn quiet_connections_are_demoted_and_promoted_by_traffic() {
    let mut config = BackendConfig::small(50);
    config.idle_demote = Some(Duration::from_millis(20));
    let mut host = Host::new(&config, &UringConfig::default());
    let mut clients = host.clients(50);
    let (busy, quiet) = clients.split_at_mut(10);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(200) {
        busy.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        host.poll();
    }
    let demoted = |host: &mut Host| {
        let counters = host.backend.counters();
        counters.demotions - counters.promotions
    };
    // The busy ones pause now, too.
    host.until("demotions", |host| demoted(host) == 50);
    let before = host.backend.counters();
    // What does not fit one buffer is received whole, too.
    let mut said = b"awake".to_vec();
    for length in [5, 20_000] {
        said.resize(length, b'y');
        let length = said.len();
        quiet
            .iter_mut()
            .for_each(|client| client.write_all(if length == 5 { &said } else { &said[5..] }).unwrap());
        host.until("their bytes", |host| {
            quiet.iter().all(|client| host.received.get(&host.id_of(client)).is_some_and(|got| *got == said))
        });
    }
    let after = host.backend.counters();
    assert!(after.samples >= before.samples + 40, "each was woken from a quiet time: {after:?}");
    assert!(after.promotions >= before.promotions + 40, "each was demoted and said much: {after:?}");
    drop(clients);
    host.until("every end", |host| host.closed.len() == 50);
    assert!(host.closed.iter().all(|(_, reason)| *reason == CloseReason::PeerClosed));
}

#[test]
fn newcomers_wait_in_the_cheap_way_where_quiet_ones_do() {
    let mut config = BackendConfig::small(20);
    config.idle_demote = Some(Duration::from_secs(3600)); // no connection becomes quiet
    let mut host = Host::new(&config, &UringConfig::default());
    let mut clients = host.clients(20);
    let mut say = |host: &mut Host, word: &[u8], all: usize| {
        clients.iter_mut().for_each(|client| client.write_all(word).unwrap());
        host.until("their words", |host| {
            clients
                .iter()
                .all(|client| host.received.get(&host.id_of(client)).is_some_and(|got| got.len() == all))
        });
        let counters = host.backend.counters();
        (counters.demotions, counters.samples, counters.promotions)
    };
    assert_eq!(say(&mut host, b"login", 5), (20, 20, 0), "one receive each, and nothing to cancel");
    assert_eq!(say(&mut host, b"more", 9), (20, 20, 20), "a busy connection gets the multishot receive");
    assert_eq!(say(&mut host, b"again", 14), (20, 20, 20));
}
