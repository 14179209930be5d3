//! The payloads that their owner gave back, in order.

use crate::tcp::tables::index::BlockIndex;
use netpoll::{Buffer, BufferPools, release_queue};
use std::collections::VecDeque;

/// Blocks that have to be there to tell everything again at once. When fewer are, once a
/// millisecond: who finds none of them puts back once more, which costs a little each time.
const WORTH_TELLING: usize = 32;

/// See the text of this file. All that wait are told at once, or none: so the order of each
/// connection's stays what it was.
#[derive(Debug)]
pub(in crate::tcp) struct Unread {
    pub(in crate::tcp) waiting: VecDeque<(BlockIndex, Buffer)>,
    /// How many of them, from the front on, are to be told again.
    pub(in crate::tcp) told: usize,
    /// The least block that any of the others needs.
    pub(in crate::tcp) size_min: usize,
    /// When they were last told, or the first of them came.
    pub(in crate::tcp) since_ms: u32,
    /// Nothing is taken back now.
    pub(in crate::tcp) refuses: bool,
}

impl Unread {
    pub(in crate::tcp) const BYTES_PER_PAYLOAD: usize = size_of::<(BlockIndex, Buffer)>();

    /// For `capacity` payloads at most.
    pub(in crate::tcp) fn new(capacity: usize) -> Unread {
        Unread {
            waiting: VecDeque::with_capacity(capacity),
            told: 0,
            size_min: usize::MAX,
            since_ms: 0,
            refuses: false,
        }
    }

    pub(in crate::tcp) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives the memory of what is not used back.
    pub(in crate::tcp) fn trim(&mut self) {
        release_queue(&mut self.waiting);
    }

    /// Whether something is to be told again.
    pub(in crate::tcp) fn has_told(&self) -> bool {
        self.told > 0
    }

    /// The next payload to be told again.
    pub(in crate::tcp) fn next(&mut self) -> Option<(BlockIndex, Buffer)> {
        self.told = self.told.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Forgets a connection's; returns whether there were any.
    pub(in crate::tcp) fn purge(&mut self, index: BlockIndex) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let before = self.waiting.len();
        let told = self.waiting.iter().take(self.told).filter(|(other, _)| *other == index).count();
        self.waiting.retain(|(other, _)| *other != index);
        self.told -= told;
        self.waiting.len() < before
    }

    pub(in crate::tcp) fn is_worth_telling(&self, pools: &mut BufferPools, is_first_in_ms: bool) -> bool {
        let enough = self.waiting.len().min(WORTH_TELLING) as u32;
        let free = pools.free_for(self.size_min, enough);
        free >= enough || (free > 0 && is_first_in_ms)
    }
}
