//! Where the connections of users and keys are: the part of the directory whose home is this worker.
//!
//! A name's record heads a list of its entries, one a connection, the newest first. Hosts claim and release; the
//! device policy is applied here, where all connections of a user are seen.

use super::index_table::IndexTable;
use crate::address::{Address, Fingerprint};
use crate::settings::DevicePolicy;
use crate::worker::message::NameKind;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Record {
    name: Fingerprint,
    /// First entry; while the record is free, the next free record.
    head: u32,
    kind: NameKind,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: Address,
    platform: u32,
    /// Next older entry of the name, or the next free one.
    next: u32,
}

const _: () = assert!(size_of::<Record>() <= 24 && size_of::<Entry>() == 16);

/// A store of values with a free list, reserved once.
#[derive(Debug)]
struct Store<T> {
    items: Vec<T>,
    free: u32,
    capacity: usize,
}

impl<T> Store<T> {
    fn with_capacity(capacity: usize) -> Store<T> {
        Store { items: Vec::with_capacity(capacity), free: NONE, capacity }
    }

    fn insert(&mut self, item: T, next_free: impl Fn(&T) -> u32) -> Option<u32> {
        if self.free != NONE {
            let index = self.free;
            self.free = next_free(&self.items[index as usize]);
            self.items[index as usize] = item;
            return Some(index);
        }
        if self.items.len() == self.capacity {
            return None;
        }
        self.items.push(item);
        Some(self.items.len() as u32 - 1)
    }
}

impl<T> Store<T> {
    fn free_count(&self, next_free: impl Fn(&T) -> u32) -> usize {
        let (mut index, mut count) = (self.free, 0);
        while let Some(item) = self.items.get(index as usize) {
            count += 1;
            assert!(count <= self.items.len(), "a free list goes round in circles");
            index = next_free(item);
        }
        count
    }
}

/// The directory entries whose home is this worker.
#[derive(Debug)]
pub struct Directory {
    table: IndexTable,
    records: Store<Record>,
    entries: Store<Entry>,
}

/// The directory is full: a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryFull;

impl Directory {
    /// Bytes that a name with one connection takes: its record, its entry, and its share of the half-full table (which
    /// is up to a quarter full only where its capacity lies right behind a power of two).
    pub const BYTES_PER_NAME: usize = size_of::<Record>() + size_of::<Entry>() + IndexTable::BYTES_PER_NAME;

    /// Room for `names_max` names with one connection each on average.
    pub fn with_capacity(names_max: usize) -> Directory {
        Directory {
            table: IndexTable::with_capacity(names_max),
            records: Store::with_capacity(names_max),
            entries: Store::with_capacity(names_max),
        }
    }

    /// Enters `from` under `name` and calls `evict` for each connection that has to go for it.
    ///
    /// A key has one connection, the newest. A user has what `policy` allows; on one platform or over the number the
    /// oldest goes.
    ///
    /// # Errors
    /// [`DirectoryFull`]; nothing has changed then.
    pub fn claim(
        &mut self,
        kind: NameKind,
        name: Fingerprint,
        from: Address,
        platform: u32,
        policy: DevicePolicy,
        mut evict: impl FnMut(Address),
    ) -> Result<(), DirectoryFull> {
        let record = match self.find(kind, name) {
            Some(record) => record,
            None => self.insert_record(kind, name)?,
        };
        let head = self.records.items[record as usize].head;
        let entry = Entry { address: from, platform, next: head };
        let Some(index) = self.entries.insert(entry, |entry| entry.next) else {
            if head == NONE {
                self.remove_record(record);
            }
            return Err(DirectoryFull);
        };
        self.records.items[record as usize].head = index;
        match (kind, policy) {
            (NameKind::Key, _) => self.cut(index, |_, _| true, &mut evict),
            (NameKind::User, DevicePolicy::Allow(0)) => {}
            (NameKind::User, DevicePolicy::Allow(max)) => {
                self.cut(index, |position, _| position >= max, &mut evict);
            }
            (NameKind::User, DevicePolicy::PerPlatform) => {
                self.cut(index, |_, entry| entry.platform == platform, &mut evict);
            }
        }
        Ok(())
    }

    /// Takes out the entries behind `newest` for which `goes` holds; positions count from 1 there.
    fn cut(&mut self, newest: u32, goes: impl Fn(u32, &Entry) -> bool, evict: &mut impl FnMut(Address)) {
        let (mut previous, mut position) = (newest, 1);
        loop {
            let index = self.entries.items[previous as usize].next;
            if index == NONE {
                return;
            }
            let entry = self.entries.items[index as usize];
            if goes(position, &entry) {
                evict(entry.address);
                self.entries.items[previous as usize].next = entry.next;
                self.free_entry(index);
            } else {
                previous = index;
                position += 1;
            }
        }
    }

    /// Takes `from` out; nothing happens when it was not there (it was evicted).
    pub fn release(&mut self, kind: NameKind, name: Fingerprint, from: Address) {
        let Some(record) = self.find(kind, name) else { return };
        let mut previous = NONE;
        let mut index = self.records.items[record as usize].head;
        while index != NONE {
            let entry = self.entries.items[index as usize];
            if entry.address == from {
                match previous {
                    NONE => self.records.items[record as usize].head = entry.next,
                    previous => self.entries.items[previous as usize].next = entry.next,
                }
                self.free_entry(index);
                break;
            }
            previous = index;
            index = entry.next;
        }
        if self.records.items[record as usize].head == NONE {
            self.remove_record(record);
        }
    }

    /// The connections of `name`, the newest first.
    pub fn connections(&self, kind: NameKind, name: Fingerprint) -> impl Iterator<Item = Address> + '_ {
        let mut index = self.find(kind, name).map_or(NONE, |record| self.records.items[record as usize].head);
        std::iter::from_fn(move || {
            let entry = self.entries.items.get(index as usize)?;
            index = entry.next;
            Some(entry.address)
        })
    }

    /// Names in the directory.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Every record has a name in the table and at least one entry; every record and entry is in use or free, once.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self) {
        self.table.invariants();
        let (mut records, mut entries) = (0, 0);
        for index in self.table.indexes() {
            let record = &self.records.items[index as usize];
            assert_eq!(self.find(record.kind, record.name), Some(index), "a record is found by its name");
            let count = self.connections(record.kind, record.name).take(self.entries.items.len() + 1).count();
            assert!(count > 0, "a name without a connection");
            assert!(record.kind == NameKind::User || count == 1, "a key has one connection");
            records += 1;
            entries += count;
        }
        let free = self.records.free_count(|record| record.head);
        assert_eq!(records + free, self.records.items.len(), "records in use and free ones");
        let free = self.entries.free_count(|entry| entry.next);
        assert_eq!(entries + free, self.entries.items.len(), "entries in use and free ones");
    }

    fn find(&self, kind: NameKind, name: Fingerprint) -> Option<u32> {
        let same = |index: u32| {
            let record = &self.records.items[index as usize];
            record.name == name && record.kind == kind
        };
        self.table.find(name, same)
    }

    fn insert_record(&mut self, kind: NameKind, name: Fingerprint) -> Result<u32, DirectoryFull> {
        let record = Record { name, head: NONE, kind };
        let index = self.records.insert(record, |record| record.head).ok_or(DirectoryFull)?;
        let entered = self.table.insert(name, index);
        debug_assert!(entered, "the table has room for every record");
        Ok(index)
    }

    fn remove_record(&mut self, index: u32) {
        let name = self.records.items[index as usize].name;
        self.table.remove(name, index);
        self.records.items[index as usize].head = self.records.free;
        self.records.free = index;
    }

    fn free_entry(&mut self, index: u32) {
        self.entries.items[index as usize].next = self.entries.free;
        self.entries.free = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Fingerprints, WorkerId};
    use netpoll::ConnectionId;

    fn address(index: u32) -> Address {
        Address::new(WorkerId(1), ConnectionId::new(index, 0))
    }

    fn claim(
        directory: &mut Directory,
        kind: NameKind,
        from: u32,
        platform: u32,
        policy: DevicePolicy,
    ) -> Vec<u32> {
        let name = Fingerprints::new((1, 2)).mid(7);
        let mut evicted = vec![];
        directory
            .claim(kind, name, address(from), platform, policy, |gone| {
                evicted.push(gone.connection().index() as u32);
            })
            .unwrap();
        evicted
    }

    fn all(directory: &Directory, kind: NameKind) -> Vec<u32> {
        let name = Fingerprints::new((1, 2)).mid(7);
        directory.connections(kind, name).map(|address| address.connection().index() as u32).collect()
    }

    #[test]
    fn a_key_has_one_connection_the_newest() {
        let mut directory = Directory::with_capacity(4);
        assert!(claim(&mut directory, NameKind::Key, 1, 0, DevicePolicy::Allow(0)).is_empty());
        assert_eq!(claim(&mut directory, NameKind::Key, 2, 0, DevicePolicy::Allow(0)), [1]);
        directory.release(NameKind::Key, Fingerprints::new((1, 2)).mid(7), address(1));
        assert_eq!(all(&directory, NameKind::Key), [2], "the evicted one releases what it no longer has");
    }

    #[test]
    fn the_oldest_device_goes_over_the_number() {
        let mut directory = Directory::with_capacity(8);
        for from in 1..=3 {
            assert!(claim(&mut directory, NameKind::User, from, 0, DevicePolicy::Allow(3)).is_empty());
        }
        assert_eq!(claim(&mut directory, NameKind::User, 4, 0, DevicePolicy::Allow(3)), [1]);
        assert_eq!(all(&directory, NameKind::User), [4, 3, 2]);
        assert_eq!(
            claim(&mut directory, NameKind::User, 5, 0, DevicePolicy::Allow(2)),
            [3, 2],
            "a lower limit"
        );
        assert!(claim(&mut directory, NameKind::User, 6, 0, DevicePolicy::Allow(0)).is_empty());
    }

    #[test]
    fn the_newest_wins_on_its_platform() {
        let mut directory = Directory::with_capacity(8);
        for (from, platform, gone) in [(1, 10, vec![]), (2, 11, vec![]), (3, 10, vec![1]), (4, 11, vec![2])] {
            assert_eq!(
                claim(&mut directory, NameKind::User, from, platform, DevicePolicy::PerPlatform),
                gone
            );
        }
    }

    #[test]
    fn everything_released_leaves_nothing_and_a_full_directory_says_so() {
        let mut directory = Directory::with_capacity(2);
        let names = Fingerprints::new((1, 2));
        let enter = |directory: &mut Directory, mid: i64| {
            directory.claim(
                NameKind::User,
                names.mid(mid),
                address(mid as u32),
                0,
                DevicePolicy::Allow(0),
                |_| {},
            )
        };
        for round in 0..3 {
            assert_eq!(enter(&mut directory, 1), Ok(()), "round {round}");
            assert_eq!(enter(&mut directory, 2), Ok(()));
            assert_eq!(enter(&mut directory, 3), Err(DirectoryFull));
            directory.invariants();
            for mid in [2, 1] {
                directory.release(NameKind::User, names.mid(mid), address(mid as u32));
            }
            assert!(directory.is_empty());
        }
    }
}
