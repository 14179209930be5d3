//! A connection that brings a thousand frames in one receive leaves the turn to those that bring
//! one: over TCP, in many WebSocket messages, and in one. Nothing is lost by that, and order is
//! kept, also when the connection ends right behind its frames. On a simulated network.

mod common;

use common::websocket::masked;
use common::{auth_body, frame, send_message, settings};
use gateway_core::worker::Worker;
use gateway_proto::body::Target;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use netpoll::sim::{FaultConfig, SimBackend, SimNetwork};
use netpoll::{Backend, BackendConfig, Completion, Completions, ConnectionId, Introspect, PoolSize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Frames that the greedy connection sends at once: they fill a receive buffer.
const FRAMES: usize = 1000;
/// Frames that it may have in a turn: 64 of its receive, and 256 of the backlog.
const PER_TURN: usize = 64 + 256;

struct World {
    network: SimNetwork,
    worker: Worker<SimBackend>,
    addresses: Vec<SocketAddr>,
    clients: SimBackend,
    /// What each connection was sent.
    heard: HashMap<ConnectionId, Vec<u8>>,
}

impl World {
    fn new() -> World {
        let network = SimNetwork::new(1, FaultConfig::calm());
        let mut sizes = BackendConfig::small(16);
        sizes.pools.receive = PoolSize { size: 32 << 10, count: 64 };
        sizes.send_queue_bytes_max = 4 << 20;
        let backend = network.backend(&sizes).unwrap();
        let clients = network.backend(&sizes).unwrap();
        let settings = settings(1, 16);
        let (worker, _) = common::lone_worker(settings, backend, Arc::default());
        let addresses = worker.addresses().to_vec();
        World { network, worker, addresses, clients, heard: HashMap::new() }
    }

    /// Turns until then.
    fn until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            match self.network.step() {
                Some(0) => {
                    self.worker.turn(Duration::from_secs(1)).unwrap();
                    self.worker.invariants();
                    let wait = self.worker.begin_wait(Duration::from_secs(1));
                    self.network.set_wait(0, wait);
                    // Clients hear what each turn has sent before the next one.
                    (0..4).for_each(|_| self.network.advance(Duration::from_micros(5)));
                    self.listen();
                }
                Some(_) => self.listen(),
                None => self.network.advance(Duration::from_millis(100)),
            }
        }
        panic!("waited in vain for {what}");
    }

    fn listen(&mut self) {
        let mut batch = Completions::with_capacity(256);
        self.clients.poll(Duration::from_secs(3600), &mut batch).unwrap();
        for completion in batch.drain() {
            match completion {
                Completion::Connected { connection } => {
                    self.heard.insert(connection, vec![]);
                }
                Completion::Received { connection, buffer } => {
                    self.heard.get_mut(&connection).unwrap().extend_from_slice(buffer.as_slice());
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, from: ConnectionId, bytes: &[u8]) {
        let buffer = self.clients.pools().copy(bytes).unwrap().freeze();
        self.clients.send(from, buffer).unwrap();
    }

    /// A connection that has logged in, over WebSocket or TCP.
    fn login(&mut self, mid: i64, websocket: bool) -> ConnectionId {
        let id = self.clients.connect(None, self.addresses[usize::from(websocket)]).unwrap();
        self.until("a connection", |world| world.heard.contains_key(&id));
        let auth = frame(Operation::AUTH, 1, &auth_body(mid, "", ""));
        if websocket {
            let upgrade = b"GET /sub HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
            self.send(id, upgrade);
            self.until("an upgrade", |world| world.heard[&id].ends_with(b"\r\n\r\n"));
            self.heard.get_mut(&id).unwrap().clear();
            self.send(id, &masked(Opcode::Binary, true, &auth));
        } else {
            self.send(id, &auth);
        }
        self.until("a login", |world| !world.heard[&id].is_empty());
        self.heard.get_mut(&id).unwrap().clear();
        id
    }

    fn sessions(&self) -> usize {
        let sessions = &self.worker.shard().sessions;
        (0..sessions.slots()).filter(|index| sessions.at(*index).is_some()).count()
    }

    /// Sequences of the frames that a connection was sent, in order.
    fn sequences(&self, id: ConnectionId, websocket: bool) -> Vec<i32> {
        let mut rest = &self.heard[&id][..];
        let mut sequences = vec![];
        let header = if websocket { 2 } else { 0 }; // of a WebSocket message as short as a reply
        while let Some(frame) = rest.get(header..).filter(|frame| frame.len() >= 16) {
            let word = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let Some(behind) = frame.get(word(0) as usize..) else { break };
            sequences.push(word(12));
            rest = behind;
        }
        sequences
    }
}

/// `bytes` hold [`FRAMES`] heartbeats, numbered from 0.
fn leaves_the_turn_to_others(websocket: bool, bytes: &[u8]) {
    let mut world = World::new();
    let (greedy, modest) = (world.login(1, websocket), world.login(2, false));
    world.send(greedy, bytes);
    world.send(modest, &frame(Operation::HEARTBEAT, 7, &[]));
    world.until("the modest one's reply", |world| !world.heard[&modest].is_empty());
    assert_eq!(world.sequences(modest, false), [7]);
    let had = world.sequences(greedy, websocket).len();
    assert!(had <= PER_TURN, "{had} replies came before one to a single frame");
    let all: Vec<i32> = (0..FRAMES as i32).collect();
    world.until("all replies", |world| world.sequences(greedy, websocket).len() >= FRAMES);
    assert!(world.sequences(greedy, websocket) == all, "each once, and in order");
    // It is read again.
    world.heard.get_mut(&greedy).unwrap().clear();
    let last = frame(Operation::HEARTBEAT, 5, &[]);
    world.send(greedy, &if websocket { masked(Opcode::Binary, true, &last) } else { last });
    world.until("one more", |world| !world.heard[&greedy].is_empty());
    assert_eq!(world.sequences(greedy, websocket), [5]);
}

fn heartbeats() -> impl Iterator<Item = Vec<u8>> {
    (0..FRAMES as i32).map(|sequence| frame(Operation::HEARTBEAT, sequence, &[]))
}

#[test]
fn frames_over_tcp_leave_the_turn_to_others() {
    leaves_the_turn_to_others(false, &heartbeats().collect::<Vec<_>>().concat());
}

#[test]
fn websocket_messages_leave_the_turn_to_others() {
    let messages: Vec<_> = heartbeats().map(|frame| masked(Opcode::Binary, true, &frame)).collect();
    leaves_the_turn_to_others(true, &messages.concat());
}

#[test]
fn a_websocket_message_of_many_frames_leaves_the_turn_to_others() {
    let (first, second): (Vec<_>, Vec<_>) = heartbeats().enumerate().partition(|(number, _)| *number < 900);
    let message = |frames: Vec<(usize, Vec<u8>)>| {
        let frames: Vec<u8> = frames.into_iter().flat_map(|(_, frame)| frame).collect();
        masked(Opcode::Binary, true, &frames)
    };
    leaves_the_turn_to_others(true, &[message(first), message(second)].concat());
}

#[test]
fn what_came_before_the_end_is_handled_before_it() {
    for websocket in [false, true] {
        let mut world = World::new();
        let (greedy, other) = (world.login(1, websocket), world.login(2, false));
        let body = send_message(Target::Mid(2), b"one", false);
        let sends = (0..500).map(|sequence| frame(Operation::SEND_MESSAGE, sequence, &body));
        let bytes: Vec<u8> = if websocket {
            sends.flat_map(|frame| masked(Opcode::Binary, true, &frame)).collect()
        } else {
            sends.flatten().collect()
        };
        world.send(greedy, &bytes);
        world.clients.finish(greedy, None);
        world.until("all messages", |world| {
            world.heard[&other].windows(3).filter(|window| window == b"one").count() == 500
        });
        world.until("the end", |world| world.sessions() == 1);
    }
}

/// The end comes in one poll with the frames, most of which wait for a later turn.
#[test]
fn what_came_before_the_end_is_answered_before_it() {
    for websocket in [false, true] {
        let mut world = World::new();
        let (greedy, _other) = (world.login(1, websocket), world.login(2, false));
        let before = world.clients.counters().receive_bytes;
        let bytes: Vec<u8> = if websocket {
            heartbeats().flat_map(|frame| masked(Opcode::Binary, true, &frame)).collect()
        } else {
            heartbeats().flatten().collect()
        };
        world.send(greedy, &bytes);
        world.clients.finish(greedy, None);
        world.until("the end", |world| world.sessions() == 1);
        // What comes after the client's end is discarded, and counted.
        world.until("all that was sent", |world| world.network.is_quiet());
        let answer = if websocket { 2 + 20 } else { 20 };
        assert_eq!(world.clients.counters().receive_bytes - before, (FRAMES * answer) as u64);
    }
}
