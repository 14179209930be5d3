//! The connections that are left unread while what they post has to wait.

use crate::address::WorkerId;
use netpoll::{ConnectionId, Fifo};

/// Connections that are held, the longest first, each with the worker that it posted to; and some
/// that are not any more.
#[derive(Debug)]
pub struct Held(pub(in crate::handler) Fifo<(ConnectionId, WorkerId)>);

impl Held {
    /// Bytes that a connection takes.
    pub const BYTES_PER_CONNECTION: usize = size_of::<(ConnectionId, WorkerId)>();

    /// Room for so many.
    pub fn with_capacity(capacity: usize) -> Held {
        Held(Fifo::with_capacity(capacity))
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the memory back when none is held.
    pub(crate) fn trim(&mut self) {
        self.0.trim();
    }
}
