//! A table of fixed capacity whose slots carry generations.

use crate::ConnectionId;

/// No slot, in place of an index.
const NONE: u32 = u32::MAX;

/// A slot: a value, or a link to the next free slot.
#[derive(Debug)]
pub(crate) enum Entry<T> {
    Vacant(u32),
    Occupied(T),
}

impl<T> Entry<T> {
    fn value(&self) -> Option<&T> {
        match self {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }
}

/// Values of type `T` by [`ConnectionId`]; at most `capacity` of them.
///
/// Space is reserved once, at creation, and a page is touched when one of its slots is first used:
/// an empty table costs address space, not memory. A freed slot is the next to be used again,
/// because it is warm in the cache.
///
/// Invariants: `generations[i]` exceeds the generation of every dead id that slot `i` has had, so
/// an id is live if and only if its slot is taken and its generation is the slot's. A slot begins
/// with the generation `first` and takes the next one each time it is freed, or `first`, if that is
/// higher: no id is given below it. `vacant` leads through
/// all free slots below `entries.len()`, and `live` counts the others.
#[derive(Debug)]
pub struct ConnectionTable<T> {
    entries: Vec<Entry<T>>,
    generations: Vec<u32>,
    first: u32,
    vacant: u32,
    live: usize,
    capacity: usize,
}

impl<T> ConnectionTable<T> {
    /// Bytes that a slot takes: the value or the link of a free slot, and the generation.
    pub const BYTES_PER_SLOT: usize = size_of::<Entry<T>>() + size_of::<u32>();

    /// Reserves room for `capacity` values.
    ///
    /// # Panics
    /// If `capacity` exceeds [`crate::CONNECTIONS_PER_BACKEND_MAX`].
    pub fn with_capacity(capacity: usize) -> Self {
        assert!(capacity <= crate::CONNECTIONS_PER_BACKEND_MAX as usize, "capacity {capacity} over 2^24");
        ConnectionTable {
            entries: Vec::with_capacity(capacity),
            generations: Vec::with_capacity(capacity),
            first: 0,
            vacant: NONE,
            live: 0,
            capacity,
        }
    }

    /// Starts over when no value is live, and returns the memory of slots and generations to the
    /// system. Ids of the past stay dead: all slots go on with a generation that none of them has
    /// had. Returns whether that was done.
    ///
    /// The slots are allocated anew, because freeing them is what returns all of their memory: the
    /// one allocation of a backend after its start, at a time when there is nothing else to do.
    pub fn trim(&mut self) -> bool {
        if self.live > 0 || self.generations.is_empty() {
            return false;
        }
        self.first = self.generation_bound();
        self.generations.clear();
        crate::release_spare(&mut self.generations);
        self.vacant = NONE;
        self.entries = Vec::new(); // frees the old ones first: two at a time might not fit
        self.entries = Vec::with_capacity(self.capacity);
        true
    }

    /// A bound: no id of this table, dead or live, has this generation or a higher one.
    pub fn generation_bound(&self) -> u32 {
        let slots = self.entries.iter().zip(&self.generations);
        let bounds =
            slots.map(|(entry, generation)| generation.saturating_add(u32::from(entry.value().is_some())));
        bounds.max().unwrap_or(self.first).max(self.first)
    }

    /// Raises the generation of every free slot to at least `bound`: no id below it is given from
    /// here on. For a table that has taken another one's connections over.
    pub fn raise_generations(&mut self, bound: u32) {
        self.first = self.first.max(bound);
        for (entry, generation) in self.entries.iter().zip(&mut self.generations) {
            if entry.value().is_none() {
                *generation = bound.max(*generation);
            }
        }
    }

    /// The id that the next [`ConnectionTable::insert`] will give; `None` when the table is full.
    pub fn vacant_id(&self) -> Option<ConnectionId> {
        if self.vacant != NONE {
            let generation = self.generations[self.vacant as usize];
            return Some(ConnectionId::new(self.vacant, generation));
        }
        let index = self.entries.len();
        (index < self.capacity).then(|| ConnectionId::new(index as u32, self.first))
    }

    /// Puts `value` into a free slot. A full table returns it.
    pub fn insert(&mut self, value: T) -> Result<ConnectionId, T> {
        let Some(id) = self.vacant_id() else { return Err(value) };
        if id.index() == self.entries.len() {
            self.push_vacant();
        }
        self.occupy(id, value);
        Ok(id)
    }

    /// Puts `value` into the slot of `id`, which takes the id's generation. O(1) for ids of rising
    /// index in a table that has no others; otherwise the free slots are searched.
    ///
    /// # Errors
    /// The value: the slot is taken, is beyond the capacity, or has had this id or a later one.
    pub fn insert_at(&mut self, id: ConnectionId, value: T) -> Result<(), T> {
        let index = id.index();
        if index >= self.capacity {
            return Err(value);
        }
        let is_free = self.entries.get(index).is_none_or(|entry| entry.value().is_none());
        // A slot that was not used since the table began anew has had ids below `first`.
        let least = self.generations.get(index).copied().unwrap_or(self.first);
        if !is_free || id.generation() < least {
            return Err(value);
        }
        while self.entries.len() <= index {
            self.push_vacant();
        }
        self.generations[index] = id.generation();
        self.move_to_front(id.index() as u32);
        self.occupy(id, value);
        Ok(())
    }

    /// Adds a slot that has never been used, as the next to be used.
    fn push_vacant(&mut self) {
        let index = self.entries.len() as u32;
        self.entries.push(Entry::Vacant(self.vacant));
        self.generations.push(self.first);
        self.vacant = index;
    }

    /// Moves a free slot to the front of the free ones.
    fn move_to_front(&mut self, index: u32) {
        let mut at = self.vacant;
        if at == index {
            return;
        }
        while let Some(Entry::Vacant(next)) = self.entries.get(at as usize) {
            let next = *next;
            if next == index {
                let Entry::Vacant(behind) = self.entries[index as usize] else { return };
                self.entries[at as usize] = Entry::Vacant(behind);
                self.entries[index as usize] = Entry::Vacant(self.vacant);
                self.vacant = index;
                return;
            }
            at = next;
        }
    }

    /// Puts `value` into the first free slot, which is that of `id`.
    fn occupy(&mut self, id: ConnectionId, value: T) {
        debug_assert_eq!(self.vacant as usize, id.index());
        if let Entry::Vacant(next) = self.entries[id.index()] {
            self.vacant = next;
        }
        self.entries[id.index()] = Entry::Occupied(value);
        self.live += 1;
    }

    /// The value of a live id.
    pub fn get(&self, id: ConnectionId) -> Option<&T> {
        if !self.is_current(id) {
            return None;
        }
        self.entries.get(id.index())?.value()
    }

    /// The value of a live id.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        if !self.is_current(id) {
            return None;
        }
        match self.entries.get_mut(id.index()) {
            Some(Entry::Occupied(value)) => Some(value),
            _ => None,
        }
    }

    /// Frees the slot of a live id and returns its value; the id is dead from here on.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        if !self.is_current(id) {
            return None;
        }
        let entry = self.entries.get_mut(id.index()).filter(|entry| entry.value().is_some())?;
        let Entry::Occupied(value) = std::mem::replace(entry, Entry::Vacant(self.vacant)) else {
            return None;
        };
        self.vacant = id.index() as u32;
        self.live -= 1;
        self.generations[id.index()] = id.generation().wrapping_add(1).max(self.first);
        Some(value)
    }

    /// The live id in slot `index`, if the slot is taken.
    pub fn id_at(&self, index: usize) -> Option<ConnectionId> {
        self.entries.get(index)?.value()?;
        Some(ConnectionId::new(index as u32, self.generations[index]))
    }

    /// Live values with their ids, by index.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &T)> {
        let numbered = self.entries.iter().zip(&self.generations).enumerate();
        numbered.filter_map(|(index, (entry, generation))| {
            Some((ConnectionId::new(index as u32, *generation), entry.value()?))
        })
    }

    /// Number of slots used since the last [`ConnectionTable::trim`]: every live index is below it.
    pub fn high_water(&self) -> usize {
        self.generations.len()
    }

    /// Number of live values.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no value is live.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Most values that the table holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
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
    fn a_successor_keeps_the_ids_and_gives_none_of_the_past() {
        for order in [[1, 4, 6], [6, 1, 4], [4, 6, 1]] {
            let mut old = ConnectionTable::with_capacity(8);
            let ids: Vec<_> = (0..7).map(|value| old.insert(value).unwrap()).collect();
            (0..5).for_each(|_| {
                old.remove(ids[0]).or_else(|| old.remove(old.id_at(0).unwrap()));
                old.insert(0).unwrap();
            });
            let live: Vec<_> = order.map(|index| old.id_at(index).unwrap()).into();
            let mut new = ConnectionTable::with_capacity(8);
            for id in &live {
                assert_eq!(new.insert_at(*id, id.index()), Ok(()));
                assert_eq!(new.insert_at(*id, 9), Err(9), "the slot is taken");
            }
            assert_eq!(new.insert_at(ConnectionId::new(8, 0), 9), Err(9), "beyond the capacity");
            assert_eq!((new.len(), new.iter().count()), (3, 3));
            assert!(live.iter().all(|id| new.get(*id) == Some(&id.index())));
            new.raise_generations(old.generation_bound());
            let fresh: Vec<_> = std::iter::from_fn(|| new.insert(7).ok()).collect();
            assert_eq!(fresh.len(), 5, "every other slot is used");
            assert!(fresh.iter().all(|id| old.get(*id).is_none()), "an id of the past names nothing");
            assert_eq!(new.remove(live[0]), Some(order[0]));
            assert_eq!(new.insert_at(live[0], 1), Err(1), "an id dies once");
            let again = new.insert(1).unwrap();
            let bound = old.generation_bound();
            assert!(again.index() == order[0] && again.generation() >= bound, "{again:?} under {bound}");
        }
    }

    #[test]
    fn a_slot_that_was_trimmed_away_keeps_its_dead() {
        let mut table = ConnectionTable::with_capacity(4);
        let dead: Vec<_> = (0..3).map(|value| table.insert(value).unwrap()).collect();
        dead.iter().for_each(|id| assert!(table.remove(*id).is_some()));
        assert!(table.trim());
        for id in dead {
            assert_eq!(table.insert_at(id, 9), Err(9), "{id:?} is of the past");
        }
        let later = ConnectionId::new(1, table.generation_bound());
        assert_eq!(table.insert_at(later, 9), Ok(()));
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
