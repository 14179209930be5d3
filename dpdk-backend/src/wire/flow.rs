//! The 4-tuple of a connection.

use super::Ip;

/// The addresses and ports that identify a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The peer.
    pub remote: Ip,
    /// This host.
    pub local: Ip,
    /// The peer's port.
    pub remote_port: u16,
    /// This host's port.
    pub local_port: u16,
}
