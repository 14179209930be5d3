//! In poll mode what is in flight stays in the gateway's blocks. When those run short among clients
//! that take all that they are sent, frames wait until blocks come home, and nobody is closed. Over
//! a cable in memory, in virtual time.

mod common;

use common::{auth_body, frame, settings};
use dpdk_backend::backend::{Clock, PollBackend, PollConfig};
use dpdk_backend::device::Loopback;
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::wire::Mac;
use gateway_core::worker::Worker;
use gateway_proto::frame::Operation;
use netpoll::{Backend, BackendConfig, Completion, Completions, ConnectionId, PoolSize, Timestamp, Waker};
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: usize = 32;
/// Frames that a client sends at once, and their body: most straddle two segments.
const DEPTH: i32 = 16;
const BODY: usize = 1024;
const ROUNDS: usize = 4;
const STEP: Duration = Duration::from_micros(20);
const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 3101);

struct VirtualClock(Rc<Cell<Timestamp>>);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.get()
    }

    fn idle(&mut self, at_most: Duration, _waker: &Waker) {
        self.0.set(self.0.get() + at_most);
    }
}

type End = PollBackend<Loopback, VirtualClock>;

fn end(number: u8, device: Loopback, sizes: &BackendConfig, now: &Rc<Cell<Timestamp>>) -> End {
    let ip = IpAddr::from([10, 0, 0, number]);
    let interface = InterfaceConfig::new(Mac([2, 0, 0, 0, 0, number]), ip, 24);
    let config = PollConfig::new(sizes, interface, [5, u64::from(number)]);
    PollBackend::new(&config, device, VirtualClock(Rc::clone(now))).unwrap()
}

/// A worker, clients, and the cable between.
struct World {
    now: Rc<Cell<Timestamp>>,
    worker: Worker<End>,
    clients: End,
    batch: Completions,
    /// What each connection was sent.
    heard: HashMap<ConnectionId, Vec<u8>>,
}

impl World {
    /// With so many blocks for a frame of 1 KiB, and some for what is in flight.
    fn new(blocks: u32) -> World {
        let now = Rc::new(Cell::new(Timestamp::from_nanos(1_000_000_000)));
        let (a, b) = Loopback::pair(1024);
        let mut sizes = BackendConfig::small(CLIENTS);
        let clients = end(2, b, &sizes, &now);
        let pool = |size, count| PoolSize { size, count };
        sizes.pools.blocks = vec![pool(256, 1024), pool(4096, blocks), pool(72 << 10, 2)];
        let backend = end(1, a, &sizes, &now);
        let mut settings = settings(1, CLIENTS);
        settings.listeners.truncate(1);
        settings.listeners[0].socket.address = GATEWAY;
        let (worker, _) = common::lone_worker(settings, backend, Arc::default());
        World { now, worker, clients, batch: Completions::with_capacity(1024), heard: HashMap::new() }
    }

    /// Both ends take a turn, and a moment passes.
    fn turn(&mut self) {
        self.worker.turn(Duration::ZERO).unwrap();
        self.clients.poll(Duration::ZERO, &mut self.batch).unwrap();
        for completion in self.batch.drain() {
            match completion {
                Completion::Connected { connection } => {
                    self.heard.insert(connection, vec![]);
                }
                Completion::Received { connection, buffer } => {
                    self.heard.get_mut(&connection).unwrap().extend_from_slice(buffer.as_slice());
                }
                Completion::Sent { .. } | Completion::PeerFinished { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.now.set(self.now.get() + STEP);
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        for _ in 0..200_000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("{what}: {:?}", self.clients.stack().debug());
    }

    fn send(&mut self, to: ConnectionId, bytes: &[u8]) {
        let buffer = self.clients.pools().copy(bytes).unwrap().freeze();
        self.clients.send(to, buffer).unwrap();
    }

    fn logged_in(blocks: u32) -> (World, Vec<ConnectionId>) {
        let mut world = World::new(blocks);
        let ids: Vec<_> = (0..CLIENTS).map(|_| world.clients.connect(None, GATEWAY).unwrap()).collect();
        world.until("connected", |world| world.heard.len() == CLIENTS);
        for (mid, id) in (1..).zip(&ids) {
            world.send(*id, &frame(Operation::AUTH, 1, &auth_body(mid, "", "")));
        }
        world.until("logged in", |world| world.heard.values().all(|heard| !heard.is_empty()));
        world.heard.values_mut().for_each(Vec::clear);
        (world, ids)
    }
}

#[test]
fn clients_that_read_are_served_however_few_blocks_there_are() {
    let (mut world, ids) = World::logged_in(8);
    for round in 0..ROUNDS as i32 {
        let number =
            |id: &ConnectionId, sequence: i32| vec![(id.index() as i32 + sequence + round) as u8; BODY];
        let all = |id: &ConnectionId| -> Vec<u8> {
            (0..DEPTH).flat_map(|sequence| frame(Operation(200), sequence, &number(id, sequence))).collect()
        };
        for id in &ids {
            for chunk in all(id).chunks(4096) {
                world.send(*id, chunk);
            }
        }
        world.until("answered", |world| {
            world.heard.values().all(|heard| heard.len() == DEPTH as usize * (16 + BODY))
        });
        for id in &ids {
            let heard = std::mem::take(world.heard.get_mut(id).unwrap());
            assert!(heard == all(id), "what comes back is what was sent, in order");
        }
    }
    let waited = world.worker.backend().stack().counters().receives_put_back;
    assert!(waited > 0, "there were blocks enough: the test shows nothing");
}
