//! A table of fixed capacity whose slots carry generations.

use crate::ConnectionId;
use slab::Slab;

/// Laid out as the entries of [`Slab`] are.
#[allow(dead_code)] // only its size is of interest
pub(crate) enum SlabEntry<T> {
    Vacant(usize),
    Occupied(T),
}

/// Values of type `T` by [`ConnectionId`]; at most `capacity` of them.
///
/// Space is reserved once, at creation, and a page is touched when one of its slots is first used:
/// an empty table costs address space, not memory. A freed slot is the next to be used again,
/// because it is warm in the cache.
///
/// Invariant: `generations[i]` exceeds the generation of every dead id that slot `i` has had, so an
/// id is live if and only if its slot is taken and its generation is the slot's. A slot begins with
/// the generation `first` and takes the next one each time it is freed.
#[derive(Debug)]
pub struct ConnectionTable<T> {
    slots: Slab<T>,
    generations: Vec<u32>,
    first: u32,
    capacity: usize,
}

impl<T> ConnectionTable<T> {
    /// Bytes that a slot takes: the value or the link of a free slot, and the generation.
    pub const BYTES_PER_SLOT: usize = size_of::<SlabEntry<T>>() + size_of::<u32>();

    /// Reserves room for `capacity` values.
    ///
    /// # Panics
    /// If `capacity` exceeds [`crate::CONNECTIONS_PER_BACKEND_MAX`].
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity <= crate::CONNECTIONS_PER_BACKEND_MAX as usize, "capacity {capacity} over 2^24");
        ConnectionTable {
            slots: Slab::with_capacity(capacity),
            generations: Vec::with_capacity(capacity),
            first: 0,
            capacity,
        }
    }

    /// Starts over when no value is live, and returns the memory of slots and generations to the
    /// system. Ids of the past stay dead: all slots go on with a generation that none of them has
    /// had. Returns whether that was done.
    ///
    /// A `Slab` keeps what it has allocated, so it is made again: the one allocation of a backend
    /// after its start, at a time when there is nothing else to do.
    pub fn trim(&mut self) -> bool {
        if !self.slots.is_empty() || self.generations.is_empty() {
            return false;
        }
        self.first = self.generations.iter().copied().max().unwrap_or(self.first);
        self.generations.clear();
        crate::release_spare(&mut self.generations);
        self.slots = Slab::new(); // frees the old one first: two at a time might not fit
        self.slots = Slab::with_capacity(self.capacity);
        true
    }

    /// The id that the next [`ConnectionTable::insert`] will give; `None` when the table is full.
    pub fn vacant_id(&self) -> Option<ConnectionId> {
        if self.slots.len() == self.capacity {
            return None;
        }
        let index = self.slots.vacant_key();
        let generation = self.generations.get(index).copied().unwrap_or(self.first);
        Some(ConnectionId::new(index as u32, generation))
    }

    /// Puts `value` into a free slot. A full table returns it.
    pub fn insert(&mut self, value: T) -> Result<ConnectionId, T> {
        let Some(id) = self.vacant_id() else { return Err(value) };
        if id.index() == self.generations.len() {
            self.generations.push(self.first);
        }
        let index = self.slots.insert(value);
        debug_assert_eq!(index, id.index());
        Ok(id)
    }

    /// The value of a live id.
    pub fn get(&self, id: ConnectionId) -> Option<&T> {
        if !self.is_current(id) {
            return None;
        }
        self.slots.get(id.index())
    }

    /// The value of a live id.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        if !self.is_current(id) {
            return None;
        }
        self.slots.get_mut(id.index())
    }

    /// Frees the slot of a live id and returns its value; the id is dead from here on.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        if !self.is_current(id) {
            return None;
        }
        let value = self.slots.try_remove(id.index())?;
        self.generations[id.index()] = id.generation().wrapping_add(1);
        Some(value)
    }

    /// The live id in slot `index`, if the slot is taken.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        self.slots.contains(index).then(|| ConnectionId::new(index as u32, self.generations[index]))
    }

    /// Live values with their ids, by index.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &T)> {
        self.slots
            .iter()
            .map(|(index, value)| (ConnectionId::new(index as u32, self.generations[index]), value))
    }

    /// Number of slots used since the last [`ConnectionTable::trim`]: every live index is below it.
    pub fn high_water(&self) -> usize {
        self.generations.len()
    }

    /// Number of live values.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no value is live.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Most values that the table holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn is_current(&self, id: ConnectionId) -> bool {
        self.generations.get(id.index()).is_some_and(|generation| *generation == id.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_dies_with_its_value() {
        let mut table = ConnectionTable::with_capacity(2);
        let first = table.insert("a").unwrap();
        assert_eq!(table.remove(first), Some("a"));
        let second = table.insert("b").unwrap();
        assert_eq!(first.index(), second.index());
        assert_ne!(first, second);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"b"));
    }

    #[test]
    fn ids_of_the_past_stay_dead_when_the_table_begins_anew() {
        let mut table = ConnectionTable::with_capacity(8);
        let mut past = vec![];
        for round in 0..5 {
            for count in [8, 3, 5] {
                let ids: Vec<_> = (0..count).map(|value| table.insert(value).unwrap()).collect();
                table.trim();
                assert_eq!(table.len(), count, "a table in use stays as it is");
                assert!(ids.iter().all(|id| table.remove(*id).is_some()));
                past.extend(ids);
            }
            table.trim();
            assert_eq!((table.high_water(), table.vacant_id().unwrap().index()), (0, 0), "round {round}");
            table.trim();
            let fresh: Vec<_> = (0..8).map(|value| table.insert(value).unwrap()).collect();
            assert!(past.iter().all(|id| table.get(*id).is_none()), "round {round}");
            assert!(fresh.iter().all(|id| table.remove(*id).is_some()));
            past.extend(fresh);
        }
        past.sort_unstable();
        past.dedup();
        assert_eq!(past.len(), 5 * (8 + 3 + 5 + 8), "each id was given once");
    }

    #[test]
    fn a_full_table_hands_the_value_back_and_never_grows() {
        let mut table = ConnectionTable::with_capacity(2);
        let a = table.insert(1).unwrap();
        table.insert(2).unwrap();
        assert_eq!(table.vacant_id(), None);
        assert_eq!(table.insert(3), Err(3));
        table.remove(a).unwrap();
        let vacant = table.vacant_id().unwrap();
        assert_eq!(table.insert(3), Ok(vacant));
        assert_eq!(table.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [3, 2]);
    }
}
