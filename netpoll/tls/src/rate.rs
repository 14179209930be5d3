//! A bound on the rate of KeyUpdates: a count alone would end long-lived connections.

/// Interval in milliseconds that a KeyUpdate is paid for with.
const INTERVAL_MS: u32 = 100;
/// KeyUpdates that may come at once.
const BURST_MAX: u32 = 32;
/// How far the paid time may be ahead.
const AHEAD_MAX_MS: u32 = INTERVAL_MS * BURST_MAX;

/// At most [`BURST_MAX`] events at once and one per [`INTERVAL_MS`] in the long run, in four bytes:
/// the time, modulo 2^32 ms, at which all events so far are paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    paid_ms: u32,
}

impl Rate {
    /// Counts an event at `now_ms`; false when it exceeds the rate.
    pub(crate) fn admit(&mut self, now_ms: u32) -> bool {
        // What is further ahead than the bound lies in the past: `paid_ms` is never set so far.
        let ahead = self.paid_ms.wrapping_sub(now_ms);
        let ahead = if ahead > AHEAD_MAX_MS { 0 } else { ahead } + INTERVAL_MS;
        if ahead > AHEAD_MAX_MS {
            return false;
        }
        self.paid_ms = now_ms.wrapping_add(ahead);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        for start in [0, 1, u32::MAX - 50, u32::MAX - 40 * INTERVAL_MS] {
            let mut rate = Rate::default();
            let burst = (0..100).filter(|_| rate.admit(start)).count();
            assert!((31..=32).contains(&burst), "{burst}");
            let later = start.wrapping_add(INTERVAL_MS);
            assert!(rate.admit(later) && !rate.admit(later));
        }
    }

    #[test]
    fn a_slow_peer_is_never_refused() {
        let (mut rate, mut now) = (Rate::default(), 0_u32);
        for _ in 0..100_000 {
            now = now.wrapping_add(INTERVAL_MS);
            assert!(rate.admit(now));
        }
        for _ in 0..100_000 {
            now = now.wrapping_add(u32::MAX / 7);
            assert!(rate.admit(now));
        }
    }
}
