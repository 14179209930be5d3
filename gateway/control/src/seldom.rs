//! A rate-limited log line: written once in a while, with the count of its occurrences.

use std::time::{Duration, Instant};

/// Shortest time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Adds occurrences. Returns their count since the last line, when a line is due.
    pub(super) fn due(&mut self, times: u64, now: Instant) -> Option<u64> {
        self.unsaid += times;
        let is_early = self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL);
        if self.unsaid == 0 || is_early {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_said_and_the_rest_summed_up() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due(0, start), None);
        assert_eq!(seldom.due(1, start), Some(1));
        assert_eq!((0..50).find_map(|ms| seldom.due(1, start + Duration::from_millis(ms))), None);
        assert_eq!(seldom.due(1, start + INTERVAL), Some(51));
        assert_eq!(seldom.due(0, start + 3 * INTERVAL), None);
    }
}
