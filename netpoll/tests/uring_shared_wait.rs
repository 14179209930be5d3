//! Several rings on one thread: what ends their shared sleep, and that a wake-up costs nothing
//! while the thread is awake.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, ConnectionId, Introspect, ListenerConfig, SharedWait,
    SharesThread, UringBackend, UringConfig, mailbox,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// So long that a missing wake-up is noticed.
const LONG: Duration = Duration::from_secs(120);

/// More than the 16 ring descriptors that a thread can register.
const RINGS: usize = 20;

struct Member {
    backend: UringBackend,
    address: SocketAddr,
    batch: Completions,
    accepted: Vec<ConnectionId>,
    received: usize,
    closed: usize,
}

struct Thread {
    shared: SharedWait,
    members: Vec<Member>,
}

impl Thread {
    fn new(rings: usize, idle_demote: Option<Duration>) -> Thread {
        let shared = SharedWait::new().unwrap();
        let members = (0..rings).map(|number| {
            let config = BackendConfig { idle_demote, ..BackendConfig::small(16) };
            let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
            backend.join_wait(shared.slot(number)).unwrap();
            let listener = ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
            let (_, address) = backend.listen(&listener).unwrap();
            let batch = Completions::with_capacity(config.batch_max);
            Member { backend, address, batch, accepted: vec![], received: 0, closed: 0 }
        });
        let members = members.collect();
        Thread { shared, members }
    }

    /// Polls until nothing is left to do.
    fn run(&mut self) {
        while self.members.iter_mut().map(Member::turn).fold(false, |busy, one| busy | one) {}
    }

    /// Sleeps; returns the members that were ready afterwards.
    fn sleep(&mut self, wait: Duration) -> Vec<usize> {
        self.members.iter_mut().for_each(|member| member.backend.watch(true));
        fence(Ordering::SeqCst);
        let members = &mut self.members;
        self.shared.sleep(wait, || members.iter_mut().any(|member| member.backend.is_ready())).unwrap();
        self.members.iter_mut().for_each(|member| member.backend.watch(false));
        (0..self.members.len()).filter(|number| self.members[*number].backend.is_ready()).collect()
    }

    /// Runs until `done`, with long sleeps: every one of them has to be ended by what is waited
    /// for.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Thread) -> bool) {
        loop {
            self.run();
            if done(self) {
                return;
            }
            let start = Instant::now();
            self.sleep(LONG);
            assert!(start.elapsed() < LONG, "slept through {what}");
        }
    }
}

impl Member {
    /// Polls without waiting; true if anything came of it or is left to do.
    fn turn(&mut self) -> bool {
        self.backend.poll(Duration::ZERO, &mut self.batch).unwrap();
        let mut news = false;
        for completion in self.batch.drain() {
            news = true;
            match completion {
                Completion::Accepted { connection, .. } => self.accepted.push(connection),
                Completion::Received { buffer, .. } => self.received += buffer.as_slice().len(),
                Completion::Closed { .. } => self.closed += 1,
                Completion::Sent { .. } | Completion::Connected { .. } | Completion::PeerFinished { .. } => {}
            }
        }
        news | self.backend.flush_before_wait(LONG).unwrap().is_zero()
    }
}

/// Runs `act` on another thread once this one sleeps.
fn soon(act: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        act();
    })
}

#[test]
fn accepts_bytes_and_ends_end_the_sleep_of_all_rings() {
    let mut thread = Thread::new(RINGS, None);
    let registered = thread.members.iter().filter(|member| member.backend.setup().registered).count();
    assert!(registered <= 16, "a thread registers 16 ring descriptors at most");
    for number in [0, RINGS / 2, RINGS - 1] {
        let address = thread.members[number].address;
        let (sender, receiver) = std::sync::mpsc::channel();
        let connecting = soon(move || sender.send(TcpStream::connect(address).unwrap()).unwrap());
        thread.until("an accept", |thread| thread.members[number].accepted.len() == 1);
        connecting.join().unwrap();
        let mut client = receiver.recv().unwrap();
        for round in 1..=3 {
            let mut stream = client.try_clone().unwrap();
            let writing = soon(move || stream.write_all(b"hello").unwrap());
            thread.until("bytes", |thread| thread.members[number].received == 5 * round);
            writing.join().unwrap();
        }
        let connection = thread.members[number].accepted[0];
        let backend = &mut thread.members[number].backend;
        let answer = backend.pools().copy(b"answer").unwrap().freeze();
        backend.send(connection, answer).unwrap();
        thread.run();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer", "what was queued has left before the sleep");
        let ending = soon(move || drop(client));
        thread.until("an end", |thread| thread.members[number].closed == 1);
        ending.join().unwrap();
    }
}

#[test]
fn a_demoted_connection_ends_the_sleep() {
    let mut thread = Thread::new(2, Some(Duration::from_millis(5)));
    let mut client = TcpStream::connect(thread.members[1].address).unwrap();
    thread.until("an accept", |thread| thread.members[1].accepted.len() == 1);
    let start = Instant::now();
    while thread.members[1].backend.counters().demotions == 0 {
        assert!(start.elapsed() < LONG, "never demoted");
        thread.run();
        thread.sleep(Duration::from_millis(5));
    }
    let writing = soon(move || {
        client.write_all(b"hello").unwrap();
        std::thread::sleep(Duration::from_millis(200));
    });
    thread.until("bytes", |thread| thread.members[1].received == 5);
    writing.join().unwrap();
}

#[test]
fn a_quiet_ring_group_sleeps_as_long_as_it_may() {
    let mut thread = Thread::new(RINGS, None);
    let mut client = TcpStream::connect(thread.members[3].address).unwrap();
    client.write_all(b"hello").unwrap();
    thread.until("bytes", |thread| thread.members[3].received == 5);
    // The kernel counts the completions of one's own polls as events, too; they must not end the
    // next sleep.
    let start = Instant::now();
    assert_eq!(thread.sleep(Duration::from_millis(100)), [0; 0]);
    assert!(start.elapsed() >= Duration::from_millis(90), "{:?}", start.elapsed());
}

#[test]
fn mailboxes_wake_their_own_slot() {
    let thread = Thread::new(2, None);
    let boxes: Vec<_> =
        thread.members.iter().map(|member| mailbox::<u32>(8, member.backend.waker())).collect();
    let (sender, inbox) = &boxes[1];
    assert!(inbox.prepare_sleep());
    sender.send(1).unwrap();
    assert!(!thread.shared.take_woken(0) && thread.shared.take_woken(1) && !thread.shared.take_woken(1));
    assert_eq!(inbox.pop(), Some(1));
    // The same from another thread, into a sleep.
    assert!(inbox.prepare_sleep());
    let other = sender.clone();
    let sending = soon(move || other.send(2).unwrap());
    let start = Instant::now();
    thread.shared.sleep(LONG, || false).unwrap();
    assert!(start.elapsed() < LONG / 2 && thread.shared.take_woken(1));
    sending.join().unwrap();
    // And a wake-up before the sleep is not lost.
    assert_eq!(inbox.pop(), Some(2));
    assert!(inbox.prepare_sleep());
    sender.send(3).unwrap();
    thread.shared.sleep(LONG, || false).unwrap();
    assert!(start.elapsed() < LONG / 2);
}

#[test]
fn no_wake_up_is_lost_between_two_threads() {
    let shared = SharedWait::new().unwrap();
    let config = BackendConfig::small(1);
    let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
    backend.join_wait(shared.slot(77)).unwrap();
    let (sender, mailbox) = mailbox(64, backend.waker());
    let total = 200_000_u64;
    let producer = std::thread::spawn(move || {
        for message in 0..total {
            while sender.send(message).is_err() {
                std::thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < total {
        shared.take_woken(77);
        mailbox.finish_sleep();
        while let Some(message) = mailbox.pop() {
            assert_eq!(message, expected);
            expected += 1;
        }
        if expected < total && mailbox.prepare_sleep() {
            let start = Instant::now();
            shared.sleep(LONG, || false).unwrap();
            assert!(start.elapsed() < LONG, "slept through message {expected}");
        }
    }
    producer.join().unwrap();
}
