//! The peer of a connection to the control port.

use std::net::SocketAddr;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) SocketAddr);

impl Caller {
    pub(crate) fn text(self) -> String {
        self.0.to_string()
    }
}
