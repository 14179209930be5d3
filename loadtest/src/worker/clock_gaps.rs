//! A worker watches its own clock: between the end of a turn and the next there should be no more
//! time than it asked to sleep, and a turn should be short. What is beyond that is time in which
//! the generator stood still (stopped, or without a processor), and in which it saw nothing of the
//! server.

use super::control::Window;
use serde::{Deserialize, Serialize};

/// Shorter ones are the scheduler's usual work, ns.
const GAP_MIN: u64 = 10_000_000;

/// The times that a loop stood still, within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockGaps {
    pub count: u64,
    /// Their sum, and the longest, in ns.
    pub total: u64,
    pub longest: u64,
}

impl ClockGaps {
    /// Nothing was seen from `from` to `to`.
    pub(super) fn saw_nothing(&mut self, from: u64, to: u64, window: &Window) {
        let within = to.min(window.end).saturating_sub(from.max(window.start));
        if within >= GAP_MIN {
            self.count += 1;
            self.total += within;
            self.longest = self.longest.max(within);
        }
    }

    /// Adds another stage's.
    pub(crate) fn add(&mut self, other: &ClockGaps) {
        self.count += other.count;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_gaps_within_the_window_count() {
        let ms = |ms: u64| ms * 1_000_000;
        let window = Window { stage: 0, traffic_start: 0, start: ms(100), end: ms(1000) };
        let mut gaps = ClockGaps::default();
        for (from, to) in [(0, 105), (200, 209), (0, 130), (300, 750), (990, 2000), (400, 300)] {
            gaps.saw_nothing(ms(from), ms(to), &window);
        }
        assert_eq!(gaps, ClockGaps { count: 3, total: ms(30 + 450 + 10), longest: ms(450) });
    }
}
