//! The open-loop schedule: when each operation is meant to happen, fixed before the first one does.
//!
//! Operation `i` of a flow is due at `start + i / rate`, whatever the server does. Latency is
//! counted from there, so a stall of the server shows in every operation that it delayed (no
//! coordinated omission).
//!
//! Operations go round the senders: in round `r`, the sender at position `p` of `total` does
//! operation `r × total + p`. A sender therefore does one operation a round, and its own sequence
//! number is the round.

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A rate that holds integers only: thousandths of an operation a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    milli: u64,
}

impl Rate {
    /// `per_second` operations a second; `None` unless it is positive, finite and at most 10^9.
    pub(crate) fn new(per_second: f64) -> Option<Rate> {
        let milli = (per_second * 1000.0).round();
        (1.0..=1e12).contains(&milli).then_some(Rate { milli: milli as u64 })
    }

    /// Operations a second.
    pub(crate) fn per_second(self) -> f64 {
        self.milli as f64 / 1000.0
    }
}

/// The intended times of one flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    rate: Rate,
    total: u64,
}

impl Schedule {
    /// Begins at `start` (ns on the run's clock) with `total` senders.
    pub(crate) fn new(start: u64, rate: Rate, total: u64) -> Schedule {
        Schedule { start, rate, total: total.max(1) }
    }

    /// When operation `index` is due.
    pub(crate) fn intended(&self, index: u64) -> u64 {
        // Thousandths of a second's operations: 10^9 ns × 10^3 / milli-rate, exactly, without
        // drift.
        let offset = u128::from(index) * 1_000_000_000_000 / u128::from(self.rate.milli);
        self.start.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// When the sender at `position` is due for the `round`-th time.
    pub(crate) fn intended_round(&self, round: u32, position: u32) -> u64 {
        self.intended(u64::from(round) * self.total + u64::from(position))
    }

    /// Operations due in `[from, to)`: what was offered.
    pub(crate) fn offered(&self, from: u64, to: u64) -> u64 {
        self.due_before(to).saturating_sub(self.due_before(from))
    }

    /// The number of operations whose intended time is before `time`.
    pub(crate) fn due_before(&self, time: u64) -> u64 {
        let elapsed = u128::from(time.saturating_sub(self.start)) * u128::from(self.rate.milli);
        u64::try_from(elapsed.div_ceil(1_000_000_000_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_rate_does_not_drift() {
        let schedule = Schedule::new(7, Rate::new(3.0).unwrap(), 1);
        assert_eq!(schedule.intended(0), 7);
        assert_eq!(schedule.intended(1), 7 + 333_333_333);
        assert_eq!(schedule.intended(3_000_000_000), 7 + 1_000_000_000 * SECOND);
    }

    #[test]
    fn offered_counts_the_intended_times_in_the_window() {
        for rate in [0.5, 1.0, 3.0, 777.7, 1e6] {
            let schedule = Schedule::new(5, Rate::new(rate).unwrap(), 1);
            for (from, to) in [(0, 5), (5, 6), (5, 2 * SECOND), (SECOND / 3, 2 * SECOND + 1)] {
                let count = (0..2_100_000_u64)
                    .map(|i| schedule.intended(i))
                    .take_while(|due| *due < to)
                    .filter(|due| *due >= from)
                    .count() as u64;
                assert_eq!(schedule.offered(from, to), count, "rate {rate} window {from}..{to}");
            }
        }
    }

    #[test]
    fn senders_take_turns_and_their_sequence_is_the_round() {
        let schedule = Schedule::new(0, Rate::new(1000.0).unwrap(), 4);
        let mut all: Vec<u64> =
            (0..3).flat_map(|r| (0..4).map(move |p| schedule.intended_round(r, p))).collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).map(|i| schedule.intended(i)).collect::<Vec<_>>());
    }

    #[test]
    fn nonsense_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10, 1e-9] {
            assert_eq!(Rate::new(rate), None, "{rate}");
        }
    }
}
