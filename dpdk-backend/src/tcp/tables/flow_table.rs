//! A hash table from a tuple to its record. A look-up reads one cache line in nearly all cases.
//!
//! ```text
//!   bucket (64 B): 7 × {tag, record}, passed: how many entries had to go on to a later bucket
//! ```
//!
//! A look-up reads buckets from the hash's own bucket on, and stops at the first one that no entry
//! has passed. Removal therefore needs no tombstones: it decrements the counts of the passed
//! buckets. At most [`PROBES_MAX`] buckets are probed; an entry that finds no slot in them is
//! refused. With a keyed hash and half-full buckets that has a probability below 10^-12 per flow,
//! and an attacker without the key can not cause it.

use crate::tcp::tables::index::{BlockIndex, TimeWaitIndex};
use crate::tcp::tables::syn_cache::HalfOpen;
use netpoll::Slot;

const SLOTS: usize = 7;
/// The most buckets that a look-up reads.
const PROBES_MAX: usize = 8;
const VACANT: u32 = u32::MAX;

/// The record of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A control block.
    Connection(BlockIndex),
    /// An entry of the SYN cache.
    HalfOpen(Slot<HalfOpen>),
    /// A record of a connection in TIME-WAIT.
    TimeWait(TimeWaitIndex),
}

impl Record {
    const KIND_SHIFT: u32 = 30;
    const INDEX_MASK: u32 = (1 << Record::KIND_SHIFT) - 1;

    const fn pack(self) -> u32 {
        let (kind, index) = match self {
            Record::Connection(index) => (0, index.get()),
            Record::HalfOpen(index) => (1, index.index()),
            Record::TimeWait(index) => (2, index.get()),
        };
        kind << Record::KIND_SHIFT | (index & Record::INDEX_MASK)
    }

    const fn unpack(packed: u32) -> Record {
        let index = packed & Record::INDEX_MASK;
        match packed >> Record::KIND_SHIFT {
            0 => Record::Connection(BlockIndex::new(index)),
            1 => Record::HalfOpen(Slot::new(index)),
            _ => Record::TimeWait(TimeWaitIndex::new(index)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u32; SLOTS],
    records: [u32; SLOTS],
    passed: u32,
    used: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

const EMPTY: Bucket = Bucket { tags: [0; SLOTS], records: [VACANT; SLOTS], passed: 0, used: 0 };

/// The table. Its size never changes.
///
/// Invariant: `buckets[b].passed` is the number of entries that are stored behind `b` and were
/// probed from `b` or an earlier bucket on.
#[derive(Debug)]
pub(crate) struct FlowTable {
    buckets: Vec<Bucket>,
    used: usize,
}

impl FlowTable {
    /// Bytes of one flow.
    pub(crate) const BYTES_PER_FLOW: usize = 64 * 2 / SLOTS;

    /// A table for `capacity` flows, which fill half of the slots.
    pub(crate) fn new(capacity: usize) -> FlowTable {
        let count = (capacity * 2).div_ceil(SLOTS).max(PROBES_MAX);
        FlowTable { buckets: vec![EMPTY; count], used: 0 }
    }

    /// Flows in the table.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        // Lemire's reduction of the upper half; the tag is the lower.
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn step(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Reads the cache line that a look-up needs, and returns a part of it, so that the loads of a
    /// burst overlap: a prefetch in safe code.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.buckets[self.home(hash)].passed
    }

    /// The most likely record of a hash: only tags are compared.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<Record> {
        let bucket = &self.buckets[self.home(hash)];
        let slot =
            (0..SLOTS).find(|slot| bucket.tags[*slot] == hash as u32 && bucket.records[*slot] != VACANT)?;
        Some(Record::unpack(bucket.records[slot]))
    }

    /// The record under `hash` that `is_it` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(Record) -> bool) -> Option<Record> {
        self.locate(hash, is_it).map(|(bucket, slot)| Record::unpack(self.buckets[bucket].records[slot]))
    }

    #[inline]
    fn locate(&self, hash: u64, is_it: impl Fn(Record) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(hash);
        for _ in 0..PROBES_MAX {
            let bucket = &self.buckets[at];
            for slot in 0..SLOTS {
                let is_candidate = bucket.tags[slot] == hash as u32 && bucket.records[slot] != VACANT;
                if is_candidate && is_it(Record::unpack(bucket.records[slot])) {
                    return Some((at, slot));
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.step(at);
        }
        None
    }

    /// Adds a record that is not in the table. Returns false when its buckets are full.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, record: Record) -> bool {
        let home = self.home(hash);
        let mut at = home;
        for probe in 0..PROBES_MAX {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.records.iter().position(|record| *record == VACANT) {
                bucket.tags[slot] = hash as u32;
                bucket.records[slot] = record.pack();
                bucket.used += 1;
                self.used += 1;
                let mut passed = home;
                for _ in 0..probe {
                    self.buckets[passed].passed += 1;
                    passed = self.step(passed);
                }
                return true;
            }
            at = self.step(at);
        }
        false
    }

    /// Removes a record.
    pub(crate) fn remove(&mut self, hash: u64, record: Record) {
        let Some((at, slot)) = self.locate(hash, |found| found == record) else { return };
        self.buckets[at].records[slot] = VACANT;
        self.buckets[at].used -= 1;
        self.used -= 1;
        let mut passed = self.home(hash);
        while passed != at {
            self.buckets[passed].passed -= 1;
            passed = self.step(passed);
        }
    }

    /// Replaces `old` by `new`.
    pub(crate) fn replace(&mut self, hash: u64, old: Record, new: Record) {
        if let Some((at, slot)) = self.locate(hash, |found| found == old) {
            self.buckets[at].records[slot] = new.pack();
        }
    }
}

const _: () = assert!(FlowTable::BYTES_PER_FLOW <= 24);

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::sim::Rng;
    use std::collections::HashMap;

    fn connection(index: u32) -> Record {
        Record::Connection(BlockIndex::new(index))
    }

    #[test]
    fn the_table_says_what_a_map_says() {
        let mut rng = Rng::new(5);
        let mut table = FlowTable::new(1000);
        let mut model: HashMap<u64, u32> = HashMap::new();
        for round in 0..50_000_u32 {
            let hash = rng.next_u64();
            if model.len() < 1000 && rng.below(2) == 0 {
                assert!(table.insert(hash, connection(round)));
                model.insert(hash, round);
            } else if let Some((&hash, &index)) = model.iter().next() {
                table.remove(hash, connection(index));
                model.remove(&hash);
                assert_eq!(table.find(hash, |record| record == connection(index)), None);
            }
        }
        assert_eq!(table.len(), model.len());
        for (hash, index) in &model {
            assert_eq!(table.find(*hash, |record| record == connection(*index)), Some(connection(*index)));
        }
        for (hash, index) in model {
            table.remove(hash, connection(index));
        }
        assert!(table.buckets.iter().all(|bucket| bucket.passed == 0 && bucket.used == 0));
    }

    #[test]
    fn colliding_flows_fill_their_buckets_and_no_more() {
        let mut table = FlowTable::new(1000);
        let taken = (0..1000).filter(|index| table.insert(42, Record::HalfOpen(Slot::new(*index)))).count();
        assert_eq!(taken, SLOTS * PROBES_MAX, "the work for one look-up is bounded");
        assert_eq!(
            table.find(42, |record| record == Record::HalfOpen(Slot::new(3))),
            Some(Record::HalfOpen(Slot::new(3)))
        );
        assert_eq!(table.find(43, |_| true), None);
    }

    #[test]
    fn a_full_table_of_random_flows_refuses_nobody() {
        let mut rng = Rng::new(9);
        let mut table = FlowTable::new(100_000);
        assert!(
            (0..100_000)
                .all(|index| table.insert(rng.next_u64(), Record::TimeWait(TimeWaitIndex::new(index))))
        );
        let far = table.buckets.iter().filter(|bucket| bucket.passed > 0).count();
        assert!(far * 20 < table.buckets.len(), "{far} buckets were passed");
    }
}
