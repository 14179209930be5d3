//! What relief looks for, and how far it is.

use crate::session::{Phase, Session};
use netpoll::{ConnectionId, PoolId, PoolSet, Timestamp};

/// Connections closed in one turn at most, or for one request.
pub(in crate::handler) const CLOSES_MAX: usize = 4;

/// How far relief is, from one turn to the next.
#[derive(Debug)]
pub(in crate::handler) struct Relief {
    /// When it looks for connections to close next, after it found none.
    pub(in crate::handler) due: Timestamp,
    /// When this worker asks for blocks of its own pools next.
    pub(in crate::handler) blocks_due: Timestamp,
    /// Since when no receive buffer has been left, and nothing was received.
    pub(in crate::handler) dry_since: Option<Timestamp>,
    /// Requests of other owners for their blocks that were served, when the next ones may be, and
    /// whether the last were any.
    pub(in crate::handler) requests_served: u32,
    pub(in crate::handler) requests_due: Timestamp,
    pub(in crate::handler) knows_requests: bool,
    /// A connection is being closed for a shortage: its last word makes no others go.
    pub(in crate::handler) is_closing: bool,
    /// Where in the backend's list of the waiting it goes on.
    pub(in crate::handler) cursor: usize,
    /// Entries and pieces that it has looked at in this turn.
    pub(in crate::handler) looks: usize,
}

impl Relief {
    pub(in crate::handler) fn new(now: Timestamp) -> Relief {
        Relief {
            due: now,
            blocks_due: now,
            dry_since: None,
            requests_served: 0,
            requests_due: now,
            knows_requests: false,
            is_closing: false,
            cursor: 0,
            looks: 0,
        }
    }

    pub(in crate::handler) fn begin_turn(&mut self) {
        self.looks = 0;
    }
}

/// What is short.
#[derive(Clone, Copy, Debug)]
pub(in crate::handler) enum Shortage {
    /// Pieces of send queues.
    Pieces,
    /// Blocks of these pools.
    Blocks(PoolSet),
    /// Blocks of a pool of another owner.
    Foreign(PoolId),
    /// The machine's or the container's memory.
    Memory,
}

/// What is wanted back.
#[derive(Clone, Copy, Debug)]
pub(in crate::handler) struct Wanted {
    pub(in crate::handler) what: Shortage,
    /// The receivers that go: those that have stalled, those that are still, too, or, where nothing
    /// at all is left, all.
    pub(in crate::handler) least: Uptake,
    /// The connection that asks.
    pub(in crate::handler) asker: Option<ConnectionId>,
}

/// How a receiver's socket takes what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::handler) enum Uptake {
    /// It has taken bytes within a quarter of a second.
    Reads,
    /// It has taken none for that long.
    Still,
    /// It has taken none for `session.slow_consumer_timeout_ms`.
    Stalled,
}

/// A receiver that holds of what is wanted. The greatest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::handler) struct Holder {
    pub(in crate::handler) uptake: Uptake,
    pub(in crate::handler) held: usize,
    pub(in crate::handler) connection: ConnectionId,
}

/// Whose frames that have not come whole may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handler) enum Bearers {
    /// Of connections that have not begun to log in.
    Unauthenticated,
    /// Of all, those without a login first.
    All,
}

impl Bearers {
    pub(in crate::handler) fn include(self, session: &Session) -> bool {
        self == Bearers::All || matches!(session.phase, Phase::Handshake | Phase::Unauthenticated)
    }
}
