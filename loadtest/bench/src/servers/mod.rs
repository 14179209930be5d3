//! The servers that are compared, each in a process of its own: `bench-server KIND --cpu N`.

pub(crate) mod announce;
pub(crate) mod gateway;
mod stamped;
mod threads;
mod websocket;

use crate::dpdk;
use crate::floor::{self, Work};
use announce::announce;
use std::io;
use std::path::Path;

/// The kinds of server.
pub const KINDS: [&str; 14] = [
    "floor-epoll",
    "floor-uring",
    "floor-epoll-fanout",
    "floor-uring-fanout",
    "gateway-epoll",
    "gateway-uring",
    "tungstenite",
    "fastwebsockets",
    "floor-dpdk",
    "floor-dpdk-fanout",
    "gateway-dpdk",
    "threads",
    "gateway-epoll-stamped",
    "gateway-uring-stamped",
];

/// A floor that fans out over several rings.
pub const BROADCAST: &str = "floor-uring-broadcast";

/// Serves broadcasts over `rings` rings with up to `slots` connections each, until killed. The port
/// is the first line on standard output.
///
/// # Errors
/// What keeps the server from serving.
pub fn serve_broadcast(rings: usize, slots: u32, size: usize) -> io::Result<()> {
    floor::uring::serve_many(rings, slots, size, |port| announce(&[port]))
}

/// Serves until killed; clients write `size` bytes at once, and those past the kernel reach it over
/// the socket `link`. The port, or ports (TCP, then WebSocket), are the first line on standard
/// output.
///
/// # Errors
/// What keeps the server from serving.
pub fn serve(kind: &str, size: usize, link: &Path) -> io::Result<()> {
    match kind {
        "floor-epoll" => floor::epoll::serve(Work::Echo, |port| announce(&[port])),
        "floor-epoll-fanout" => floor::epoll::serve(Work::FanOut, |port| announce(&[port])),
        "floor-uring" => floor::uring::serve(Work::Echo, size, |port| announce(&[port])),
        "floor-uring-fanout" => floor::uring::serve(Work::FanOut, size, |port| announce(&[port])),
        "gateway-epoll" => gateway::serve_epoll(),
        "gateway-uring" => gateway::serve_uring(),
        "floor-dpdk" => dpdk::serve_floor(link, Work::Echo),
        "floor-dpdk-fanout" => dpdk::serve_floor(link, Work::FanOut),
        "gateway-dpdk" => dpdk::serve_gateway(link),
        "gateway-epoll-stamped" => stamped::serve_epoll(),
        "gateway-uring-stamped" => stamped::serve_uring(),
        "threads" => threads::serve(),
        "tungstenite" => websocket::serve(websocket::Library::Tungstenite),
        "fastwebsockets" => websocket::serve(websocket::Library::Fastwebsockets),
        _ => Err(io::Error::other(format!("no server '{kind}'; there are {}", KINDS.join(", ")))),
    }
}
