//! The retransmission timeout (RFC 6298), with Linux's floor: the variation counts as at least 200
//! ms.

use crate::tcp::tables::control_block::{ControlBlock, State};
use crate::tcp::tables::marks::Facts;

/// RTO before anything was measured, in milliseconds (RFC 6298, 2.1).
pub(crate) const RTO_INITIAL_MS: u32 = 1000;
/// The same after a SYN was retransmitted (RFC 6298, 5.7).
const RTO_FALLBACK_MS: u32 = 3000;
/// The smallest RTO, in microseconds. RFC 6298, 2.4 asks for a second; current stacks use 200 ms.
const RTO_MIN_US: u32 = 200_000;
/// The largest value of a measurement, in microseconds.
const RTT_MAX_US: u32 = 60_000_000;
/// The largest RTO, in milliseconds (RFC 6298, 2.5: at least 60 s).
pub(crate) const RTO_MAX_MS: u32 = 120_000;

/// Adds the measurement of a segment that was sent once (Karn's rule).
pub(crate) fn sample(block: &mut ControlBlock, rtt_us: u32) {
    let rtt_us = rtt_us.clamp(1, RTT_MAX_US);
    block.rtt.min_us = block.rtt.min_us.min(rtt_us);
    smooth(block, rtt_us);
}

/// Adds what an echoed timestamp measures (RFC 7323, 4.1), which is valid for a retransmitted
/// segment, too (RFC 6298, 3). Whole milliseconds may be too small, so they do not lower the
/// smallest round trip.
pub(crate) fn sample_echo(block: &mut ControlBlock, rtt_ms: u32) {
    smooth(block, rtt_ms.max(1).saturating_mul(1000).min(RTT_MAX_US));
}

/// RFC 6298, 2.2 and 2.3. Only a valid measurement ends the backoff (RFC 6298, 5; RFC 9293,
/// MUST-18): without one, the timeout may still be shorter than the path's round trip.
fn smooth(block: &mut ControlBlock, rtt_us: u32) {
    block.backoff = 0;
    if !block.has(Facts::HAS_RTT) {
        // RFC 6298, 2.2: SRTT <- R, RTTVAR <- R/2.
        block.set(Facts::HAS_RTT);
        block.rtt.smoothed_us = rtt_us;
        block.rtt.variation_us = rtt_us / 2;
        return;
    }
    // RFC 6298, 2.3: RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R'|, then SRTT <- 7/8 SRTT + 1/8 R'.
    let deviation = block.rtt.smoothed_us.abs_diff(rtt_us);
    block.rtt.variation_us = block.rtt.variation_us - block.rtt.variation_us / 4 + deviation / 4;
    block.rtt.smoothed_us = block.rtt.smoothed_us - block.rtt.smoothed_us / 8 + rtt_us / 8;
}

/// The timeout without backoff, in milliseconds.
pub(crate) fn rto_base_ms(block: &ControlBlock) -> u32 {
    if !block.has(Facts::HAS_RTT) {
        let is_open = !matches!(block.state, State::SynSent | State::SynReceived);
        return match is_open && block.has(Facts::SYN_RETRANSMITTED) {
            true => RTO_FALLBACK_MS,
            false => RTO_INITIAL_MS,
        };
    }
    let variation = (4 * u64::from(block.rtt.variation_us)).max(u64::from(RTO_MIN_US));
    let rto = (u64::from(block.rtt.smoothed_us) + variation).div_ceil(1000);
    (rto as u32).min(RTO_MAX_MS)
}

/// The timeout, doubled for each timeout since the last measurement (RFC 6298, 5.5).
pub(crate) fn rto_ms(block: &ControlBlock) -> u32 {
    doubled(block, block.backoff)
}

/// The time to the next probe of a shut window, after `probes` probes. It grows as for
/// retransmissions (RFC 9293, 3.8.6.1), and with each probe, since the answer to a probe measures
/// nothing.
pub(crate) fn persist_ms(block: &ControlBlock, probes: u8) -> u32 {
    doubled(block, block.backoff.saturating_add(probes))
}

fn doubled(block: &ControlBlock, times: u8) -> u32 {
    let rto = u64::from(rto_base_ms(block)) << times.min(16);
    rto.min(u64::from(RTO_MAX_MS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_measurements() {
        let mut block = ControlBlock::default();
        assert_eq!(rto_ms(&block), 1000);
        block.set(Facts::SYN_RETRANSMITTED);
        assert_eq!(rto_ms(&block), 3000);
        sample(&mut block, 100_000);
        assert_eq!(rto_ms(&block), 300, "R + max(200 ms, 4 * R/2)");
        for _ in 0..100 {
            sample(&mut block, 1000);
        }
        assert_eq!(rto_ms(&block), 202, "the floor, and a millisecond of rounding");
        block.backoff = 3;
        assert_eq!(rto_ms(&block), 202 * 8);
        block.backoff = 60;
        assert_eq!(rto_ms(&block), RTO_MAX_MS);
    }

    #[test]
    fn only_a_measurement_ends_the_backoff() {
        let mut block = ControlBlock { backoff: 3, ..ControlBlock::default() };
        sample(&mut block, 100_000);
        assert_eq!((block.backoff, block.rtt.min_us), (0, 100_000));
        block.backoff = 3;
        sample_echo(&mut block, 0);
        assert_eq!((block.backoff, block.rtt.min_us), (0, 100_000), "an echo is no smallest round trip");
        assert_eq!(persist_ms(&block, 2), 4 * rto_ms(&block));
    }
}
