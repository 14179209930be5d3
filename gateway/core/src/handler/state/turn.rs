//! Times and flags that one turn goes by.

use super::backlog::Backlog;
use crate::lateness::Lateness;
use netpoll::Timestamp;

/// How far a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Listeners are open.
    Serving,
    /// Listeners are closed, clients are sent away.
    Draining,
    /// Everything is closed.
    Stopping,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct TurnState {
    /// The time of this turn, read once.
    pub(crate) now: Timestamp,
    pub(crate) stage: Stage,
    pub(crate) lateness: Lateness,
    /// Receives handled in this turn.
    pub(crate) receives: u64,
    /// What was received and waits for a later turn.
    pub(crate) backlog: Backlog,
    /// The last slice of the fan-outs made nothing: all of them go at rates of their own.
    pub(crate) fanouts_rest: bool,
    /// When frames that have not come whole are looked at next.
    pub(in crate::handler) frames_due: Timestamp,
    /// When the rooms' totals are sent to hosts next.
    pub(crate) totals_due: Timestamp,
    /// When a connection that speaks another protocol is reported next.
    pub(in crate::handler) foreign_due: Timestamp,
}

impl TurnState {
    pub(in crate::handler) fn new(now: Timestamp, backlog: Backlog) -> TurnState {
        TurnState {
            now,
            stage: Stage::Serving,
            lateness: Lateness::new(now),
            receives: 0,
            backlog,
            fanouts_rest: false,
            frames_due: now,
            totals_due: now,
            foreign_due: now,
        }
    }

    /// Whether everything is being closed.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stage == Stage::Stopping
    }

    /// Whether listeners are open: neither a drain nor the end has begun.
    pub(crate) fn takes_newcomers(&self) -> bool {
        self.stage == Stage::Serving
    }
}
