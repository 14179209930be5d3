//! Nothing that may leave waits: with batches far smaller than what happens at once, each answer
//! leaves at once, on a ring of its own and on one that shares its thread. The rings wait for
//! longer than any test: a send that is delayed until the next event stays for good, because the
//! next event is its own answer.
//!
//! `cargo test --release -p netpoll --test uring_prompt -- --nocapture` prints how late the last
//! answer of a round came.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectionId, ListenerConfig, SharedWait, SharesThread,
    UringBackend, UringConfig, Waker,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

/// Connections of the server.
const CONNECTIONS: usize = 360;
/// At most so many completions per poll.
const BATCH: usize = 16;
const ROUNDS: usize = 20;
/// Answers to each request: to the connection that asked, and to two others.
const ANSWERS: usize = 3;
const ANSWER: &[u8] = b"answered";
/// How long the server would wait for an event.
const WAIT: Duration = Duration::from_secs(240);
/// A ring that waits over an answer wakes after half a second, to look for missed ends; nearly
/// every round was that late when rings did so.
const LATE: Duration = Duration::from_millis(300);
/// Rounds that a loaded machine may stall for so long.
const LATE_MAX: usize = 4;
/// How long a client waits for its answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the server waits.
trait Waits {
    fn poll(&mut self, batch: &mut Completions);
    fn backend(&mut self) -> &mut UringBackend;
}

struct Alone(UringBackend);

impl Waits for Alone {
    fn poll(&mut self, batch: &mut Completions) {
        self.0.poll(WAIT, batch).unwrap();
    }

    fn backend(&mut self) -> &mut UringBackend {
        &mut self.0
    }
}

/// A turn is a poll that does not wait; what the turn queued is submitted before the sleep, which
/// is outside of the ring.
struct Sharing(SharedWait, UringBackend);

impl Waits for Sharing {
    fn poll(&mut self, batch: &mut Completions) {
        let wait = self.1.flush_before_wait(WAIT).unwrap();
        if !wait.is_zero() && !self.0.take_woken(0) {
            self.1.watch(true);
            fence(Ordering::SeqCst);
            self.0.sleep(wait, || self.1.is_ready()).unwrap();
            self.1.watch(false);
        }
        self.1.poll(Duration::ZERO, batch).unwrap();
    }

    fn backend(&mut self) -> &mut UringBackend {
        &mut self.1
    }
}

fn backend(uring: &UringConfig) -> UringBackend {
    let mut config = BackendConfig::small(CONNECTIONS);
    config.batch_max = BATCH;
    UringBackend::new(&config, uring).unwrap()
}

/// Answers each request, a byte, with three messages: to itself and to two other connections.
fn serve(server: &mut impl Waits, done: &AtomicBool) {
    let mut batch = Completions::with_capacity(BATCH);
    let mut all: Vec<ConnectionId> = vec![];
    while !done.load(Ordering::Acquire) {
        server.poll(&mut batch);
        for completion in batch.drain() {
            match completion {
                Completion::Accepted { connection, .. } => all.push(connection),
                Completion::Received { connection, buffer } => {
                    let place = all.iter().position(|other| *other == connection).unwrap();
                    for _ in 0..buffer.as_slice().len() {
                        for distance in [0, 1, 7] {
                            let to = all[(place + distance) % CONNECTIONS];
                            let answer = server.backend().pools().copy(ANSWER).unwrap().freeze();
                            server.backend().send(to, answer).unwrap();
                        }
                    }
                }
                // The clients have all that they asked for.
                Completion::PeerFinished { .. } | Completion::Closed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Asks on all connections at once, round after round; returns how long each took, the shortest
/// first.
fn ask(address: SocketAddr) -> Vec<Duration> {
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients.iter().for_each(|client| client.set_read_timeout(Some(PATIENCE)).unwrap());
    clients.iter().for_each(|client| client.set_nodelay(true).unwrap());
    std::thread::sleep(Duration::from_millis(100)); // all have been accepted
    let mut answers = [0; ANSWERS * ANSWER.len()];
    let rounds = (0..ROUNDS).map(|round| {
        let start = Instant::now();
        clients.iter_mut().for_each(|client| client.write_all(b"?").unwrap());
        for (number, client) in clients.iter_mut().enumerate() {
            let read = client.read_exact(&mut answers);
            assert!(read.is_ok(), "round {round}: answers to client {number} were put off: {read:?}");
        }
        start.elapsed()
    });
    let mut rounds: Vec<_> = rounds.collect();
    rounds.sort_unstable();
    rounds
}

fn run<W: Waits>(name: &str, make: impl FnOnce() -> W + Send) {
    let (sender, receiver) = std::sync::mpsc::channel::<(SocketAddr, Waker)>();
    let done = &AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut server = make();
            let listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
            let (_, address) = server.backend().listen(&listener).unwrap();
            sender.send((address, server.backend().waker())).unwrap();
            serve(&mut server, done);
        });
        let (address, waker) = receiver.recv().unwrap();
        let asked = std::panic::catch_unwind(|| ask(address));
        done.store(true, Ordering::Release);
        waker.wake();
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (median, slowest) = (rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    println!(
        "{name}: of {ROUNDS} rounds of {CONNECTIONS} requests the median took {median:?}, the slowest {slowest:?}"
    );
    let late = rounds.iter().filter(|round| **round >= LATE).count();
    assert!(late <= LATE_MAX, "{name}: {late} of {ROUNDS} rounds had answers that were put off: {rounds:?}");
}

const SMALL: UringConfig = UringConfig {
    sq_entries: 32,
    cq_entries: 64,
    accepts_in_flight: 8,
    receive_ring_max: 16,
    kernel_workers_max: 1,
};

#[test]
fn a_ring_of_its_own_puts_nothing_off() {
    run("alone", || Alone(backend(&UringConfig::default())));
    run("alone, small queues", || Alone(backend(&SMALL)));
}

#[test]
fn a_ring_that_shares_its_thread_puts_nothing_off() {
    for (name, uring) in [("shared thread", UringConfig::default()), ("shared thread, small queues", SMALL)] {
        run(name, || {
            let (shared, mut backend) = (SharedWait::new().unwrap(), backend(&uring));
            backend.join_wait(shared.slot(0)).unwrap();
            Sharing(shared, backend)
        });
    }
}

/// A peer that was accepted while the table was full is reported as soon as a connection has gone,
/// without a further event.
#[test]
fn a_place_that_becomes_free_is_given_at_once() {
    let mut backend = UringBackend::new(&BackendConfig::small(1), &UringConfig::default()).unwrap();
    let listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (_, address) = backend.listen(&listener).unwrap();
    let mut batch = Completions::with_capacity(16);
    let mut poll = |backend: &mut UringBackend, wait| {
        backend.poll(wait, &mut batch).unwrap();
        batch.drain().collect::<Vec<_>>()
    };
    let _first = TcpStream::connect(address).unwrap();
    let accepted = poll(&mut backend, WAIT);
    let [Completion::Accepted { connection, .. }] = accepted[..] else { panic!("{accepted:?}") };
    let _second = TcpStream::connect(address).unwrap();
    for _ in 0..20 {
        let nothing = poll(&mut backend, Duration::from_millis(5));
        assert!(nothing.is_empty(), "{nothing:?}");
    }
    backend.close(connection);
    let start = Instant::now();
    let waker = backend.waker();
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            if receiver.recv_timeout(PATIENCE).is_err() {
                waker.wake(); // or the test would take minutes to fail
            }
        });
        while !poll(&mut backend, WAIT).iter().any(|c| matches!(c, Completion::Accepted { .. })) {}
        let _ = sender.send(());
    });
    assert!(start.elapsed() < PATIENCE, "the peer waited for the next event");
}
