//! Rooms at a host: memberships of its connections, fan-outs to them, and the counts that it
//! reports to the rooms' homes.
//!
//! The host keeps a room's members in a list, and sends their count to the home (once a turn, when
//! it changed). It keeps the count that it sent last.
//!
//! Invariants: a room's record exists while it has members, fan-outs, or a count to be sent;
//! `local` is the length of the member list, and `further` the number of its members for which the
//! room is a further one (`shares`); a room has its key while it has members; `total` is the home's
//! last total that came here.

mod invariants;
mod member;
mod membership;
mod room;
mod shares;
mod sharing;
#[cfg(test)]
mod tests;
mod visit;

use super::super::index_table::IndexTable;
use super::sizes::RoomSizes;
use crate::address::Fingerprint;
use crate::session::text::TextId;
pub use member::Awaiting;
use member::{Member, ROOMS_MAX};
use netpoll::release_spare;
use room::{Flags, NONE, Room};
pub use room::{JoinError, MemberIndex, RoomIndex, RoomRefusal, SessionRooms};
pub use shares::JoinLimit;
use shares::Shares;

/// The rooms with members on a worker.
#[derive(Debug)]
pub struct HostedRooms {
    table: IndexTable,
    rooms: Vec<Room>,
    free_room: u32,
    members: Vec<Member>,
    free_member: u32,
    shares: Shares,
    /// Rooms with a count that their homes do not have yet.
    count_dirty: Vec<RoomIndex>,
    /// Appearances so far.
    appearances: u32,
    /// The member that the pass under way comes to next; see [`HostedRooms::begin_pass`].
    pass: u32,
}

impl HostedRooms {
    /// Bytes that a membership takes.
    pub const BYTES_PER_MEMBERSHIP: usize = size_of::<Member>();

    /// Bytes that a room takes besides its members.
    pub const BYTES_PER_ROOM: usize = size_of::<Room>() + IndexTable::BYTES_PER_NAME + size_of::<RoomIndex>();

    /// Reserves records for rooms as `sizes` says, and for so many memberships.
    pub fn with_capacity(sizes: RoomSizes, memberships_max: usize) -> HostedRooms {
        let records = sizes.hosted_records;
        assert!(records <= ROOMS_MAX, "{records} rooms");
        HostedRooms {
            table: IndexTable::with_capacity(records),
            rooms: Vec::with_capacity(records),
            free_room: NONE,
            members: Vec::with_capacity(memberships_max),
            free_member: NONE,
            shares: Shares::of_all(memberships_max, sizes.hosted_max),
            count_dirty: Vec::with_capacity(records),
            appearances: 0,
            pass: NONE,
        }
    }

    /// The room of this name, if it has a record here.
    pub fn find(&self, name: Fingerprint) -> Option<RoomIndex> {
        self.table.find(name, |index| self.rooms[index as usize].name == name).map(RoomIndex)
    }

    fn find_or_insert(&mut self, name: Fingerprint) -> Option<RoomIndex> {
        if let Some(room) = self.find(name) {
            return Some(room);
        }
        if self.is_full() {
            self.free_unheard();
        }
        self.appearances = self.appearances.wrapping_add(1);
        let record = Room {
            name,
            text: TextId::NONE,
            members: NONE,
            local: 0,
            further: 0,
            reported: 0,
            total: 0,
            cursor: NONE,
            appearance: self.appearances,
            fanouts: (NONE, NONE),
            flags: Flags::IN_USE,
        };
        let index = if self.free_room != NONE {
            let index = self.free_room;
            self.free_room = self.rooms[index as usize].members;
            self.rooms[index as usize] = record;
            index
        } else if self.rooms.len() < self.rooms.capacity() {
            self.rooms.push(record);
            self.rooms.len() as u32 - 1
        } else {
            return None;
        };
        if !self.table.insert(name, index) {
            self.rooms[index as usize].flags = Flags::NONE;
            self.rooms[index as usize].members = self.free_room;
            self.free_room = index;
            return None;
        }
        Some(RoomIndex(index))
    }

    /// Members everywhere, as far as this host knows.
    pub fn total(&self, room: RoomIndex) -> u32 {
        let record = &self.rooms[room.0 as usize];
        record.total.max(record.local)
    }

    /// Takes over the home's total.
    pub fn set_total(&mut self, room: RoomIndex, total: u32) {
        self.rooms[room.0 as usize].total = total;
    }

    /// Members here.
    pub fn local(&self, room: RoomIndex) -> u32 {
        self.rooms[room.0 as usize].local
    }

    fn member(&self, member: MemberIndex) -> &Member {
        &self.members[member.0 as usize]
    }

    /// The room's name.
    pub fn name(&self, room: RoomIndex) -> Fingerprint {
        self.rooms[room.0 as usize].name
    }

    /// Whether every record is in use.
    fn is_full(&self) -> bool {
        self.free_room == NONE && self.rooms.len() == self.rooms.capacity()
    }

    /// The room's key; none where it has no members.
    pub fn text(&self, room: RoomIndex) -> TextId {
        self.rooms[room.0 as usize].text
    }

    /// Rooms with members here, from index `from` on.
    pub fn hosted(&self, from: u32) -> impl Iterator<Item = RoomIndex> + '_ {
        let range = from as usize..self.rooms.len();
        range.map(|index| RoomIndex(index as u32)).filter(|room| {
            let record = &self.rooms[room.0 as usize];
            record.local > 0
        })
    }

    /// The session of a membership, by table index.
    pub fn session_of(&self, member: MemberIndex) -> u32 {
        self.members[member.0 as usize].session
    }

    /// Keys of all rooms that have one.
    pub fn texts(&self) -> impl Iterator<Item = TextId> + '_ {
        self.rooms.iter().filter(|room| room.flags.has(Flags::IN_USE)).map(|room| room.text)
    }

    /// The first fan-out of each room that has any.
    pub fn fanout_heads(&self) -> impl Iterator<Item = u32> + '_ {
        let heads = self.rooms.iter().filter(|room| room.flags.has(Flags::IN_USE)).map(|room| room.fanouts.0);
        heads.filter(|head| *head != NONE)
    }

    /// Releases the memory when there are no rooms.
    pub fn trim(&mut self) {
        if !self.is_empty() || self.rooms.is_empty() {
            return;
        }
        // No room: no member, and no count to send.
        debug_assert!(self.memberships_len() == 0 && self.count_dirty.is_empty());
        self.table.trim();
        self.rooms.clear();
        self.members.clear();
        (self.free_room, self.free_member, self.pass) = (NONE, NONE, NONE);
        release_spare(&mut self.rooms);
        release_spare(&mut self.members);
        release_spare(&mut self.count_dirty);
    }

    /// Records in use.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Records at most.
    pub fn capacity(&self) -> usize {
        self.rooms.capacity()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Frees the record of a room that nothing needs.
    fn free_if_unused(&mut self, room: RoomIndex) {
        let record = &self.rooms[room.0 as usize];
        let waits = record.fanouts.0 != NONE;
        let is_listed = record.flags.has(Flags::COUNT_DIRTY);
        if record.local > 0 || waits || is_listed || !record.flags.has(Flags::IN_USE) {
            return;
        }
        let record = &mut self.rooms[room.0 as usize];
        debug_assert!(record.text.is_none() && record.further == 0, "a room without members has no key");
        let name = record.name;
        record.flags = Flags::NONE;
        record.members = self.free_room;
        self.free_room = room.0;
        self.table.remove(name, room.0);
    }
}
