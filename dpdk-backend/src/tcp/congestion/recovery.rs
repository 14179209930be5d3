//! Detection and repair of losses: RACK-TLP (RFC 8985) with SACK, NewReno (RFC 6582) without.
//! Proportional rate reduction (RFC 6937) decides what may leave meanwhile.
//!
//! ```text
//!   acknowledgement ─► delivered segments ─┬─► RACK: sent before a delivered one, and late ─► lost
//!                                          └─► PRR: as many bytes out as in, down to the threshold
//!   silence ─► probe timeout: the last segment again (TLP) ─► retransmission timeout: all is lost
//! ```
//!
//! Everything here works on a connection's two blocks and its segments. The caller handles timers
//! and frames.

use crate::tcp::congestion::cubic;
use crate::tcp::congestion::state::Prr;
use crate::tcp::segment::Segment;
use crate::tcp::seq::{ahead, at_or_before, before, later};
use crate::tcp::tables::active::{Active, Mode};
use crate::tcp::tables::control_block::ControlBlock;
use crate::tcp::tables::marks::Facts;
use crate::tcp::tables::scoreboard::{SegmentFacts, SentSegment};
use crate::time::Now;
use netpoll::FixedSlab;

/// Duplicate acknowledgements, or segments beyond a hole, that show a loss (RFC 5681, RFC 6675).
pub(crate) const DUPLICATE_THRESHOLD: u32 = 3;

/// RFC 8985, 7.2: TLP.max_ack_delay, in microseconds.
const PEER_DELAY_MAX_US: u64 = 200_000;

/// What one acknowledgement showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    /// Sequence numbers newly acknowledged, cumulatively.
    pub(crate) acked: u32,
    /// Sequence numbers newly known to be delivered, cumulatively or selectively.
    pub(crate) delivered: u32,
    /// Round-trip time of the newest segment that was sent once, in microseconds.
    pub(crate) rtt_us: Option<u32>,
    /// Some of the delivered segments were sent more than once: which copy was delivered, and how
    /// long the others waited for it, is not known.
    pub(crate) ambiguous: bool,
    /// Sequence numbers in flight before it.
    pub(crate) flight_before: u32,
    /// A segment of ours was received twice (RFC 2883).
    pub(crate) duplicate_sack: bool,
    /// The peer's window opened after it was shut.
    pub(crate) reopened: bool,
}

/// Sequence numbers in flight, as far as is known (RFC 6675's pipe). Without SACK, each duplicate
/// acknowledgement stands for a delivered segment.
pub(crate) fn pipe(block: &ControlBlock, active: &Active) -> u32 {
    let arrived = if block.has(Facts::SACK) {
        active.flight.sacked
    } else {
        u32::from(active.recovery.duplicate_acks) * u32::from(block.mss)
    };
    block.flight().saturating_sub(arrived).saturating_sub(active.flight.lost)
}

/// RFC 8985, 6.2, RACK_sent_after: later by time, by sequence when sent at once.
fn sent_after(a_us: u32, a_end: u32, b_us: u32, b_end: u32) -> bool {
    before(b_us, a_us) || (a_us == b_us && before(b_end, a_end))
}

/// RFC 8985, 6.2, steps 2 and 3: handles a segment that was delivered, cumulatively or selectively.
pub(crate) fn on_delivered(
    block: &ControlBlock,
    active: &mut Active,
    segment: &SentSegment,
    delivery: &mut Delivery,
    now: Now,
) {
    let rack = &mut active.recovery.rack;
    let rtt_us = now.us.wrapping_sub(segment.sent_us);
    let retransmitted = segment.has(SegmentFacts::RETRANSMITTED);
    delivery.delivered += segment.span();
    delivery.ambiguous |= retransmitted;
    if !retransmitted {
        delivery.rtt_us = Some(delivery.rtt_us.map_or(rtt_us, |other| other.min(rtt_us)));
    }
    // Step 2: an acknowledgement faster than any before belongs to the first transmission.
    if retransmitted && rtt_us < block.rtt.min_us {
        return;
    }
    let end = segment.end();
    if !rack.is_set || sent_after(segment.sent_us, end, rack.sent_us, rack.end) {
        (rack.sent_us, rack.end, rack.rtt_us) = (segment.sent_us, end, rtt_us);
    }
    // Step 3: a segment below the highest delivered one that was sent once: the network reorders.
    if !rack.is_set || before(rack.highest, end) {
        rack.highest = end;
    } else if before(end, rack.highest) && !retransmitted {
        rack.reordering_seen = true;
    }
    rack.is_set = true;
}

/// RFC 8985, 6.2, step 4: how long a segment may be overtaken before it is considered lost, in
/// microseconds.
fn reordering_window(block: &ControlBlock, active: &mut Active, duplicate_sack: bool) -> u32 {
    let recovering = active.recovery.mode != Mode::Open;
    let rack = &mut active.recovery.rack;
    // DSACKs show that retransmissions were too early; counted once per round.
    if rack.in_round && at_or_before(rack.round, block.snd.una) {
        rack.in_round = false;
    }
    if duplicate_sack && !rack.in_round {
        rack.in_round = true;
        rack.round = block.snd.nxt;
        rack.multiplier = rack.multiplier.saturating_add(1);
        rack.persist = 16;
    }
    if !rack.reordering_seen && (recovering || active.flight.sacked_count >= DUPLICATE_THRESHOLD) {
        return 0;
    }
    let multiplier = u64::from(rack.multiplier) + 1;
    let window = multiplier * u64::from(block.rtt.min_us.min(block.rtt.smoothed_us)) / 4;
    window.min(u64::from(block.rtt.smoothed_us)) as u32
}

/// RFC 8985, 6.2, step 5: marks lost segments. Returns whether there were any, and the microseconds
/// until the reordering window of the others closes.
pub(crate) fn detect_losses(
    block: &ControlBlock,
    active: &mut Active,
    store: &mut FixedSlab<SentSegment>,
    duplicate_sack: bool,
    now: Now,
) -> (bool, Option<u32>) {
    if !active.recovery.rack.is_set {
        return (false, None);
    }
    let window = reordering_window(block, active, duplicate_sack);
    let rack = active.recovery.rack;
    let (mut found, mut wait) = (false, None);
    let mut index = active.flight.head;
    while let Some(segment) = store.get_mut(index) {
        index = segment.next;
        if segment.has(SegmentFacts::SACKED.or(SegmentFacts::LOST)) {
            continue;
        }
        if !sent_after(rack.sent_us, rack.end, segment.sent_us, segment.end()) {
            continue;
        }
        let due = segment.sent_us.wrapping_add(rack.rtt_us).wrapping_add(window);
        if at_or_before(due, now.us) {
            found |= active.flight.mark_lost(segment);
        } else {
            let left = due.wrapping_sub(now.us);
            wait = Some(wait.map_or(left, |other: u32| other.max(left)));
        }
    }
    (found, wait)
}

/// NewReno (RFC 6582) for peers without SACK: the third duplicate, and every partial
/// acknowledgement in recovery, shows that the first segment is lost.
pub(crate) fn detect_losses_without_sack(
    active: &mut Active,
    store: &mut FixedSlab<SentSegment>,
    delivery: &Delivery,
) -> bool {
    let third = u32::from(active.recovery.duplicate_acks) >= DUPLICATE_THRESHOLD
        && active.recovery.mode == Mode::Open;
    let partial = delivery.acked > 0 && active.recovery.mode == Mode::Recovery;
    if !third && !partial {
        return false;
    }
    match store.get_mut(active.flight.head) {
        Some(first) => active.flight.mark_lost(first),
        None => false,
    }
}

/// Enters recovery: acknowledgements showed losses. Reduces once for the whole flight (RFC 6675, 5;
/// RFC 6937).
pub(crate) fn enter_recovery(block: &mut ControlBlock, active: &mut Active) {
    let flight = block.flight();
    block.ssthresh = cubic::on_loss(block, &mut active.cubic, flight);
    active.recovery.mode = Mode::Recovery;
    active.recovery.point = block.snd.nxt;
    active.recovery.prr = Prr { delivered: 0, out: 0, flight_at_start: flight.max(1) };
    active.recovery.probe.in_flight = false; // RFC 8985, 7.1
}

/// RFC 6298, 5.4 to 5.6, and RFC 5681, 3.1, equation 4: a timeout showed a loss. Everything that
/// was not reported is lost, and the window is one segment.
pub(crate) fn enter_timeout(
    block: &mut ControlBlock,
    active: &mut Active,
    store: &mut FixedSlab<SentSegment>,
) {
    // Only the first of consecutive timeouts reduces the threshold (RFC 5681, 3.1).
    if active.recovery.mode != Mode::Timeout {
        let flight = block.flight();
        block.ssthresh = cubic::on_loss(block, &mut active.cubic, flight);
    }
    active.flight.mark_all_lost(store);
    active.recovery.mode = Mode::Timeout;
    active.recovery.point = block.snd.nxt;
    active.recovery.duplicate_acks = 0;
    active.recovery.probe.in_flight = false;
    block.cwnd = u32::from(block.mss);
}

/// Ends the recovery if this acknowledgement completes it.
pub(crate) fn leave_if_done(block: &mut ControlBlock, active: &mut Active) {
    if active.recovery.mode == Mode::Open || before(block.snd.una, active.recovery.point) {
        return;
    }
    if active.recovery.mode == Mode::Recovery {
        block.cwnd = block.ssthresh; // RFC 6937: exactly the threshold at the end
    }
    active.recovery.mode = Mode::Open;
    active.recovery.duplicate_acks = 0;
    if !block.has(Facts::SACK) && block.snd.una == active.recovery.point {
        block.set(Facts::RECOVERED);
    }
    active.recovery.rack.persist = active.recovery.rack.persist.saturating_sub(1);
    if active.recovery.rack.persist == 0 {
        active.recovery.rack.multiplier = 0;
    }
}

/// RFC 6937, 3: sets the window at this point of a recovery.
pub(crate) fn reduce_proportionally(block: &mut ControlBlock, active: &mut Active, delivered: u32) {
    let in_pipe = pipe(block, active);
    let mss = u32::from(block.mss);
    let prr = &mut active.recovery.prr;
    prr.delivered = prr.delivered.saturating_add(delivered);
    let allowed = if in_pipe > block.ssthresh {
        let share = u64::from(prr.delivered) * u64::from(block.ssthresh);
        (share.div_ceil(u64::from(prr.flight_at_start)) as u32).saturating_sub(prr.out)
    } else {
        // Slow-start reduction bound.
        let limit = prr.delivered.saturating_sub(prr.out).max(delivered) + mss;
        (block.ssthresh - in_pipe).min(limit)
    };
    // The first retransmission leaves in any case.
    let allowed = if prr.out == 0 { allowed.max(mss) } else { allowed };
    block.cwnd = in_pipe + allowed;
}

/// Notes bytes that were sent while recovering.
pub(crate) fn on_sent(active: &mut Active, bytes: u32) {
    if active.recovery.mode == Mode::Recovery {
        active.recovery.prr.out = active.recovery.prr.out.saturating_add(bytes);
    }
}

/// What an acknowledgement says about a probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeAnswer {
    pub(crate) acknowledgement: u32,
    /// It acknowledges nothing new and carries nothing (RFC 5681, 2).
    pub(crate) is_duplicate: bool,
    has_sack: bool,
    /// The right edge of the range that was received twice (RFC 2883).
    twice_to: Option<u32>,
}

impl ProbeAnswer {
    pub(crate) fn of(segment: &Segment, is_duplicate: bool) -> ProbeAnswer {
        let acknowledgement = segment.header.acknowledgement;
        let blocks = segment.header.options.sack_blocks();
        let twice = is_duplicate_sack(acknowledgement, blocks);
        ProbeAnswer {
            acknowledgement,
            is_duplicate,
            has_sack: !blocks.is_empty(),
            twice_to: blocks.first().filter(|_| twice).map(|block| block.1),
        }
    }
}

/// RFC 8985, 7.4.2: handles an acknowledgement while a probe is in flight. Returns true when only
/// the probe repaired a loss: the congestion needs a response.
pub(crate) fn on_probe_ack(active: &mut Active, answer: &ProbeAnswer) -> bool {
    let probe = &mut active.recovery.probe;
    if !probe.in_flight || before(answer.acknowledgement, probe.end) {
        return false;
    }
    // The original alone would acknowledge nothing beyond it before the probe is answered, too.
    let is_beyond = before(probe.end, answer.acknowledgement);
    // A new segment as probe is acknowledged like any other. When the same segment was sent again,
    // a DSACK or a duplicate acknowledgement shows that the probe was not needed. The first
    // acknowledgement that reaches its end may be the original's.
    let is_needless =
        answer.twice_to == Some(probe.end) || (answer.is_duplicate && !answer.has_sack && !is_beyond);
    let is_new = !probe.is_retransmission;
    probe.in_flight = !(is_new || is_needless || is_beyond);
    is_beyond && !is_new && !is_needless
}

/// RFC 8985, 7.2: the probe timeout in milliseconds: two round trips, and the peer's delayed
/// acknowledgement when less is in flight than a receiver has to acknowledge at once (RFC 9293,
/// 3.8.6.3: two full segments).
pub(crate) fn probe_timeout_ms(block: &ControlBlock) -> u32 {
    if !block.has(Facts::HAS_RTT) {
        return crate::tcp::congestion::rtt::RTO_INITIAL_MS;
    }
    let may_be_delayed = block.flight() < 2 * u32::from(block.mss);
    let delayed_us = if may_be_delayed { PEER_DELAY_MAX_US } else { 2000 };
    let trips_us = 2 * u64::from(block.rtt.smoothed_us);
    // Where round trips vary by more than the first measurement assumes, two of them are too short
    // (RFC 9002, 6.2.1).
    let varied_us = match block.rtt.variation_us > block.rtt.smoothed_us / 2 {
        true => u64::from(block.rtt.smoothed_us) + 4 * u64::from(block.rtt.variation_us),
        false => 0,
    };
    let timeout_us = trips_us.max(varied_us) + delayed_us;
    timeout_us.div_ceil(1000).min(u64::from(crate::tcp::congestion::rtt::RTO_MAX_MS)) as u32
}

/// RFC 2883: whether the first block reports bytes that are already acknowledged, or lies in the
/// second block.
pub(crate) fn is_duplicate_sack(ack: u32, blocks: &[(u32, u32)]) -> bool {
    let Some((left, right)) = blocks.first().copied() else { return false };
    if before(left, ack) {
        return true;
    }
    blocks.get(1).is_some_and(|second| at_or_before(second.0, left) && at_or_before(right, second.1))
}

/// Marks the reported ranges (RFC 2018, 5). Ranges outside of the flight are ignored.
pub(crate) fn mark_sacked(
    block: &ControlBlock,
    active: &mut Active,
    store: &mut FixedSlab<SentSegment>,
    blocks: &[(u32, u32)],
    delivery: &mut Delivery,
    now: Now,
) {
    for (left, right) in blocks {
        let in_flight = before(*left, *right)
            && at_or_before(block.snd.una, *left)
            && at_or_before(*right, block.snd.nxt);
        if !in_flight {
            continue;
        }
        let mut index = active.flight.head;
        while let Some(segment) = store.get(index).copied() {
            if !before(segment.sequence, *right) {
                break;
            }
            let covered = at_or_before(*left, segment.sequence) && at_or_before(segment.end(), *right);
            if covered && !segment.has(SegmentFacts::SACKED) {
                on_delivered(block, active, &segment, delivery, now);
                active.flight.mark_sacked(&mut store[index]);
            }
            index = segment.next;
        }
    }
}

/// Removes segments below `snd.una`, which has its new value already.
pub(crate) fn acknowledge(
    block: &ControlBlock,
    active: &mut Active,
    store: &mut FixedSlab<SentSegment>,
    delivery: &mut Delivery,
    now: Now,
) {
    while let Some(segment) = store.get(active.flight.head).copied() {
        if at_or_before(segment.end(), block.snd.una) {
            if !segment.has(SegmentFacts::SACKED) {
                on_delivered(block, active, &segment, delivery, now);
            }
            active.flight.pop(store);
        } else {
            let part = ahead(segment.sequence, block.snd.una);
            if part > 0 {
                delivery.delivered += if segment.has(SegmentFacts::SACKED) { 0 } else { part };
                active.flight.trim(store, part);
            }
            break;
        }
    }
    if delivery.ambiguous {
        // RFC 6298, 3 (Karn): segments acknowledged together with a retransmission had to wait for
        // it.
        delivery.rtt_us = None;
    }
    active.recovery.rack.highest = later(active.recovery.rack.highest, block.snd.una);
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::Slot;

    fn at(us: u32) -> Now {
        Now { ms: us / 1000, us }
    }

    /// Ten segments of 1000 bytes, sent a microsecond apart.
    fn setup() -> (ControlBlock, Active, FixedSlab<SentSegment>) {
        let mut store = FixedSlab::new(32);
        let mut active = Active::default();
        for number in 0..10_u32 {
            let segment = SentSegment {
                sequence: number * 1000,
                size: 1000,
                sent_us: number,
                ..SentSegment::default()
            };
            assert!(active.flight.push(&mut store, segment));
        }
        let mut block = ControlBlock { mss: 1000, cwnd: 10_000, ..ControlBlock::default() };
        block.snd.nxt = 10_000;
        block.set(Facts::SACK.or(Facts::HAS_RTT));
        (block.rtt.smoothed_us, block.rtt.min_us) = (100_000, 100_000);
        (block, active, store)
    }

    #[test]
    fn three_segments_beyond_a_hole_show_the_loss_at_once() {
        let (block, mut active, mut store) = setup();
        let mut delivery = Delivery::default();
        mark_sacked(&block, &mut active, &mut store, &[(1000, 4000)], &mut delivery, at(100_000));
        let (found, wait) = detect_losses(&block, &mut active, &mut store, false, at(100_003));
        assert!(found && wait.is_none());
        assert_eq!((active.flight.lost, active.flight.sacked, delivery.delivered), (1000, 3000, 3000));
        assert_eq!(pipe(&block, &active), 6000);
    }

    #[test]
    fn one_segment_beyond_a_hole_waits_for_the_reordering_window() {
        let (block, mut active, mut store) = setup();
        let mut delivery = Delivery::default();
        mark_sacked(&block, &mut active, &mut store, &[(1000, 2000)], &mut delivery, at(100_000));
        let (found, wait) = detect_losses(&block, &mut active, &mut store, false, at(100_000));
        assert!(!found);
        assert_eq!(wait, Some(24_999), "a quarter of the smallest round trip");
        let (found, _) = detect_losses(&block, &mut active, &mut store, false, at(130_000));
        assert!(found);
    }

    #[test]
    fn blocks_outside_the_flight_mean_nothing() {
        let (mut block, mut active, mut store) = setup();
        block.snd.una = 0;
        let mut delivery = Delivery::default();
        let lies = [(20_000, 30_000), (5000, 4000), (0xffff_0000, 500), (9000, 11_000)];
        mark_sacked(&block, &mut active, &mut store, &lies, &mut delivery, at(100_000));
        assert_eq!((active.flight.sacked, delivery.delivered), (0, 0));
    }

    #[test]
    fn proportional_reduction_ends_at_the_threshold() {
        let (mut block, mut active, mut store) = setup();
        enter_recovery(&mut block, &mut active);
        assert_eq!(block.ssthresh, 7000);
        let mut out = 0;
        let mut delivery = Delivery::default();
        active.flight.mark_lost(&mut store[Slot::new(0)]);
        for number in 1..10 {
            mark_sacked(
                &block,
                &mut active,
                &mut store,
                &[(number * 1000, number * 1000 + 1000)],
                &mut delivery,
                at(100_000),
            );
            reduce_proportionally(&mut block, &mut active, 1000);
            let room = block.cwnd.saturating_sub(pipe(&block, &active) + out);
            let sends = room / 1000 * 1000;
            on_sent(&mut active, sends);
            out += sends;
            block.snd.nxt += 0;
        }
        assert!((5000..=8000).contains(&out), "{out} left for 9000 delivered, at 7/10");
        block.snd.una = block.snd.nxt;
        leave_if_done(&mut block, &mut active);
        assert_eq!((block.cwnd, active.recovery.mode), (7000, Mode::Open));
    }

    #[test]
    fn duplicate_sacks_are_told_from_others() {
        assert!(is_duplicate_sack(5000, &[(1000, 2000)]));
        assert!(is_duplicate_sack(1000, &[(3000, 4000), (2000, 5000)]));
        assert!(!is_duplicate_sack(1000, &[(3000, 4000), (5000, 6000)]));
        assert!(!is_duplicate_sack(1000, &[]));
    }
}
