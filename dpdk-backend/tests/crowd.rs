//! Thousands of connections at once over a line of a few hundred frames per turn. What the hosts
//! send by themselves (connection requests, acknowledgements, resets) waits for the line and is not
//! lost before it. A lost frame would be missing until a timer fires: two hundred milliseconds, a
//! second, or forever where there is no timer.

use dpdk_backend::device::{Device, DeviceFull, Frame, Loopback, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::TcpConfig;
use dpdk_backend::wire::Mac;
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::{BackendConfig, BufferPools, ConnectionId, PoolSize, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// More than control frames may wait at once.
const CROWD: usize = 3000;
/// Frames that the line takes between two bursts.
const PER_BURST: usize = 200;
const TURN: Duration = Duration::from_micros(500);
/// More turns than all frames take, and fewer than any timer.
const TURNS: usize = 120;
const SERVER: [u8; 4] = [10, 0, 0, 1];
const ORPHANS: usize = 8;

/// An end of a cable that takes this many frames between two bursts.
struct Narrow {
    line: Loopback,
    taken: usize,
}

impl Device for Narrow {
    fn receive_burst(&mut self, now: Timestamp, pools: &mut BufferPools, frames: &mut Vec<Received>) {
        self.line.receive_burst(now, pools, frames);
    }

    fn transmit(&mut self, now: Timestamp, frame: &Frame<'_>) -> Result<(), DeviceFull> {
        if self.taken == PER_BURST {
            return Err(DeviceFull);
        }
        self.taken += 1;
        self.line.transmit(now, frame)
    }

    fn transmit_burst(&mut self, now: Timestamp) {
        self.taken = 0;
        self.line.transmit_burst(now);
    }
}

/// A host, its end of the line, and the events of its owner.
struct End {
    stack: Stack,
    line: Narrow,
    open: Vec<ConnectionId>,
    received: usize,
    closed: usize,
}

impl End {
    fn new(last: u8, line: Loopback, orphans: Option<usize>) -> End {
        let interface = InterfaceConfig::new(Mac([2, 0, 0, 0, 0, last]), IpAddr::from([10, 0, 0, last]), 24);
        let mut tcp = TcpConfig::new(CROWD);
        tcp.tables.half_open_per_network_max = CROWD as u16;
        tcp.tables.orphans_max = orphans.unwrap_or(tcp.tables.orphans_max);
        let mut pools = BackendConfig::small(1).pools;
        pools.receive = PoolSize { size: 2048, count: 2048 };
        pools.blocks = vec![PoolSize { size: 256, count: CROWD as u32 }];
        let config = StackConfig { interface, tcp, pools, receive_reserve: 64 };
        let stack = Stack::new(&config, [7, u64::from(last)], Timestamp::ZERO).expect("pools");
        End { stack, line: Narrow { line, taken: 0 }, open: Vec::new(), received: 0, closed: 0 }
    }

    fn turn(&mut self, now: Timestamp) {
        self.stack.poll(now, &mut self.line);
        let mut frames = Vec::with_capacity(32);
        for _ in 0..8 {
            self.line.receive_burst(now, self.stack.pools(), &mut frames);
            self.stack.handle_burst(now, &mut frames);
            while let Some(event) = self.stack.next_event() {
                match event {
                    Event::Accepted { connection, .. } | Event::Connected { connection } => {
                        self.open.push(connection);
                    }
                    Event::Received { buffer, .. } => self.received += buffer.len(),
                    Event::Closed { .. } => self.closed += 1,
                    Event::Sent { .. } | Event::PeerFinished { .. } => {}
                }
            }
        }
    }
}

struct Scene {
    server: End,
    client: End,
    now: Timestamp,
}

impl Scene {
    /// Two hosts that know each other, and the clients' connection requests in one turn.
    fn new() -> Scene {
        Scene::with_orphans(None)
    }

    /// The same where only this many closed connections can be orphans at once.
    fn with_orphans(orphans: Option<usize>) -> Scene {
        let (a, b) = Loopback::pair(2 * PER_BURST);
        let now = Timestamp::from_nanos(1 << 30);
        let mut scene = Scene { server: End::new(1, a, orphans), client: End::new(2, b, orphans), now };
        let address = SocketAddr::from((SERVER, 80));
        let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 18 };
        scene.server.stack.listen(address, CROWD, limits).expect("a free port");
        let (server, client) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        scene.server.stack.set_neighbor([10, 0, 0, 2].into(), client, scene.now);
        scene.client.stack.set_neighbor(SERVER.into(), server, scene.now);
        for _ in 0..CROWD {
            scene.client.stack.connect(scene.now, None, address).expect("room");
        }
        scene
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.server.turn(self.now);
            self.client.turn(self.now);
            self.now = self.now + TURN;
        }
        self.server.stack.invariants();
        self.client.stack.invariants();
    }

    /// Nothing was sent twice, and nothing is missing.
    fn nothing_was_lost(&self) {
        for end in [&self.server, &self.client] {
            let counters = end.stack.counters();
            assert_eq!(counters.replies_dropped, 0);
            assert_eq!(counters.retransmission_timeouts + counters.syn_ack_retransmits, 0);
        }
    }
}

#[test]
fn all_connect_at_once() {
    let mut scene = Scene::new();
    scene.turns(TURNS);
    assert_eq!((scene.client.open.len(), scene.server.open.len()), (CROWD, CROWD));
    scene.nothing_was_lost();
}

#[test]
fn all_acknowledge_at_once() {
    let mut scene = Scene::new();
    scene.turns(TURNS);
    for id in scene.server.open.clone() {
        let mut buffer = scene.server.stack.pools().take(64).expect("a block");
        buffer.set_len(64);
        scene.server.stack.send(scene.now, id, buffer.freeze()).expect("room");
    }
    // All are open before the first acknowledgement is due. Then the client has no processor until
    // all are.
    scene.turns(30);
    assert_eq!(scene.client.received, 64 * CROWD);
    assert_eq!(scene.client.stack.counters().delayed_acks, 0);
    scene.now = scene.now + Duration::from_millis(50);
    scene.turns(TURNS);
    assert_eq!(scene.client.stack.counters().delayed_acks, CROWD as u64);
    assert!(scene.server.open.iter().all(|id| scene.server.stack.queued_bytes(*id) == 0));
    scene.nothing_was_lost();
}

/// A FIN closes each of them: time bounds the number of orphans, and no table does for these few
/// (65 536).
#[test]
fn all_are_closed_at_once_with_a_goodbye() {
    let mut scene = Scene::new();
    scene.turns(TURNS);
    for id in scene.server.open.clone() {
        scene.server.stack.close(scene.now, id);
    }
    scene.turns(TURNS);
    assert_eq!((scene.server.closed, scene.client.closed), (CROWD, CROWD));
    assert_eq!(scene.server.stack.counters().orphans_overflow, 0);
    assert_eq!(scene.client.stack.counters().resets_received, 0);
    assert_eq!((scene.server.stack.connection_count(), scene.client.stack.connection_count()), (0, 0));
    assert_eq!(scene.server.stack.levels()[0], 0, "all have said goodbye");
    scene.nothing_was_lost();
}

/// Few of them can be orphans. All others are closed by a reset each.
#[test]
fn all_are_closed_at_once() {
    let mut scene = Scene::with_orphans(Some(ORPHANS));
    scene.turns(TURNS);
    for id in scene.server.open.clone() {
        scene.server.stack.close(scene.now, id);
    }
    scene.turns(TURNS);
    assert_eq!((scene.server.closed, scene.client.closed), (CROWD, CROWD));
    assert_eq!(scene.server.stack.counters().orphans_overflow, (CROWD - ORPHANS) as u64);
    assert_eq!(scene.client.stack.counters().resets_received, (CROWD - ORPHANS) as u64);
    assert_eq!((scene.server.stack.connection_count(), scene.client.stack.connection_count()), (0, 0));
    scene.nothing_was_lost();
}
