//! Rooms at their home: the hosts with members, and the total of members.

use super::{Flags, RoomIndex, Rooms};
use crate::address::WorkerId;
use crate::message::CountChange;

impl Rooms {
    /// Takes a host's count. Returns the total, and whether the host had no members before (it
    /// waits for an answer then); `None` when the table is full.
    pub fn set_host_count(&mut self, worker: WorkerId, change: CountChange) -> Option<(u32, bool)> {
        let CountChange { room: name, count, before, .. } = change;
        let room = if count == 0 { self.find(name) } else { self.find_or_insert(name) };
        let Some(room) = room else { return (count == 0).then_some((0, false)) };
        // A count that came while the table was full did not count.
        let is_known = self.hosts.set(room, worker, count > 0);
        let before = if is_known { before } else { 0 };
        let record = &mut self.rooms[room.0 as usize];
        record.total = record.total + count - before;
        let total = record.total;
        if before != count && !record.flags.set(Flags::TOTAL_DIRTY, true) {
            self.total_dirty.push(room);
        }
        self.free_if_unused(room);
        Some((total, !is_known && count > 0))
    }

    /// Workers with members of the room, at its home.
    pub fn hosts(&self, room: RoomIndex) -> impl Iterator<Item = WorkerId> + '_ {
        self.hosts.iter(room)
    }

    /// A room with a total that its hosts do not have yet. Call until `None`, now and then.
    pub fn next_total_change(&mut self) -> Option<RoomIndex> {
        loop {
            let room = self.total_dirty.pop()?;
            let record = &mut self.rooms[room.0 as usize];
            record.flags.set(Flags::TOTAL_DIRTY, false);
            if record.total > 0 {
                return Some(room);
            }
            self.free_if_unused(room);
        }
    }

    /// Whether counts or totals wait to be sent to homes or hosts.
    pub fn has_changes(&self) -> bool {
        !self.count_dirty.is_empty() || !self.total_dirty.is_empty()
    }

    /// Frees the records of rooms that have ended and only wait in a list to be worked off: no host
    /// needs their totals. Called when a record is missing. Bounds: `shares` keeps so many records
    /// spare that a call frees many.
    pub(super) fn free_unneeded(&mut self) {
        let mut index = 0;
        while let Some(room) = self.total_dirty.get(index).copied() {
            if self.rooms[room.0 as usize].total > 0 {
                index += 1;
                continue;
            }
            self.total_dirty.swap_remove(index);
            self.rooms[room.0 as usize].flags.set(Flags::TOTAL_DIRTY, false);
            self.free_if_unused(room);
        }
        index = 0;
        while let Some(room) = self.count_dirty.get(index).copied() {
            let record = &mut self.rooms[room.0 as usize];
            if record.local > 0 || record.told > 0 {
                index += 1;
                continue;
            }
            // The room came and went within a turn, so its home has never known members here.
            record.flags.set(Flags::COUNT_DIRTY, false);
            self.count_dirty.swap_remove(index);
            self.free_if_unused(room);
        }
    }
}
