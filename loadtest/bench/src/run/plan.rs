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

/// A load with its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name in the reports.
    pub name: &'static str,
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
    Case { name, load: Load::Echo { depth }, connections, size }
}

/// The cases of a full run.
pub const CASES: [Case; 6] = [
    echo("echo 64 B, depth 1, 100 connections", 100, 1, 64),
    echo("echo 64 B, depth 16, 100 connections", 100, 16, 64),
    echo("echo 64 B, depth 1, 5000 connections", 5000, 1, 64),
    echo("echo 64 B, depth 16, 5000 connections", 5000, 16, 64),
    echo("echo 1 KiB, depth 16, 100 connections", 100, 16, 1024),
    Case { name: "fan-out 64 B, 1 to 5000", load: Load::FanOut, connections: 5000, size: 64 },
];

/// The cases of a quick run: whether everything works.
pub const QUICK_CASES: [Case; 4] = [
    echo("echo 64 B, depth 1, 10 connections", 10, 1, 64),
    echo("echo 64 B, depth 16, 200 connections", 200, 16, 64),
    echo("echo 1 KiB, depth 16, 10 connections", 10, 16, 1024),
    Case { name: "fan-out 64 B, 1 to 200", load: Load::FanOut, connections: 200, size: 64 },
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
    /// The `bench-server` kind for a load, if this row takes part in it.
    pub fn kind(&self, load: Load) -> Option<&'static str> {
        match load {
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
pub(super) const FLOOR_URING: &str = "floor, io_uring";
/// The bare epoll server.
pub(super) const FLOOR_EPOLL: &str = "floor, epoll";
/// The gateway on io_uring, frames over TCP.
pub(super) const GATEWAY_URING: &str = "gateway, io_uring";
/// The gateway on epoll, frames over TCP.
pub(super) const GATEWAY_EPOLL: &str = "gateway, epoll";
/// The gateway on io_uring, frames over WebSocket.
pub(super) const GATEWAY_WEBSOCKET: &str = "gateway, io_uring, WebSocket";
/// The gateway on DPDK, frames over our TCP.
pub(super) const GATEWAY_DPDK: &str = "gateway, dpdk";
/// The bare port: each frame sent back, or to all.
pub(super) const FLOOR_DPDK: &str = "floor, dpdk";
/// The peers.
pub(super) const PEERS: [&str; 2] = ["tungstenite, WebSocket", "fastwebsockets, WebSocket"];

const fn row(
    name: &'static str,
    kinds: (Option<&'static str>, Option<&'static str>),
    protocol: Protocol,
    floor: Option<&'static str>,
    port: usize,
) -> Row {
    Row { name, echo: kinds.0, fan_out: kinds.1, protocol, floor, port, way: Way::Loopback }
}

const fn past_the_kernel(row: Row, way: Way) -> Row {
    Row { way, ..row }
}

/// The rows, in the order of their runs: what is compared lies close together.
pub const ROWS: [Row; 9] = [
    past_the_kernel(
        row(FLOOR_DPDK, (Some("floor-dpdk"), Some("floor-dpdk-fanout")), Protocol::Raw, None, 0),
        Way::Frames,
    ),
    past_the_kernel(
        row(GATEWAY_DPDK, (Some("gateway-dpdk"), Some("gateway-dpdk")), Protocol::Goim, Some(FLOOR_DPDK), 0),
        Way::Engine,
    ),
    row(FLOOR_URING, (Some("floor-uring"), Some("floor-uring-fanout")), Protocol::Raw, None, 0),
    row(GATEWAY_URING, (Some("gateway-uring"), Some("gateway-uring")), Protocol::Goim, Some(FLOOR_URING), 0),
    row(GATEWAY_EPOLL, (Some("gateway-epoll"), Some("gateway-epoll")), Protocol::Goim, Some(FLOOR_EPOLL), 0),
    row(FLOOR_EPOLL, (Some("floor-epoll"), Some("floor-epoll-fanout")), Protocol::Raw, None, 0),
    row(
        GATEWAY_WEBSOCKET,
        (Some("gateway-uring"), Some("gateway-uring")),
        Protocol::GoimWebSocket,
        Some(FLOOR_URING),
        1,
    ),
    row(PEERS[0], (Some("tungstenite"), None), Protocol::WebSocket, Some(FLOOR_EPOLL), 0),
    row(PEERS[1], (Some("fastwebsockets"), None), Protocol::WebSocket, Some(FLOOR_EPOLL), 0),
];
