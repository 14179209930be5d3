//! Signal of the memory level: one word that the control thread writes and every worker reads once
//! a turn.
//!
//! Not a message: a mailbox may be full when memory is short, and a level that arrives late, or is
//! lost, is useless.
//!
//! Beside it are the pools that are low at their owners. Receivers of other workers may hold the
//! blocks: those workers queue no more of them for receivers that wait, and where the pool is short
//! close one that has stalled. A request names its pool, so no receiver is closed for blocks that
//! another pool lacks.

use super::Level;
use netpoll::{BufferPools, PoolId};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Requests for blocks that are kept; an owner that is still short asks again.
const REQUESTS_KEPT: u32 = 32;

/// See the module.
#[derive(Debug)]
pub struct Signal {
    /// From the low end: the level (8 bits), the room (24), the reading (32).
    word: AtomicU64,
    /// Requests for blocks that others hold, so far.
    requests: AtomicU32,
    /// The pools of the last of them, each at its number modulo [`REQUESTS_KEPT`]: twice its
    /// number, and 1 if it is short.
    pools: [AtomicUsize; REQUESTS_KEPT as usize],
}

/// What a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryState {
    /// What the state of memory calls for.
    pub level: Level,
    /// Connections that a worker may take on until the next reading; further ones it refuses. They
    /// come faster than memory is read, so each reading says for how many it holds.
    pub room: u32,
    /// Which reading it comes from: what a worker does once a reading it does when this changes.
    pub reading: u32,
}

/// A room that bounds nothing.
pub const ROOM_MAX: u32 = (1 << 24) - 1;

impl Default for Signal {
    fn default() -> Signal {
        let pools = std::array::from_fn(|_| AtomicUsize::new(0));
        Signal { word: AtomicU64::new(u64::from(ROOM_MAX) << 8), requests: AtomicU32::new(0), pools }
    }
}

impl Default for MemoryState {
    fn default() -> MemoryState {
        Signal::default().state()
    }
}

impl Signal {
    /// Publishes the level that another reading gave, and the room, of which more than [`ROOM_MAX`]
    /// is as good as that.
    pub fn publish(&self, level: Level, room: u32) {
        let reading = (self.word.load(Ordering::Relaxed) >> 32) as u32;
        let word = u64::from(reading.wrapping_add(1)) << 32 | u64::from(room.min(ROOM_MAX)) << 8;
        self.word.store(word | u64::from(level as u8), Ordering::Relaxed);
    }

    /// Asks all workers for the blocks of those of an owner's pools of which fewer than a quarter,
    /// or an eighth, is free. To be repeated for as long as that is so, every 10 ms.
    pub fn ask_for(&self, pools: &mut BufferPools) {
        let (scarce, short) = (pools.scarce(), pools.short());
        self.request_blocks(pools.ids(short), true);
        self.request_blocks(pools.ids(scarce.without(short)), false);
    }

    /// Asks all workers for the blocks of these pools that their receivers hold; each pool is
    /// short, or only low.
    pub fn request_blocks(&self, pools: impl Iterator<Item = PoolId>, are_short: bool) {
        for pool in pools {
            let bits = pool.to_bits() << 1 | usize::from(are_short);
            let mut number = self.requests.load(Ordering::Relaxed);
            // The pool is there before the count says so. If another thread takes the number,
            // either pool stands there: both ask.
            loop {
                self.pools[(number % REQUESTS_KEPT) as usize].store(bits, Ordering::Relaxed);
                let next = number.wrapping_add(1);
                match self.requests.compare_exchange(number, next, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => number = now,
                }
            }
        }
    }

    /// Requests for blocks so far.
    pub fn block_requests(&self) -> u32 {
        self.requests.load(Ordering::Acquire)
    }

    /// The pools of the requests from number `served` on that are still known, with the number
    /// behind each, and whether it is short. A pool may come more than once.
    pub fn requests_since(&self, served: u32) -> impl Iterator<Item = (u32, PoolId, bool)> + '_ {
        let all = self.block_requests();
        let new = all.wrapping_sub(served).min(REQUESTS_KEPT);
        (0..new).map(move |position| {
            let number = all.wrapping_sub(new - position);
            let bits = self.pools[(number % REQUESTS_KEPT) as usize].load(Ordering::Relaxed);
            (number.wrapping_add(1), PoolId::from_bits(bits >> 1), bits & 1 == 1)
        })
    }

    /// What was published last.
    pub fn state(&self) -> MemoryState {
        let word = self.word.load(Ordering::Relaxed);
        let level = Level::ALL.get((word & 0xff) as usize).copied().unwrap_or(Level::Close);
        MemoryState { level, room: (word >> 8) as u32 & ROOM_MAX, reading: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_as_it_was_told_and_each_reading_is_another() {
        let signal = Signal::default();
        assert_eq!(signal.state(), MemoryState { level: Level::Normal, room: ROOM_MAX, reading: 0 });
        for (index, level) in (0..).zip(Level::ALL) {
            signal.publish(level, 7 * index);
            assert_eq!(signal.state(), MemoryState { level, room: 7 * index, reading: index + 1 });
        }
        signal.publish(Level::Normal, u32::MAX);
        assert_eq!(signal.state().room, ROOM_MAX);
    }

    #[test]
    fn requests_name_their_pools_and_the_last_are_known() {
        let signal = Signal::default();
        let since = |served| -> Vec<usize> {
            signal.requests_since(served).map(|(_, pool, _)| pool.to_bits()).collect()
        };
        assert!(since(0).is_empty());
        signal.request_blocks([7].map(PoolId::from_bits).into_iter(), true);
        signal.request_blocks([8].map(PoolId::from_bits).into_iter(), false);
        assert_eq!((since(0), since(1), since(2)), (vec![7, 8], vec![8], vec![]));
        let (numbers, short): (Vec<_>, Vec<_>) =
            signal.requests_since(0).map(|(served, _, is_short)| (served, is_short)).unzip();
        assert_eq!((numbers, short), (vec![1, 2], vec![true, false]));
        signal.request_blocks((100..140).map(PoolId::from_bits), false);
        assert_eq!(since(2), (108..140).collect::<Vec<_>>(), "older ones are asked for again");
        assert_eq!(signal.block_requests(), 42);
    }
}
