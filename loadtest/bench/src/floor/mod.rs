//! The floors: the least that a server can do over this kernel.
//!
//! No protocol, no buffering, no back-pressure: bytes come in and go out. A peer that does not take
//! at once what it is sent is dropped; the generator's closed loops never have more under way than
//! a socket holds, and count such a drop as a failed run. The fan-out servers send whatever arrives
//! on a connection to all other connections.

pub mod epoll;
mod ring;
pub mod uring;

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// What a floor does with received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sends them back.
    Echo,
    /// Sends them to all other connections.
    FanOut,
}

/// A listener on a free port of loopback, or on `port` together with others (`SO_REUSEPORT`); what
/// it accepts inherits `TCP_NODELAY`.
pub(crate) fn listen(nonblocking: bool, port: u16) -> io::Result<(OwnedFd, u16)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(nonblocking)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(4096)?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((socket.into(), address.port()))
}
