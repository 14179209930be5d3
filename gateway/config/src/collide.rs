//! Addresses that exclude each other.

use std::net::{IpAddr, SocketAddr};

/// Whether two sockets can't both listen. One on `[::]` takes IPv4 too; one on 0.0.0.0 takes
/// nothing of IPv6.
pub fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |one: SocketAddr, other: SocketAddr| match one.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => other.is_ipv4(),
        ip => ip.to_canonical() == other.ip().to_canonical(),
    };
    a.port() != 0 && a.port() == b.port() && (takes(a, b) || takes(b, a))
}
