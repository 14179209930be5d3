//! Send queues as their owner sees them: priorities, refusals, levels, and which connections wait.

use crate::{ConnectionId, PoolId, PoolSet, SharedBuffer, Timestamp};
use std::time::Duration;

/// Questions about what is queued and which sockets have stopped taking bytes. An owner answers
/// pressure on shared stores with them: it finds the connections that hold most.
pub trait Queues {
    /// Bytes queued for the connection that its socket has not taken.
    fn queued_bytes(&self, connection: ConnectionId) -> usize;

    /// Bytes of the blocks of `pools` that the connection's queue holds: an upper bound of what
    /// those pools get back when the connection ends. Blocks that others hold as well do not come
    /// back then.
    fn queued_blocks(&self, connection: ConnectionId, pools: PoolSet) -> usize {
        if pools.is_empty() { 0 } else { self.queued_bytes(connection) }
    }

    /// The same for one pool, which may belong to another owner.
    fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize;

    /// Pieces of the store that the connection's queue holds.
    fn queued_pieces(&self, connection: ConnectionId) -> usize;

    /// How full the shared part of the store of pieces is.
    fn send_store(&self) -> SendStoreLevel;

    /// How full the store is of what was sent and is not known to have arrived (segments of a
    /// backend with a TCP of its own) or to have been taken (sends of a ring). All zeros where
    /// there is none.
    fn flight_store(&self) -> SendStoreLevel {
        SendStoreLevel::default()
    }

    /// Connections that have something queued because their sockets took less than was offered:
    /// each once, in no order. What was queued since the last poll is not in it yet. Whether a peer
    /// is slow is the owner's decision, by [`Waiting::stalled_for`].
    fn waiting(&self) -> &[Waiting];

    /// How long the connection's socket has taken nothing of what waits for it; zero for a
    /// connection that is not in [`Queues::waiting`]. Constant time.
    fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> Duration;

    /// Whether the live connection is in [`Queues::waiting`]. Constant time: it is asked for each
    /// delivery while memory is short.
    fn is_waiting(&self, connection: ConnectionId) -> bool;
}

/// How much of a queue, and of the store of pieces, a send may use.
///
/// What other connections cause to be sent leaves room for what the connection itself asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The last send of a connection: its queue has no bound for it, the store is as for a reply.
    Last,
    /// What the connection asked for, or has to receive before it ends: all of
    /// [`BackendConfig::send_queue_bytes_max`](crate::BackendConfig::send_queue_bytes_max), and the
    /// part of the store that is kept for replies.
    Reply,
    /// What comes from others and should not be lost: three quarters of the queue.
    Push,
    /// What comes from others and may be dropped: half of the queue.
    Droppable,
}

impl Priority {
    /// Bytes that the queue may hold after such a send, where `queue_bytes_max` is the most for
    /// any.
    pub const fn bytes_max(self, queue_bytes_max: usize) -> usize {
        match self {
            Priority::Last => usize::MAX,
            Priority::Reply => queue_bytes_max,
            Priority::Push => queue_bytes_max / 4 * 3,
            Priority::Droppable => queue_bytes_max / 2,
        }
    }

    /// Whether others caused the send, not the connection itself.
    pub const fn is_of_others(self) -> bool {
        matches!(self, Priority::Push | Priority::Droppable)
    }
}

/// A connection whose socket took less than was offered, and whose queue has not been empty since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The connection that waits.
    pub connection: ConnectionId,
    /// When its socket took bytes last, or took none of the first that had to wait: milliseconds of
    /// the backend's clock, modulo 2^32.
    progress_ms: u32,
}

impl Waiting {
    /// A connection whose socket took bytes, or should have, at `progress`.
    pub fn new(connection: ConnectionId, progress: Timestamp) -> Waiting {
        Waiting { connection, progress_ms: progress.as_millis() as u32 }
    }

    /// The same wait under another id, for a backend that is made of several.
    pub fn known_as(self, connection: ConnectionId) -> Waiting {
        Waiting { connection, ..self }
    }

    /// How long the socket has taken nothing. A stall of 49 days begins anew.
    pub fn stalled_for(&self, now: Timestamp) -> Duration {
        let since = (now.as_millis() as u32).wrapping_sub(self.progress_ms);
        // The clock of the list may be a little ahead of the caller's.
        Duration::from_millis(if since > u32::MAX / 2 { 0 } else { u64::from(since) })
    }
}

/// How full a store of pieces or segments is that connections share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStoreLevel {
    /// Entries in use.
    pub used: usize,
    /// Entries in all.
    pub max: usize,
}

/// Why [`Backend::send`](crate::Backend::send) did not take a buffer. The buffer comes back.
#[derive(Debug)]
pub enum SendError {
    /// The connection's own queue is at its bound: its bytes, or its share of the store of pieces.
    Full(SharedBuffer),
    /// Other connections use up the store of pieces. An empty queue is never refused for that.
    Exhausted(SharedBuffer),
    /// The connection is closed, closing or has never existed.
    Closed(SharedBuffer),
}
