//! How workers learn of the level: one word that the control thread writes and every worker reads once a turn.
//!
//! Not a message: a mailbox may be full when memory is short, and a level that is told late, or lost, is told in vain.

use super::Level;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub struct Signal(AtomicU64);

/// What a worker reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What the state of memory calls for.
    pub level: Level,
    /// Which reading it comes from: what a worker does once a reading it does when this changes.
    pub reading: u64,
}

impl Signal {
    /// Tells the level that another reading gave.
    pub fn tell(&self, level: Level) {
        let reading = self.0.load(Ordering::Relaxed) >> 8;
        self.0.store((reading + 1) << 8 | u64::from(level as u8), Ordering::Relaxed);
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        let word = self.0.load(Ordering::Relaxed);
        let level = Level::ALL.get((word & 0xff) as usize).copied().unwrap_or(Level::Close);
        Told { level, reading: word >> 8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_as_it_was_told_and_each_reading_is_another() {
        let signal = Signal::default();
        assert_eq!(signal.told(), Told::default());
        for (index, level) in Level::ALL.into_iter().enumerate() {
            signal.tell(level);
            assert_eq!(signal.told(), Told { level, reading: index as u64 + 1 });
        }
    }
}
