//! A bound on the rate of KeyUpdates: a count alone would end long-lived connections.

/// Interval in milliseconds that a KeyUpdate is paid for with.
const INTERVAL_MS: u64 = 100;
/// KeyUpdates that may come at once.
const BURST_MAX: u32 = 32;

/// At most [`BURST_MAX`] events at once and one per [`INTERVAL_MS`] in the long run, in four bytes:
/// the number of the interval, which wraps after 13 years, in which all events so far are paid for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    paid: u32,
}

impl Rate {
    /// Counts an event at `now_ms`; false when it exceeds the rate.
    pub(crate) fn admit(&mut self, now_ms: u64) -> bool {
        let now = (now_ms / INTERVAL_MS) as u32;
        // What is further ahead than the bound lies in the past: `paid` is never set so far.
        let ahead = self.paid.wrapping_sub(now);
        let ahead = if ahead > BURST_MAX { 0 } else { ahead } + 1;
        if ahead > BURST_MAX {
            return false;
        }
        self.paid = now.wrapping_add(ahead);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        // Also where a clock of four bytes would wrap.
        let wraps = u64::from(u32::MAX);
        for start in (0..200).chain(wraps - 3_300..wraps + 200) {
            let mut rate = Rate::default();
            let burst = (0..100).filter(|_| rate.admit(start)).count();
            assert_eq!(burst, BURST_MAX as usize);
            let later = start + INTERVAL_MS;
            assert!(rate.admit(later) && !rate.admit(later));
        }
    }

    #[test]
    fn a_slow_peer_is_never_refused() {
        let (mut rate, mut now) = (Rate::default(), 0_u64);
        for _ in 0..100_000 {
            now += INTERVAL_MS;
            assert!(rate.admit(now));
        }
        for _ in 0..100_000 {
            now += u64::from(u32::MAX / 7);
            assert!(rate.admit(now));
        }
    }
}
