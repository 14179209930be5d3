//! Tables of fixed capacity with free slots: for what exists only while it is needed.

use netpoll::release_spare;

/// At most `capacity` values by index. Pages are touched as slots are first used; a freed slot is the next to go.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
    capacity: usize,
}

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

impl<T: Default> Slab<T> {
    /// Bytes that a slot takes.
    pub(crate) const BYTES_PER_SLOT: usize = size_of::<T>() + size_of::<u32>();

    pub(crate) fn new(capacity: usize) -> Slab<T> {
        assert!(capacity < NONE as usize);
        Slab { items: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    /// Stores a value; `None` when the slab is full.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            self.items[index as usize] = value;
            return Some(index);
        }
        if self.items.len() == self.capacity {
            return None;
        }
        self.items.push(value);
        Some(self.items.len() as u32 - 1)
    }

    /// Takes a value out and frees its slot.
    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> T {
        debug_assert!(!self.free.contains(&index) || self.free.len() > 64, "slot {index} freed twice");
        self.free.push(index);
        std::mem::take(&mut self.items[index as usize])
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.items.get(index as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.items.get_mut(index as usize)
    }

    /// Gives the memory of an empty slab back.
    pub(crate) fn trim(&mut self) {
        if self.len() == 0 {
            self.items.clear();
            self.free.clear();
            release_spare(&mut self.items);
            release_spare(&mut self.free);
        }
    }

    /// Values stored.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Values that still fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Whether no further value fits.
    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.capacity
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.items[index as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.items[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_and_the_capacity_holds() {
        let mut slab = Slab::new(2);
        let (a, b) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
        assert_eq!(slab.insert(3), None);
        assert!(slab.is_full());
        assert_eq!(slab.remove(a), 1);
        assert_eq!(slab.insert(3), Some(a));
        assert_eq!((slab[a], slab[b], slab.len()), (3, 2, 2));
    }
}
