//! Relief: which connections go when something that all share runs short.
//!
//! One order for the pieces of send queues, for blocks of each size and for memory:
//!
//! 1. connections that hold a block for a frame that has not come whole, those without a login first (`pressure`; blocks only);
//! 2. receivers whose sockets have taken nothing for `session.slow_consumer_timeout_ms`, that which holds most first;
//! 3. receivers that hold most although their sockets take bytes: only from a [`HOG_PART`] of the store on, so that a burst to many
//!    closes none of them, unless a request at hand cannot go on without.
//!
//! Blocks that receivers of one worker hold may be another worker's, or the control thread's: an owner whose pool is short and that
//! has no such receiver itself asks all workers ([`crate::memory::Signal`]), and each closes one by the same order.
//!
//! The connection that asks is never among them. One look is bounded ([`LOOK_MAX`]) and goes on where the last one ended, so
//! a turn is.

use super::pressure::CLOSES_MAX;
use crate::metrics::SlowReason;
use crate::session::Phase;
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId, PoolSet};
use std::time::Duration;

/// A receiver that takes bytes goes only if it holds at least this part of the store.
const HOG_PART: usize = 32;
/// Bytes of other owners' blocks that a receiver must hold to be closed although it takes bytes.
const FOREIGN_HOG_BYTES: usize = 256 << 10;
/// Pieces and connections looked at for one decision.
const LOOK_MAX: usize = 32 << 10;
/// How long relief rests after a look that found no connection to close.
const REST: Duration = Duration::from_millis(10);

/// What is short.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shortage {
    /// Pieces of send queues.
    Pieces,
    /// Blocks of these pools.
    Blocks(PoolSet),
    /// The machine's or the container's memory.
    Memory,
}

/// What is wanted back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) what: Shortage,
    /// What a receiver whose socket takes bytes must hold to be closed: pieces, or bytes.
    pub(super) at_least: usize,
    /// The connection that asks.
    pub(super) asker: Option<ConnectionId>,
}

impl<B: Backend> Worker<B> {
    /// Closes the connections that hold most while a pool or the store of pieces is short, at most [`CLOSES_MAX`] of them.
    pub(crate) fn relieve_pressure(&mut self) {
        if self.pace.now < self.pace.relief_due {
            return;
        }
        for _ in 0..CLOSES_MAX {
            let blocks = self.backend.pools().short();
            let is_short = !blocks.is_empty() || self.is_store_short();
            if !is_short {
                return;
            }
            if !self.shed_late_carrier(blocks) && !self.close_hog(blocks) {
                if !blocks.is_empty() {
                    self.context.settings.memory.request_blocks(); // receivers of other workers may hold them
                }
                self.pace.relief_due = self.pace.now + REST;
                return;
            }
        }
    }

    /// Closes the receiver that holds most blocks of other owners when one of those has asked for its blocks: one for all that
    /// have asked since the last turn, and not oftener than every [`REST`].
    pub(crate) fn serve_block_requests(&mut self) {
        let requests = self.context.settings.memory.block_requests();
        if requests == self.pace.block_requests || self.pace.now < self.pace.requests_due {
            return;
        }
        self.pace.block_requests = requests;
        self.pace.requests_due = self.pace.now + REST;
        let what = Shortage::Blocks(PoolSet::FOREIGN);
        self.close_holder(&Wanted { what, at_least: FOREIGN_HOG_BYTES, asker: None });
    }

    /// Whether more than three quarters of the shared pieces are in use: pushes, which may use seven eighths, leave each other little.
    fn is_store_short(&self) -> bool {
        let store = self.backend.send_store();
        store.used * 4 > store.max * 3
    }

    /// Closes the receiver that holds most of what is short, if it should not hold as much. False when there is none.
    fn close_hog(&mut self, blocks: PoolSet) -> bool {
        if !blocks.is_empty() {
            let at_least = (self.backend.pools().bytes_of(blocks) / HOG_PART).max(1);
            let wanted = Wanted { what: Shortage::Blocks(blocks), at_least, asker: None };
            if self.close_holder(&wanted) {
                return true;
            }
        }
        let at_least = (self.backend.send_store().max / HOG_PART).max(1);
        self.is_store_short() && self.close_holder(&Wanted { what: Shortage::Pieces, at_least, asker: None })
    }

    /// Makes room in the store of pieces for `asker`. False when no other connection holds any.
    pub(super) fn make_room_in_store(&mut self, asker: ConnectionId) -> bool {
        !self.pace.relieves
            && self.close_holder(&Wanted { what: Shortage::Pieces, at_least: 1, asker: Some(asker) })
    }

    /// Calls `make`, which needs a block of `size` bytes, until it has one: connections other than `asker` that hold such blocks
    /// go for it, at most [`CLOSES_MAX`], without a word of their own (which would need a block). The last word of a connection that
    /// goes for others is not worth that.
    pub(super) fn with_block<T>(
        &mut self,
        asker: ConnectionId,
        size: usize,
        mut make: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..CLOSES_MAX {
            if let Some(made) = make(self) {
                return Some(made);
            }
            if self.pace.relieves {
                return None;
            }
            let pools = self.backend.pools().fitting(size);
            let wanted = Wanted { what: Shortage::Blocks(pools), at_least: 1, asker: Some(asker) };
            if !self.abort_carrier(pools, asker) && !self.close_holder(&wanted) {
                return None;
            }
        }
        make(self)
    }

    /// Closes the receiver that holds most of what is wanted, without a word (its queue would have to wait for one), so that what
    /// it holds is free at once. False when there is none.
    pub(super) fn close_holder(&mut self, wanted: &Wanted) -> bool {
        let Some(connection) = self.holder(wanted) else { return false };
        let reason = match wanted.what {
            Shortage::Memory => SlowReason::Memory,
            Shortage::Pieces | Shortage::Blocks(_) => SlowReason::Pressure,
        };
        self.abort_slow(connection, reason);
        true
    }

    /// The receiver to close: of those that are stalled, else of all, the one that holds most.
    fn holder(&mut self, wanted: &Wanted) -> Option<ConnectionId> {
        let (now, timeout) = (self.pace.now, self.reloadable.slow_consumer_timeout);
        let waiting = self.backend.waiting();
        let start = self.pace.relief_cursor.checked_rem(waiting.len())?;
        let (mut looked, mut pieces, mut best) = (0, 0, None);
        for one in waiting[start..].iter().chain(&waiting[..start]) {
            if looked + pieces >= LOOK_MAX {
                break;
            }
            looked += 1;
            if Some(one.connection) == wanted.asker {
                continue;
            }
            let held = match wanted.what {
                // The first piece of a queue is its own.
                Shortage::Pieces => self.backend.queued_pieces(one.connection).saturating_sub(1),
                Shortage::Blocks(pools) => {
                    pieces += self.backend.queued_pieces(one.connection);
                    self.backend.queued_blocks(one.connection, pools)
                }
                Shortage::Memory => self.backend.queued_bytes(one.connection),
            };
            let is_stalled = one.stalled_for(now) >= timeout;
            if held > 0 && (is_stalled || held >= wanted.at_least) {
                best = best.max(Some((is_stalled, held, one.connection)));
            }
        }
        self.pace.relief_cursor = start + looked;
        best.map(|(_, _, connection)| connection)
    }

    /// Ends a slow consumer without a word. One that was ending anyway has its reason, and is counted by it.
    fn abort_slow(&mut self, connection: ConnectionId, reason: SlowReason) {
        let lives =
            self.shard.sessions.get(connection).is_some_and(|session| session.phase != Phase::Closing);
        self.metrics.slow_closes_for(reason).add(u64::from(lives));
        self.abort(connection, CloseCode::SLOW_CONSUMER);
    }
}
