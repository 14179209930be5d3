//! Messages that have to wait: whoever posts most waits or is refused, and bystanders notice
//! nothing.
//!
//! A bystander sends one message at a time. It is answered with success however much others send at
//! the same time, and so is a push of the control thread. Nothing here looks at a clock: bystanders
//! speak for as long as a flood lasts.

mod common;

use common::{BackendChoice, Client, Gateway, encoded, frame, send_message, settings};
use gateway_core::message::{ControlMessage, EncodedPush, Exclude, Message, MessageClass, Origin};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::{RateLimits, WorkerSettings};
use gateway_proto::body::{Join, JoinReply, LeaveReply, RoomKey, SendMessage, SendMessageReply, Target};
use gateway_proto::frame::Operation;
use netpoll::{BackendConfig, BufferPools, PoolSize, PoolsConfig};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

on_each_backend!(
    many_senders_at_one_worker_cost_bystanders_nothing,
    a_peer_that_leaves_in_the_middle_is_gone,
);

const FLOODERS: i64 = 40;
const BYSTANDERS: i64 = 10;

fn count(gateway: &Gateway, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|metrics| of(metrics)).sum()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A gateway whose senders have no rate: what the queues do is shown by senders that nothing else
/// slows.
fn start(backend: &BackendChoice, adjust: impl FnOnce(&mut WorkerSettings)) -> Gateway {
    let mut settings = settings(2, 128);
    settings.reloadable.rate = RateLimits::NONE;
    settings.tables.mailbox_capacity = 1024;
    adjust(&mut settings);
    let mut config = BackendConfig::small(128);
    config.send_queue_bytes_max = 64 << 20;
    config.send_pieces_shared = 1 << 20;
    config.pools.receive = PoolSize { size: 16_384, count: 64 };
    Gateway::start_with(settings, config, backend.clone())
}

fn quiet(target: Target<'_>) -> Vec<u8> {
    let payload = &[7; 32];
    let push_operation = None;
    encoded(&SendMessage {
        target,
        not_to_self: false,
        quiet: true,
        push_operation,
        traceparent: None,
        payload,
    })
}

/// Reads and forgets whatever comes until the connection ends.
fn drain(client: &Client) -> std::thread::JoinHandle<()> {
    let mut reader = Client { stream: client.stream.try_clone().unwrap() };
    reader.stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    std::thread::spawn(move || while reader.try_read().is_some() {})
}

/// What the control thread hands over for its callers.
struct Caller {
    pools: BufferPools,
    tickets: u64,
}

impl Caller {
    fn new() -> Caller {
        let blocks = vec![PoolSize { size: 256, count: 64 }];
        let receive = PoolSize { size: 64, count: 1 };
        Caller {
            pools: BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).unwrap(),
            tickets: 0,
        }
    }

    fn push(&mut self, class: MessageClass) -> EncodedPush {
        common::push(&mut self.pools, class, 1000, &[b"a caller"]).expect("receivers read")
    }

    /// Hands a push to a worker, which must have room for it, and waits for its outcome.
    fn tell(
        &mut self,
        gateway: &Gateway,
        worker: usize,
        message: impl FnOnce(EncodedPush, Origin) -> Message,
    ) -> u32 {
        self.tickets += 1;
        let origin = Origin::Control { ticket: self.tickets };
        let push = self.push(MessageClass::User);
        gateway.tell(worker, message(push, origin));
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match gateway.control.pop() {
                Some(ControlMessage::Outcome { ticket, result }) if ticket == self.tickets => {
                    return result.expect("a push finds its receiver, and room there");
                }
                Some(_) => {}
                None => std::thread::sleep(Duration::from_micros(100)),
            }
            assert!(Instant::now() < deadline, "a push is not answered");
        }
    }
}

/// A client that asks one thing at a time.
struct Bystander {
    client: Client,
    /// Pushes that have come.
    pushes: usize,
}

impl Bystander {
    fn login(gateway: &Gateway, mid: i64, room: &str) -> Bystander {
        Bystander { client: gateway.login(mid, room), pushes: 0 }
    }

    fn ask(&mut self, operation: Operation, sequence: i32, body: &[u8]) -> Vec<u8> {
        self.client.send(operation, sequence, body);
        loop {
            let frame = self.client.read();
            if (frame.operation, frame.sequence) == (operation.0 + 1, sequence) {
                return frame.body;
            }
            assert_eq!(frame.operation, 1000, "{frame:?}");
            self.pushes += 1;
        }
    }

    /// Sends a message, enters a room and leaves it: all of it succeeds. Returns to how many the
    /// message went.
    fn speak(&mut self, target: Target<'_>, room: &str, sequence: i32) -> u32 {
        let reply = self.ask(Operation::SEND_MESSAGE, sequence, &send_message(target, b"hello", false));
        let reply = SendMessageReply::parse(&reply).unwrap();
        assert_eq!(reply.result, Ok(()), "a bystander's message");
        let key = RoomKey::parse(room.as_bytes()).unwrap();
        let mut body = [0; 300];
        let size = Join { room: key, since: None }.emit(&mut body).unwrap();
        let joined = self.ask(Operation::JOIN, sequence, &body[..size]);
        assert_eq!(JoinReply::parse(&joined).unwrap().result, Ok(()), "a bystander's room");
        let left = self.ask(Operation::LEAVE, sequence, room.as_bytes());
        assert_eq!(LeaveReply::parse(&left).unwrap().result, Ok(()));
        reply.receivers
    }

    /// Waits until so many pushes have come.
    fn expect(&mut self, pushes: usize) {
        while self.pushes < pushes {
            assert_eq!(self.client.read().operation, 1000);
            self.pushes += 1;
        }
    }
}

/// Calls `round` with a number for as long as `flooders` write `bytes`, `times` each, and once more
/// after it.
fn beside_a_flood(flooders: &[Client], bytes: &[u8], times: usize, mut round: impl FnMut(i32)) {
    let left = AtomicUsize::new(flooders.len());
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for flooder in flooders {
            let (left, failed) = (&left, &failed);
            scope.spawn(move || {
                let mut stream = &flooder.stream;
                let wrote = (0..times).try_for_each(|_| stream.write_all(bytes));
                failed.fetch_or(wrote.is_err(), Ordering::AcqRel);
                left.fetch_sub(1, Ordering::AcqRel);
            });
        }
        let mut number = 0;
        while left.load(Ordering::Acquire) > 0 {
            number += 1;
            round(number);
        }
        round(number + 1);
    });
    assert!(!failed.load(Ordering::Acquire), "a flooder was closed");
}

fn many_senders_at_one_worker_cost_bystanders_nothing(backend: &BackendChoice) {
    let gateway = start(backend, |_| {});
    let victim = gateway.login(1, "");
    let flooders: Vec<Client> = (0..FLOODERS).map(|number| gateway.login(1000 + number, "")).collect();
    let mut readers: Vec<_> = flooders.iter().map(drain).collect();
    readers.push(drain(&victim));
    let login = |mid| Bystander::login(&gateway, mid, "");
    let mut bystanders: Vec<Bystander> = (100..100 + BYSTANDERS).map(login).collect();
    let mut caller = Caller::new();
    let bytes = frame(Operation::SEND_MESSAGE, 7, &quiet(Target::Mid(1))).repeat(200);
    let mut rounds = 0;
    beside_a_flood(&flooders, &bytes, 20, |number| {
        rounds += 1;
        for (mid, client) in (100..).zip(&mut bystanders) {
            let partner = 100 + (mid + 1) % BYSTANDERS;
            assert_eq!(client.speak(Target::Mid(partner), &format!("live://{mid}"), number), 1);
            let name = gateway.names.mid(mid);
            let exclude = Exclude::default();
            let message = |push, origin| Message::ToName { name, push, exclude, origin };
            assert_eq!(caller.tell(&gateway, name.home(2).index(), message), 1, "a push of a caller");
        }
    });
    bystanders.iter_mut().for_each(|client| client.expect(2 * rounds));
    assert!(count(&gateway, |one| one.mailbox_waits.get()) > 0, "the flood was none");
    until("all to be received from again", || count(&gateway, |one| one.held.get()) == 0);
    end(&flooders, readers, &victim);
}

/// Whatever a connection waited for when its peer went away, it is forgotten.
fn a_peer_that_leaves_in_the_middle_is_gone(backend: &BackendChoice) {
    let gateway = start(backend, |settings| settings.tables.mailbox_capacity = 64);
    let victim = gateway.login(1, "");
    let reader = drain(&victim);
    let bytes = frame(Operation::SEND_MESSAGE, 7, &quiet(Target::Mid(1))).repeat(400);
    until("a connection to be held", || {
        let flooders: Vec<Client> = (0..FLOODERS).map(|number| gateway.login(1000 + number, "")).collect();
        beside_a_flood(&flooders, &bytes, 2, |_| std::thread::sleep(Duration::from_millis(1)));
        count(&gateway, |one| one.holds.get()) > 20
    });
    until("all to be gone", || count(&gateway, |one| one.sessions.get() + one.held.get()) == 1);
    end(&[], vec![reader], &victim);
}

fn end(flooders: &[Client], readers: Vec<std::thread::JoinHandle<()>>, other: &Client) {
    for one in flooders.iter().chain([other]) {
        let _ = one.stream.shutdown(std::net::Shutdown::Both);
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}
