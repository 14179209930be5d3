//! Timers: retransmission and probe timeouts, shut windows, keepalive, delayed acknowledgements.
//!
//! A block has one node in the wheel, set to the earliest of its deadlines: the sending side's (in
//! the active block), the keepalive's, a gap's, and an orphan's. The node may fire early; the
//! handler checks the exact deadlines and sets the node again.

use crate::tcp::congestion::recovery;
use crate::tcp::congestion::rtt;
use crate::tcp::control::end::FinOrReset;
use crate::tcp::engine::{Context, Tcp};
use crate::tcp::tables::active::TimerKind;
use crate::tcp::tables::control_block::State;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Facts, Lists, Todos};
use crate::tcp::tables::scoreboard::SegmentFacts;
use crate::time::Now;
use netpoll::CloseReason;

impl Tcp {
    // --- arming ---

    /// Sets the node to the block's earliest deadline, unless it fires early enough already.
    pub(in crate::tcp) fn schedule(&mut self, index: BlockIndex, now: Now) {
        if let Some(due_ms) = self.earliest_deadline(index, now) {
            self.wheel.arm(&mut self.table, index, due_ms);
        } else {
            self.wheel.cancel(&mut self.table, index);
        }
    }

    fn earliest_deadline(&self, index: BlockIndex, now: Now) -> Option<u32> {
        let active = self.stores.actives.get(self.table[index].active);
        let sending =
            active.filter(|active| active.timer.kind != TimerKind::None).map(|active| active.timer.due_ms);
        let deadlines = [
            sending,
            self.keepalive_deadline(index),
            self.patience_deadline(index),
            self.gap_deadline(index),
        ];
        deadlines.into_iter().flatten().min_by_key(|due_ms| now.until(*due_ms))
    }

    /// RFC 9293, 3.8.4: only while no other timer would detect that the peer is gone.
    fn keepalive_deadline(&self, index: BlockIndex) -> Option<u32> {
        let block = &self.table[index];
        let keepalive = self.config.timeouts.keepalive?;
        let is_idle = matches!(block.state, State::Established | State::CloseWait) && block.flight() == 0;
        let wait = keepalive.idle_ms + u32::from(block.probes) * keepalive.interval_ms;
        is_idle.then(|| block.received_ms.wrapping_add(wait))
    }

    /// The time at which an orphan is given up, whatever its peer sends: a peer must not hold a
    /// block without an owner.
    fn patience_deadline(&self, index: BlockIndex) -> Option<u32> {
        let block = &self.table[index];
        block.has(Facts::ORPHAN).then_some(block.ack_due_ms)
    }

    /// The time at which segments ahead of a gap are dropped.
    fn gap_deadline(&self, index: BlockIndex) -> Option<u32> {
        let active = self.stores.actives.get(self.table[index].active)?;
        let waits = !active.gap.kept.is_empty();
        waits.then(|| active.gap.since_ms.wrapping_add(self.config.timeouts.out_of_order_ms))
    }

    /// Gives up an orphan.
    fn fire_patience(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        cx.counters.orphans_expired += 1;
        if self.table[index].state != State::FinWait2 {
            self.send_reset(cx, index); // bytes are missing, and the peer has to know
        }
        self.end_gone(cx, index, CloseReason::Local);
    }

    pub(in crate::tcp) fn stop_timer(&mut self, index: BlockIndex) {
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            active.timer.kind = TimerKind::None;
        }
    }

    /// Notes that bytes were acknowledged, or leave after a shut window.
    pub(in crate::tcp) fn progress(&mut self, index: BlockIndex, now: Now) {
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            active.progress(now);
        }
    }

    /// RFC 6298, 5.1, 5.3 and 5.6: restarts the retransmission timer.
    pub(in crate::tcp) fn restart_retransmission(&mut self, index: BlockIndex, now: Now) {
        if let Some(active) = self.stores.actives.get_mut(self.table[index].active) {
            active.timer.rto_from_ms = now.ms;
        }
        self.arm_retransmission(index, now);
    }

    /// Sets the retransmission timer to the rest of its timeout.
    pub(in crate::tcp) fn arm_retransmission(&mut self, index: BlockIndex, now: Now) {
        let wait = self.rto_left_ms(index, now);
        self.arm(index, TimerKind::Retransmit, wait, now);
    }

    /// The rest of the retransmission timeout, in milliseconds; at least one.
    fn rto_left_ms(&self, index: BlockIndex, now: Now) -> u32 {
        let block = &self.table[index];
        let from_ms = self.stores.actives.get(block.active).map_or(now.ms, |active| active.timer.rto_from_ms);
        now.until(from_ms.wrapping_add(rtt::rto_ms(block))).max(1)
    }

    /// Sets the sending side's deadline, at most to the end of the user timeout.
    pub(in crate::tcp) fn arm(&mut self, index: BlockIndex, kind: TimerKind, wait_ms: u32, now: Now) {
        let limit = self.limits(self.table[index].listener).user_timeout_ms;
        let Some(active) = self.stores.actives.get_mut(self.table[index].active) else { return };
        let mut wait_ms = wait_ms;
        if limit > 0 {
            wait_ms = wait_ms.min(limit.saturating_sub(now.since(active.progress_ms)).max(1));
        }
        active.timer.kind = kind;
        active.timer.due_ms = now.ms.wrapping_add(wait_ms);
    }

    /// RFC 8985, 7.2: sets the probe timeout when no loss is known and SACK shows what a probe
    /// achieves, else the retransmission timeout. A probe timeout that is later than the
    /// retransmission timeout takes its place, and the retransmission timeout follows the probe.
    pub(in crate::tcp) fn arm_probe_or_retransmission(&mut self, index: BlockIndex, now: Now) {
        let block = &self.table[index];
        let Some(active) = self.stores.actives.get(block.active) else { return };
        let may_probe = block.has(Facts::SACK)
            && active.recovery.mode == crate::tcp::tables::active::Mode::Open
            && active.flight.sacked == 0
            && active.flight.lost == 0
            && !active.recovery.probe.in_flight
            && block.backoff == 0;
        let probe = recovery::probe_timeout_ms(block);
        let rto = self.rto_left_ms(index, now);
        match may_probe {
            true => self.arm(index, TimerKind::Probe, probe.min(rto), now),
            false => self.arm(index, TimerKind::Retransmit, rto, now),
        }
    }

    // --- firing ---

    /// Fires due timers, as many as the configuration allows in one poll.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.config.rates.timers_per_poll_max {
            let Some(index) = self.wheel.expire(&mut self.table, cx.now) else { break };
            self.fire(cx, index);
        }
        let most = self.config.rates.timers_per_poll_max;
        self.expire_half_open(cx, most);
        self.peers.time_wait.expire(&mut self.flows, cx.now, most);
        self.expire_delayed(cx);
    }

    /// Milliseconds until the next timer is due.
    pub(crate) fn next_due_ms(&self, now: Now) -> Option<u32> {
        let delayed = self.turn.delayed.front().map(|(_, due_ms)| now.until(*due_ms));
        [self.wheel.next_ms(now), self.peers.syn_cache.next_due(now), delayed].into_iter().flatten().min()
    }

    fn fire(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &self.table[index];
        if !block.state.is_synchronized() && block.state != State::SynSent {
            return;
        }
        if self.patience_deadline(index).is_some_and(|due_ms| cx.now.reached(due_ms)) {
            return self.fire_patience(cx, index);
        }
        if self.gap_deadline(index).is_some_and(|due_ms| cx.now.reached(due_ms)) {
            self.expire_kept(cx, index);
        }
        if self.keepalive_deadline(index).is_some_and(|due_ms| cx.now.reached(due_ms))
            && !self.keep_alive(cx, index)
        {
            return;
        }
        let active = self.stores.actives.get(self.table[index].active);
        let due = active
            .filter(|active| active.timer.kind != TimerKind::None && cx.now.reached(active.timer.due_ms));
        if let Some(kind) = due.map(|active| active.timer.kind)
            && !self.fire_sending(cx, index, kind)
        {
            return;
        }
        self.reschedule(index, cx.now);
    }

    /// Returns false when the connection has ended.
    fn fire_sending(&mut self, cx: &mut Context<'_>, index: BlockIndex, kind: TimerKind) -> bool {
        if kind != TimerKind::Reorder && self.has_waited_too_long(cx, index) {
            cx.counters.user_timeouts += 1;
            self.give_up(cx, index);
            return false;
        }
        match kind {
            TimerKind::None => {}
            TimerKind::Retransmit => self.fire_retransmission(cx, index),
            TimerKind::Probe => self.fire_probe(cx, index),
            TimerKind::Reorder => self.fire_reorder(cx, index),
            TimerKind::Persist => {
                self.fire_persist(cx, index);
            }
        }
        true
    }

    /// RFC 5482 where it is set, else RFC 9293, 3.8.3: R2.
    fn has_waited_too_long(&self, cx: &Context<'_>, index: BlockIndex) -> bool {
        let block = &self.table[index];
        let Some(active) = self.stores.actives.get(block.active) else { return false };
        if matches!(block.state, State::SynSent | State::SynReceived) {
            return active.timer.retries >= self.config.timeouts.syn_retries_max
                && active.timer.kind == TimerKind::Retransmit;
        }
        let limit = self.limits(block.listener).user_timeout_ms;
        if limit > 0 {
            return cx.now.since(active.progress_ms) >= limit;
        }
        // A shut window is not silence: the peer answers the probes, or the copies of what was in
        // flight when it was shut (RFC 9293, SHLD-17, MUST-35). An orphan must not be held that
        // way.
        let received_until = !block.has(Facts::ORPHAN)
            && (active.timer.kind == TimerKind::Persist || block.snd.wnd == 0)
            && cx.now.since(block.received_ms) < rtt::RTO_MAX_MS * 2;
        let most = if block.has(Facts::ORPHAN) {
            self.config.timeouts.retries_max.min(8)
        } else {
            self.config.timeouts.retries_max
        };
        active.timer.retries >= most && !received_until
    }

    /// RFC 9293, 3.8.6.1 and 3.8.6.2.1: probes a shut window, fills a small one.
    fn fire_persist(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &self.table[index];
        let Some(active) = self.stores.actives.get_mut(block.active) else { return };
        active.timer.retries = active.timer.retries.saturating_add(1);
        let wait = rtt::persist_ms(block, active.timer.retries);
        if block.snd.wnd == 0 {
            cx.counters.window_probes += 1;
            self.send_probe(cx, index);
        } else {
            cx.counters.window_overrides += 1;
            active.timer.overrides = true;
        }
        self.arm(index, TimerKind::Persist, wait, cx.now);
        self.mark_dirty(index);
    }

    /// Ends a connection with an unreachable peer.
    fn give_up(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        cx.counters.connections_failed += 1;
        if self.table[index].state == State::SynSent {
            return self.end_gone(cx, index, CloseReason::TimedOut);
        }
        if self.table[index].has(Facts::ORPHAN) {
            self.send_reset(cx, index);
            return self.end_gone(cx, index, CloseReason::TimedOut);
        }
        self.end_for_owner(cx, index, CloseReason::TimedOut, FinOrReset::Reset);
    }

    /// RFC 6298, 5.4 to 5.7.
    fn fire_retransmission(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &mut self.table[index];
        block.backoff = block.backoff.saturating_add(1);
        if let Some(active) = self.stores.actives.get_mut(block.active) {
            active.timer.retries = active.timer.retries.saturating_add(1);
        }
        cx.counters.retransmission_timeouts += 1;
        if matches!(block.state, State::SynSent | State::SynReceived) {
            block.set(Facts::SYN_RETRANSMITTED);
            block.set(Todos::ACK_NOW);
            self.restart_retransmission(index, cx.now);
            return self.mark_dirty(index);
        }
        if block.active.is_none() {
            return;
        }
        let active = &mut self.stores.actives[block.active];
        // RFC 2018, 8: a peer that has discarded data which it reported shows that at the first
        // segment.
        let reneged =
            self.stores.segments.get(active.flight.head).is_some_and(|first| first.has(SegmentFacts::SACKED));
        if reneged {
            cx.counters.reneged += 1;
            active.flight.forget_sacked(&mut self.stores.segments);
        }
        recovery::enter_timeout(block, active, &mut self.stores.segments);
        self.restart_retransmission(index, cx.now);
        self.mark_dirty(index);
    }

    /// RFC 8985, 7.3: sends new data if there is any, else the last segment again.
    fn fire_probe(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        cx.counters.tail_loss_probes += 1;
        let block = &mut self.table[index];
        let Some(active) = self.stores.actives.get_mut(block.active) else { return };
        let window_left = block.snd.wnd.saturating_sub(block.flight());
        let is_new = active.unsent > 0 && window_left >= active.unsent.min(u32::from(block.mss));
        active.recovery.probe.in_flight = true;
        active.recovery.probe.is_retransmission = !is_new;
        active.recovery.probe.end = block.snd.nxt;
        if is_new {
            active.recovery.probe.end = block.snd.nxt.wrapping_add(active.unsent.min(u32::from(block.mss)));
            // One segment beyond the window, whatever its size.
            block.cwnd = block.cwnd.max(recovery::pipe(block, active) + u32::from(block.mss));
        } else if let Some(last) = self.stores.segments.get_mut(active.flight.tail) {
            active.flight.mark_lost(last);
            block.cwnd = block.cwnd.max(recovery::pipe(block, active) + u32::from(block.mss));
        }
        self.restart_retransmission(index, cx.now);
        self.mark_dirty(index);
    }

    /// RFC 8985, 6.3: the reordering window has closed.
    fn fire_reorder(&mut self, cx: &mut Context<'_>, index: BlockIndex) {
        let block = &mut self.table[index];
        let Some(active) = self.stores.actives.get_mut(block.active) else { return };
        let (found, wait) = recovery::detect_losses(block, active, &mut self.stores.segments, false, cx.now);
        if found && active.recovery.mode == crate::tcp::tables::active::Mode::Open {
            cx.counters.fast_recoveries += 1;
            recovery::enter_recovery(block, active);
            recovery::reduce_proportionally(block, active, 0);
        }
        match wait.filter(|_| !found) {
            Some(wait) => self.arm(index, TimerKind::Reorder, wait.div_ceil(1000).max(1), cx.now),
            None => self.arm_retransmission(index, cx.now),
        }
        self.mark_dirty(index);
    }

    /// Probes an idle peer. Returns false after the last probe.
    fn keep_alive(&mut self, cx: &mut Context<'_>, index: BlockIndex) -> bool {
        let Some(keepalive) = self.config.timeouts.keepalive else { return true };
        if self.table[index].probes >= keepalive.probes_max {
            self.give_up(cx, index);
            return false;
        }
        self.table[index].probes += 1;
        cx.counters.keepalive_probes += 1;
        self.send_probe(cx, index);
        true
    }

    /// Sends acknowledgements that have waited long enough. The list is ordered by the time of the
    /// first check. An acknowledgement that was sent meanwhile and waits again is moved to the end,
    /// so it waits at most twice the delay.
    fn expire_delayed(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.turn.delayed.len() {
            let Some((index, due_ms)) = self.turn.delayed.front().copied() else { return };
            if !cx.now.reached(due_ms) {
                return;
            }
            self.turn.delayed.pop_front();
            let block = &mut self.table[index];
            if !block.has(Lists::DELAYED) {
                continue;
            }
            if !block.has(Todos::ACK_LATER) {
                block.clear(Lists::DELAYED);
            } else if cx.now.reached(block.ack_due_ms) {
                block.clear(Lists::DELAYED);
                block.clear(Todos::ACK_LATER);
                block.set(Todos::ACK_NOW);
                cx.counters.delayed_acks += 1;
                self.mark_dirty(index);
            } else {
                let due_ms = block.ack_due_ms;
                self.turn.delayed.push_back((index, due_ms));
            }
        }
    }
}
