//! Clients that send and never read: however much waits for them, half of the receive buffers stay
//! free, and a bystander is answered within a few turns. On a simulated network.

mod common;

use common::lone::{Lone, frames};
use common::{auth_body, frame, send_message, settings};
use gateway_core::settings::RateLimits;
use gateway_core::worker::Worker;
use gateway_proto::body::Target;
use gateway_proto::frame::Operation;
use netpoll::sim::{FaultConfig, SimBackend, SimNetwork};
use netpoll::{Backend, BackendConfig, Completion, Completions, ConnectionId, PoolSize, Queues};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const SENDERS: usize = 12;
const ROUNDS: i32 = 60;
/// Receive buffers, and bytes of each.
const BUFFERS: u32 = 64;
const BUFFER_SIZE: usize = 4096;
/// Turns of the worker within which a bystander's heartbeat is answered.
const TURNS_MAX: usize = 16;

struct World {
    network: SimNetwork,
    worker: Worker<SimBackend>,
    address: SocketAddr,
    clients: SimBackend,
    /// Bytes that each connection was sent.
    heard: HashMap<ConnectionId, usize>,
    turns: usize,
    free_min: u32,
}

impl World {
    /// With so many blocks of 4096 bytes.
    fn new(seed: u64, blocks: u32) -> World {
        let network = SimNetwork::new(seed, FaultConfig::calm());
        let mut sizes = BackendConfig::small(2 * SENDERS);
        sizes.send_queue_bytes_max = 256 << 10;
        let clients = network.backend(&sizes).unwrap();
        sizes.pools.receive = PoolSize { size: BUFFER_SIZE as u32, count: BUFFERS };
        let pool = |size, count| PoolSize { size, count };
        sizes.pools.blocks =
            vec![pool(256, 2 * blocks), pool(1024, blocks), pool(4096, blocks), pool(128 << 10, 16)];
        let backend = network.backend(&sizes).unwrap();
        let mut settings = settings(1, 2 * SENDERS);
        settings.send_queue_bytes_max = sizes.send_queue_bytes_max;
        settings.reloadable.rate = RateLimits::NONE;
        let (worker, _) = common::lone_worker(settings, backend, Arc::default());
        let address = worker.addresses()[0];
        World { network, worker, address, clients, heard: HashMap::new(), turns: 0, free_min: BUFFERS }
    }

    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            match self.network.step() {
                Some(0) => self.listen(),
                Some(_) => self.turn(),
                None => self.network.advance(Duration::from_millis(100)),
            }
        }
        panic!("waited in vain for {what}");
    }

    fn turn(&mut self) {
        self.worker.turn(Duration::from_secs(1)).unwrap();
        self.turns += 1;
        self.worker.invariants();
        // What goes to a socket that has taken all so far may stay where it arrived until it is
        // offered.
        if self.worker.backend().waiting().len() == SENDERS {
            let level = self.worker.backend().pools().receive_level();
            self.free_min = self.free_min.min(level.free);
        }
        let wait = self.worker.begin_wait(Duration::from_secs(1));
        self.network.set_wait(1, wait);
    }

    fn listen(&mut self) {
        let mut batch = Completions::with_capacity(256);
        self.clients.poll(Duration::from_secs(3600), &mut batch).unwrap();
        for completion in batch.drain() {
            match completion {
                Completion::Connected { connection } => {
                    self.heard.insert(connection, 0);
                }
                Completion::Received { connection, buffer } => {
                    *self.heard.get_mut(&connection).unwrap() += buffer.len();
                }
                _ => {}
            }
        }
    }

    /// Sends `bytes` if all that it has sent before has left.
    fn send(&mut self, from: ConnectionId, bytes: &[u8]) {
        if self.clients.queued_bytes(from) == 0 {
            let buffer = self.clients.pools().copy(bytes).unwrap();
            let _ = self.clients.send(from, buffer.freeze()); // one that was closed sends no more
        }
    }

    fn login(&mut self, mid: i64) -> ConnectionId {
        let id = self.clients.connect(None, self.address).unwrap();
        self.until("a connection", |world| world.heard.contains_key(&id));
        self.send(id, &frame(Operation::AUTH, 1, &auth_body(mid, "", "")));
        self.until("a login", |world| world.heard[&id] > 0);
        id
    }
}

/// `request` is what the sender with a number says; each says it without a pause.
fn leave_receive_buffers_to_others(request: impl Fn(i64) -> Vec<u8>) {
    for seed in 1..=4 {
        let mut world = World::new(seed, 1024);
        let bystander = world.login(1000);
        let senders: Vec<_> = (1..=SENDERS as i64).map(|mid| (world.login(mid), request(mid))).collect();
        senders.iter().for_each(|(id, _)| world.clients.set_receiving(*id, false));
        let mut rounds = 0..ROUNDS;
        while let Some(round) = rounds.next() {
            let waiting = world.worker.backend().waiting().len();
            if waiting < SENDERS {
                assert!(world.turns < 100_000, "{waiting} senders wait");
                rounds.start = 0; // the network still takes what they are sent
            }
            for (id, request) in &senders {
                world.send(*id, &request.repeat(BUFFER_SIZE / request.len() + 1));
            }
            let (heard, turns) = (world.heard[&bystander], world.turns);
            world.send(bystander, &frame(Operation::HEARTBEAT, round, &[]));
            world.until("the bystander's reply", |world| world.heard[&bystander] > heard);
            assert!(world.turns - turns <= TURNS_MAX, "round {round}: {} turns", world.turns - turns);
        }
        assert!(world.free_min >= BUFFERS / 2, "{} of {BUFFERS} receive buffers were free", world.free_min);
        assert_eq!(world.worker.shard().sessions.open_count(), SENDERS + 1, "none is closed for that");
    }
}

/// Blocks run out, too: then those that take nothing go, and bystanders wait for no more than the
/// quarter of a second in which they may be still.
#[test]
fn when_blocks_run_out_those_that_take_nothing_go() {
    let mut world = World::new(1, 16);
    let bystander = world.login(1000);
    let senders: Vec<_> = (1..=SENDERS as i64).map(|mid| world.login(mid)).collect();
    senders.iter().for_each(|id| world.clients.set_receiving(*id, false));
    let request = frame(Operation(200), 2, &[7; BUFFER_SIZE - 16]);
    let mut longest = Duration::ZERO;
    for round in 0..2000 {
        senders.iter().for_each(|id| world.send(*id, &request.repeat(4)));
        let (heard, since) = (world.heard[&bystander], world.worker.backend().now());
        world.send(bystander, &frame(Operation::HEARTBEAT, round, &[]));
        world.until("the bystander's reply", |world| world.heard[&bystander] > heard);
        longest = longest.max(world.worker.backend().now().since(since));
    }
    assert!(longest <= Duration::from_millis(400), "a heartbeat took {longest:?}");
}

#[test]
fn small_answers_leave_receive_buffers_to_others() {
    leave_receive_buffers_to_others(|_| frame(Operation(200), 2, &[7; 200]));
}

#[test]
fn answers_that_fill_receive_buffers_leave_them_to_others() {
    leave_receive_buffers_to_others(|_| frame(Operation(200), 2, &[7; BUFFER_SIZE - 16]));
}

#[test]
fn pushes_leave_receive_buffers_to_others() {
    leave_receive_buffers_to_others(|mid| {
        let to = Target::Mid(1 + mid % SENDERS as i64);
        frame(Operation::SEND_MESSAGE, 2, &send_message(to, &[7; 700], false))
    });
}

#[test]
fn heartbeats_leave_blocks_to_others() {
    leave_receive_buffers_to_others(|_| frame(Operation::HEARTBEAT, 2, &[]));
}

/// However many silent senders are left unread, one that reads late has a place: its burst, of
/// which the answers are more than its queue, comes back whole.
#[test]
fn silent_senders_leave_places_to_a_burst() {
    const BURST: i32 = 400;
    let mut settings = settings(1, 2 * SENDERS);
    settings.tables.mailbox_capacity = SENDERS - 2;
    settings.reloadable.rate = RateLimits::NONE;
    settings.reloadable.slow_consumer_timeout = Duration::from_secs(3600);
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(8 << 10));
    let mut sizes = BackendConfig::small(2 * SENDERS);
    let pool = |size, count| PoolSize { size, count };
    sizes.send_queue_bytes_max = 64 << 10;
    sizes.pools.blocks = vec![pool(256, 1024), pool(1024, 4096), pool(4096, 1024), pool(128 << 10, 16)];
    let mut world = Lone::new(1, settings, &sizes);
    let request = |number: i32| frame(Operation(200), number, &[number as u8; 984]);
    let stops = |world: &Lone| world.metrics.answer_stops.get();
    for mid in 1..=SENDERS as i64 {
        let (silent, before) = (world.login(mid), stops(&world));
        world.clients.set_receiving(silent, false);
        for number in 0.. {
            assert!(number < 10_000, "a sender that reads nothing is read on");
            world.send_if_empty(silent, &request(number));
            world.wait(Duration::from_micros(100));
            if stops(&world) > before {
                break;
            }
        }
    }
    let (late, before) = (world.login(1000), stops(&world));
    world.take(late);
    world.clients.set_receiving(late, false);
    let mut sent = 0;
    while sent < BURST && stops(&world) == before {
        if world.clients.queued_bytes(late) == 0 {
            world.send(late, &request(sent));
            sent += 1;
        }
        world.wait(Duration::from_micros(100));
    }
    assert!(stops(&world) > before, "its answers are more than its queue");
    world.clients.set_receiving(late, true);
    for number in sent..BURST {
        world.until("room", |world| world.clients.queued_bytes(late) < 16 << 10 || world.has_ended(late));
        world.send(late, &request(number));
    }
    let all = BURST as usize * request(0).len();
    world.until("all answers", |world| world.heard(late).bytes.len() >= all || world.has_ended(late));
    let answers = frames(&world.take(late));
    assert_eq!(answers.len(), BURST as usize);
    for (number, (header, body)) in (0..).zip(answers) {
        assert_eq!((header.operation, header.sequence, body.len()), (Operation(200), number, 984));
    }
    assert_eq!(world.metrics.slow_closes_in_all(), 0);
}
