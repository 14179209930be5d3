//! How workers learn of the level: one word that the control thread writes and every worker reads once a turn.
//!
//! Not a message: a mailbox may be full when memory is short, and a level that is told late, or lost, is told in vain.
//!
//! A second word is written by any thread whose pools are short although it holds nothing of them itself: receivers of other
//! workers hold its blocks, and those workers close some of them.

use super::Level;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Signal {
    /// From the low end: the level (8 bits), the room (24), the reading (32).
    word: AtomicU64,
    /// Requests for blocks that others hold, so far.
    requests: AtomicU32,
}

/// What a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What the state of memory calls for.
    pub level: Level,
    /// Connections that a worker may take on until the next reading; further ones it refuses. They come faster than memory
    /// is read, so each reading says for how many it holds.
    pub room: u32,
    /// Which reading it comes from: what a worker does once a reading it does when this changes.
    pub reading: u32,
}

/// A room that bounds nothing.
pub const ROOM_MAX: u32 = (1 << 24) - 1;

impl Default for Signal {
    fn default() -> Signal {
        Signal { word: AtomicU64::new(u64::from(ROOM_MAX) << 8), requests: AtomicU32::new(0) }
    }
}

impl Default for Told {
    fn default() -> Told {
        Signal::default().told()
    }
}

impl Signal {
    /// Tells the level that another reading gave, and the room, of which more than [`ROOM_MAX`] is as good as that.
    pub fn tell(&self, level: Level, room: u32) {
        let reading = (self.word.load(Ordering::Relaxed) >> 32) as u32;
        let word = u64::from(reading.wrapping_add(1)) << 32 | u64::from(room.min(ROOM_MAX)) << 8;
        self.word.store(word | u64::from(level as u8), Ordering::Relaxed);
    }

    /// Asks all workers for the caller's blocks that their receivers hold.
    pub fn request_blocks(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests for blocks so far: a worker serves them when this has changed.
    pub fn block_requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        let word = self.word.load(Ordering::Relaxed);
        let level = Level::ALL.get((word & 0xff) as usize).copied().unwrap_or(Level::Close);
        Told { level, room: (word >> 8) as u32 & ROOM_MAX, reading: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_as_it_was_told_and_each_reading_is_another() {
        let signal = Signal::default();
        assert_eq!(signal.told(), Told { level: Level::Normal, room: ROOM_MAX, reading: 0 });
        for (index, level) in (0..).zip(Level::ALL) {
            signal.tell(level, 7 * index);
            assert_eq!(signal.told(), Told { level, room: 7 * index, reading: index + 1 });
        }
        signal.tell(Level::Normal, u32::MAX);
        assert_eq!(signal.told().room, ROOM_MAX);
    }
}
