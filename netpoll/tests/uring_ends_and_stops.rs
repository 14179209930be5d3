//! Stops, resumes, and peers' ends on io_uring: against plain sockets of the standard library.

use netpoll::{
    Backend, BackendConfig, Buffer, Completion, Completions, ConnectionId, Introspect, ListenerConfig,
    PoolSize, UringBackend, UringConfig,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A backend that keeps what it receives.
struct Host {
    backend: UringBackend,
    address: SocketAddr,
    batch: Completions,
    accepted: Vec<ConnectionId>,
    received: Vec<(ConnectionId, Buffer)>,
    closed: usize,
}

impl Host {
    fn new(buffers: u32) -> Host {
        Host::with(buffers, None)
    }

    fn with(buffers: u32, idle_demote: Option<Duration>) -> Host {
        let mut config = BackendConfig { idle_demote, ..BackendConfig::small(16) };
        config.pools.receive = PoolSize { size: 1024, count: buffers };
        let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
        let listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (_, address) = backend.listen(&listener).unwrap();
        let batch = Completions::with_capacity(config.batch_max);
        Host { backend, address, batch, accepted: vec![], received: vec![], closed: 0 }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Host) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}: {:?}", self.backend.counters());
            self.poll();
        }
    }

    fn poll(&mut self) {
        self.backend.poll(Duration::from_millis(1), &mut self.batch).unwrap();
        for completion in self.batch.drain() {
            match completion {
                Completion::Accepted { connection, .. } => self.accepted.push(connection),
                Completion::Received { connection, buffer } => self.received.push((connection, buffer)),
                Completion::Closed { .. } => self.closed += 1,
                Completion::PeerFinished { .. } | Completion::Sent { .. } => {}
                Completion::Connected { .. } => panic!("nothing connects from here"),
            }
        }
    }

    /// A client, accepted.
    fn client(&mut self) -> (TcpStream, ConnectionId) {
        let before = self.accepted.len();
        let client = TcpStream::connect(self.address).unwrap();
        self.until("an accept", |host| host.accepted.len() > before);
        (client, self.accepted[before])
    }
}

/// The receive that is armed stays so: neither cancelled nor armed again.
#[test]
fn a_stop_that_is_taken_back_in_its_turn_costs_nothing() {
    let mut host = Host::new(16);
    let (mut client, id) = host.client();
    client.write_all(b"armed").unwrap();
    host.until("bytes", |host| host.received.len() == 1);
    let before = host.backend.counters().rearms;
    for round in 0..10 {
        host.backend.set_receiving(id, false);
        host.backend.set_receiving(id, true);
        client.write_all(b"more").unwrap();
        host.until("bytes", |host| host.received.len() == 2 + round);
    }
    assert_eq!(host.backend.counters().rearms, before);
}

/// A connection without a buffer that is stopped and resumed again and again keeps its one place in
/// the line for buffers.
#[test]
fn a_stopped_connection_keeps_one_place_in_line() {
    let mut host = Host::new(2);
    let (mut greedy, _) = host.client();
    let (mut starved, id) = host.client();
    greedy.write_all(&[0; 2048]).unwrap();
    host.until("all buffers", |host| host.received.len() == 2);
    let pauses = host.backend.counters().receive_pauses;
    starved.write_all(b"bytes").unwrap();
    host.until("one that finds none", |host| host.backend.counters().receive_pauses > pauses);
    let before = host.backend.counters().rearms;
    for _ in 0..50 {
        host.backend.set_receiving(id, false);
        host.poll();
        host.backend.set_receiving(id, true);
        host.poll();
    }
    host.received.clear();
    host.until("its bytes", |host| host.received.iter().any(|(other, _)| *other == id));
    (0..100).for_each(|_| host.poll());
    let rearms = host.backend.counters().rearms - before;
    assert!(rearms <= 4, "{rearms} receives for one connection");
}

/// One poll has a peer's last request and its end, and receives at once from another connection
/// that has become readable: the end waits for the owner all the same.
#[test]
fn an_end_waits_while_others_are_received_from_at_once() {
    let mut host = Host::with(16, Some(Duration::from_secs(3600))); // none falls quiet
    let (mut asking, id) = host.client();
    let (mut other, _) = host.client();
    for round in 1..=2 {
        asking.write_all(b"promoted").unwrap();
        host.until("bytes", |host| host.received.len() == round);
    }
    asking.write_all(b"request").unwrap();
    asking.shutdown(Shutdown::Write).unwrap();
    other.write_all(b"readable").unwrap();
    host.until("both", |host| host.received.len() == 4);
    let answer = host.backend.pools().copy(b"answer").unwrap().freeze();
    host.backend.send(id, answer).expect("it has not ended");
    host.until("the end", |host| host.closed == 1);
    let mut read = vec![];
    asking.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"answer");
}
