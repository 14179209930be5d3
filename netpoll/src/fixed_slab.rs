//! A table of fixed capacity, for values that exist only while they are needed.
//!
//! A value is stored in a slot and named by a [`Slot`], an index that knows the type of what it
//! names: the slot of one table can not be used with a table of another type. Freed slots are kept
//! on a stack, so the slot that is warmest in the cache is the next to be used.
//!
//! Unlike [`crate::ConnectionTable`] there are no generations: the holder of a slot also owns it.

use std::fmt;
use std::marker::PhantomData;

/// The index of a value in a [`FixedSlab`], or [`Slot::NONE`]. 4 bytes.
pub struct Slot<T> {
    index: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Slot<T> {
    /// Names no value: a look-up finds nothing.
    pub const NONE: Slot<T> = Slot::new(u32::MAX);

    /// The slot with this index.
    #[inline]
    pub const fn new(index: u32) -> Slot<T> {
        Slot { index, of: PhantomData }
    }

    /// The index.
    #[inline]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Whether this is [`Slot::NONE`].
    #[inline]
    pub const fn is_none(self) -> bool {
        self.index == u32::MAX
    }

    /// Whether this names a value.
    #[inline]
    pub const fn is_some(self) -> bool {
        !self.is_none()
    }
}

// Derived implementations would ask them of `T`, too.
impl<T> Clone for Slot<T> {
    #[inline]
    fn clone(&self) -> Slot<T> {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T> PartialEq for Slot<T> {
    #[inline]
    fn eq(&self, other: &Slot<T>) -> bool {
        self.index == other.index
    }
}

impl<T> Eq for Slot<T> {}

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot::NONE
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { f.write_str("none") } else { write!(f, "#{}", self.index) }
    }
}

/// At most `capacity` values by [`Slot`].
///
/// Address space is reserved once, at creation. A page becomes resident when its first slot is
/// used.
///
/// Invariant: `free` has each index below `items.len()` at most once, and none that is in use.
#[derive(Debug)]
pub struct FixedSlab<T> {
    items: Vec<T>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> FixedSlab<T> {
    /// Bytes of a slot: the value, and its place on the stack of free slots.
    pub const BYTES_PER_SLOT: usize = size_of::<T>() + size_of::<u32>();

    /// Reserves room for `capacity` values.
    ///
    /// # Panics
    /// If `capacity` exceeds what a slot's index can name: 2^32 - 1.
    pub fn new(capacity: usize) -> FixedSlab<T> {
        assert!(capacity < u32::MAX as usize);
        FixedSlab { items: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    /// Stores a value.
    ///
    /// # Errors
    /// The value, when the slab is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Slot<T>, T> {
        if let Some(index) = self.free.pop() {
            self.items[index as usize] = value;
            return Ok(Slot::new(index));
        }
        if self.items.len() == self.capacity {
            return Err(value);
        }
        self.items.push(value);
        Ok(Slot::new(self.items.len() as u32 - 1))
    }

    /// Takes a slot into use with the value that it had when it was released; a slot that is used
    /// for the first time gets what `first` makes. `None` when the slab is full.
    #[inline]
    pub fn acquire(&mut self, first: impl FnOnce() -> T) -> Option<Slot<T>> {
        match self.free.pop() {
            Some(index) => Some(Slot::new(index)),
            None => self.insert(first()).ok(),
        }
    }

    /// Frees a slot. Its value stays in it until the slot is used again.
    #[inline]
    pub fn release(&mut self, slot: Slot<T>) {
        let checked = self.free.len().min(64);
        debug_assert!(!self.free[self.free.len() - checked..].contains(&slot.index), "{slot:?} freed twice");
        self.free.push(slot.index);
    }

    /// Frees a slot and returns its value.
    #[inline]
    pub fn remove(&mut self, slot: Slot<T>) -> T
    where
        T: Default,
    {
        self.release(slot);
        std::mem::take(&mut self[slot])
    }

    /// The value of a slot that was used before; `None` for [`Slot::NONE`].
    #[inline]
    pub fn get(&self, slot: Slot<T>) -> Option<&T> {
        self.items.get(slot.index as usize)
    }

    /// The value of a slot that was used before; `None` for [`Slot::NONE`].
    #[inline]
    pub fn get_mut(&mut self, slot: Slot<T>) -> Option<&mut T> {
        self.items.get_mut(slot.index as usize)
    }

    /// The values of all slots that were used since the last [`FixedSlab::trim`], by index; those
    /// of freed slots included.
    pub fn slots(&self) -> &[T] {
        &self.items
    }

    /// Returns the memory of an empty slab to the system. Does nothing while a slot is in use.
    pub fn trim(&mut self) {
        if self.is_empty() {
            self.items.clear();
            self.free.clear();
            crate::release_spare(&mut self.items);
            crate::release_spare(&mut self.free);
        }
    }

    /// Slots in use.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Whether no slot is in use.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Whether no further value fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }
}

impl<T> std::ops::Index<Slot<T>> for FixedSlab<T> {
    type Output = T;
    #[inline]
    fn index(&self, slot: Slot<T>) -> &T {
        &self.items[slot.index as usize]
    }
}

impl<T> std::ops::IndexMut<Slot<T>> for FixedSlab<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot<T>) -> &mut T {
        &mut self.items[slot.index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_slots_are_used_again_and_the_capacity_holds() {
        let mut slab = FixedSlab::new(2);
        let (a, b) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
        assert_eq!(slab.insert(3), Err(3));
        assert!(slab.is_full() && slab.room() == 0);
        assert_eq!(slab.remove(a), 1);
        assert_eq!(slab.insert(3), Ok(a));
        assert_eq!((slab[a], slab[b], slab.len()), (3, 2, 2));
        assert_eq!((slab.get(Slot::NONE), Slot::<i32>::default().is_none()), (None, true));
    }

    #[test]
    fn a_released_slot_keeps_its_value_until_it_is_used_again() {
        let mut slab = FixedSlab::new(1);
        let slot = slab.acquire(|| 7).unwrap();
        slab[slot] += 1;
        assert_eq!(slab.acquire(|| 0), None);
        slab.release(slot);
        assert_eq!((slab.slots(), slab.len()), (&[8][..], 0));
        assert_eq!(slab.acquire(|| 0), Some(slot));
        assert_eq!(slab[slot], 8);
    }

    #[test]
    fn only_an_empty_slab_is_trimmed() {
        let mut slab = FixedSlab::new(4);
        let slot = slab.insert("a").unwrap();
        slab.trim();
        assert_eq!(slab[slot], "a");
        slab.remove(slot);
        slab.trim();
        assert_eq!((slab.slots().len(), slab.room()), (0, 4));
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    #[cfg(debug_assertions)]
    fn freeing_twice_is_found() {
        let mut slab = FixedSlab::new(2);
        let slot = slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        slab.release(slot);
        slab.release(slot);
    }
}
