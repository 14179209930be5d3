//! Fingerprint to index, in a table of fixed size that never pauses.
//!
//! Open addressing with linear probing, at most three quarters full: a hit looks at 2.5 entries on
//! average, a miss at 8.5 (Knuth, TAOCP 6.4, eq. 24), that is one or two cache lines. Deleting
//! shifts the followers back (ibid., algorithm R), so there are no tombstones, no rehash and no
//! growth: the cost of an operation depends on the load alone. An entry is 8 bytes: 32 bits of the
//! fingerprint, and the index of the record, which has the whole of it.
//!
//! An entry of zeros is empty, so a new table is pages that the kernel has not given out yet.

use crate::address::Fingerprint;

/// The tag in the upper half, the index and one in the lower. A plain number, so that a table of
/// zeros comes straight from the kernel.
type Entry = u64;

const EMPTY: Entry = 0;

const fn entry(tag: u32, index: u32) -> Entry {
    (tag as u64) << 32 | (index as u64 + 1)
}

const fn tag_of(entry: Entry) -> u32 {
    (entry >> 32) as u32
}

const fn index_of(entry: Entry) -> u32 {
    entry as u32 - 1
}

/// Fingerprints of at most `capacity` records, by the records' indexes.
#[derive(Debug)]
pub(super) struct IndexTable {
    entries: Vec<Entry>,
    len: usize,
    capacity: usize,
    /// Something was entered since the last [`IndexTable::trim`].
    is_touched: bool,
}

impl IndexTable {
    /// Bytes that a name takes in a table that is as full as it gets.
    pub(super) const BYTES_PER_NAME: usize = (size_of::<Entry>() * 4).div_ceil(3);

    /// Room for `capacity` fingerprints, in four thirds as many entries.
    pub(super) fn with_capacity(capacity: usize) -> IndexTable {
        let size = (4 * capacity.max(3)).div_ceil(3);
        assert!(capacity < u32::MAX as usize, "an entry has 32 bits for the index");
        IndexTable { entries: vec![EMPTY; size], len: 0, capacity, is_touched: false }
    }

    /// The index under `name`; `is_same` decides by the record.
    pub(super) fn find(&self, name: Fingerprint, is_same: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(name);
        let mut at = self.ideal(tag);
        loop {
            let entry = self.entries[at];
            if entry == EMPTY {
                return None;
            }
            if tag_of(entry) == tag && is_same(index_of(entry)) {
                return Some(index_of(entry));
            }
            at = self.after(at);
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
        while self.entries[at] != EMPTY {
            at = self.after(at);
        }
        self.entries[at] = entry(tag, index);
        self.len += 1;
        self.is_touched = true;
        true
    }

    /// Removes `index` under `name`.
    pub(super) fn remove(&mut self, name: Fingerprint, index: u32) {
        let own = entry(tag(name), index);
        let mut hole = self.ideal(tag(name));
        while self.entries[hole] != own {
            if self.entries[hole] == EMPTY {
                return;
            }
            hole = self.after(hole);
        }
        self.len -= 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            // The entry may fill the hole unless its ideal place lies behind the hole.
            if self.distance(self.ideal(tag_of(entry)), at) >= self.distance(hole, at) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
    }

    /// Releases the memory when no name is in it.
    pub(super) fn trim(&mut self) {
        if self.len == 0 && std::mem::take(&mut self.is_touched) {
            netpoll::release_zeroed(&mut self.entries); // as they are: empty entries are zeros
        }
    }

    /// Every entry is found from its ideal place on, and there are as many as counted, at most half
    /// of the table.
    pub(super) fn invariants(&self) {
        let mut count = 0;
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, entry)| **entry != EMPTY) {
            count += 1;
            let mut way = self.ideal(tag_of(*entry));
            while way != at {
                assert_ne!(self.entries[way], EMPTY, "entry {at} can't be found");
                way = self.after(way);
            }
        }
        assert_eq!(count, self.len, "entries of an index table");
        assert!(
            count <= self.capacity && 4 * self.capacity <= 3 * self.entries.len(),
            "an index table's size"
        );
    }

    /// The records' indexes.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().filter(|entry| **entry != EMPTY).map(|entry| index_of(*entry))
    }

    /// Fingerprints in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where an entry would stand if it were alone: a tag is a uniform hash already, so its share
    /// of 2^32 is its share of the table (Lemire, "Fast random integer generation in an interval",
    /// 2019).
    fn ideal(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.entries.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    /// Steps from `from` on to `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.entries.len() - from }
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
                table.trim(); // changes nothing while it is in use
                table.invariants();
            }
            if step % 10_000 == 0 {
                records.drain().for_each(|(index, name)| table.remove(name, index));
                table.trim();
                table.invariants();
            }
        }
    }
}
