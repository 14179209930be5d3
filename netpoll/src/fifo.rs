//! A queue of fixed capacity that stays small while it is short.

use std::collections::VecDeque;

/// A ring buffer that starts over at its front whenever it runs empty.
///
/// A plain ring walks through all of its memory however few entries it holds, so every page of it
/// becomes resident. The lists of a backend are as long as its connections and hold a handful of
/// entries: this one touches only as much as it once held.
#[derive(Debug)]
pub struct Fifo<T>(VecDeque<T>);

impl<T> Fifo<T> {
    /// A queue with room for `capacity` entries, reserved and not touched.
    pub fn with_capacity(capacity: usize) -> Fifo<T> {
        Fifo(VecDeque::with_capacity(capacity))
    }

    /// The number of entries that there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest entry.
    pub fn front(&self) -> Option<&T> {
        self.0.front()
    }

    /// Adds an entry as the newest.
    pub fn push_back(&mut self, entry: T) {
        self.0.push_back(entry);
    }

    /// Returns an entry to the front, as the oldest.
    pub fn push_front(&mut self, entry: T) {
        self.0.push_front(entry);
    }

    /// All entries, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// Takes the oldest entry for which `is_wanted` holds.
    pub fn remove_first(&mut self, is_wanted: impl FnMut(&T) -> bool) -> Option<T> {
        let position = self.0.iter().position(is_wanted)?;
        self.0.remove(position)
    }

    /// Takes the oldest entry.
    pub fn pop_front(&mut self) -> Option<T> {
        let entry = self.0.pop_front();
        if self.0.is_empty() {
            self.0.clear(); // and with it the place of the front
        }
        entry
    }

    /// Returns the memory of an empty queue to the system; its capacity stays.
    pub fn trim(&mut self) {
        crate::release_queue(&mut self.0);
    }

    /// Keeps the entries for which `keep` holds, in their order.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_as_they_went_in() {
        let mut fifo = Fifo::with_capacity(4);
        for round in 0..10 {
            fifo.push_back(round);
            fifo.push_back(round + 100);
            assert_eq!((fifo.len(), fifo.front()), (2, Some(&round)));
            assert_eq!(fifo.pop_front(), Some(round));
            assert_eq!(fifo.iter().collect::<Vec<_>>(), [&(round + 100)]);
            assert_eq!((fifo.remove_first(|entry| *entry < 100), fifo.len()), (None, 1));
            fifo.push_front(7);
            fifo.retain(|entry| *entry != 7);
            assert_eq!((fifo.pop_front(), fifo.pop_front()), (Some(round + 100), None));
        }
        assert!(fifo.is_empty() && fifo.capacity() >= 4);
    }

    #[test]
    fn a_short_queue_stays_at_the_front_of_its_memory() {
        let mut fifo = Fifo::with_capacity(1000);
        fifo.push_back(0_u64);
        let first: *const u64 = fifo.front().unwrap();
        for entry in 1..5000 {
            fifo.pop_front();
            fifo.push_back(entry);
            assert_eq!(std::ptr::from_ref(fifo.front().unwrap()), first);
        }
    }
}
