//! Rooms at their home: the hosts with members, and the total of members.
//!
//! The home keeps one bit for each worker, and the total. It knows the hosts that a message for the
//! room is sent to. The count per host only the hosts know, so a room costs its home the same
//! however many workers there are (a word for 64).
//!
//! Invariants: a record exists while a host has members, or its total is in the list of changes; a
//! host's bit is set while the last of its counts that found a record is not 0, and `total` is the
//! sum of those.

mod hosts;
mod record;
#[cfg(test)]
mod tests;

use super::super::index_table::IndexTable;
use crate::address::{Fingerprint, WorkerId};
use crate::message::CountChange;
use hosts::Hosts;
use netpoll::{FixedSlab, Slot, release_spare};
pub use record::HomeRoom;

/// The rooms that have their home on a worker.
#[derive(Debug)]
pub struct HomeRooms {
    table: IndexTable,
    rooms: FixedSlab<HomeRoom>,
    hosts: Hosts,
    /// Rooms with a total that hosts do not have yet.
    changed: Vec<Slot<HomeRoom>>,
}

impl HomeRooms {
    /// Bytes that a room takes.
    pub const fn bytes_per_room(workers: usize) -> usize {
        FixedSlab::<HomeRoom>::BYTES_PER_SLOT
            + IndexTable::BYTES_PER_NAME
            + Hosts::bytes_per_room(workers)
            + size_of::<Slot<HomeRoom>>()
    }

    /// Reserves records for `capacity` rooms, with so many workers in the process.
    pub fn with_capacity(capacity: usize, workers: usize) -> HomeRooms {
        HomeRooms {
            table: IndexTable::with_capacity(capacity),
            rooms: FixedSlab::new(capacity),
            hosts: Hosts::with_capacity(capacity, workers),
            changed: Vec::with_capacity(capacity),
        }
    }

    /// The room of this name, if a host has members in it.
    pub fn find(&self, name: Fingerprint) -> Option<Slot<HomeRoom>> {
        let found = self.table.find(name, |index| self.rooms[Slot::new(index)].name == name);
        found.map(Slot::new)
    }

    fn find_or_insert(&mut self, name: Fingerprint) -> Option<Slot<HomeRoom>> {
        if let Some(room) = self.find(name) {
            return Some(room);
        }
        if self.rooms.is_full() {
            self.free_ended();
        }
        let room = self.rooms.insert(HomeRoom { name, total: 0, is_listed: false }).ok()?;
        self.hosts.reserve(room);
        let entered = self.table.insert(name, room.index());
        debug_assert!(entered, "the index has a place for each record");
        Some(room)
    }

    /// Takes a host's count. Returns the total, and whether the host had no members before (it
    /// waits for an answer then); `None` when the table is full.
    pub fn set_host_count(&mut self, worker: WorkerId, change: CountChange) -> Option<(u32, bool)> {
        let CountChange { room: name, count, before, .. } = change;
        let room = if count == 0 { self.find(name) } else { self.find_or_insert(name) };
        let Some(room) = room else { return (count == 0).then_some((0, false)) };
        // A count that came while the table was full did not count.
        let is_known = self.hosts.set(room, worker, count > 0);
        let before = if is_known { before } else { 0 };
        let record = &mut self.rooms[room];
        record.total = record.total + count - before;
        let total = record.total;
        if before != count && !std::mem::replace(&mut record.is_listed, true) {
            self.changed.push(room);
        }
        self.free_if_ended(room);
        Some((total, !is_known && count > 0))
    }

    /// Workers with members of the room.
    pub fn hosts(&self, room: Slot<HomeRoom>) -> impl Iterator<Item = WorkerId> + '_ {
        self.hosts.iter(room)
    }

    /// Members at all hosts, as far as they have reported.
    pub fn total(&self, room: Slot<HomeRoom>) -> u32 {
        self.rooms[room].total
    }

    /// The room's name.
    pub fn name(&self, room: Slot<HomeRoom>) -> Fingerprint {
        self.rooms[room].name
    }

    /// A room with a total that its hosts do not have yet. Call until `None`, now and then.
    pub fn next_total_change(&mut self) -> Option<Slot<HomeRoom>> {
        loop {
            let room = self.changed.pop()?;
            let record = &mut self.rooms[room];
            record.is_listed = false;
            if record.total > 0 {
                return Some(room);
            }
            self.free_if_ended(room);
        }
    }

    /// Whether totals wait to be sent to hosts.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Frees the records of rooms that have ended and only wait in the list of changes: no host
    /// needs their totals. Called when a record is missing.
    fn free_ended(&mut self) {
        let mut index = 0;
        while let Some(room) = self.changed.get(index).copied() {
            if self.rooms[room].total > 0 {
                index += 1;
                continue;
            }
            self.changed.swap_remove(index);
            self.rooms[room].is_listed = false;
            self.free_if_ended(room);
        }
    }

    /// Frees the record of a room that has no members and is not listed.
    fn free_if_ended(&mut self, room: Slot<HomeRoom>) {
        let record = &self.rooms[room];
        if record.is_listed || !self.hosts.is_empty(room) {
            return;
        }
        debug_assert_eq!(record.total, 0, "a room without hosts has no members");
        self.table.remove(record.name, room.index());
        self.rooms.release(room);
    }

    /// Releases the memory when there are no rooms.
    pub fn trim(&mut self) {
        if self.rooms.is_empty() && !self.rooms.slots().is_empty() {
            self.table.trim();
            self.rooms.trim();
            self.hosts.clear();
            release_spare(&mut self.changed);
        }
    }

    /// Records in use.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Records at most.
    pub fn capacity(&self) -> usize {
        self.rooms.len() + self.rooms.room()
    }

    /// The invariants in the module's text, and that every record is found by its name.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn invariants(&self) {
        self.table.invariants();
        assert_eq!(self.rooms.len(), self.table.len(), "rooms in use and names of rooms");
        let all = (0..self.rooms.slots().len()).map(|index| Slot::new(index as u32));
        // A freed record is not found by its name, unless another record has it.
        let in_use = all.filter(|room| self.find(self.rooms[*room].name) == Some(*room));
        let (mut count, mut listed) = (0, 0);
        for room in in_use {
            let hosts = self.hosts(room).count();
            let HomeRoom { total, is_listed, .. } = self.rooms[room];
            assert!(total as usize >= hosts, "room {room:?}: {total} members on {hosts} hosts");
            assert_eq!(total == 0, hosts == 0, "members and hosts of room {room:?}");
            assert!(hosts > 0 || is_listed, "room {room:?} is of no use");
            count += 1;
            listed += usize::from(is_listed);
        }
        assert_eq!(count, self.rooms.len(), "rooms in use are found by their names");
        assert!(self.changed.iter().all(|room| self.rooms[*room].is_listed), "a listed room has its flag");
        assert_eq!(listed, self.changed.len(), "a flagged room is listed, once");
    }
}
