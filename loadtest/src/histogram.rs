//! Latency recording: HDR histograms of three digits for the whole measured phase, and of two for
//! each second.

use hdrhistogram::Histogram;

/// Latencies above it count as it, in nanoseconds.
const HIGHEST: u64 = 120_000_000_000;

/// An empty histogram from 1 ns to two minutes.
pub(crate) fn fresh(digits: u8) -> Histogram<u64> {
    // The bounds are constants that hdrhistogram accepts; a failure would be a bug in them.
    Histogram::new_with_bounds(1, HIGHEST, digits).expect("constant histogram bounds are valid")
}

/// An empty histogram that grows with what is recorded: for what most stages of many workers never
/// count. It allocates when a latency exceeds all before it by half, so a few times in a run.
pub(crate) fn growing() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are valid")
}

/// Adds a latency; too long ones saturate.
pub(crate) fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    let _ = histogram.record(nanos.clamp(1, HIGHEST));
}

/// At most so many different ages stand for a row of evenly spaced times.
const STRATA: u64 = 256;

/// Adds `count` latencies that end at `now` and began at even distances in `from..to`, but only
/// those that began in `window`: operations of a schedule that are still open.
pub(crate) fn record_open(
    histogram: &mut Histogram<u64>,
    (from, to): (u64, u64),
    count: u64,
    window: impl Fn(u64) -> bool,
    now: u64,
) {
    let strata = count.min(STRATA);
    for stratum in 0..strata {
        let edge = |stratum: u64| (u128::from(stratum) * u128::from(count) / u128::from(strata)) as u64;
        let (first, end) = (edge(stratum), edge(stratum + 1));
        let share = end - first;
        // The operation in the middle of the stratum.
        let middle = u128::from(first + (share - 1) / 2);
        let part = u128::from(to.saturating_sub(from)) * middle / u128::from(count);
        let began = from + part as u64;
        if window(began) {
            let _ = histogram.record_n(now.saturating_sub(began).clamp(1, HIGHEST), share);
        }
    }
}

/// Adds `other` to `into`, which comes from [`fresh`] or grows, so that all of it fits.
pub(crate) fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = into.add(other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_operations_are_as_old_as_their_times() {
        let mut histogram = growing();
        let second = 1_000_000_000;
        record_open(&mut histogram, (second, 5 * second), 1_000_000, |began| began >= 2 * second, 6 * second);
        assert_eq!(histogram.len(), 750_000);
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e9;
        assert!((at(0.5) - 2.5).abs() < 0.03 && (at(1.0) - 4.0).abs() < 0.03 && at(0.0) < 1.03);
        let mut none = growing();
        record_open(&mut none, (5, 5), 0, |_| true, 9);
        assert!(none.is_empty());
    }

    #[test]
    fn both_kinds_hold_what_they_are_given_and_add_up() {
        for mut histogram in [fresh(3), growing()] {
            for nanos in [0, 1, 1_000_000, HIGHEST, u64::MAX] {
                record(&mut histogram, nanos);
            }
            assert_eq!(histogram.len(), 5);
            assert!(histogram.max() >= HIGHEST && histogram.max() < HIGHEST * 2);
            let mut sum = fresh(3);
            merge(&mut sum, &histogram);
            merge(&mut sum, &growing());
            assert_eq!((sum.len(), sum.max()), (5, histogram.max()));
        }
    }
}
