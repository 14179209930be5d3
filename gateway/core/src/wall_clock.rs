//! How far the machine's wall clock was moved since the start.
//!
//! Workers count time from their start and know when that was, in milliseconds since 1970. A clock
//! that was wrong then and is put right later would stay wrong in what they write into messages, so
//! the control thread compares the two clocks now and then and writes the difference down where all
//! workers read it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

/// The difference, in milliseconds. The default: none.
#[derive(Debug, Default)]
pub struct WallClock(AtomicI64);

impl WallClock {
    /// Notes how far the wall clock is ahead of what it would show if it had not been set since
    /// `started`, when it showed `started_at`.
    pub fn compare(&self, started: Instant, started_at: SystemTime) {
        self.note(started_at + started.elapsed(), SystemTime::now());
    }

    fn note(&self, expected: SystemTime, shown: SystemTime) {
        let millis = match shown.duration_since(expected) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX),
            Err(behind) => i64::try_from(behind.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
        };
        self.0.store(millis, Ordering::Relaxed);
    }

    /// What the clock shows now that would show `unmoved_ms`, in milliseconds since 1970, if it had
    /// not been set.
    pub fn now_ms(&self, unmoved_ms: u64) -> u64 {
        unmoved_ms.saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_put_right_is_followed_both_ways() {
        let clock = WallClock::default();
        assert_eq!(clock.now_ms(5000), 5000);
        let (day, then) =
            (Duration::from_secs(86_400), SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
        clock.note(then, then + day);
        assert_eq!(clock.now_ms(5000), 86_405_000);
        clock.note(then, then - Duration::from_millis(4000));
        assert_eq!(clock.now_ms(5000), 1000);
        clock.note(then + day, then);
        assert_eq!(clock.now_ms(5000), 0, "before 1970 there is no time");
    }
}
