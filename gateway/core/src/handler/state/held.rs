//! The connections that are left unread while what they post, or are answered, has to wait: a line
//! for each reason, so that those that wait for one take no place of the other.
//!
//! ```text
//!   posts    as many as requests may wait; one more is not held
//!   uptake   every connection has a place
//! ```

use crate::address::WorkerId;
use netpoll::{ConnectionId, Fifo};

/// See the module's text. A connection that has ended, or waits no longer, stays in its line until
/// it is looked at.
#[derive(Debug)]
pub struct Held {
    /// Connections that are held until less waits for the worker that they posted to, the longest
    /// first.
    pub(in crate::handler) posts: Fifo<(ConnectionId, WorkerId)>,
    /// Connections that are to read what they were answered.
    pub(in crate::handler) uptake: Uptake,
}

impl Held {
    /// Bytes of a place among the posts.
    pub const BYTES_PER_POST: usize = size_of::<(ConnectionId, WorkerId)>();
    /// Bytes of a connection's place among those that are to read, and of its bit.
    pub const BYTES_PER_CONNECTION: usize = size_of::<u32>() + 1;

    /// Room for so many posts, and for the connections of so many slots.
    pub fn with_capacity(posts: usize, slots: usize) -> Held {
        Held { posts: Fifo::with_capacity(posts), uptake: Uptake::with_capacity(slots) }
    }

    /// Whether one more connection can be held for what it has posted.
    pub(in crate::handler) fn has_place(&self) -> bool {
        self.posts.len() < self.posts.capacity()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty() && self.uptake.is_empty()
    }

    /// Gives the memory back when none is held.
    pub(crate) fn trim(&mut self) {
        self.posts.trim();
        self.uptake.slots.trim();
    }
}

/// Slots of connections, each at most once, the longest first.
#[derive(Debug)]
pub(in crate::handler) struct Uptake {
    slots: Fifo<u32>,
    /// By slot: whether it is in the line.
    listed: Vec<u64>,
}

impl Uptake {
    fn with_capacity(slots: usize) -> Uptake {
        Uptake { slots: Fifo::with_capacity(slots), listed: vec![0; slots.div_ceil(64)] }
    }

    pub(in crate::handler) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(in crate::handler) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Puts a slot at the end of the line, unless it is in it.
    pub(in crate::handler) fn push(&mut self, slot: usize) {
        let (word, bit) = (&mut self.listed[slot / 64], 1 << (slot % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.slots.push_back(slot as u32);
        }
    }

    /// Takes the slot that is in the line for longest.
    pub(in crate::handler) fn pop(&mut self) -> Option<usize> {
        let slot = self.slots.pop_front()? as usize;
        self.listed[slot / 64] &= !(1 << (slot % 64));
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_for_one_reason_leave_the_places_of_the_other() {
        let mut held = Held::with_capacity(2, 100);
        (0..100).for_each(|slot| held.uptake.push(slot));
        for slot in 0..2 {
            assert!(held.has_place());
            held.posts.push_back((ConnectionId::new(slot, 1), WorkerId(0)));
        }
        assert!(!held.has_place(), "as many as requests may wait");
    }

    #[test]
    fn a_slot_is_in_the_line_once() {
        let mut held = Held::with_capacity(1, 100);
        for slot in [99, 3, 99, 64, 3] {
            held.uptake.push(slot);
        }
        assert_eq!((held.uptake.len(), held.uptake.slots.capacity()), (3, 100));
        assert_eq!(held.uptake.pop(), Some(99));
        held.uptake.push(99);
        let rest: Vec<_> = std::iter::from_fn(|| held.uptake.pop()).collect();
        assert_eq!(rest, [3, 64, 99]);
        assert!(held.is_empty());
    }
}
