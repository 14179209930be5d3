//! What a poll reports, and the batch that it reports in.

use super::config::ListenerId;
use crate::{Buffer, ConnectionId};
use std::io;
use std::net::SocketAddr;

/// A fact that a poll reports. A batch keeps the order in which facts happened to each connection.
#[derive(Debug)]
pub enum Completion {
    /// A peer connected to `listener`.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// The listener that the peer connected to.
        listener: ListenerId,
        /// The peer's address.
        peer: SocketAddr,
    },
    /// A [`Backend::connect`](crate::Backend::connect) succeeded.
    Connected {
        /// The connection, open from here on.
        connection: ConnectionId,
    },
    /// Bytes arrived; at least one.
    Received {
        /// The connection that they arrived on.
        connection: ConnectionId,
        /// The bytes. The receiver of the completion owns the buffer.
        buffer: Buffer,
    },
    /// The peer has ended its side (FIN), behind all bytes that were reported. It may still read
    /// (RFC 9293, 3.6: a half-close), so what is sent to it leaves. At most once, and not after the
    /// owner's own end.
    ///
    /// The owner need not do anything: see `Closed`. One that has answers under way which it cannot
    /// send while it handles this batch holds the end back by
    /// [`Backend::set_receiving`](crate::Backend::set_receiving), and resumes when they are sent.
    PeerFinished {
        /// The connection that the peer ended its side of.
        connection: ConnectionId,
    },
    /// A send queue that had to wait for its peer is empty again.
    Sent {
        /// The connection that has the queue.
        connection: ConnectionId,
    },
    /// The connection has ended and its id is dead.
    ///
    /// After the peer's FIN this comes once the owner has had the batch with `PeerFinished`, has
    /// not stopped the connection ([`Backend::set_receiving`](crate::Backend::set_receiving)),
    /// has none of its bytes unread ([`Backend::unread`](crate::Backend::unread)), and the
    /// socket has taken what is queued. So an end never overtakes the answers to what came
    /// before it. A reset, or another error, ends the connection at once.
    Closed {
        /// The connection that ended.
        connection: ConnectionId,
        /// The reason, as far as the transport knows it.
        reason: CloseReason,
    },
}

/// Why a connection ended, as far as the transport knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer ended its side.
    PeerClosed,
    /// The peer reset the connection.
    PeerReset,
    /// The peer stopped acknowledging (TCP_USER_TIMEOUT, keepalive) or could not be reached in
    /// time.
    TimedOut,
    /// No socket listens at the address that was connected to.
    Refused,
    /// The owner closed it.
    Local,
    /// The network or the system failed in another way.
    Failed,
}

impl CloseReason {
    /// All reasons, for metrics.
    pub const ALL: [CloseReason; 6] = [
        CloseReason::PeerClosed,
        CloseReason::PeerReset,
        CloseReason::TimedOut,
        CloseReason::Refused,
        CloseReason::Local,
        CloseReason::Failed,
    ];

    /// The reason's name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Refused => "refused",
            CloseReason::Local => "local",
            CloseReason::Failed => "failed",
        }
    }

    /// The reason that an error number of a socket stands for.
    pub fn of_error(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::PeerReset,
            io::ErrorKind::ConnectionAborted => CloseReason::PeerReset,
            io::ErrorKind::TimedOut => CloseReason::TimedOut,
            io::ErrorKind::ConnectionRefused => CloseReason::Refused,
            _ => CloseReason::Failed,
        }
    }
}

/// The batch that [`Backend::poll`](crate::Backend::poll) appends to: a vector of fixed capacity.
#[derive(Debug)]
pub struct Completions {
    items: Vec<Completion>,
    /// The length that the present poll (or the last one) may bring it to.
    bound: usize,
}

impl Completions {
    /// A batch with room for `capacity` completions.
    pub fn with_capacity(capacity: usize) -> Completions {
        Completions { items: Vec::with_capacity(capacity), bound: capacity }
    }

    /// Begins a poll that appends at most `count` completions, however much room there is. Backends
    /// call it first.
    pub fn admit(&mut self, count: usize) {
        self.bound = self.items.capacity().min(self.items.len().saturating_add(count));
    }

    /// Completions that the present poll may still append.
    pub fn room(&self) -> usize {
        self.bound.saturating_sub(self.items.len())
    }

    /// Whether no further completion fits.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Appends a completion.
    ///
    /// # Panics
    /// If the batch is at its capacity: backends ask first.
    pub fn push(&mut self, completion: Completion) {
        assert!(self.items.len() < self.items.capacity(), "completion batch overrun");
        self.items.push(completion);
    }

    /// Takes everything out, oldest first; the capacity stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Completion> + '_ {
        self.items.drain(..)
    }

    /// Returns the memory of unused capacity to the system.
    pub fn trim(&mut self) {
        crate::release_spare(&mut self.items);
    }

    /// Completions in the batch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
