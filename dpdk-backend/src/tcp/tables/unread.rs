//! The payloads that their owner returned, in order.

use crate::tcp::tables::index::BlockIndex;
use netpoll::{Buffer, BufferPools, release_queue};
use std::collections::VecDeque;

/// Free blocks that are enough to deliver everything again at once. With fewer, payloads are
/// delivered again once per millisecond: the owner returns those for which it finds no block, which
/// has a small cost each time.
const BLOCKS_ENOUGH: usize = 32;

/// Returned payloads. Either all of them are delivered again or none, which keeps the order of each
/// connection's payloads.
#[derive(Debug)]
pub(in crate::tcp) struct Unread {
    pub(in crate::tcp) waiting: VecDeque<(BlockIndex, Buffer)>,
    /// How many, from the front on, are to be delivered again.
    pub(in crate::tcp) ready: usize,
    /// The smallest block that any of the others needs.
    pub(in crate::tcp) size_min: usize,
    /// The time of the last delivery, or of the first payload since.
    pub(in crate::tcp) since_ms: u32,
    /// Whether returned payloads are refused now.
    pub(in crate::tcp) refuses: bool,
}

impl Unread {
    pub(in crate::tcp) const BYTES_PER_PAYLOAD: usize = size_of::<(BlockIndex, Buffer)>();

    /// For `capacity` payloads at most.
    pub(in crate::tcp) fn new(capacity: usize) -> Unread {
        Unread {
            waiting: VecDeque::with_capacity(capacity),
            ready: 0,
            size_min: usize::MAX,
            since_ms: 0,
            refuses: false,
        }
    }

    /// Whether there are payloads of a connection. Looks at all: few are returned, and seldom.
    pub(in crate::tcp) fn holds(&self, index: BlockIndex) -> bool {
        self.waiting.iter().any(|(other, _)| *other == index)
    }

    pub(in crate::tcp) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns unused memory to the system.
    pub(in crate::tcp) fn trim(&mut self) {
        release_queue(&mut self.waiting);
    }

    /// Whether a payload is to be delivered again.
    pub(in crate::tcp) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    /// The next payload to be delivered again.
    pub(in crate::tcp) fn next(&mut self) -> Option<(BlockIndex, Buffer)> {
        self.ready = self.ready.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Drops a connection's payloads. Returns whether there were any.
    pub(in crate::tcp) fn purge(&mut self, index: BlockIndex) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let before = self.waiting.len();
        let ready = self.waiting.iter().take(self.ready).filter(|(other, _)| *other == index).count();
        self.waiting.retain(|(other, _)| *other != index);
        self.ready -= ready;
        self.waiting.len() < before
    }

    pub(in crate::tcp) fn is_worth_delivering(&self, pools: &mut BufferPools, is_first_in_ms: bool) -> bool {
        let enough = self.waiting.len().min(BLOCKS_ENOUGH) as u32;
        let free = pools.free_for(self.size_min, enough);
        free >= enough || (free > 0 && is_first_in_ms)
    }
}
