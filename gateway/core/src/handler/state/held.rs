//! The connections that are left unread while what they post, or are answered, has to wait.

use crate::address::WorkerId;
use netpoll::{ConnectionId, Fifo};

/// What a connection is left unread for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handler) enum Awaited {
    /// Less waits for the worker that it posted to.
    Worker(WorkerId),
    /// It reads what it was answered.
    Uptake,
}

/// Connections that are held, the longest first, each with what is awaited; and some that are not
/// any more.
#[derive(Debug)]
pub struct Held(pub(in crate::handler) Fifo<(ConnectionId, Awaited)>);

impl Held {
    /// Bytes that a connection takes.
    pub const BYTES_PER_CONNECTION: usize = size_of::<(ConnectionId, Awaited)>();

    /// Room for so many.
    pub fn with_capacity(capacity: usize) -> Held {
        Held(Fifo::with_capacity(capacity))
    }

    /// Whether one more can be held.
    pub(in crate::handler) fn has_place(&self) -> bool {
        self.0.len() < self.0.capacity()
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
