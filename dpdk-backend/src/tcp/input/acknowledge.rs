//! The ACK field (RFC 9293, 3.10.7.4, fifth): what was delivered, what that says about losses, and
//! what may leave now.

use crate::tcp::congestion::recovery::{self, Delivery, ProbeAnswer};
use crate::tcp::congestion::{cubic, rtt};
use crate::tcp::engine::{Context, Notice, Tcp};
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, at_or_before, before};
use crate::tcp::tables::active::{Active, Mode, TimerKind};
use crate::tcp::tables::control_block::{ControlBlock, State};
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::Facts;
use crate::time::Now;
use crate::wire::tcp::Flags;

impl Tcp {
    /// Handles an acceptable acknowledgement. Returns false when the connection has ended.
    pub(in crate::tcp) fn acknowledge(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
    ) -> bool {
        let block = &mut self.table[index];
        let acknowledgement = segment.header.acknowledgement;
        if before(acknowledgement, block.snd.una) {
            return true; // old: nothing new
        }
        let opens = block.state == State::SynReceived;
        if opens {
            self.open_received(cx, index);
        }
        let block = &mut self.table[index];
        let flight_before = block.flight();
        let acked = ahead(block.snd.una, acknowledgement);
        let window_before = block.snd.wnd;
        let changed = self.update_window(index, segment);
        let block = &mut self.table[index];
        let delivery = Delivery {
            acked,
            flight_before,
            reopened: window_before == 0 && block.snd.wnd > 0 && acked == 0 && flight_before > 0,
            ..Delivery::default()
        };
        // RFC 5681, 2: a duplicate carries nothing, changes nothing, and something is in flight.
        let is_duplicate = acked == 0 && segment.span() == 0 && !changed;
        if flight_before > 0 && block.active.is_some() {
            self.take_delivery(cx, index, segment, delivery, is_duplicate);
        } else if let Some(active) = self.stores.actives.get_mut(block.active) {
            // Everything was delivered. The answer to a probe may still be on its way.
            let _ = recovery::on_probe_ack(active, &ProbeAnswer::of(segment, is_duplicate));
        }
        if changed && self.table[index].active.is_some() {
            self.mark_dirty(index);
        }
        if acked > 0 && self.table[index].has(Facts::FIN_SENT) && self.table[index].flight() == 0 {
            return self.fin_acknowledged(cx, index);
        }
        if opens && !self.table[index].has(Facts::ORPHAN) {
            self.reports.notices.push_back(Notice::Connected(index));
            cx.counters.connections_opened += 1;
        }
        true
    }

    /// Opens a connection: our SYN of a simultaneous open is acknowledged.
    fn open_received(&mut self, cx: &Context<'_>, index: BlockIndex) {
        let block = &mut self.table[index];
        block.state = State::Established;
        block.snd.una = block.snd.una.wrapping_add(1);
        block.backoff = 0; // RFC 6298, 5.7: the timeout of data begins again
        self.progress(index, cx.now);
        self.stop_timer(index);
        self.mark_dirty(index);
    }

    /// RFC 9293, 3.10.7.4: updates SND.WND, unless the segment is older than the one that set it.
    /// Returns whether it changed.
    fn update_window(&mut self, index: BlockIndex, segment: &Segment) -> bool {
        let block = &mut self.table[index];
        let header = &segment.header;
        let window = u32::from(header.window) << block.send_scale();
        // SND.WL1 < SEG.SEQ, or equal and SND.WL2 =< SEG.ACK, which holds for every acknowledgement
        // here.
        let newer =
            before(block.snd.una, header.acknowledgement) || at_or_before(block.snd.wl1, header.sequence);
        if !newer {
            return false;
        }
        let changed = window != block.snd.wnd;
        block.snd.wnd = window;
        block.snd.wnd_max = block.snd.wnd_max.max(window);
        block.snd.wl1 = header.sequence;
        changed
    }

    fn take_delivery(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        segment: &Segment,
        mut delivery: Delivery,
        is_duplicate: bool,
    ) {
        let now = cx.now;
        let block = &mut self.table[index];
        let active = &mut self.stores.actives[block.active];
        let acknowledgement = segment.header.acknowledgement;
        let fin = u32::from(block.has(Facts::FIN_SENT) && acknowledgement == block.snd.nxt);
        block.snd.una = acknowledgement;
        if delivery.acked > 0 {
            self.stores.pieces.acknowledge(&mut active.queue, delivery.acked - fin);
            recovery::acknowledge(block, active, &mut self.stores.segments, &mut delivery, now);
            block.clear(Facts::RECOVERED);
            active.progress(now);
        }
        if block.has(Facts::SACK) {
            let blocks = segment.header.options.sack_blocks();
            delivery.duplicate_sack = recovery::is_duplicate_sack(acknowledgement, blocks);
            cx.counters.duplicate_sacks += u64::from(delivery.duplicate_sack);
            recovery::mark_sacked(block, active, &mut self.stores.segments, blocks, &mut delivery, now);
        }
        if let Some(rtt_us) = delivery.rtt_us {
            rtt::sample(block, rtt_us);
        } else if delivery.acked > 0
            && let Some(rtt_ms) = echoed_rtt_ms(block, segment, now)
        {
            rtt::sample_echo(block, rtt_ms);
        }
        let answer = ProbeAnswer::of(segment, is_duplicate);
        let wait_us = self.repair(cx, index, &delivery, &answer);
        self.rearm(index, &delivery, wait_us, cx);
        let active = &self.stores.actives[self.table[index].active];
        if active.unsent > 0 || active.flight.lost > 0 || self.table[index].has(Facts::FIN_QUEUED) {
            self.mark_dirty(index);
        }
    }

    /// Finds losses and adjusts the window. Returns the microseconds after which a segment may be
    /// considered lost.
    fn repair(
        &mut self,
        cx: &mut Context<'_>,
        index: BlockIndex,
        delivery: &Delivery,
        answer: &ProbeAnswer,
    ) -> Option<u32> {
        let is_duplicate = answer.is_duplicate;
        let block = &mut self.table[index];
        let active = &mut self.stores.actives[block.active];
        let store = &mut self.stores.segments;
        recovery::leave_if_done(block, active);
        let (found, wait_us) = if block.has(Facts::SACK) {
            recovery::detect_losses(block, active, store, delivery.duplicate_sack, cx.now)
        } else {
            count_duplicates(block, active, delivery, is_duplicate);
            (recovery::detect_losses_without_sack(active, store, delivery), None)
        };
        if recovery::on_probe_ack(active, answer) && active.recovery.mode == Mode::Open {
            // RFC 8985, 7.4.2: the probe repaired the loss; the congestion response remains.
            cx.counters.tail_loss_recoveries += 1;
            block.ssthresh = cubic::on_loss(block, &mut active.cubic, delivery.flight_before);
            block.cwnd = block.ssthresh;
        }
        if found && active.recovery.mode == Mode::Open {
            cx.counters.fast_recoveries += 1;
            recovery::enter_recovery(block, active);
        }
        if delivery.reopened {
            // The peer dropped what it received while its window was shut. That is no sign of
            // congestion.
            active.flight.mark_all_lost(store);
        }
        let is_first_start =
            block.ssthresh == u32::MAX && active.recovery.mode == Mode::Open && delivery.acked > 0;
        let growth = match is_first_start {
            true => active.hystart.on_ack(block, delivery.acked, delivery.rtt_us),
            false => 0,
        };
        if active.recovery.mode == Mode::Recovery {
            let delivered = match block.has(Facts::SACK) {
                true => delivery.delivered,
                false => delivery.acked.max(u32::from(is_duplicate) * u32::from(block.mss)),
            };
            recovery::reduce_proportionally(block, active, delivered);
        } else if delivery.acked > 0 && is_window_limited(block.cwnd, block.ssthresh, block.mss, delivery) {
            let growth = if is_first_start { growth } else { delivery.acked };
            cubic::on_ack(block, &mut active.cubic, growth, cx.now);
        }
        wait_us
    }

    /// RFC 6298, 5.2 and 5.3; RFC 8985, 7.2.
    fn rearm(&mut self, index: BlockIndex, delivery: &Delivery, wait_us: Option<u32>, cx: &Context<'_>) {
        let block = &self.table[index];
        let active = &mut self.stores.actives[block.active];
        if block.flight() == 0 {
            return self.stop_timer(index);
        }
        if let Some(wait_us) = wait_us.filter(|_| active.flight.lost == 0) {
            active.timer.kind = TimerKind::Reorder;
            active.timer.due_ms = cx.now.ms.wrapping_add(wait_us.div_ceil(1000).max(1));
            return;
        }
        if delivery.acked > 0 {
            active.timer.rto_from_ms = cx.now.ms;
        }
        if delivery.acked > 0 || active.timer.kind == TimerKind::Reorder {
            self.arm_probe_or_retransmission(index, cx.now);
        }
    }

    /// Handles the acknowledgement of our FIN. Returns false when the connection has ended.
    fn fin_acknowledged(&mut self, cx: &mut Context<'_>, index: BlockIndex) -> bool {
        match self.table[index].state {
            State::FinWait1 => {
                let block = &mut self.table[index];
                block.state = State::FinWait2;
                if block.has(Facts::ORPHAN) {
                    block.ack_due_ms = cx.now.ms.wrapping_add(self.config.timeouts.fin_wait_2_ms);
                }
                true
            }
            State::Closing => {
                self.enter_time_wait(cx, index);
                false
            }
            State::LastAck => {
                self.end_gone(cx, index, netpoll::CloseReason::Local);
                false
            }
            _ => true,
        }
    }

    /// Whether a segment has a FIN.
    pub(in crate::tcp) fn has_fin(segment: &Segment) -> bool {
        segment.header.flags.has(Flags::FIN)
    }
}

/// RFC 7323, 4.1: the round trip that an echoed timestamp shows, in milliseconds. `None` for a
/// timestamp that no segment of ours can have had.
fn echoed_rtt_ms(block: &ControlBlock, segment: &Segment, now: Now) -> Option<u32> {
    let (_, echo) = segment.header.options.timestamp.filter(|_| block.has(Facts::TIMESTAMPS))?;
    let passed_ms = now.ms.wrapping_add(block.stamps.offset).wrapping_sub(echo);
    (passed_ms <= rtt::RTO_MAX_MS).then_some(passed_ms)
}

/// Without SACK: counts the segments that were delivered beyond the hole, as far as duplicates show
/// it.
fn count_duplicates(block: &ControlBlock, active: &mut Active, delivery: &Delivery, is_duplicate: bool) {
    let mss = block.mss;
    if is_duplicate && block.has(Facts::RECOVERED) {
        // RFC 6582, 3.2, step 2: these answer what the last recovery sent twice, not what was sent
        // since.
    } else if is_duplicate {
        // No more segments can have been delivered than are in flight behind the first.
        let most = (delivery.flight_before / u32::from(mss.max(1))).min(250) as u8;
        active.recovery.duplicate_acks = (active.recovery.duplicate_acks + 1).min(most);
    } else if delivery.acked > 0 {
        // A partial acknowledgement accounts for what was delivered behind the hole that it closes.
        let gone = delivery.acked.div_ceil(u32::from(mss.max(1))).saturating_sub(1).min(250) as u8;
        active.recovery.duplicate_acks = match active.recovery.mode {
            Mode::Recovery => active.recovery.duplicate_acks.saturating_sub(gone),
            _ => 0,
        };
    }
}

/// RFC 7661: the window grows only where it was the limit. In slow start half of it is enough, as
/// in Linux.
fn is_window_limited(cwnd: u32, ssthresh: u32, mss: u16, delivery: &Delivery) -> bool {
    let flight = delivery.flight_before;
    if cwnd < ssthresh { flight.saturating_mul(2) > cwnd } else { flight + u32::from(mss) >= cwnd }
}
