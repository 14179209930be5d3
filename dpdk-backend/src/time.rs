//! The current time in the engine's units: wrapping 32-bit milliseconds and microseconds.
//!
//! Differences of up to half the range are unambiguous: 24.8 days and 35 minutes. Deadlines are
//! kept in milliseconds, send times of segments in flight in microseconds.

use netpoll::Timestamp;

/// The current time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since the clock's epoch, wrapping after 49 days.
    pub(crate) ms: u32,
    /// Microseconds, wrapping after 71 minutes.
    pub(crate) us: u32,
}

impl Now {
    pub(crate) fn new(now: Timestamp) -> Now {
        Now { ms: now.as_millis() as u32, us: (now.as_nanos() / 1000) as u32 }
    }

    /// Whether `deadline`, in milliseconds, is reached.
    pub(crate) fn reached(self, deadline: u32) -> bool {
        (self.ms.wrapping_sub(deadline) as i32) >= 0
    }

    /// Milliseconds since `earlier`; 0 when that is in the future.
    pub(crate) fn since(self, earlier: u32) -> u32 {
        (self.ms.wrapping_sub(earlier) as i32).max(0) as u32
    }

    /// Milliseconds until `deadline`; 0 when it is reached.
    pub(crate) fn until(self, deadline: u32) -> u32 {
        (deadline.wrapping_sub(self.ms) as i32).max(0) as u32
    }
}

/// An average rate per second, with a limit for each second that peers can not know: from half of
/// the average to one and a half.
///
/// A limit that several peers share must not let one of them measure what another caused (RFC 5961,
/// 7 as first implemented: CVE-2016-5696; ICMP's limit: CVE-2020-25705). An attacker uses an exact
/// limit up and counts what is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    per_second: u32,
    /// What is left of this second's limit.
    left: u32,
    /// The start of this second; none has begun while `is_fresh`.
    second_ms: u32,
    is_fresh: bool,
    /// The state of SplitMix64.
    random: u64,
}

impl RateLimit {
    /// `secret` decides the limits.
    pub(crate) fn new(per_second: u32, secret: u64) -> RateLimit {
        RateLimit { per_second, left: 0, second_ms: 0, is_fresh: true, random: secret }
    }

    /// Takes one, if any is left.
    pub(crate) fn take(&mut self, now: Now) -> bool {
        // Far in the future is a clock that advanced while nothing was taken.
        if self.is_fresh || now.ms.wrapping_sub(self.second_ms) >= 1000 {
            (self.is_fresh, self.second_ms) = (false, now.ms);
            self.left = self.draw();
        }
        let granted = self.left > 0;
        self.left -= u32::from(granted);
        granted
    }

    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let half = self.per_second / 2;
        let spread = (u128::from(mixed) * (2 * u128::from(half) + 1)) >> 64;
        self.per_second - half + spread as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_survive_the_wrap() {
        let now = Now { ms: 5, us: 0 };
        assert!(now.reached(u32::MAX - 5));
        assert!(!now.reached(6));
        assert_eq!(now.since(u32::MAX), 6);
        assert_eq!(now.since(7), 0);
    }

    #[test]
    fn a_rate_is_kept_on_average_and_no_second_tells_the_next() {
        let mut limit = RateLimit::new(1000, 7);
        let mut seconds = vec![];
        for second in 0..100 {
            let asked = (0..3000).filter(|_| limit.take(Now { ms: second * 1000, us: 0 })).count();
            seconds.push(asked);
        }
        let mean = seconds.iter().sum::<usize>() / seconds.len();
        assert!((900..1100).contains(&mean), "{mean}");
        assert!(seconds.iter().all(|count| (500..=1500).contains(count)));
        seconds.sort_unstable();
        seconds.dedup();
        assert!(seconds.len() > 80, "they differ");
    }

    #[test]
    fn little_is_granted_too_and_nothing_is_nothing() {
        let mut one = RateLimit::new(1, 7);
        assert!((0..10).all(|second| one.take(Now { ms: second * 1000, us: 0 })));
        assert!(!RateLimit::new(0, 7).take(Now { ms: 5, us: 0 }));
    }
}
