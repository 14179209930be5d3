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

/// Adds `other` to `into`, which comes from [`fresh`] or grows, so that all of it fits.
pub(crate) fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = into.add(other);
}

#[cfg(test)]
mod tests {
    use super::*;

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
