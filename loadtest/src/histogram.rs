//! Latency recording: HDR histograms of three digits for the whole measured phase, and of two for each second.

use hdrhistogram::Histogram;

/// Latencies above it are counted as it, in nanoseconds.
const HIGHEST: u64 = 120_000_000_000;

/// An empty histogram from 1 ns to two minutes.
pub(crate) fn fresh(digits: u8) -> Histogram<u64> {
    // The bounds are constants that hdrhistogram accepts; a failure would be a bug in them.
    Histogram::new_with_bounds(1, HIGHEST, digits).expect("constant histogram bounds are valid")
}

/// Adds a latency; too long ones saturate.
pub(crate) fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.max(1));
}

/// Adds `other` to `into`; both come from [`fresh`], so the bounds fit.
pub(crate) fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = into.add(other);
}
