//! The present in the units that the engine keeps: wrapping 32-bit milliseconds and microseconds.
//!
//! Half of either range is the longest difference that can be told: 24.8 days and 35 minutes. Deadlines are kept in
//! milliseconds, send times of segments in flight in microseconds.

use netpoll::Timestamp;

/// The present.
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

    /// Whether `deadline`, in milliseconds, has come.
    pub(crate) fn reached(self, deadline: u32) -> bool {
        (self.ms.wrapping_sub(deadline) as i32) >= 0
    }

    /// Milliseconds since `earlier`; 0 when that lies ahead.
    pub(crate) fn since(self, earlier: u32) -> u32 {
        (self.ms.wrapping_sub(earlier) as i32).max(0) as u32
    }
}

/// Tokens that come back at a steady rate: `per_second` of them, as many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    per_second: u32,
    /// Thousandths of tokens.
    tokens: u64,
    last_ms: u32,
}

impl RateLimit {
    pub(crate) fn new(per_second: u32) -> RateLimit {
        RateLimit { per_second, tokens: u64::from(per_second) * 1000, last_ms: 0 }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Now) -> bool {
        let passed = u64::from(now.since(self.last_ms));
        self.last_ms = now.ms;
        let full = u64::from(self.per_second) * 1000;
        self.tokens = (self.tokens + passed * u64::from(self.per_second)).min(full);
        let granted = self.tokens >= 1000;
        if granted {
            self.tokens -= 1000;
        }
        granted
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
    fn a_rate_is_kept() {
        let mut limit = RateLimit::new(10);
        let taken = |limit: &mut RateLimit, ms| (0..100).filter(|_| limit.take(Now { ms, us: 0 })).count();
        assert_eq!(taken(&mut limit, 0), 10);
        assert_eq!(taken(&mut limit, 100), 1);
        assert_eq!(taken(&mut limit, 60_000), 10);
    }
}
