//! The table of copies in docs/dpdk.md: each row is played, and the engine's copies are counted.

use dpdk_backend::device::{Device, Loopback, Received};
use dpdk_backend::iface::InterfaceConfig;
use dpdk_backend::tcp::TcpConfig;
use dpdk_backend::wire::Mac;
use dpdk_backend::{Event, ListenLimits, Stack, StackConfig};
use netpoll::{Buffer, ConnectionId, PoolSet, PoolSize, PoolsConfig, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const RECEIVE_BUFFERS: u32 = 256;
const CLIENTS: usize = 3;

struct Host {
    stack: Stack,
    line: Loopback,
    open: Vec<ConnectionId>,
    received: Vec<Buffer>,
}

impl Host {
    fn new(last: u8, line: Loopback, small_blocks: u32) -> Host {
        let interface = InterfaceConfig::new(Mac([2, 0, 0, 0, 0, last]), IpAddr::from([10, 0, 0, last]), 24);
        let pools = PoolsConfig {
            receive: PoolSize { size: 2048, count: RECEIVE_BUFFERS },
            blocks: vec![PoolSize { size: 256, count: small_blocks }, PoolSize { size: 4096, count: 64 }],
            huge_pages: false,
        };
        let config = StackConfig { interface, tcp: TcpConfig::new(16), pools, receive_reserve: 0 };
        let stack = Stack::new(&config, [3, u64::from(last)], Timestamp::ZERO).expect("pools");
        Host { stack, line, open: vec![], received: vec![] }
    }

    fn turn(&mut self, now: Timestamp) {
        self.stack.poll(now, &mut self.line);
        let mut frames = Vec::<Received>::with_capacity(32);
        self.line.receive_burst(now, self.stack.pools(), &mut frames);
        self.stack.handle_burst(now, &mut frames);
        while let Some(event) = self.stack.next_event() {
            match event {
                Event::Accepted { connection, .. } | Event::Connected { connection } => {
                    self.open.push(connection);
                }
                Event::Received { buffer, .. } => self.received.push(buffer),
                _ => {}
            }
        }
        self.stack.poll(now, &mut self.line);
    }
}

/// A server and its clients, which are one host.
struct Scene {
    server: Host,
    client: Host,
    now: Timestamp,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(64)
    }

    fn with(small_blocks: u32) -> Scene {
        let (a, b) = Loopback::pair(512);
        let now = Timestamp::from_nanos(1 << 30);
        let mut scene =
            Scene { server: Host::new(1, a, small_blocks), client: Host::new(2, b, small_blocks), now };
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let limits = ListenLimits { user_timeout_ms: 0, flight_bytes_max: 1 << 20, window_max: 1 << 16 };
        scene.server.stack.listen(address, 16, limits).expect("a free port");
        for _ in 0..CLIENTS {
            scene.client.stack.connect(now, None, address).expect("connecting starts");
        }
        scene.turns(20);
        assert_eq!((scene.server.open.len(), scene.client.open.len()), (CLIENTS, CLIENTS));
        scene
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.server.turn(self.now);
            self.client.turn(self.now);
            self.now = self.now + Duration::from_micros(200);
        }
    }

    /// Holds more than half of the server's receive buffers.
    fn hold(&mut self) -> Vec<Buffer> {
        (0..RECEIVE_BUFFERS / 2 + 8).filter_map(|_| self.server.stack.pools().take_receive()).collect()
    }

    /// A client sends `size` bytes, and the server sends what it received to `receivers` clients.
    /// Returns the copies of received payloads and of kept ones.
    fn echo(&mut self, size: usize, receivers: usize) -> (u64, u64) {
        let before = *self.server.stack.counters();
        let mut buffer = self.client.stack.pools().take(size).expect("a block");
        buffer.set_len(size);
        self.client.stack.send(self.now, self.client.open[0], buffer.freeze()).expect("room");
        self.turns(2);
        let message = self.server.received.pop().expect("it came").freeze();
        for receiver in 0..receivers {
            let id = self.server.open[receiver];
            self.server.stack.send(self.now, id, message.clone()).expect("room");
        }
        drop(message);
        self.client.received.clear();
        self.turns(4);
        assert_eq!(self.client.received.iter().map(Buffer::len).sum::<usize>(), size * receivers);
        // Everything is acknowledged before the next message.
        self.now = self.now + Duration::from_millis(50);
        self.turns(4);
        assert!(self.server.open.iter().all(|id| self.server.stack.queued_bytes(*id) == 0));
        let after = self.server.stack.counters();
        (after.receive_copies - before.receive_copies, after.send_copies - before.send_copies)
    }
}

/// The numbers of a row: those that the cells `in` and `kept until acknowledged` begin with.
fn documented(way: &str) -> (u64, u64) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/dpdk.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let row = text.lines().find(|line| line.starts_with(&format!("| {way} |")));
    let row = row.unwrap_or_else(|| panic!("docs/dpdk.md has no row for: {way}"));
    let number = |cell: usize| {
        let text = row.split('|').nth(cell).expect("a cell").trim();
        text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number")
    };
    (number(2), number(3))
}

#[test]
fn an_echo_is_copied_as_often_as_the_table_says() {
    let mut scene = Scene::new();
    let few = "at most 256 bytes, while half of the receive buffers are free";
    for size in [1, 64, 256] {
        assert_eq!(scene.echo(size, 1), documented(few), "{size} bytes");
    }
    for size in [257, 1000] {
        assert_eq!(scene.echo(size, 1), documented("more than 256 bytes"), "{size} bytes");
    }
    let held = scene.hold();
    for size in [1, 64, 256] {
        let short = "at most 256 bytes, while fewer are";
        assert_eq!(scene.echo(size, 1), documented(short), "{size} bytes");
    }
    assert_eq!(scene.echo(1000, 1), documented("more than 256 bytes"));
    drop(held);
    assert_eq!(scene.echo(64, 1), documented(few), "and again when there are enough");
}

#[test]
fn a_fan_out_copies_once_for_all() {
    let mut scene = Scene::new();
    assert_eq!(scene.echo(64, CLIENTS), (0, 0));
    let _held = scene.hold();
    let way = "to many receivers at once, while fewer than half are free";
    assert_eq!(scene.echo(64, CLIENTS), documented(way));
}

#[test]
fn what_is_ahead_of_a_gap_leaves_its_receive_buffer() {
    let mut scene = Scene::new();
    let before = *scene.server.stack.counters();
    // Two messages, and the first is lost.
    for message in 0..2 {
        let mut buffer = scene.client.stack.pools().take(64).expect("a block");
        buffer.set_len(64);
        scene.client.stack.send(scene.now, scene.client.open[0], buffer.freeze()).expect("room");
        scene.client.stack.poll(scene.now, &mut scene.client.line);
        if message == 0 {
            let mut lost = Vec::<Received>::with_capacity(32);
            scene.server.line.receive_burst(scene.now, scene.server.stack.pools(), &mut lost);
            assert_eq!(lost.len(), 1);
        }
    }
    scene.turns(1);
    let after = *scene.server.stack.counters();
    assert_eq!(after.out_of_order - before.out_of_order, 1);
    assert_eq!(
        after.receive_copies - before.receive_copies,
        documented("at most 256 bytes, ahead of a gap").0
    );
}

/// A message for a peer that has vanished: it is sent, and stays because it is never acknowledged.
/// Each was received in a buffer of its own, like messages of many senders.
#[test]
fn what_a_vanished_peer_does_not_acknowledge_leaves_half_of_the_receive_buffers() {
    for size in [16, 32, 200] {
        let mut scene = Scene::with(512);
        for _ in 0..300 {
            let server = &mut scene.server;
            let mut message = server.stack.pools().take_receive().expect("a receive buffer is free");
            message.set_len(size);
            server.stack.send(scene.now, server.open[0], message.freeze()).expect("room");
            server.turn(scene.now);
            scene.now = scene.now + Duration::from_micros(10);
        }
        let level = scene.server.stack.pools().receive_level();
        assert!(level.free * 2 + 4 >= level.count, "{size} bytes: {level:?}");
        let kept = scene.server.stack.queued_blocks(scene.server.open[0], PoolSet::ALL);
        assert!(kept > 300 * 256, "{kept} bytes of blocks");
    }
}
