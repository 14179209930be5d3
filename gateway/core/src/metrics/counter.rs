//! Single-writer counters, gauges and histograms.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only rises. One thread writes, any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owner calls it: the addition is a load and a store, not one locked
    /// instruction.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes over a count that was kept elsewhere.
    #[inline]
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A level. One thread writes, any thread reads.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the level.
    #[inline]
    pub fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// Raises the level by one.
    pub fn increment(&self) {
        self.set(self.get().wrapping_add(1));
    }

    /// Lowers the level by one.
    pub fn decrement(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    /// The level.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a [`Histogram`]: powers of two of a microsecond, 1 µs to 16 s, and one for the rest.
const BUCKETS: usize = 26;

/// Upper bound of bucket `index` in nanoseconds; `None` for the last, which has none.
pub const fn bucket_bound(index: usize) -> Option<u64> {
    if index + 1 < BUCKETS { Some(1_000 << index) } else { None }
}

/// Durations in buckets that double. One thread writes, any thread reads.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_nanos: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: std::array::from_fn(|_| Counter::default()), sum_nanos: Counter::default() }
    }
}

impl Histogram {
    /// Counts `count` observations of `nanos` nanoseconds.
    pub fn record(&self, nanos: u64, count: u64) {
        let micros = nanos.div_ceil(1000).max(1);
        let index = (u64::BITS - (micros - 1).leading_zeros()) as usize;
        self.buckets[index.min(BUCKETS - 1)].add(count);
        self.sum_nanos.add(nanos.saturating_mul(count));
    }

    /// Observations by bucket, not cumulative; see [`bucket_bound`].
    pub fn buckets(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(Counter::get)
    }

    /// Sum of all observations in nanoseconds.
    pub fn sum_nanos(&self) -> u64 {
        self.sum_nanos.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_first_bucket_that_holds_them() {
        for (nanos, bucket) in [(0, 0), (1, 0), (1000, 0), (1001, 1), (2000, 1), (2001, 2), (1_000_000, 10)] {
            let histogram = Histogram::default();
            histogram.record(nanos, 3);
            let found = histogram.buckets().position(|count| count == 3).unwrap();
            assert_eq!(found, bucket, "{nanos} ns");
            assert!(bucket_bound(found).unwrap() >= nanos);
        }
        let histogram = Histogram::default();
        histogram.record(u64::MAX, 1);
        assert_eq!(histogram.buckets().last(), Some(1));
    }
}
