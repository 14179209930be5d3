//! Payload and FIN (RFC 9293, 3.10.7.4, seventh and eighth).
//!
//! Payload in order goes to the owner in the buffer that it came in. There is no receive buffer:
//! what the owner holds is the owner's, and the budget of buffers that are left makes the windows.

use crate::tcp::control::end::Farewell;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, at_or_before, before};
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::out_of_order::Insertion;
use netpoll::{Buffer, CloseReason};

impl Tcp {
    /// Takes in payload. False when the connection is gone.
    pub(in crate::tcp) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
        mut frame: Buffer,
    ) -> bool {
        let block = &self.table[index];
        if !block.state.receives() {
            // Behind the peer's FIN there is nothing.
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
            // RFC 9293, 3.10.7.4: data that comes when nobody is left to read it.
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
            // What is kept must not stand in the way of what is in order (RFC 2018, 8 allows to
            // forget it).
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

    /// Hands payload in order to the owner; false when no buffer is left for it.
    fn deliver(&mut self, cx: &mut Context<'_>, index: BlockIndex, payload: Buffer) -> bool {
        let block = &mut self.table[index];
        let is_discarded = block.has(Facts::DISCARD);
        // What nobody will read needs no buffer beyond the one that it came in.
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

    /// Delivers what was kept and is in order now. Says whether there was any.
    fn deliver_kept(&mut self, cx: &mut Context<'_>, index: BlockIndex) -> bool {
        let mut any = false;
        loop {
            let block = &self.table[index];
            let rcv_nxt = block.rcv.nxt;
            let Some(active) = self.stores.actives.get_mut(block.active) else { return any };
            let has_room =
                self.buffers.budget > 0 && self.reports.received.len() < crate::tcp::engine::RECEIVED_MAX;
            if !has_room || !active.gap.kept.continues(&self.stores.kept, rcv_nxt) {
                // What is in order and finds no room is dropped: the peer sends it again.
                if !has_room && active.gap.kept.continues(&self.stores.kept, rcv_nxt) {
                    active.gap.kept.clear(&mut self.stores.kept);
                }
                return any;
            }
            let next = active.gap.kept.take_next(&mut self.stores.kept, rcv_nxt);
            let Some(payload) = next else { return any };
            any = true;
            active.gap.since_ms = cx.now.ms; // what is left waits for another gap
            self.deliver(cx, index, payload);
        }
    }

    /// RFC 5681, 4.2: at once for every second segment, small ones too, and when a gap was filled,
    /// else within the delay. A sender whose small messages wait for the delay one after the other
    /// takes the tail for lost, or has no room for more.
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

    /// Whether the owner has stopped receiving, and has not finished.
    pub(in crate::tcp) fn is_shut(&self, index: BlockIndex) -> bool {
        let block = &self.table[index];
        block.has(Facts::STOPPED) && !block.has(Facts::DISCARD)
    }

    /// No buffer, or no window: the payload is dropped and the peer told how much it may send,
    /// which may be nothing.
    pub(in crate::tcp) fn refuse_payload(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let is_shut = self.is_shut(index);
        let count = if is_shut { &mut cx.counters.drop_stopped } else { &mut cx.counters.receive_pauses };
        *count += 1;
        let block = &mut self.table[index];
        block.set(Facts::PAYLOAD_REFUSED);
        if self.buffers.budget == 0 || is_shut {
            // Taking the window back stops the peer, where RFC 9293, 3.8.6 would rather not see it
            // done: its alternative is to drop whatever comes until the peer's timers give up.
            (block.rcv.wup, block.rcv.wnd) = (block.rcv.nxt, 0);
        }
        if self.rates.duplicate.take(cx.now) {
            self.send_ack(cx, index, None);
        } else {
            cx.counters.duplicate_acks_limited += 1;
        }
    }

    /// Keeps payload that came ahead of a gap, and tells the peer at once (RFC 5681, 4.2; RFC 2018,
    /// 4).
    fn keep(&mut self, cx: &mut Context<'_>, index: BlockIndex, start: u32, payload: Buffer) {
        let payload = self.compact(cx, payload);
        // A connection keeps an eighth of what is free at most, so that a few can't keep what all
        // need.
        let share = (self.buffers.budget / 8).clamp(1, u32::from(u16::MAX)) as u16;
        let most = self.config.stores.out_of_order_per_connection_max.min(share);
        // A quarter of the budget stays for what comes in order.
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

    /// A small payload moves to a block of its own size, so that it does not pin a receive buffer.
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

    /// A FIN, now or remembered, counts when everything before it is there. Settles the block.
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
        self.settle(index, cx.now);
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
                let unsent = self.stores.actives.get(block.active).map_or(0, |active| active.unsent);
                if unsent == 0 && !self.table[index].has(Facts::FIN_QUEUED) {
                    // Nothing is left to say either: our FIN goes with the acknowledgement.
                    return self.end_for_owner(cx, index, CloseReason::PeerClosed, Farewell::Fin);
                }
            }
            State::FinWait1 => block.state = State::Closing,
            State::FinWait2 => return self.enter_time_wait(cx, index),
            _ => {}
        }
        self.mark_dirty(index);
        self.settle(index, cx.now);
    }
}
