//! The rows to compare, and their loads.

use crate::client::Protocol;

/// The load of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Each connection sends so many messages at once and waits for all echoes.
    Echo {
        /// Messages at once.
        depth: usize,
    },
    /// One connection's messages go to all others, one after the other.
    FanOut,
}

/// The servers that a case compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// The gateway beside floors and WebSocket libraries.
    Servers,
    /// The gateway beside a thread for each connection, with blocking IO.
    Threads,
}

/// A load with its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name in the reports.
    pub name: &'static str,
    /// The servers that it compares.
    pub contest: Contest,
    /// The load of the clients.
    pub load: Load,
    /// Connections; with a fan-out, receivers.
    pub connections: usize,
    /// Payload of a message, in bytes.
    pub size: usize,
}

impl Case {
    /// Bytes of payload that a client writes at once.
    pub fn written_at_once(&self) -> usize {
        match self.load {
            Load::Echo { depth } => depth * self.size,
            Load::FanOut => self.size,
        }
    }
}

const fn echo(name: &'static str, connections: usize, depth: usize, size: usize) -> Case {
    Case { name, contest: Contest::Servers, load: Load::Echo { depth }, connections, size }
}

const fn fan_out(name: &'static str, connections: usize, size: usize) -> Case {
    Case { name, contest: Contest::Servers, load: Load::FanOut, connections, size }
}

/// Beside a thread for each connection.
const fn threads(case: Case) -> Case {
    Case { contest: Contest::Threads, ..case }
}

/// The cases of a full run.
pub const CASES: [Case; 8] = [
    echo("echo 64 B, depth 1, 100 connections", 100, 1, 64),
    echo("echo 64 B, depth 16, 100 connections", 100, 16, 64),
    echo("echo 64 B, depth 1, 5000 connections", 5000, 1, 64),
    echo("echo 64 B, depth 16, 5000 connections", 5000, 16, 64),
    echo("echo 1 KiB, depth 16, 100 connections", 100, 16, 1024),
    fan_out("fan-out 64 B, 1 to 5000", 5000, 64),
    threads(echo("a thread each, 64 B, depth 1, 1000 connections", 1000, 1, 64)),
    threads(echo("a thread each, 64 B, depth 1, 10000 connections", 10_000, 1, 64)),
];

/// The cases of a quick run: whether everything works.
pub const QUICK_CASES: [Case; 5] = [
    echo("echo 64 B, depth 1, 10 connections", 10, 1, 64),
    echo("echo 64 B, depth 16, 200 connections", 200, 16, 64),
    echo("echo 1 KiB, depth 16, 10 connections", 10, 16, 1024),
    fan_out("fan-out 64 B, 1 to 200", 200, 64),
    threads(echo("a thread each, 64 B, depth 16, 50 connections", 50, 16, 64)),
];

/// The way between a server and the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel's TCP over loopback.
    Loopback,
    /// Our TCP on both ends of a link in shared memory.
    Engine,
    /// The same link, frame by frame: no protocol at all.
    Frames,
}

/// A server and its protocol.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name in the reports.
    pub name: &'static str,
    /// `bench-server` kind for echoes.
    echo: Option<&'static str>,
    /// `bench-server` kind for fan-outs.
    fan_out: Option<&'static str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The row that it is measured by.
    pub floor: Option<&'static str>,
    /// Index of the server's port.
    pub port: usize,
    /// The way to it.
    pub way: Way,
}

impl Row {
    /// The `bench-server` kind for a case, if this row takes part in it.
    pub fn kind(&self, case: &Case) -> Option<&'static str> {
        let takes_part = match case.contest {
            Contest::Servers => self.name != THREADS,
            Contest::Threads => BESIDE_THREADS.contains(&self.name),
        };
        match case.load {
            _ if !takes_part => None,
            Load::Echo { .. } => self.echo,
            Load::FanOut => self.fan_out,
        }
    }

    /// Whether it needs a generator with DPDK.
    pub fn needs_dpdk(&self) -> bool {
        self.way != Way::Loopback
    }

    /// Whether it needs io_uring.
    pub fn needs_uring(&self) -> bool {
        self.echo.or(self.fan_out).is_some_and(|kind| kind.contains("uring"))
    }
}

/// The bare io_uring server.
pub(crate) const FLOOR_URING: &str = "floor, io_uring";
/// The bare epoll server.
pub(crate) const FLOOR_EPOLL: &str = "floor, epoll";
/// The gateway on io_uring, frames over TCP.
pub(crate) const GATEWAY_URING: &str = "gateway, io_uring";
/// The gateway on epoll, frames over TCP.
pub(crate) const GATEWAY_EPOLL: &str = "gateway, epoll";
/// The gateway on io_uring, frames over WebSocket.
pub(crate) const GATEWAY_URING_WEBSOCKET: &str = "gateway, io_uring, WebSocket";
/// The gateway on epoll, frames over WebSocket: what the peers, on epoll too, compare with.
pub(crate) const GATEWAY_EPOLL_WEBSOCKET: &str = "gateway, epoll, WebSocket";
/// The gateway on DPDK, frames over our TCP.
pub(crate) const GATEWAY_DPDK: &str = "gateway, dpdk";
/// The bare port: each frame sent back, or to all.
pub(crate) const FLOOR_DPDK: &str = "floor, dpdk";
/// A thread for each connection, with blocking IO; the same frames as the gateway's.
pub(crate) const THREADS: &str = "a thread each, blocking";
/// The peers.
pub(crate) const PEERS: [&str; 2] = ["tungstenite, WebSocket", "fastwebsockets, gathered, WebSocket"];
/// The rows beside [`THREADS`], and itself.
const BESIDE_THREADS: [&str; 5] = [GATEWAY_DPDK, FLOOR_URING, GATEWAY_URING, GATEWAY_EPOLL, THREADS];

/// The same kind of server for echoes and fan-outs.
const fn both(kind: &'static str) -> (Option<&'static str>, Option<&'static str>) {
    (Some(kind), Some(kind))
}

const fn row(
    name: &'static str,
    kinds: (Option<&'static str>, Option<&'static str>),
    protocol: Protocol,
    floor: Option<&'static str>,
) -> Row {
    // The gateway's first port is TCP's, its second WebSocket's; the others have one.
    let port = if matches!(protocol, Protocol::GoimWebSocket) { 1 } else { 0 };
    Row { name, echo: kinds.0, fan_out: kinds.1, protocol, floor, port, way: Way::Loopback }
}

const fn past_the_kernel(row: Row, way: Way) -> Row {
    Row { way, ..row }
}

/// The rows, in the order of their runs: what is compared lies close together.
pub const ROWS: [Row; 11] = [
    past_the_kernel(
        row(FLOOR_DPDK, (Some("floor-dpdk"), Some("floor-dpdk-fanout")), Protocol::Raw, None),
        Way::Frames,
    ),
    past_the_kernel(row(GATEWAY_DPDK, both("gateway-dpdk"), Protocol::Goim, Some(FLOOR_DPDK)), Way::Engine),
    row(FLOOR_URING, (Some("floor-uring"), Some("floor-uring-fanout")), Protocol::Raw, None),
    row(GATEWAY_URING, both("gateway-uring"), Protocol::Goim, Some(FLOOR_URING)),
    row(GATEWAY_EPOLL, both("gateway-epoll"), Protocol::Goim, Some(FLOOR_EPOLL)),
    row(FLOOR_EPOLL, (Some("floor-epoll"), Some("floor-epoll-fanout")), Protocol::Raw, None),
    row(GATEWAY_URING_WEBSOCKET, both("gateway-uring"), Protocol::GoimWebSocket, Some(FLOOR_URING)),
    row(GATEWAY_EPOLL_WEBSOCKET, both("gateway-epoll"), Protocol::GoimWebSocket, Some(FLOOR_EPOLL)),
    row(PEERS[0], (Some("tungstenite"), None), Protocol::WebSocket, Some(FLOOR_EPOLL)),
    row(PEERS[1], (Some("fastwebsockets"), None), Protocol::WebSocket, Some(FLOOR_EPOLL)),
    row(THREADS, (Some("threads"), None), Protocol::Goim, None),
];
