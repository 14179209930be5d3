//! Hosts of rooms, as their homes know them: a bit for each worker, in as few words as those need.

use super::record::HomeRoom;
use crate::address::WorkerId;
use netpoll::Slot;

/// The hosts of all rooms.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Those of a room begin at its index times `per_room`.
    words: Vec<u64>,
    per_room: usize,
}

impl Hosts {
    /// Bytes that a room takes, with so many workers in the process.
    pub(super) const fn bytes_per_room(workers: usize) -> usize {
        words(workers) * size_of::<u64>()
    }

    /// Reserves what so many rooms need; there are none yet.
    pub(super) fn with_capacity(rooms_max: usize, workers: usize) -> Hosts {
        Hosts { words: Vec::with_capacity(rooms_max * words(workers)), per_room: words(workers) }
    }

    /// Makes words for a room that is new. A record that was used before has no hosts left.
    pub(super) fn reserve(&mut self, room: Slot<HomeRoom>) {
        let end = (room.index() as usize + 1) * self.per_room;
        if self.words.len() < end {
            self.words.resize(end, 0);
        }
    }

    /// Forgets all rooms and releases their memory.
    pub(super) fn clear(&mut self) {
        self.words.clear();
        netpoll::release_spare(&mut self.words);
    }

    fn of(&self, room: Slot<HomeRoom>) -> &[u64] {
        let start = room.index() as usize * self.per_room;
        &self.words[start..start + self.per_room]
    }

    /// Notes whether the worker has members; returns whether it had.
    pub(super) fn set(&mut self, room: Slot<HomeRoom>, worker: WorkerId, has_members: bool) -> bool {
        let word = &mut self.words[room.index() as usize * self.per_room + worker.index() / 64];
        let bit = 1 << (worker.index() % 64);
        let had = *word & bit != 0;
        if has_members {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        had
    }

    /// Whether no worker has members.
    pub(super) fn is_empty(&self, room: Slot<HomeRoom>) -> bool {
        self.of(room).iter().all(|word| *word == 0)
    }

    /// The workers with members.
    pub(super) fn iter(&self, room: Slot<HomeRoom>) -> impl Iterator<Item = WorkerId> + '_ {
        self.of(room).iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some(WorkerId((64 * index as u32 + bit) as u8))
            })
        })
    }
}

/// Words of a bit for each worker.
const fn words(workers: usize) -> usize {
    workers.div_ceil(u64::BITS as usize)
}
