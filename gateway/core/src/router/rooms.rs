//! Rooms, in both of a worker's roles: as host of members and as home of the room.
//!
//! * The **host** keeps its members in a list, and sends their count to the home (once a turn, when
//!   it changed). It keeps the count that it sent last.
//! * The **home** keeps one bit for each worker, and the total. It knows the hosts that a message
//!   for the room is sent to. The count per host only the hosts know, so a room costs its home the
//!   same however many workers there are (a word for 64).
//!
//! A member that joins a room of which the home does not know this host yet waits for the home's
//! answer: only then is it sure that the next message reaches it.
//!
//! Invariants: a room's record exists while it has members, hosts, or fan-outs; `local` is the
//! length of the member list, and `further` the number of its members for which the room is a
//! further one (`shares`); a room has its key while it has members; at the home, a host's bit is
//! set while the last of its counts that found room is not 0, and `total` is the sum of those; at a
//! host, `total` is the home's last total.

mod home;
mod host;
mod hosts;
mod invariants;
mod member;
mod room;
#[cfg(test)]
mod share_tests;
mod shares;
mod sharing;
#[cfg(test)]
mod tests;
mod visit;

use super::index_table::IndexTable;
use crate::address::Fingerprint;
use crate::session::text::TextId;
use hosts::Hosts;
pub use member::Awaiting;
use member::{Member, ROOMS_MAX};
use netpoll::release_spare;
use room::{Flags, NONE, Room};
pub use room::{JoinError, MemberIndex, RoomIndex, RoomRefusal, SessionRooms};
use shares::Shares;
pub use shares::{GUARANTEED_ROOMS, JoinLimit, entries_for, hosted_max, records_for};

/// All rooms of this worker.
#[derive(Debug)]
pub struct Rooms {
    table: IndexTable,
    rooms: Vec<Room>,
    free_room: u32,
    members: Vec<Member>,
    free_member: u32,
    shares: Shares,
    /// At the room's home.
    hosts: Hosts,
    count_dirty: Vec<RoomIndex>,
    total_dirty: Vec<RoomIndex>,
    /// Appearances so far.
    appearances: u32,
    /// The member that the pass under way comes to next; see [`Rooms::begin_pass`].
    pass: u32,
}

impl Rooms {
    /// Bytes that a membership takes.
    pub const BYTES_PER_MEMBERSHIP: usize = size_of::<Member>();

    /// Bytes that a room takes besides its members.
    pub const fn bytes_per_room(workers: usize) -> usize {
        size_of::<Room>()
            + IndexTable::BYTES_PER_NAME
            + Hosts::bytes_per_room(workers)
            + 2 * size_of::<RoomIndex>()
    }

    /// Room for so many rooms and memberships, with so many workers in the process.
    pub fn with_capacity(rooms_max: usize, memberships_max: usize, workers: usize) -> Rooms {
        assert!(rooms_max <= ROOMS_MAX, "{rooms_max} rooms");
        Rooms {
            table: IndexTable::with_capacity(rooms_max),
            rooms: Vec::with_capacity(rooms_max),
            free_room: NONE,
            members: Vec::with_capacity(memberships_max),
            free_member: NONE,
            shares: Shares::of_all(memberships_max, hosted_max(rooms_max, workers)),
            hosts: Hosts::with_capacity(rooms_max, workers),
            count_dirty: Vec::with_capacity(rooms_max),
            total_dirty: Vec::with_capacity(rooms_max),
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
            self.free_unneeded();
        }
        self.appearances = self.appearances.wrapping_add(1);
        let record = Room {
            name,
            text: TextId::NONE,
            members: NONE,
            local: 0,
            further: 0,
            told: 0,
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
            self.hosts.push();
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

    /// Members everywhere, as far as this worker knows.
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
        debug_assert!(self.memberships_len() == 0 && !self.has_changes());
        self.table.trim();
        self.rooms.clear();
        self.members.clear();
        self.hosts.clear();
        (self.free_room, self.free_member, self.pass) = (NONE, NONE, NONE);
        release_spare(&mut self.rooms);
        release_spare(&mut self.members);
        release_spare(&mut self.count_dirty);
        release_spare(&mut self.total_dirty);
    }

    /// Records in use.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Frees the record of a room that nothing needs.
    fn free_if_unused(&mut self, room: RoomIndex) {
        let record = &self.rooms[room.0 as usize];
        let waits = record.fanouts.0 != NONE;
        let is_listed = record.flags.has(Flags(Flags::COUNT_DIRTY.0 | Flags::TOTAL_DIRTY.0));
        if record.local > 0 || waits || is_listed || !record.flags.has(Flags::IN_USE) {
            return;
        }
        if !self.hosts.is_empty(room) {
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
