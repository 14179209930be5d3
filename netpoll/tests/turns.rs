//! Members that take turns on a thread: each is woken by its mailbox and its ring, and ends by
//! itself.

use netpoll::{
    Backend, BackendConfig, Completion, Completions, ListenerConfig, Mailbox, MailboxSender, SharedWait,
    SharesThread, TakesTurns, UringBackend, UringConfig, mailbox, take_turns,
};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const MEMBERS: usize = 5;
/// A thread that is not woken sleeps for a second; so many times of that are noticed.
const LONG: Duration = Duration::from_secs(120);
const ROUNDS: u32 = 40;
/// The message that ends a member.
const END: u32 = u32::MAX;

#[derive(Debug, PartialEq)]
enum Said {
    Heard(usize, u32),
    Received(usize, usize),
    Ended(usize),
}

struct Member {
    number: usize,
    backend: UringBackend,
    batch: Completions,
    inbox: Mailbox<u32>,
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

    fn begin_wait(&mut self) -> Option<Duration> {
        let wait = if self.inbox.prepare_sleep() { LONG } else { Duration::ZERO };
        Some(self.backend.flush_before_wait(wait).unwrap())
    }
}

/// Members on a thread of their own, and what others see of them.
struct Thread {
    boxes: Vec<MailboxSender<u32>>,
    addresses: Vec<SocketAddr>,
    said: Receiver<Said>,
    thread: std::thread::JoinHandle<()>,
}

fn start() -> Thread {
    let (to, said) = channel();
    let (announce, announced) = channel();
    let thread = std::thread::spawn(move || {
        let shared = SharedWait::new().unwrap();
        let member = |number| {
            let config = BackendConfig::small(16);
            let mut backend = UringBackend::new(&config, &UringConfig::default()).unwrap();
            backend.join_wait(shared.slot(number)).unwrap();
            let (_, address) =
                backend.listen(&ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
            let (sender, inbox) = mailbox(8, backend.waker());
            announce.send((sender, address)).unwrap();
            let batch = Completions::with_capacity(config.batch_max);
            Member { number, backend, batch, inbox, to: to.clone() }
        };
        let members = (0..MEMBERS).map(member).collect();
        take_turns(&shared, members, |member| to.send(Said::Ended(member.number)).unwrap());
    });
    let (boxes, addresses) = (0..MEMBERS).map(|_| announced.recv().unwrap()).unzip();
    Thread { boxes, addresses, said, thread }
}

impl Thread {
    /// Ends the members in this order, one by one.
    fn end(self, order: &[usize]) {
        for (gone, number) in order.iter().enumerate() {
            self.boxes[*number].send(END).unwrap();
            assert_eq!(self.said.recv_timeout(LONG).unwrap(), Said::Ended(*number));
            // The members that are left go on.
            if let Some(next) = order.get(gone + 1) {
                self.boxes[*next].send(7).unwrap();
                assert_eq!(self.said.recv_timeout(LONG).unwrap(), Said::Heard(*next, 7));
            }
        }
        self.thread.join().unwrap();
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
    let thread = start();
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
