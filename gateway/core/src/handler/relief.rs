//! Relief: which connections go when something that all share runs short.
//!
//! One order for the pieces of send queues, for blocks of each size and for memory:
//!
//! 1. blocks only: connections without a login that hold one for a frame that has not come whole
//!    for a second (`buffer_pressure`);
//! 2. receivers whose sockets have taken nothing for `session.slow_consumer_timeout_ms`, that which
//!    holds most first;
//! 3. blocks only: connections with a login whose frame has not come whole for a second, where such
//!    frames hold half of a pool.
//!
//! A receiver whose socket takes bytes is none of them, whatever others send to it: what would keep
//! a scarce block behind others is refused when it is queued ([`netpoll::BufferPools::is_scarce`]),
//! and pieces have their shares. Receive buffers are needed sooner: when fewer than a quarter is
//! free, receivers that hold some go when they have taken nothing for [`STILL_MIN`].
//!
//! Where nothing at all is left that goes further. A request at hand that finds no block or no
//! piece takes one of a receiver that holds at least a [`HOG_PART`] of the pool, of a frame of a
//! moment ago without a login, of a receiver that holds anything, or of a frame of a moment ago. So
//! do bytes that have found no receive buffer for [`DROUGHT_MAX`], and memory at its end. Of
//! receivers those go first whose sockets have taken nothing for [`STILL_MIN`].
//!
//! Blocks that receivers of one worker hold may be another worker's, or the control thread's: an
//! owner with a pool of which fewer than a quarter is free asks all workers for its blocks
//! ([`crate::memory::Signal`]). Each takes that pool for scarce then, and closes one stalled
//! receiver that holds such blocks when fewer than an eighth is free.
//!
//! The connection that asks is never among them. One look is bounded ([`LOOK_MAX`]) and goes on
//! where the last one ended, so a turn is.

use super::Handler;
use super::goodbye::Goodbye;
use super::state::relief::{Bearers, CLOSES_MAX, Holder, Shortage, Uptake, Wanted};
use crate::metrics::SlowReason;
use crate::session::Phase;
use gateway_proto::codes::CloseCode;
use netpoll::{ASKED_MAX, Backend, ConnectionId, PoolSet, Queues};
use std::time::Duration;

/// A receiver that has not stalled goes before a frame of a client's only if it holds at least this
/// part of the pool.
const HOG_PART: usize = 32;
/// A receiver whose socket has taken nothing for this long goes before those that read.
const STILL_MIN: Duration = Duration::from_millis(250);
/// How long no receive buffer may be left for any connection while no receiver counts as stalled.
const DROUGHT_MAX: Duration = Duration::from_secs(1);
/// Pieces and connections looked at for one decision.
const LOOK_MAX: usize = 32 << 10;
/// The same for all decisions of a turn.
const LOOKS_PER_TURN: usize = 4 * LOOK_MAX;
/// How long relief rests after a look that found no connection to close, and how often blocks are
/// asked for.
const REST: Duration = Duration::from_millis(10);
/// How often requests for blocks are served: each time those of every owner that goes on asking are
/// among them.
const SERVED_EVERY: Duration = Duration::from_millis(20);

impl<B: Backend> Handler<B> {
    /// Closes stalled receivers and late half frames while a pool or the store of pieces is short,
    /// at most [`CLOSES_MAX`] of them, and asks other workers for the blocks of scarce pools.
    pub(crate) fn relieve_pressure(&mut self) {
        let scarce = self.io.pools().scarce();
        if !scarce.is_empty() && self.turn.now >= self.relief.blocks_due {
            self.relief.blocks_due = self.turn.now + REST;
            self.context.settings.shared.memory.ask_for(self.io.pools());
        }
        self.note_drought(scarce);
        if self.turn.now < self.relief.due || (scarce.is_empty() && !self.is_store_short()) {
            return;
        }
        for _ in 0..CLOSES_MAX {
            let blocks = self.io.pools().short();
            if blocks.is_empty() && !self.is_store_short() && !self.io.pools().receive_is_low() {
                return;
            }
            let is_relieved = self.shed_late_carrier(blocks, Bearers::Unauthenticated)
                || self.close_stalled(blocks)
                || self.shed_late_hog(blocks)
                || self.close_still()
                || self.end_drought();
            if !is_relieved {
                self.relief.due = self.turn.now + REST;
                return;
            }
        }
    }

    /// Closes a connection with a late half frame where such frames hold much of a pool. False when
    /// there is none.
    fn shed_late_hog(&mut self, blocks: PoolSet) -> bool {
        let hogged = self.hogged_by_frames(blocks);
        self.shed_late_carrier(hogged, Bearers::All)
    }

    /// Takes the time from when on no connection finds a receive buffer.
    fn note_drought(&mut self, scarce: PoolSet) {
        let is_dry = !scarce.is_empty() && self.turn.receives == 0 && self.io.pools().receive_is_dry();
        self.relief.dry_since = is_dry.then(|| self.relief.dry_since.unwrap_or(self.turn.now));
    }

    /// Closes a receiver, stalled or not, that holds receive buffers of which none has come home
    /// for [`DROUGHT_MAX`]. False when there is none.
    fn end_drought(&mut self) -> bool {
        let is_long = |since| self.turn.now.since(since) >= DROUGHT_MAX;
        if !self.relief.dry_since.is_some_and(is_long) || !self.io.pools().receive_is_dry() {
            return false;
        }
        let what = Shortage::Blocks(PoolSet::RECEIVE);
        self.close_holder(&Wanted { what, least: Uptake::Reads, asker: None })
    }

    /// Learns which pools of other owners are asked for, and closes the stalled receiver that holds
    /// most blocks of each that is short: not oftener than every [`SERVED_EVERY`].
    pub(crate) fn serve_block_requests(&mut self) {
        let memory = &self.context.settings.shared.memory;
        let has_news = self.relief.knows_requests || memory.block_requests() != self.relief.requests_served;
        if !has_news || self.turn.now < self.relief.requests_due {
            return;
        }
        self.relief.requests_due = self.turn.now + SERVED_EVERY;
        let (mut pools, mut are_short, mut count) = ([None; ASKED_MAX], [false; ASKED_MAX], 0);
        for (served, pool, is_short) in memory.requests_since(self.relief.requests_served) {
            let known = pools[..count].iter().position(|known| *known == Some(pool));
            let place = known.unwrap_or(count);
            if place == ASKED_MAX {
                break;
            }
            (pools[place], count) = (Some(pool), count.max(place + 1));
            are_short[place] |= is_short;
            self.relief.requests_served = served;
        }
        self.relief.knows_requests = count > 0;
        self.io.pools().set_asked(pools);
        let short = pools.into_iter().zip(are_short).filter(|(_, is_short)| *is_short);
        for pool in short.filter_map(|(pool, _)| pool) {
            let what = Shortage::Foreign(pool);
            self.close_holder(&Wanted { what, least: Uptake::Stalled, asker: None });
        }
    }

    /// Whether more than three quarters of the shared pieces are in use: pushes, which may use
    /// seven eighths, leave each other little.
    fn is_store_short(&self) -> bool {
        let store = self.io.queues().send_store();
        store.used * 4 > store.max * 3
    }

    /// Bytes of the blocks of `pools` that make a receiver that has not stalled one to close before
    /// a frame of a client's.
    fn hog_bytes(&mut self, pools: PoolSet) -> usize {
        (self.io.pools().bytes_of(pools) / HOG_PART).max(1)
    }

    /// Closes the stalled receiver that holds most of what is short. False when there is none.
    fn close_stalled(&mut self, blocks: PoolSet) -> bool {
        let stalled = |what| Wanted { what, least: Uptake::Stalled, asker: None };
        (!blocks.is_empty() && self.close_holder(&stalled(Shortage::Blocks(blocks))))
            || (self.is_store_short() && self.close_holder(&stalled(Shortage::Pieces)))
    }

    /// Closes the receiver that holds most receive buffers, of those that take nothing, when fewer
    /// than a quarter is free: on io_uring that is what the kernel has been lent. They found no
    /// block to leave these for. False when there is none.
    fn close_still(&mut self) -> bool {
        let what = Shortage::Blocks(PoolSet::RECEIVE);
        self.io.pools().receive_is_low()
            && self.close_holder(&Wanted { what, least: Uptake::Still, asker: None })
    }

    /// Makes room in the store of pieces for `asker`. False when no other connection holds any.
    pub(super) fn make_room_in_store(&mut self, asker: ConnectionId) -> bool {
        let wanted = Wanted { what: Shortage::Pieces, least: Uptake::Reads, asker: Some(asker) };
        !self.relief.is_closing && self.close_holder(&wanted)
    }

    /// Calls `make`, which needs a block of `size` bytes, until it has one: connections other than
    /// `asker` that hold such blocks go for it, at most [`CLOSES_MAX`], without a word of their own
    /// (which would need a block). The last word of a connection that goes for others is not worth
    /// that.
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
            if self.relief.is_closing {
                return None;
            }
            let pools = self.io.pools().fitting(size);
            if !self.make_room_in_pools(pools, asker, Self::abort_for_block) {
                return None;
            }
        }
        make(self)
    }

    /// Closes one connection other than `asker` that holds blocks of `pools`: a receiver without a
    /// word, one with a frame that has not come whole by `end`. See the module for the order. False
    /// when there is none.
    pub(super) fn make_room_in_pools(
        &mut self,
        pools: PoolSet,
        asker: ConnectionId,
        end: fn(&mut Self, ConnectionId),
    ) -> bool {
        let wanted = Wanted { what: Shortage::Blocks(pools), least: Uptake::Reads, asker: Some(asker) };
        let late = Some(self.late());
        if let Some(carrier) = self.carrier_but(asker, pools, Bearers::Unauthenticated, late) {
            self.shed(carrier, end);
            return true;
        }
        let hogged = self.hogged_by_frames(pools);
        if let Some(carrier) = self.carrier_but(asker, hogged, Bearers::All, late) {
            self.shed(carrier, end);
            return true;
        }
        let hog = self.hog_bytes(pools);
        let receiver = self.holder(&wanted);
        let is_hog =
            receiver.is_some_and(|receiver| receiver.uptake == Uptake::Stalled || receiver.held >= hog);
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

    /// Closes one receiver that holds blocks of `pools` for the login of `asker`, which may be
    /// anyone's: one that takes nothing, or holds at least a [`HOG_PART`] of them. Receivers that
    /// read and hold little stay, whatever a storm of logins takes. False when there is none.
    pub(super) fn make_room_for_login(&mut self, pools: PoolSet, asker: ConnectionId) -> bool {
        let wanted = Wanted { what: Shortage::Blocks(pools), least: Uptake::Reads, asker: Some(asker) };
        let hog = self.hog_bytes(pools);
        let Some(holder) = self.holder(&wanted) else { return false };
        if holder.uptake == Uptake::Reads && holder.held < hog {
            return false;
        }
        self.abort_slow(holder.connection, SlowReason::Pressure);
        true
    }

    /// Closes the receiver that holds most of what is wanted, without a word (its queue would have
    /// to wait for one), so that what it holds is free at once. False when there is none.
    pub(super) fn close_holder(&mut self, wanted: &Wanted) -> bool {
        let Some(holder) = self.holder(wanted) else { return false };
        let reason = match wanted.what {
            Shortage::Memory => SlowReason::Memory,
            Shortage::Pieces | Shortage::Blocks(_) | Shortage::Foreign(_) => SlowReason::Pressure,
        };
        self.abort_slow(holder.connection, reason);
        true
    }

    /// The receiver to close: of those that are stalled the one that holds most, else of those that
    /// are still, else of all, as far as these may go.
    fn holder(&mut self, wanted: &Wanted) -> Option<Holder> {
        let look_max = LOOK_MAX.min(LOOKS_PER_TURN.saturating_sub(self.relief.looks));
        let (now, timeout) = (self.turn.now, self.policy.slow_consumer_timeout);
        let waiting = self.io.queues().waiting();
        let start = self.relief.cursor.checked_rem(waiting.len())?;
        let (mut looked, mut pieces, mut best) = (0, 0, None);
        for one in waiting[start..].iter().chain(&waiting[..start]) {
            if looked + pieces >= look_max {
                break;
            }
            looked += 1;
            let uptake = match one.stalled_for(now) {
                still if still >= timeout => Uptake::Stalled,
                still if still >= STILL_MIN => Uptake::Still,
                _ => Uptake::Reads,
            };
            if uptake < wanted.least || Some(one.connection) == wanted.asker {
                continue;
            }
            let held = match wanted.what {
                // The first piece of a queue is its own.
                Shortage::Pieces => self.io.queues().queued_pieces(one.connection).saturating_sub(1),
                Shortage::Blocks(pools) => {
                    pieces += self.io.queues().queued_pieces(one.connection);
                    self.io.queues().queued_blocks(one.connection, pools)
                }
                Shortage::Foreign(pool) => {
                    pieces += self.io.queues().queued_pieces(one.connection);
                    self.io.queues().queued_blocks_of(one.connection, pool)
                }
                Shortage::Memory => self.io.queues().queued_bytes(one.connection),
            };
            if held > 0 {
                best = best.max(Some(Holder { uptake, held, connection: one.connection }));
            }
        }
        self.relief.cursor = start + looked;
        self.relief.looks += looked + pieces;
        best
    }

    /// Ends a slow consumer without a word. One that was ending anyway has its reason, and is
    /// counted by it.
    fn abort_slow(&mut self, connection: ConnectionId, reason: SlowReason) {
        let lives =
            self.shard.sessions.get(connection).is_some_and(|session| session.phase != Phase::Closing);
        self.io.metrics.slow_closes_for(reason).add(u64::from(lives));
        self.drop_unsent(connection); // counted
        self.close(connection, Goodbye::Silent(CloseCode::SLOW_CONSUMER));
    }
}
