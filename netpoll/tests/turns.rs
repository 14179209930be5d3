//! Members that take turns on a thread: each is woken by its mailbox and its ring, ends by itself, and may let its ring wait.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, Gang, ListenerConfig, Mailbox, MailboxSender,
    SharesThread, TakesTurns, UringBackend, UringConfig, mailbox, take_turns,
};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const MEMBERS: usize = 5;
/// A thread that nobody wakes sleeps for a second; so many times of that are noticed.
const LONG: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 40;
/// The message that ends a member.
const END: u32 = u32::MAX;

#[derive(Debug, PartialEq)]
enum Said {
    Heard(usize, u32),
    Received(usize, usize),
}

struct Member {
    number: usize,
    backend: UringBackend,
    batch: Completions,
    inbox: Mailbox<u32>,
    patience: Duration,
    to: Sender<Said>,
}

impl TakesTurns for Member {
    type Backend = UringBackend;

    fn backend(&mut self) -> &mut UringBackend {
        &mut self.backend
    }

    fn turn(&mut self) -> bool {
        self.inbox.finish_sleep();
        self.backend.poll(Duration::ZERO, &mut self.batch).unwrap();
        for completion in self.batch.drain() {
            if let Completion::Received { buffer, .. } = completion {
                self.to.send(Said::Received(self.number, buffer.as_slice().len())).unwrap();
            }
        }
        while let Some(message) = self.inbox.pop() {
            if message == END {
                return false;
            }
            self.to.send(Said::Heard(self.number, message)).unwrap();
        }
        true
    }

    fn rest(&mut self) -> Option<Duration> {
        let wait = if self.inbox.prepare_sleep() { LONG } else { Duration::ZERO };
        Some(self.backend.settle(wait).unwrap())
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

/// Members on a thread of their own, and what others see of them.
struct Thread {
    boxes: Vec<MailboxSender<u32>>,
    addresses: Vec<SocketAddr>,
    said: Receiver<Said>,
    ended: std::thread::JoinHandle<Vec<usize>>,
}

fn start(patience: Duration) -> Thread {
    let (to, said) = channel();
    let (tell, told) = channel();
    let ended = std::thread::spawn(move || {
        let gang = Gang::new().unwrap();
        let member = |number| {
            let config = BackendConfig::small(16);
            let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
            backend.take_seat(gang.seat(number)).unwrap();
            let (_, address) =
                backend.listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
            let (sender, inbox) = mailbox(8, backend.waker());
            tell.send((sender, address)).unwrap();
            let batch = Completions::with_capacity(config.batch_max);
            Member { number, backend, batch, inbox, patience, to: to.clone() }
        };
        let members = (0..MEMBERS).map(member).collect();
        let mut ended = vec![];
        take_turns(&gang, members, |member| ended.push(member.number));
        ended
    });
    let (boxes, addresses) = (0..MEMBERS).map(|_| told.recv().unwrap()).unzip();
    Thread { boxes, addresses, said, ended }
}

impl Thread {
    /// Ends the members in this order, one after the other.
    fn end(self, order: &[usize]) {
        for (gone, number) in order.iter().enumerate() {
            self.boxes[*number].send(END).unwrap();
            // Whoever is left goes on.
            if let Some(next) = order.get(gone + 1) {
                self.boxes[*next].send(7).unwrap();
                assert_eq!(self.said.recv_timeout(LONG).unwrap(), Said::Heard(*next, 7));
            }
        }
        assert_eq!(self.ended.join().unwrap(), order);
    }

    fn asks_each_in_turn(&self) {
        let start = Instant::now();
        for message in 0..ROUNDS {
            let number = message as usize % MEMBERS;
            self.boxes[number].send(message).unwrap();
            assert_eq!(self.said.recv_timeout(LONG).unwrap(), Said::Heard(number, message));
        }
        assert!(start.elapsed() < LONG, "some of {ROUNDS} messages did not end the sleep");
    }
}

#[test]
fn each_hears_its_mailbox_and_its_ring() {
    let thread = start(Duration::ZERO);
    thread.asks_each_in_turn();
    let start = Instant::now();
    for (number, address) in thread.addresses.iter().enumerate() {
        let mut client = TcpStream::connect(address).unwrap();
        for _ in 0..ROUNDS {
            client.write_all(b"hello").unwrap();
            assert_eq!(thread.said.recv_timeout(LONG).unwrap(), Said::Received(number, 5));
        }
    }
    assert!(start.elapsed() < LONG, "some bytes did not end the sleep");
    thread.end(&[3, 0, 1, 4, 2]);
}

#[test]
fn with_patience_a_mailbox_still_ends_the_sleep_and_a_ring_is_not_forgotten() {
    let patience = Duration::from_millis(100);
    let thread = start(patience);
    thread.asks_each_in_turn();
    for (number, address) in thread.addresses.iter().enumerate() {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        assert_eq!(thread.said.recv_timeout(LONG).unwrap(), Said::Received(number, 5));
    }
    thread.end(&[0, 1, 2, 3, 4]);
}
