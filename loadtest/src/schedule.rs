//! The open-loop schedule of one rate: when each operation is meant to happen, fixed before the
//! first one does.
//!
//! Operation `i` is due at `start + i / rate`, whatever the server does. Latency is counted from
//! there, so a stall of the server shows in every operation that it delayed (no coordinated
//! omission). Rates that change, and arrivals that are not even, are in `load`.

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

/// Evenly spaced times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    rate: Rate,
}

impl Schedule {
    /// Begins at `start`, in ns on the run's clock.
    pub(crate) fn new(start: u64, rate: Rate) -> Schedule {
        Schedule { start, rate }
    }

    /// When operation `index` is due.
    pub(crate) fn intended(&self, index: u64) -> u64 {
        // Thousandths of a second's operations: 10^9 ns × 10^3 / milli-rate, exactly, without
        // drift.
        let offset = u128::from(index) * 1_000_000_000_000 / u128::from(self.rate.milli);
        self.start.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
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
        let schedule = Schedule::new(7, Rate::new(3.0).unwrap());
        assert_eq!(schedule.intended(0), 7);
        assert_eq!(schedule.intended(1), 7 + 333_333_333);
        assert_eq!(schedule.intended(3_000_000_000), 7 + 1_000_000_000 * SECOND);
    }

    #[test]
    fn what_is_due_is_counted_by_the_intended_times() {
        for rate in [0.5, 1.0, 3.0, 777.7, 1e6] {
            let schedule = Schedule::new(5, Rate::new(rate).unwrap());
            for (from, to) in [(0, 5), (5, 6), (5, 2 * SECOND), (SECOND / 3, 2 * SECOND + 1)] {
                let count = (0..2_100_000_u64)
                    .map(|i| schedule.intended(i))
                    .take_while(|due| *due < to)
                    .filter(|due| *due >= from)
                    .count() as u64;
                let found = schedule.due_before(to) - schedule.due_before(from);
                assert_eq!(found, count, "rate {rate} window {from}..{to}");
            }
        }
    }

    #[test]
    fn nonsense_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e10, 1e-9] {
            assert_eq!(Rate::new(rate), None, "{rate}");
        }
    }
}
