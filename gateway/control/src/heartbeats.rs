//! When each worker was last seen to have turned.

use super::workers::Workers;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A worker that has not turned for this long hangs.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// When each worker was last seen to have turned.
pub(super) struct Heartbeats(Mutex<Vec<(u64, Instant)>>);

impl Heartbeats {
    pub(super) fn new(workers: &Workers) -> Heartbeats {
        let now = Instant::now();
        Heartbeats(Mutex::new(workers.metrics().iter().map(|metrics| (metrics.turns.get(), now)).collect()))
    }

    /// Reads the turn counters; returns the workers that have not turned for too long.
    pub(super) fn silent(&self, workers: &Workers, now: Instant) -> Vec<usize> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut silent = Vec::new();
        for (index, (metrics, (turns, at))) in workers.metrics().iter().zip(seen.iter_mut()).enumerate() {
            let current = metrics.turns.get();
            if current != *turns {
                (*turns, *at) = (current, now);
            } else if now.duration_since(*at) > SILENCE_MAX {
                silent.push(index);
            }
        }
        silent
    }
}
