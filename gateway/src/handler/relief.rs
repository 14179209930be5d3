//! Relief: which connections go when something that all share runs short.
//!
//! One order for the pieces of send queues, for blocks of each size and for memory:
//!
//! 1. blocks only: connections without a login that hold one for a frame that has not come whole for a second (`pressure`);
//! 2. receivers whose sockets have taken nothing for `session.slow_consumer_timeout_ms`, that which holds most first; then those
//!    that hold at least a [`HOG_PART`] of the store although their sockets take bytes, so that a burst to many closes none;
//! 3. blocks only: connections with a login whose frame has not come whole for a second.
//!
//! A request at hand that cannot go on without goes further: frames of a moment ago without a login, receivers that hold
//! anything, and frames of a moment ago.
//!
//! Blocks that receivers of one worker hold may be another worker's, or the control thread's: an owner whose pool is short and that
//! has no such receiver itself asks all workers for the blocks of that pool ([`crate::memory::Signal`]), and each closes one that
//! holds such by the same order.
//!
//! The connection that asks is never among them. One look is bounded ([`LOOK_MAX`]) and goes on where the last one ended, so
//! a turn is.

use super::pressure::CLOSES_MAX;
use crate::metrics::SlowReason;
use crate::session::Phase;
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId, PoolId, PoolSet};
use std::sync::Arc;
use std::time::Duration;

/// A receiver that takes bytes goes only if it holds at least this part of the store.
const HOG_PART: usize = 32;
/// Bytes of other owners' blocks that a receiver must hold to be closed although it takes bytes.
const FOREIGN_HOG_BYTES: usize = 256 << 10;
/// Pieces and connections looked at for one decision.
const LOOK_MAX: usize = 32 << 10;
/// The same for all decisions of a turn.
const LOOKS_PER_TURN: usize = 4 * LOOK_MAX;
/// Requests for blocks of other owners that are served at a time.
const REQUESTS_SERVED_MAX: usize = 4;
/// How long relief rests after a look that found no connection to close.
const REST: Duration = Duration::from_millis(10);

/// What is short.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shortage {
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
pub(super) struct Wanted {
    pub(super) what: Shortage,
    /// What a receiver whose socket takes bytes must hold to be closed: pieces, or bytes.
    pub(super) at_least: usize,
    /// The connection that asks.
    pub(super) asker: Option<ConnectionId>,
}

/// A receiver that holds of what is wanted. The greatest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    is_stalled: bool,
    held: usize,
    connection: ConnectionId,
}

/// Whose frames that have not come whole may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearers {
    /// Of connections that have not begun to log in.
    Unauthenticated,
    /// Of all, those without a login first.
    All,
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
            let is_relieved = self.shed_late_carrier(blocks, Bearers::Unauthenticated)
                || self.close_hog(blocks)
                || self.shed_late_carrier(blocks, Bearers::All);
            if !is_relieved {
                // Receivers of other workers may hold them.
                let short = self.backend.pools().ids(blocks);
                self.context.settings.memory.request_blocks(short);
                self.pace.relief_due = self.pace.now + REST;
                return;
            }
        }
    }

    /// Closes the receiver that holds most blocks of a pool of another owner that has asked for them: one for each such pool, and
    /// not oftener than every [`REST`].
    pub(crate) fn serve_block_requests(&mut self) {
        let memory = Arc::clone(&self.context.settings.memory);
        if memory.block_requests() == self.pace.block_requests || self.pace.now < self.pace.requests_due {
            return;
        }
        self.pace.requests_due = self.pace.now + REST;
        let (mut pools, mut count) = ([None; REQUESTS_SERVED_MAX], 0);
        for (served, pool) in memory.requests_since(self.pace.block_requests) {
            if !pools.contains(&Some(pool)) {
                if count == REQUESTS_SERVED_MAX {
                    break;
                }
                pools[count] = Some(pool);
                count += 1;
            }
            self.pace.block_requests = served;
        }
        for pool in pools.into_iter().flatten() {
            let what = Shortage::Foreign(pool);
            self.close_holder(&Wanted { what, at_least: FOREIGN_HOG_BYTES, asker: None });
        }
    }

    /// Whether more than three quarters of the shared pieces are in use: pushes, which may use seven eighths, leave each other little.
    fn is_store_short(&self) -> bool {
        let store = self.backend.send_store();
        store.used * 4 > store.max * 3
    }

    /// Bytes of the blocks of `pools` that make a receiver that takes bytes one to close.
    fn hog_bytes(&mut self, pools: PoolSet) -> usize {
        (self.backend.pools().bytes_of(pools) / HOG_PART).max(1)
    }

    /// Closes the receiver that holds most of what is short, if it should not hold as much. False when there is none.
    fn close_hog(&mut self, blocks: PoolSet) -> bool {
        if !blocks.is_empty() {
            let at_least = self.hog_bytes(blocks);
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
            if !self.make_room_in_pools(pools, asker, Self::abort_for_block) {
                return None;
            }
        }
        make(self)
    }

    /// Closes one connection other than `asker` that holds blocks of `pools`: a receiver without a word, one with a frame that has
    /// not come whole by `end`. See the module for the order. False when there is none.
    pub(super) fn make_room_in_pools(
        &mut self,
        pools: PoolSet,
        asker: ConnectionId,
        end: fn(&mut Self, ConnectionId),
    ) -> bool {
        let wanted = Wanted { what: Shortage::Blocks(pools), at_least: 1, asker: Some(asker) };
        let late = Some(self.late());
        if let Some(carrier) = self.carrier_but(asker, pools, Bearers::Unauthenticated, late) {
            self.shed(carrier, end);
            return true;
        }
        let hog = self.hog_bytes(pools);
        let receiver = self.holder(&wanted);
        let is_hog = receiver.is_some_and(|receiver| receiver.is_stalled || receiver.held >= hog);
        let carrier = match is_hog {
            true => None,
            false => self
                .carrier_but(asker, pools, Bearers::All, late)
                .or_else(|| self.carrier_but(asker, pools, Bearers::Unauthenticated, None)),
        };
        match (carrier, receiver) {
            (Some(carrier), _) => self.shed(carrier, end),
            (None, Some(receiver)) => self.abort_slow(receiver.connection, SlowReason::Pressure),
            (None, None) => {
                let Some(carrier) = self.carrier_but(asker, pools, Bearers::All, None) else { return false };
                self.shed(carrier, end);
            }
        }
        true
    }

    /// Closes the receiver that holds most of what is wanted, without a word (its queue would have to wait for one), so that what
    /// it holds is free at once. False when there is none.
    pub(super) fn close_holder(&mut self, wanted: &Wanted) -> bool {
        let Some(holder) = self.holder(wanted) else { return false };
        let reason = match wanted.what {
            Shortage::Memory => SlowReason::Memory,
            Shortage::Pieces | Shortage::Blocks(_) | Shortage::Foreign(_) => SlowReason::Pressure,
        };
        self.abort_slow(holder.connection, reason);
        true
    }

    /// The receiver to close: of those that are stalled, else of all, the one that holds most.
    fn holder(&mut self, wanted: &Wanted) -> Option<Holder> {
        let look_max = LOOK_MAX.min(LOOKS_PER_TURN.saturating_sub(self.pace.relief_looks));
        let (now, timeout) = (self.pace.now, self.reloadable.slow_consumer_timeout);
        let waiting = self.backend.waiting();
        let start = self.pace.relief_cursor.checked_rem(waiting.len())?;
        let (mut looked, mut pieces, mut best) = (0, 0, None);
        for one in waiting[start..].iter().chain(&waiting[..start]) {
            if looked + pieces >= look_max {
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
                Shortage::Foreign(pool) => {
                    pieces += self.backend.queued_pieces(one.connection);
                    self.backend.queued_blocks_of(one.connection, pool)
                }
                Shortage::Memory => self.backend.queued_bytes(one.connection),
            };
            let is_stalled = one.stalled_for(now) >= timeout;
            if held > 0 && (is_stalled || held >= wanted.at_least) {
                best = best.max(Some(Holder { is_stalled, held, connection: one.connection }));
            }
        }
        self.pace.relief_cursor = start + looked;
        self.pace.relief_looks += looked + pieces;
        best
    }

    /// Ends a slow consumer without a word. One that was ending anyway has its reason, and is counted by it.
    fn abort_slow(&mut self, connection: ConnectionId, reason: SlowReason) {
        let lives =
            self.shard.sessions.get(connection).is_some_and(|session| session.phase != Phase::Closing);
        self.metrics.slow_closes_for(reason).add(u64::from(lives));
        self.abort(connection, CloseCode::SLOW_CONSUMER);
    }
}
