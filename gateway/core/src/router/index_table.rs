//! Fingerprint to index, in a table that grows within memory of a fixed size.
//!
//! Open addressing with linear probing, at most three quarters full: a hit looks at 2.5 entries on
//! average, a miss at 8.5 (Knuth, TAOCP 6.4, eq. 24), that is one or two cache lines. Deleting
//! shifts the followers back (ibid., algorithm R), so there are no tombstones and no rehash for
//! them. An entry is 8 bytes: 32 bits of the fingerprint, and the index of the record, which has
//! the whole of it.
//!
//! Entries stand anywhere in the table, so a few names would touch every page of one that has its
//! full size. It begins with a page of entries, and doubles when these are three quarters full:
//!
//! ```text
//!   ideal place = place in the base (by the tag's upper bits)
//!               + base size x (the tag's lower bits, as many as doublings)
//! ```
//!
//! One more bit leaves an entry where it was, or moves it on by what was the size. So the table
//! grows in one pass over its entries, in order, from an empty one on: each finds on
//! its way only entries that have their places already. A pass takes some 16 ns for each entry of
//! the table (`growth_takes`). A table of more than [`GROWING_MAX`] entries has its full size from
//! the start, so no pass takes longer than a millisecond or two. An entry of zeros is empty, so
//! memory that is not in use yet is pages that the kernel has not given out.

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

/// A table that may have more entries does not grow.
const GROWING_MAX: usize = 1 << 17;

/// Fingerprints of at most `capacity` records, by the records' indexes.
#[derive(Debug)]
pub(super) struct IndexTable {
    entries: Vec<Entry>,
    /// Entries of the table before it has doubled.
    base: usize,
    /// How often it has doubled: `base << doublings` entries are in use.
    doublings: u32,
    len: usize,
    capacity: usize,
    /// Something was entered since the last [`IndexTable::trim`].
    is_touched: bool,
}

impl IndexTable {
    /// Bytes that a name takes in a table that is as full as it gets.
    pub(super) const BYTES_PER_NAME: usize = (size_of::<Entry>() * 4).div_ceil(3);
    /// A table begins with at most as many entries as a page has.
    const BASE_MAX: usize = 4096 / size_of::<Entry>();

    /// Room for `capacity` fingerprints, in four thirds as many entries.
    pub(super) fn with_capacity(capacity: usize) -> IndexTable {
        let size = (4 * capacity.max(3)).div_ceil(3);
        assert!(capacity < u32::MAX as usize, "an entry has 32 bits for the index");
        let pages = if size > GROWING_MAX { 1 } else { size.div_ceil(Self::BASE_MAX) };
        let doublings_max = pages.next_power_of_two().trailing_zeros();
        let base = size.div_ceil(1 << doublings_max);
        IndexTable {
            entries: vec![EMPTY; base << doublings_max],
            base,
            doublings: 0,
            len: 0,
            capacity,
            is_touched: false,
        }
    }

    /// Entries in use.
    fn size(&self) -> usize {
        self.base << self.doublings
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
        if 4 * (self.len + 1) > 3 * self.size() {
            self.grow();
        }
        self.place(entry(tag(name), index));
        self.len += 1;
        self.is_touched = true;
        true
    }

    /// Puts an entry into the first empty place from its ideal one on.
    fn place(&mut self, entry: Entry) {
        let mut at = self.ideal(tag_of(entry));
        while self.entries[at] != EMPTY {
            at = self.after(at);
        }
        self.entries[at] = entry;
    }

    /// Takes twice as many entries into use.
    fn grow(&mut self) {
        let size = self.size();
        // A quarter of them is empty, and what has wrapped around comes behind the others. An entry
        // meets only such as come before it, so it goes no further than it stood, in its part; one
        // that had wrapped may go on at the beginning of what is new, which is too long to be
        // filled to its end. So none wraps to a place that is to be moved yet.
        let Some(first) = self.entries[..size].iter().position(|entry| *entry == EMPTY) else { return };
        self.doublings += 1;
        (first + 1..size).chain(0..first).for_each(|at| self.replace(at));
    }

    /// Puts the entry of a place where it belongs.
    fn replace(&mut self, at: usize) {
        let entry = std::mem::replace(&mut self.entries[at], EMPTY);
        if entry != EMPTY {
            self.place(entry);
        }
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
            self.doublings = 0;
        }
    }

    /// Every entry is found from its ideal place on, and there are as many as counted, at most
    /// three quarters of the table.
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
        assert!(self.entries[self.size()..].iter().all(|entry| *entry == EMPTY), "entries out of use");
        assert!(count <= self.capacity && 4 * count <= 3 * self.size(), "an index table's size");
    }

    /// The records' indexes.
    pub(super) fn indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries[..self.size()].iter().filter(|entry| **entry != EMPTY).map(|entry| index_of(*entry))
    }

    /// Fingerprints in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where an entry would stand if it were alone. A tag is a uniform hash already, so its share
    /// of 2^32 is its share of the base (Lemire, "Fast random integer generation in an interval",
    /// 2019), of which the upper bits decide; the lower ones choose among the doublings.
    fn ideal(&self, tag: u32) -> usize {
        let among = tag & ((1 << self.doublings) - 1);
        ((u64::from(tag) * self.base as u64) >> 32) as usize + self.base * among as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.size() { 0 } else { at + 1 }
    }

    /// Steps from `from` on to `to`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.size() - from }
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
    fn it_takes_as_much_memory_into_use_as_it_has_names_for() {
        let names = Fingerprints::new((3, 4));
        let mut table = IndexTable::with_capacity(90_000);
        assert!((120_000..121_000).contains(&table.entries.len()), "a third more, and little besides");
        let name = |index: u32| names.mid(i64::from(index));
        for index in 0..60_000 {
            assert!(table.insert(name(index), index));
            let names = index as usize + 1;
            assert!(table.size() == table.base || 3 * table.size() < 8 * (names + 1), "{names} names");
        }
        table.invariants();
        assert!((0..60_000).all(|index| table.find(name(index), |found| found == index) == Some(index)));
        (0..60_000).for_each(|index| table.remove(name(index), index));
        assert!(table.is_empty() && table.indexes().next().is_none());
        table.trim();
        assert_eq!(table.size(), table.base);
        table.invariants();
    }

    /// What a pass takes:
    /// `cargo test --release -p gateway-core growth_takes -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::print_stderr, reason = "its result")]
    fn growth_takes() {
        let names = Fingerprints::new((3, 4));
        let mut table = IndexTable::with_capacity(98_000);
        for index in 0..98_000 {
            let before = (table.size(), std::time::Instant::now());
            assert!(table.insert(names.mid(i64::from(index)), index));
            if table.size() > before.0 {
                eprintln!("{} entries: {:?}", before.0, before.1.elapsed());
            }
        }
    }

    #[test]
    fn growth_keeps_every_way() {
        for seed in 0..500 {
            let names = Fingerprints::new((seed, 5));
            let mut table = IndexTable::with_capacity(3_000);
            for index in 0..3_000 {
                let doublings = table.doublings;
                assert!(table.insert(names.mid(i64::from(index)), index));
                if table.doublings > doublings {
                    table.invariants();
                }
            }
            assert_eq!(table.doublings, 3);
        }
    }

    #[test]
    fn it_agrees_with_a_map_through_random_changes() {
        for capacity in [1, 3, 200, 3_000] {
            agree_with_a_map(capacity);
        }
    }

    /// Names are entered and removed at random, from a few more than there is room for.
    fn agree_with_a_map(capacity: usize) {
        let names = Fingerprints::new((3, 4));
        let mut table = IndexTable::with_capacity(capacity);
        let mut records: HashMap<u32, Fingerprint> = HashMap::new();
        let mut random = 1_u64;
        for step in 0..100_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let index = (random >> 40) as u32 % (capacity as u32 * 5 / 4 + 1);
            let name = names.mid(i64::from(index));
            let there = table.find(name, |found| records.get(&found) == Some(&name));
            assert_eq!(there.is_some(), records.contains_key(&index), "step {step}");
            if there.is_some() {
                table.remove(name, index);
                records.remove(&index);
            } else {
                assert_eq!(table.insert(name, index), records.len() < capacity);
                if records.len() < capacity {
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
