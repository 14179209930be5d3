//! HyStart++ (RFC 9406): ends the first slow start when round trips grow, before the queue on the
//! path overflows.
//!
//! ```text
//!   slow start ── the smallest round trip grows ──► conservative: a quarter of the growth
//!       ▲                                              │                        │
//!       └──── the round trips are short again ─────────┘               after 5 rounds
//!                                                                               ▼
//!                                                      congestion avoidance, ssthresh = cwnd
//! ```
//!
//! It runs only while the threshold is the first, infinite one (RFC 9406, 4.3). Its state is in the
//! active block: a connection that was idle begins with a new round.

use crate::tcp::congestion::state::HyStart;
use crate::tcp::seq::at_or_before;
use crate::tcp::tables::control_block::ControlBlock;

/// RFC 9406, 4.3, in microseconds.
const MIN_RTT_THRESH_US: u32 = 4000;
const MAX_RTT_THRESH_US: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;
/// Segments that one acknowledgement may add, for a sender without pacing.
const L: u32 = 8;

impl HyStart {
    /// Handles an acknowledgement of `acked` new bytes in the first slow start, with its round
    /// trip. Returns the bytes by which the window may grow. Ends the slow start, by the threshold,
    /// after enough conservative rounds.
    pub(crate) fn on_ack(&mut self, block: &mut ControlBlock, acked: u32, rtt_us: Option<u32>) -> u32 {
        if !self.running {
            (self.running, self.round_end) = (true, block.snd.nxt);
        }
        if let Some(rtt_us) = rtt_us.filter(|rtt_us| *rtt_us > 0) {
            self.current_min_us = match self.current_min_us {
                0 => rtt_us,
                least => least.min(rtt_us),
            };
            self.samples = self.samples.saturating_add(1);
        }
        if self.samples >= N_RTT_SAMPLE {
            self.judge();
        }
        let most = acked.min(L * u32::from(block.mss));
        let growth = if self.baseline_us > 0 { most / CSS_GROWTH_DIVISOR } else { most };
        if at_or_before(self.round_end, block.snd.una) {
            self.end_round(block);
        }
        growth
    }

    /// RFC 9406, 4.2: whether round trips have grown, or are short again.
    fn judge(&mut self) {
        let (last, current) = (self.last_min_us, self.current_min_us);
        if self.baseline_us > 0 {
            if current < self.baseline_us {
                (self.baseline_us, self.css_rounds) = (0, 0);
            }
            return;
        }
        let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH_US, MAX_RTT_THRESH_US);
        if last > 0 && current >= last.saturating_add(threshold) {
            self.baseline_us = current;
        }
    }

    fn end_round(&mut self, block: &mut ControlBlock) {
        self.round_end = block.snd.nxt;
        (self.last_min_us, self.current_min_us, self.samples) = (self.current_min_us, 0, 0);
        if self.baseline_us > 0 {
            // The round in which it began counts.
            self.css_rounds += 1;
            if self.css_rounds >= CSS_ROUNDS {
                block.ssthresh = block.cwnd;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> ControlBlock {
        ControlBlock { mss: 1000, cwnd: 10_000, ..ControlBlock::default() }
    }

    /// Acknowledgements of a segment each, with ten in flight, until a round ends. Returns in how
    /// many hundredths of what was acknowledged the window may grow.
    fn round(hystart: &mut HyStart, block: &mut ControlBlock, rtt_us: u32) -> u32 {
        let (mut acked, mut growth) = (0, 0);
        loop {
            block.snd.nxt = block.snd.una.wrapping_add(10_000);
            block.snd.una = block.snd.una.wrapping_add(1000);
            acked += 1000;
            growth += hystart.on_ack(block, 1000, Some(rtt_us));
            if hystart.samples == 0 {
                return growth * 100 / acked;
            }
        }
    }

    #[test]
    fn trips_that_grow_end_the_slow_start_after_five_careful_rounds() {
        let (mut hystart, mut block) = (HyStart::default(), block());
        assert_eq!(round(&mut hystart, &mut block, 50_000), 100);
        assert_eq!(round(&mut hystart, &mut block, 56_000), 100, "less than an eighth more");
        let careful = round(&mut hystart, &mut block, 64_000);
        assert!((25..100).contains(&careful), "{careful} from the eighth sample on");
        for _ in 0..3 {
            assert_eq!(round(&mut hystart, &mut block, 64_000), 25);
            assert_eq!(block.ssthresh, u32::MAX);
        }
        round(&mut hystart, &mut block, 64_000);
        assert_eq!(block.ssthresh, block.cwnd);
    }

    #[test]
    fn jitter_is_forgiven_and_one_acknowledgement_adds_eight_segments_at_most() {
        let (mut hystart, mut block) = (HyStart::default(), block());
        round(&mut hystart, &mut block, 50_000);
        round(&mut hystart, &mut block, 80_000);
        assert!(hystart.baseline_us > 0);
        round(&mut hystart, &mut block, 50_000);
        assert_eq!((hystart.baseline_us, hystart.css_rounds), (0, 0));
        assert_eq!(round(&mut hystart, &mut block, 50_000), 100);
        assert_eq!(hystart.on_ack(&mut block, 64_000, None), 8000);
    }
}
