//! Time as a value. Everything below the worker loop takes a [`Timestamp`] as an argument, so that
//! the same code runs under the system's monotonic clock and under a simulated one.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// Nanoseconds on a monotonic clock since the clock's own epoch (the backend's start).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The clock's epoch.
    pub const ZERO: Timestamp = Timestamp(0);

    /// A timestamp `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    /// Saturates after 584 years.
    fn add(self, rhs: Duration) -> Timestamp {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(nanos))
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    /// Saturates at zero.
    fn sub(self, rhs: Timestamp) -> Duration {
        self.since(rhs)
    }
}

/// The system's monotonic clock (`CLOCK_MONOTONIC`), counted from its creation.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts at [`Timestamp::ZERO`].
    pub fn start() -> Self {
        MonotonicClock { start: Instant::now() }
    }

    /// The present. Costs one vDSO call (about 20 ns).
    pub fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.start.elapsed()
    }
}
