//! A clock that jumps: the worker stood still for longer than clients may be silent, and what they
//! said waits in its sockets.

use crate::plan::Plan;
use crate::world::{Shard, introduce};
use gateway_core::address::Fingerprints;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::{AuthMode, Reloadable, TableSizes};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation};
use netpoll::sim::{FaultConfig, SimBackend, SimNetwork};
use netpoll::{Backend, BackendConfig, Completion, Completions, ConnectionId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Clients: more than two polls of the worker bring.
const CLIENTS: usize = 40;
const COMPLETIONS_PER_TURN: usize = 16;
/// Bounds a run that goes nowhere.
const STEPS_MAX: usize = 100_000;

struct Scene {
    network: SimNetwork,
    shard: Shard,
    address: SocketAddr,
    host: SimBackend,
    connections: Vec<ConnectionId>,
    /// Frames heard, by operation.
    heard: Vec<i32>,
}

fn plan() -> Plan {
    let mut plan = Plan::drawn(1);
    plan.backend = BackendConfig { batch_max: COMPLETIONS_PER_TURN, ..BackendConfig::small(64) };
    plan.settings.workers = 1;
    plan.settings.tables = TableSizes::for_connections(64, 1);
    plan.settings.completions_per_turn_max = COMPLETIONS_PER_TURN;
    plan.settings.auth = AuthMode::None;
    plan.settings.reloadable = Reloadable {
        auth_timeout: Duration::from_secs(8),
        idle_timeout: Duration::from_secs(15),
        ..Reloadable::default()
    };
    plan
}

impl Scene {
    fn new() -> Scene {
        let plan = plan();
        let network = SimNetwork::new(1, FaultConfig::calm());
        let backends = vec![network.backend(&plan.backend).unwrap()];
        let places = Arc::new(FanoutPlaces::new(1, plan.settings.tables.fanouts()));
        let (mut shards, _, addresses) = introduce(&plan, Fingerprints::new((1, 2)), backends, None, &places);
        let host = network.backend(&BackendConfig::small(64)).unwrap();
        let (shard, address) = (shards.remove(0), addresses[0]);
        Scene { network, shard, address, host, connections: vec![], heard: vec![] }
    }

    fn say(&mut self, connection: ConnectionId, operation: Operation, body: &[u8]) {
        let mut frame = [0; 256];
        Header::new(operation, 1, body.len() as u32).emit((&mut frame[..HEADER_SIZE]).try_into().unwrap());
        frame[HEADER_SIZE..][..body.len()].copy_from_slice(body);
        let buffer = self.host.pools().copy(&frame[..HEADER_SIZE + body.len()]).unwrap().freeze();
        self.host.send(connection, buffer).unwrap();
    }

    fn listen(&mut self) {
        let mut batch = Completions::with_capacity(256);
        self.host.poll(Duration::from_secs(3600), &mut batch).unwrap();
        for completion in batch.drain() {
            match completion {
                Completion::Connected { connection, .. } => self.connections.push(connection),
                Completion::Received { buffer, .. } => {
                    let mut rest = buffer.as_slice();
                    while !rest.is_empty() {
                        let word = |at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
                        self.heard.push(word(8));
                        rest = &rest[word(0) as usize..];
                    }
                }
                Completion::Closed { reason, .. } => panic!("a client was closed: {reason:?}"),
                _ => {}
            }
        }
    }

    /// Turns until then.
    fn until(&mut self, done: impl Fn(&Scene) -> bool) {
        for _ in 0..STEPS_MAX {
            if done(self) {
                return;
            }
            match self.network.step() {
                Some(0) => {
                    self.shard.worker.turn(Duration::from_secs(1)).unwrap();
                    let wait = self.shard.worker.begin_wait(Duration::from_secs(1));
                    self.network.set_wait(0, wait);
                }
                Some(_) => self.listen(),
                None => self.network.advance(Duration::from_millis(100)),
            }
        }
        panic!("heard {:?}", self.heard);
    }

    fn count(&self, operation: Operation) -> usize {
        self.heard.iter().filter(|heard| **heard == operation.0).count()
    }
}

#[test]
fn a_clock_that_jumps_closes_nobody_who_spoke() {
    let mut scene = Scene::new();
    for _ in 0..CLIENTS {
        scene.host.connect(None, scene.address).unwrap();
    }
    scene.until(|scene| scene.connections.len() == CLIENTS);
    for (mid, connection) in scene.connections.clone().into_iter().enumerate() {
        scene.say(connection, Operation::AUTH, format!("{{\"mid\":{}}}", mid + 1).as_bytes());
    }
    scene.listen();
    scene.until(|scene| scene.count(Operation::AUTH_REPLY) == CLIENTS);
    for connection in scene.connections.clone() {
        scene.say(connection, Operation::HEARTBEAT, b"");
    }
    scene.listen();
    let jump = scene.network.now() + Duration::from_secs(100);
    while scene.network.now() < jump {
        scene.network.advance(Duration::from_secs(1));
    }
    scene.until(|scene| scene.count(Operation::HEARTBEAT_REPLY) == CLIENTS);
    assert!(scene.shard.metrics.late_nanos.get() >= 98_000_000_000, "the pause is counted");
}
