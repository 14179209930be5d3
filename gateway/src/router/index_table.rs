//! Fingerprint to index, in a table of fixed size that never pauses.
//!
//! Open addressing with linear probing, at most half full. Deleting shifts the followers back (Knuth, TAOCP 6.4,
//! algorithm R), so there are no tombstones, no rehash and no growth: the cost of an operation depends on the load
//! alone. An entry is 8 bytes: 32 bits of the fingerprint and the index of the record, which has the whole of it.

use crate::address::Fingerprint;

const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    index: u32,
}

/// Fingerprints of at most `capacity` records, by the records' indexes.
#[derive(Debug)]
pub(super) struct IndexTable {
    entries: Vec<Entry>,
    mask: usize,
    len: usize,
    capacity: usize,
}

impl IndexTable {
    /// Bytes that a name takes in a table that is half full.
    pub(super) const BYTES_PER_NAME: usize = 2 * size_of::<Entry>();

    /// Room for `capacity` fingerprints, in twice as many entries or a little more.
    pub(super) fn with_capacity(capacity: usize) -> IndexTable {
        let size = (2 * capacity.max(4)).next_power_of_two();
        IndexTable { entries: vec![Entry { tag: 0, index: EMPTY }; size], mask: size - 1, len: 0, capacity }
    }

    /// The index under `name`; `is_same` decides by the record.
    pub(super) fn find(&self, name: Fingerprint, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(name);
        let mut at = self.ideal(tag);
        loop {
            let entry = self.entries[at];
            if entry.index == EMPTY {
                return None;
            }
            if entry.tag == tag && is_same(entry.index) {
                return Some(entry.index);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Enters `index` under `name`, which must not be there; false when the table is full.
    #[must_use]
    pub(super) fn insert(&mut self, name: Fingerprint, index: u32) -> bool {
        if self.len == self.capacity {
            return false;
        }
        let tag = tag(name);
        let mut at = self.ideal(tag);
        while self.entries[at].index != EMPTY {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Entry { tag, index };
        self.len += 1;
        true
    }

    /// Takes `index` under `name` out.
    pub(super) fn remove(&mut self, name: Fingerprint, index: u32) {
        let mut hole = self.ideal(tag(name));
        while self.entries[hole].index != index {
            if self.entries[hole].index == EMPTY {
                return;
            }
            hole = (hole + 1) & self.mask;
        }
        self.len -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry.index == EMPTY {
                break;
            }
            // The entry may fill the hole unless its ideal place lies behind the hole.
            let distance_from_ideal = at.wrapping_sub(self.ideal(entry.tag)) & self.mask;
            let distance_from_hole = at.wrapping_sub(hole) & self.mask;
            if distance_from_ideal >= distance_from_hole {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole].index = EMPTY;
    }

    /// Every entry is found from its ideal place on, and there are as many as counted, at most half of the table.
    pub(super) fn invariants(&self) {
        let mut count = 0;
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.index != EMPTY) {
            count += 1;
            let distance = at.wrapping_sub(self.ideal(entry.tag)) & self.mask;
            let mut way = (0..distance).map(|back| self.entries[at.wrapping_sub(back + 1) & self.mask]);
            assert!(way.all(|entry| entry.index != EMPTY), "entry {at} can't be found");
        }
        assert_eq!(count, self.len, "entries of an index table");
        assert!(count <= self.capacity && 2 * self.capacity <= self.entries.len(), "an index table's size");
    }

    /// The records' indexes.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.index).filter(|index| *index != EMPTY)
    }

    /// Fingerprints in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn ideal(&self, tag: u32) -> usize {
        // The table has at most 2^32 entries; a tag is a uniform hash already.
        tag as usize & self.mask
    }
}

fn tag(name: Fingerprint) -> u32 {
    name.bits() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Fingerprints;
    use std::collections::HashMap;

    #[test]
    fn it_agrees_with_a_map_through_random_changes() {
        let names = Fingerprints::new((3, 4));
        let mut table = IndexTable::with_capacity(200);
        let mut records: HashMap<u32, Fingerprint> = HashMap::new();
        let mut random = 1_u64;
        for step in 0..100_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let index = (random >> 40) as u32 % 250;
            let name = names.mid(i64::from(index));
            let there = table.find(name, |found| records.get(&found) == Some(&name));
            assert_eq!(there.is_some(), records.contains_key(&index), "step {step}");
            if there.is_some() {
                table.remove(name, index);
                records.remove(&index);
            } else {
                assert_eq!(table.insert(name, index), records.len() < 200);
                if records.len() < 200 {
                    records.insert(index, name);
                }
            }
            assert_eq!(table.len(), records.len());
            if step % 100 == 0 {
                table.invariants();
            }
        }
    }
}
