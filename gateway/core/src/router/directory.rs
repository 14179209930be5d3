//! Directory of the connections of users and keys: the part with its home on this worker.
//!
//! A name's record holds its newest connection and heads the list of the others, the newest first.
//! Hosts claim and release; the device policy is applied here, where all connections of a user are
//! seen. Keys that the server made are not here: they contain the address of their connection.

use super::index_table::IndexTable;
use crate::address::{Address, Fingerprint};
use crate::message::NameKind;
use crate::settings::DevicePolicy;

const NONE: u32 = u32::MAX;

/// A name and its newest connection: nearly every name has just one.
#[derive(Clone, Copy, Debug)]
struct Record {
    name: Fingerprint,
    newest: Device,
}

/// One connection of a name.
#[derive(Clone, Copy, Debug)]
struct Device {
    address: Address,
    /// Of a user's connection its platform, of a key's its user.
    tag: u32,
    /// The next older one among the further devices; of a free place, the next free one.
    older: u32,
}

const _: () = assert!(size_of::<Record>() == 32 && size_of::<Device>() == 16);

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
    /// Forgets all items and releases their memory.
    fn clear(&mut self) {
        self.items.clear();
        self.free = NONE;
        netpoll::release_spare(&mut self.items);
    }

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

/// The directory entries with their home on this worker.
///
/// Names of different kinds have different fingerprints, so one table holds all of them.
#[derive(Debug)]
pub struct Directory {
    table: IndexTable,
    records: Store<Record>,
    /// Devices of users beyond the newest.
    further: Store<Device>,
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// The directory is full.
    Full,
    /// The key is that of a connection of another user.
    Taken,
}

impl Directory {
    /// Bytes that a name with one connection takes: its record, and its share of the table.
    pub const BYTES_PER_NAME: usize = size_of::<Record>() + IndexTable::BYTES_PER_NAME;

    /// Bytes of that record.
    pub const BYTES_PER_RECORD: usize = size_of::<Record>();

    /// Bytes that each further connection of a name takes.
    pub const BYTES_PER_FURTHER: usize = size_of::<Device>();

    /// Room for `names_max` names, and as many further connections of them.
    pub fn with_capacity(names_max: usize) -> Directory {
        Directory {
            table: IndexTable::with_capacity(names_max),
            records: Store::with_capacity(names_max),
            further: Store::with_capacity(names_max),
        }
    }

    /// Enters `from` under `name`, and calls `evict` for each connection that it replaces.
    ///
    /// A key has one connection, the newest, and `tag` is its user: only that user's own take its
    /// place. A user has what `policy` allows, `tag` being the platform; on one platform or over
    /// the number the oldest goes.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing has changed then.
    pub fn claim(
        &mut self,
        kind: NameKind,
        name: Fingerprint,
        from: Address,
        tag: u32,
        policy: DevicePolicy,
        mut evict: impl FnMut(Address),
    ) -> Result<(), ClaimError> {
        let device = Device { address: from, tag, older: NONE };
        let Some(record) = self.find(name) else {
            return self.insert_record(Record { name, newest: device });
        };
        let before = self.records.items[record as usize].newest;
        if kind == NameKind::Key {
            if before.tag != tag {
                return Err(ClaimError::Taken);
            }
            self.records.items[record as usize].newest = device;
            evict(before.address);
            return Ok(());
        }
        let older = self.further.insert(before, |free| free.older).ok_or(ClaimError::Full)?;
        self.records.items[record as usize].newest = Device { older, ..device };
        match policy {
            DevicePolicy::Allow(0) => {}
            DevicePolicy::Allow(max) => self.cut(record, |position, _| position >= max, &mut evict),
            DevicePolicy::PerPlatform => self.cut(record, |_, device| device.tag == tag, &mut evict),
        }
        Ok(())
    }

    /// Takes out the devices behind the newest of `record` for which `goes` holds; positions count
    /// from 1 there.
    fn cut(&mut self, record: u32, goes: impl Fn(u32, &Device) -> bool, evict: &mut impl FnMut(Address)) {
        let (mut previous, mut position) = (NONE, 1);
        loop {
            let index = *self.link(record, previous);
            if index == NONE {
                return;
            }
            let device = self.further.items[index as usize];
            if goes(position, &device) {
                evict(device.address);
                *self.link(record, previous) = device.older;
                self.free_device(index);
            } else {
                previous = index;
                position += 1;
            }
        }
    }

    /// The link behind device `previous`, or behind the newest of `record` when that is `NONE`.
    fn link(&mut self, record: u32, previous: u32) -> &mut u32 {
        match previous {
            NONE => &mut self.records.items[record as usize].newest.older,
            previous => &mut self.further.items[previous as usize].older,
        }
    }

    /// Removes `from`; does nothing when it was evicted before.
    pub fn release(&mut self, name: Fingerprint, from: Address) {
        let Some(record) = self.find(name) else { return };
        let newest = self.records.items[record as usize].newest;
        if newest.address == from {
            return match newest.older {
                NONE => self.remove_record(record),
                older => {
                    self.records.items[record as usize].newest = self.further.items[older as usize];
                    self.free_device(older);
                }
            };
        }
        let (mut previous, mut index) = (NONE, newest.older);
        while index != NONE {
            let device = self.further.items[index as usize];
            if device.address == from {
                *self.link(record, previous) = device.older;
                return self.free_device(index);
            }
            (previous, index) = (index, device.older);
        }
    }

    /// The connections of `name`, the newest first.
    pub fn connections(&self, name: Fingerprint) -> impl Iterator<Item = Address> + '_ {
        let mut next = self.find(name).map(|record| self.records.items[record as usize].newest);
        std::iter::from_fn(move || {
            let device = next?;
            next = self.further.items.get(device.older as usize).copied();
            Some(device.address)
        })
    }

    /// Releases the memory when no name is there.
    pub fn trim(&mut self) {
        if self.is_empty() && !self.records.items.is_empty() {
            self.table.trim();
            self.records.clear();
            self.further.clear(); // a further connection is one of a name
        }
    }

    /// Names in the directory.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Every record is found by its name, every device is listed once, and every place is in use or
    /// free, once.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self) {
        self.table.invariants();
        let (mut records, mut further) = (0, 0);
        for index in self.table.indexes() {
            let record = &self.records.items[index as usize];
            assert_eq!(self.find(record.name), Some(index), "a record is found by its name");
            let count = self.connections(record.name).take(self.further.items.len() + 2).count();
            records += 1;
            further += count - 1;
        }
        let free = self.records.free_count(|record| record.newest.older);
        assert_eq!(records + free, self.records.items.len(), "records in use and free ones");
        let free = self.further.free_count(|device| device.older);
        assert_eq!(further + free, self.further.items.len(), "further devices in use and free ones");
    }

    fn find(&self, name: Fingerprint) -> Option<u32> {
        self.table.find(name, |index| self.records.items[index as usize].name == name)
    }

    fn insert_record(&mut self, record: Record) -> Result<(), ClaimError> {
        let name = record.name;
        let index = self.records.insert(record, |free| free.newest.older).ok_or(ClaimError::Full)?;
        let entered = self.table.insert(name, index);
        debug_assert!(entered, "the table has room for every record");
        Ok(())
    }

    fn remove_record(&mut self, index: u32) {
        let name = self.records.items[index as usize].name;
        self.table.remove(name, index);
        self.records.items[index as usize].newest.older = self.records.free;
        self.records.free = index;
    }

    fn free_device(&mut self, index: u32) {
        self.further.items[index as usize].older = self.further.free;
        self.further.free = index;
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

    fn all(directory: &Directory) -> Vec<u32> {
        let name = Fingerprints::new((1, 2)).mid(7);
        directory.connections(name).map(|address| address.connection().index() as u32).collect()
    }

    #[test]
    fn a_key_has_one_connection_the_newest() {
        let mut directory = Directory::with_capacity(4);
        assert!(claim(&mut directory, NameKind::Key, 1, 0, DevicePolicy::Allow(0)).is_empty());
        assert_eq!(claim(&mut directory, NameKind::Key, 2, 0, DevicePolicy::Allow(0)), [1]);
        directory.release(Fingerprints::new((1, 2)).mid(7), address(1));
        assert_eq!(all(&directory), [2], "the evicted one releases what it no longer has");
    }

    #[test]
    fn only_connections_of_the_same_user_take_a_key_over() {
        let mut directory = Directory::with_capacity(4);
        let name = Fingerprints::new((1, 2)).mid(7);
        let mut claim = |from: u32, user: u32| {
            let evict = |gone: Address| assert_eq!((gone, from), (address(1), 3));
            directory.claim(NameKind::Key, name, address(from), user, DevicePolicy::Allow(0), evict)
        };
        assert_eq!(claim(1, 100), Ok(()));
        assert_eq!(claim(2, 200), Err(ClaimError::Taken));
        assert_eq!(claim(3, 100), Ok(()));
        assert_eq!(all(&directory), [3]);
        directory.release(name, address(2));
        assert_eq!(all(&directory), [3], "whoever was refused has nothing to give up");
        directory.release(name, address(3));
        assert!(directory.is_empty());
        directory.invariants();
    }

    #[test]
    fn the_oldest_device_goes_over_the_number() {
        let mut directory = Directory::with_capacity(8);
        for from in 1..=3 {
            assert!(claim(&mut directory, NameKind::User, from, 0, DevicePolicy::Allow(3)).is_empty());
        }
        assert_eq!(claim(&mut directory, NameKind::User, 4, 0, DevicePolicy::Allow(3)), [1]);
        assert_eq!(all(&directory), [4, 3, 2]);
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
            assert_eq!(enter(&mut directory, 3), Err(ClaimError::Full));
            directory.invariants();
            for mid in [2, 1] {
                directory.release(names.mid(mid), address(mid as u32));
            }
            assert!(directory.is_empty());
            directory.trim();
            directory.invariants();
        }
    }
}
