//! Payload and FIN (RFC 9293, 3.10.7.4, seventh and eighth).
//!
//! Payload in order is delivered in the buffer that it was received in. The engine has no receive
//! queue of its own: windows are computed from the budget of buffers that the owner does not hold.

use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, at_or_before, before};
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::out_of_order::Insertion;
use netpoll::{Buffer, CloseReason};

impl Tcp {
    /// Handles payload. Returns false when the connection has ended.
    pub(in crate::tcp) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
        mut frame: Buffer,
    ) -> bool {
        let block = &self.table[index];
        if !block.state.receives() {
            // The peer's FIN was the last byte.
            cx.counters.drop_out_of_window += 1;
            return true;
        }
        let sequence = segment.header.sequence;
        let old = ahead(sequence, block.rcv.nxt);
        if old >= segment.payload_size {
            cx.counters.drop_duplicate += 1;
            self.acknowledge_again(cx, index, segment);
            return true;
        }
        if block.has(Facts::ORPHAN) {
            // RFC 9293, 3.10.7.4: data after the owner has closed.
            cx.counters.drop_after_close += 1;
            self.send_reset(cx, index);
            self.end_gone(cx, index, CloseReason::Local);
            return false;
        }
        let start = sequence.wrapping_add(old);
        frame.truncate((segment.payload_at + segment.payload_size) as usize);
        frame.advance((segment.payload_at + old) as usize);
        frame.truncate(self.window_beyond(index, start) as usize);
        if frame.is_empty() {
            self.refuse_payload(cx, index);
            return true;
        }
        if start != self.table[index].rcv.nxt {
            self.keep(cx, index, start, frame);
            return true;
        }
        if !self.deliver(cx, index, frame) {
            // Stored segments must not block payload in order (RFC 2018, 8 allows to discard them).
            if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
                active.gap.kept.clear(&mut self.stores.kept);
            }
            self.refuse_payload(cx, index);
            return true;
        }
        let filled = self.deliver_kept(cx, index);
        self.acknowledge_payload(cx, index, filled || old > 0);
        true
    }

    /// Delivers payload in order. Returns false when no buffer is left for it.
    fn deliver(&mut self, cx: &mut Context<'_>, index: BlockIndex, payload: Buffer) -> bool {
        let block = &mut self.table[index];
        let is_discarded = block.has(Facts::DISCARD);
        // Discarded payload needs no buffer beyond the one that it was received in.
        if !is_discarded
            && (self.buffers.budget == 0 || self.reports.received.len() == crate::tcp::engine::RECEIVED_MAX)
        {
            return false;
        }
        let size = payload.len() as u32;
        block.rcv.nxt = block.rcv.nxt.wrapping_add(size);
        block.clear(Facts::PAYLOAD_REFUSED);
        cx.counters.receives += 1;
        cx.counters.bytes_received += u64::from(size);
        if !is_discarded {
            self.buffers.budget -= 1;
            self.reports.received.push_back((index, payload));
        }
        true
    }

    /// Delivers stored segments that are in order now. Returns whether there were any.
    fn deliver_kept(&mut self, cx: &mut Context<'_>, index: BlockIndex) -> bool {
        let mut any = false;
        loop {
            let block = &self.table[index];
            let rcv_nxt = block.rcv.nxt;
            let Some(active) = self.stores.actives.get_mut(block.active) else { return any };
            let has_room =
                self.buffers.budget > 0 && self.reports.received.len() < crate::tcp::engine::RECEIVED_MAX;
            if !has_room || !active.gap.kept.continues(&self.stores.kept, rcv_nxt) {
                // Payload in order without room is dropped: the peer sends it again.
                if !has_room && active.gap.kept.continues(&self.stores.kept, rcv_nxt) {
                    active.gap.kept.clear(&mut self.stores.kept);
                }
                return any;
            }
            let next = active.gap.kept.take_next(&mut self.stores.kept, rcv_nxt);
            let Some(payload) = next else { return any };
            any = true;
            active.gap.since_ms = cx.now.ms; // the rest waits for another gap
            self.deliver(cx, index, payload);
        }
    }

    /// RFC 5681, 4.2: acknowledges every second segment at once, small ones included, and a filled
    /// gap; others within the delay. A sender with small messages that each wait for the delay
    /// would take the tail for lost, or run out of room.
    fn acknowledge_payload(&mut self, cx: &mut Context<'_>, index: BlockIndex, at_once: bool) {
        let block = &self.table[index];
        let has_gap = self.stores.actives.get(block.active).is_some_and(|active| !active.gap.kept.is_empty());
        let block = &mut self.table[index];
        let waiting = block.rcv.nxt.wrapping_sub(block.rcv.wup);
        let full = self.turn.delayed.len() == self.turn.delayed.capacity();
        if at_once
            || has_gap
            || full
            || block.has(Todos::ACK_LATER)
            || waiting >= 2 * u32::from(block.mss)
            || self.config.timeouts.delayed_ack_ms == 0
        {
            block.set(Todos::ACK_NOW);
            self.mark_dirty(index);
            return;
        }
        if !block.test_and_set(Todos::ACK_LATER) {
            block.ack_due_ms = cx.now.ms.wrapping_add(self.config.timeouts.delayed_ack_ms);
        }
        if !block.test_and_set(Lists::DELAYED) {
            self.turn.delayed.push_back((index, block.ack_due_ms));
        }
    }

    /// Whether the owner has stopped receiving and has not finished.
    pub(in crate::tcp) fn is_shut(&self, index: BlockIndex) -> bool {
        let block = &self.table[index];
        block.has(Facts::STOPPED) && !block.has(Facts::DISCARD)
    }

    /// Drops payload for want of a buffer or a window, and acknowledges with the current window,
    /// which may be zero.
    pub(in crate::tcp) fn refuse_payload(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let is_shut = self.is_shut(index);
        let count = if is_shut { &mut cx.counters.drop_stopped } else { &mut cx.counters.receive_pauses };
        *count += 1;
        let block = &mut self.table[index];
        block.set(Facts::PAYLOAD_REFUSED);
        if self.buffers.budget == 0 || is_shut {
            // Taking the window back stops the peer, which RFC 9293, 3.8.6 discourages: the
            // alternative is to drop all segments until the peer's timeout.
            (block.rcv.wup, block.rcv.wnd) = (block.rcv.nxt, 0);
        }
        if self.rates.duplicate.take(cx.now) {
            self.send_ack(cx, index, None);
        } else {
            cx.counters.duplicate_acks_limited += 1;
        }
    }

    /// Stores payload ahead of a gap, and acknowledges at once (RFC 5681, 4.2; RFC 2018, 4).
    fn keep(&mut self, cx: &mut Context<'_>, index: BlockIndex, start: u32, payload: Buffer) {
        let payload = self.compact(cx, payload);
        // A connection stores at most an eighth of the free buffers, so that a few can not hold
        // what all need.
        let share = (self.buffers.budget / 8).clamp(1, u32::from(u16::MAX)) as u16;
        let most = self.config.stores.out_of_order_per_connection_max.min(share);
        // A quarter of the budget is reserved for payload in order.
        let has_buffers = self.stores.kept.len() < (3 * self.buffers.budget as usize) / 4;
        let active = if has_buffers { self.make_active(index, cx.now) } else { None };
        let outcome = match active {
            Some(active) => {
                let active = &mut self.stores.actives[active];
                if active.gap.kept.is_empty() {
                    active.gap.since_ms = cx.now.ms;
                }
                let list = &mut active.gap.kept;
                list.insert(&mut self.stores.kept, start, payload, most)
            }
            None => Insertion::Full,
        };
        let twice = match outcome {
            Insertion::Kept => {
                cx.counters.out_of_order += 1;
                self.buffers.budget = self.buffers.budget.saturating_sub(1);
                None
            }
            Insertion::Duplicate(left, right) => {
                cx.counters.drop_duplicate += 1;
                Some((left, right))
            }
            Insertion::Full => {
                cx.counters.out_of_order_full += 1;
                None
            }
        };
        self.send_ack(cx, index, twice);
    }

    /// Copies a small payload to a block of its own size, so that it does not hold a receive
    /// buffer.
    fn compact(&mut self, cx: &mut Context<'_>, payload: Buffer) -> Buffer {
        if payload.len() > self.config.connection.copy_break {
            return payload;
        }
        match cx.pools.copy(payload.as_slice()) {
            Some(copy) => {
                cx.counters.receive_copies += 1;
                copy
            }
            None => payload,
        }
    }

    // --- FIN ---

    /// Handles a FIN, received now or earlier: it counts when everything before it was received.
    /// Frees the active block if it is not needed.
    pub(in crate::tcp) fn receive_fin(&mut self, cx: &mut Context<'_>, index: BlockIndex, segment: &Segment) {
        if Self::has_fin(segment) && self.table[index].state.receives() {
            let at = segment.header.sequence.wrapping_add(segment.payload_size);
            if before(self.table[index].rcv.nxt, at) {
                self.remember_fin(index, at, cx);
                if segment.payload_size == 0 {
                    self.send_ack(cx, index, None); // RFC 5681, 4.2: ahead of a gap, as for payload
                }
            } else if at == self.table[index].rcv.nxt {
                return self.take_fin(cx, index);
            }
        } else if Self::has_fin(segment) && at_or_before(segment.end(), self.table[index].rcv.nxt) {
            self.acknowledge_again(cx, index, segment);
        }
        if self.table[index].has(Facts::FIN_AHEAD) {
            let at = self.stores.actives.get(self.table[index].active).map(|active| active.gap.fin_sequence);
            if at == Some(self.table[index].rcv.nxt) && self.table[index].state.receives() {
                return self.take_fin(cx, index);
            }
        }
        self.reschedule(index, cx.now);
    }

    fn remember_fin(&mut self, index: BlockIndex, at: u32, cx: &mut Context<'_>) {
        if let Some(active) = self.make_active(index, cx.now) {
            self.stores.actives[active].gap.fin_sequence = at;
            self.table[index].set(Facts::FIN_AHEAD);
        }
    }

    fn take_fin(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &mut self.table[index];
        block.rcv.nxt = block.rcv.nxt.wrapping_add(1);
        block.clear(Facts::FIN_AHEAD);
        block.set(Todos::ACK_NOW);
        match block.state {
            State::Established => {
                block.state = State::CloseWait;
                if !block.has(Facts::FIN_QUEUED) {
                    // The owner comes first: it may answer what came before the FIN.
                    block.set(Facts::FIN_UNREPORTED);
                    self.reports.closings.push_back((index, CloseReason::PeerClosed));
                }
            }
            State::FinWait1 => block.state = State::Closing,
            State::FinWait2 => return self.enter_time_wait(cx, index),
            _ => {}
        }
        self.mark_dirty(index);
        self.reschedule(index, cx.now);
    }
}
