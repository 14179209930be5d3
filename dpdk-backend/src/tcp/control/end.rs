//! Closed connections. The owner gets its report at once. An orphan completes the exchange with the
//! peer.
//!
//! ```text
//!   owner's block ── Ended (until reported) ── freed
//!        └─ copied to an orphan's block: FIN-WAIT, CLOSING, LAST-ACK
//!                                        └─ record in TIME-WAIT, or nothing
//! ```
//!
//! An orphan keeps what is in flight and retransmits it. Unsent bytes are dropped. Data that it
//! receives is answered with a reset. When no orphan block is free, the peer gets a reset instead
//! of a FIN.
//!
//! Such a reset is sent once, so it must not be lost before it reaches the device, and many
//! thousands may be due at the same time. The ended block keeps the reset as a to-do, is listed for
//! output like a block with data, and is freed when the reset was sent and the end was reported.

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::tables::control_block::{ControlBlock, State};
use crate::tcp::tables::flow_table::Record;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::time_wait::TimeWaitRecord;
use netpoll::{CloseReason, Slot};

/// How the peer learns of the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum FinOrReset {
    /// With a FIN behind the bytes in flight.
    Fin,
    /// With a reset.
    Reset,
}

impl Tcp {
    /// Ends a connection that has nothing left to send.
    pub(in crate::tcp) fn end_gone(&mut self, cx: &mut Context<'_>, index: BlockIndex, reason: CloseReason) {
        let hash = self.hash_of(cx.net, index);
        self.flows.remove(hash, Record::Connection(index));
        self.retire_block(index, reason);
    }

    /// Frees what a block holds. An orphan's block is freed; an owner's waits for its report.
    fn retire_block(&mut self, index: BlockIndex, reason: CloseReason) {
        self.release_active(index);
        self.wheel.cancel(&mut self.table, index);
        if self.table[index].has(Facts::ORPHAN) {
            return self.table.free(index);
        }
        let block = &mut self.table[index];
        let has_place = block.has(Facts::FIN_UNREPORTED);
        // A reset carries the agreed timestamp, and returned payloads are delivered before the end.
        block.marks =
            block.marks.only(Lists::OF_TURN.or(Lists::UNREAD)).or(block.marks.only(Facts::TIMESTAMPS));
        block.state = State::Ended;
        let closings = &mut self.reports.closings;
        // A FIN that was not reported has a place in the list already.
        let place = if has_place { closings.iter_mut().find(|(other, _)| *other == index) } else { None };
        match place {
            Some(place) => place.1 = reason,
            None => closings.push_back((index, reason)),
        }
    }

    /// Sends the reset that an ended block has to send, if any. The caller has checked that there
    /// is room.
    pub(in crate::tcp) fn send_owed_reset(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        if !self.table[index].has(Todos::RESET) {
            return;
        }
        self.table[index].clear(Todos::RESET);
        self.send_reset(cx, index);
        if self.table[index].has(Facts::REPORTED) {
            self.table.free(index);
        }
    }

    /// Notes that the end was reported: the block is freed, unless it still has to send a reset.
    pub(in crate::tcp) fn note_reported(&mut self, index: BlockIndex) {
        match self.table[index].has(Todos::RESET) {
            true => self.table[index].set(Facts::REPORTED),
            false => self.table.free(index),
        }
    }

    /// Frees everything in a block's active part.
    pub(in crate::tcp) fn release_active(&mut self, index: BlockIndex) {
        let active = std::mem::replace(&mut self.table[index].active, Slot::NONE);
        if active.is_none() {
            return;
        }
        let mut active = self.stores.actives.remove(active);
        self.stores.pieces.clear(&mut active.queue);
        active.flight.clear(&mut self.stores.segments);
        active.gap.kept.clear(&mut self.stores.kept);
    }

    /// Ends the connection for its owner.
    pub(in crate::tcp) fn end_for_owner(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        reason: CloseReason,
        how: FinOrReset,
    ) {
        if self.table[index].has(Facts::ORPHAN) {
            return;
        }
        let orphan = match how {
            FinOrReset::Fin => self.table.take_orphan(),
            FinOrReset::Reset => None,
        };
        let Some(orphan) = orphan else {
            cx.counters.orphans_overflow += u64::from(how == FinOrReset::Fin);
            self.end_gone(cx, index, reason);
            self.table[index].set(Todos::RESET);
            return self.mark_dirty(index);
        };
        self.drop_unsent(index);
        let hash = self.hash_of(cx.net, index);
        self.flows.replace(hash, Record::Connection(index), Record::Connection(orphan));
        self.wheel.cancel(&mut self.table, index);
        let generation = self.table[orphan].generation;
        let mut block = ControlBlock { generation, ..self.table[index] };
        // A window that the owner had shut opens again: the peer may have bytes in flight, and
        // would repeat them until its timeout. They are answered with a reset, as for any orphan.
        block.clear(Lists::OF_TURN.or(Lists::UNREAD));
        block.clear(Todos::ACK_LATER);
        block.clear(Facts::STOPPED.or(Facts::FIN_UNREPORTED));
        block.set(Facts::ORPHAN.or(Facts::FIN_QUEUED));
        // The FIN acknowledges whatever waits to be acknowledged.
        block.set(Todos::ACK_NOW);
        let patience_ms = match block.state {
            State::FinWait2 => self.config.timeouts.fin_wait_2_ms,
            _ => self.config.timeouts.orphan_ms,
        };
        block.ack_due_ms = cx.now.ms.wrapping_add(patience_ms);
        self.table[orphan] = block;
        self.table[index].active = Slot::NONE;
        self.retire_block(index, reason);
        if self.table[orphan].has(Facts::FIN_AHEAD) || self.has_kept(orphan) {
            self.drop_kept(orphan);
        }
        self.mark_dirty(orphan);
        self.reschedule(orphan, cx.now);
    }

    fn has_kept(&self, index: BlockIndex) -> bool {
        self.stores.actives.get(self.table[index].active).is_some_and(|active| !active.gap.kept.is_empty())
    }

    /// Drops segments ahead of a gap that was not filled in time. The peer sends them again if it
    /// still has them (RFC 2018, 8).
    pub(in crate::tcp) fn expire_kept(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        cx.counters.out_of_order_expired += 1;
        self.drop_kept(index);
    }

    fn drop_kept(&mut self, index: BlockIndex) {
        self.table[index].clear(Facts::FIN_AHEAD);
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            active.gap.kept.clear(&mut self.stores.kept);
        }
    }

    fn drop_unsent(&mut self, index: BlockIndex) {
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            self.stores.pieces.drop_unsent(&mut active.queue);
            active.unsent = 0;
        }
    }

    /// Closes a connection that both sides have closed: a record keeps the numbers for a while, and
    /// the last acknowledgement leaves now.
    pub(in crate::tcp) fn enter_time_wait(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        if self.table[index].has(Todos::ACK_NOW.or(Todos::ACK_LATER)) {
            self.send_ack(cx, index, None);
        }
        let block = &self.table[index];
        let record = TimeWaitRecord {
            hash: self.hash_of(cx.net, index),
            snd_nxt: block.snd.nxt,
            rcv_nxt: block.rcv.nxt,
            ts_recent: block.stamps.recent,
            ts_offset: block.stamps.offset,
            has_timestamps: block.has(Facts::TIMESTAMPS),
            ..TimeWaitRecord::default()
        };
        let evicted = self.peers.time_wait.insert(&mut self.flows, record, Record::Connection(index), cx.now);
        cx.counters.time_waits += 1;
        cx.counters.time_wait_evictions += u64::from(evicted);
        self.retire_block(index, CloseReason::Local);
    }
}
