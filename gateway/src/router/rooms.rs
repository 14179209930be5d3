//! Rooms, in both of a worker's roles: as host of members and as home of the room.
//!
//! * The **host** keeps its members in a list and tells the home how many they are (once a turn, when it changed), and
//!   how many it said last.
//! * The **home** keeps one bit for each worker, and the total. It knows whom to send a message for the room to; how many
//!   are where only the hosts know, so a room costs its home the same however many workers there are (a word for 64).
//!
//! A member that joins a room of which the home does not know this host yet waits for the home's answer: only then
//! is it sure that the next message reaches it.
//!
//! Invariants: a room's record exists while it has members, hosts, or fan-outs; `local` is the length of the member
//! list; at the home, a host's bit is set while the last count that it told, and that found room, is not 0, and `total` is
//! the sum of those; at a host, `total` is what the home said last.

mod hosts;
mod invariants;
mod member;
mod shares;
#[cfg(test)]
mod tests;
mod visit;

use super::index_table::IndexTable;
use crate::address::{Fingerprint, WorkerId};
use crate::session::text::{TextId, TextStore, TextUse};
use hosts::Hosts;
pub use member::Awaiting;
use member::{Member, ROOMS_MAX};
use netpoll::release_spare;
pub use shares::JoinLimit;
use shares::hosted_max;

const NONE: u32 = u32::MAX;

/// A room with a record on this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomIndex(pub u32);

/// A membership: one connection in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberIndex(pub u32);

#[derive(Clone, Debug)]
struct Room {
    name: Fingerprint,
    text: TextId,
    /// First member; while the record is free, the next free record.
    members: u32,
    local: u32,
    /// What the home was told last.
    told: u32,
    total: u32,
    /// The first member that the fan-out under way has not served.
    cursor: u32,
    /// Which of this host's appearances in the room the home must answer.
    appearance: u32,
    /// First and last fan-out of this room, by index in `Fanouts`.
    fanouts: (u32, u32),
    /// How many those are, and how many pushes wait to be some (`Bulk`), at most 65 535 of each.
    queued: u16,
    heavy: u16,
    flags: Flags,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    in_use: bool,
    /// The home knows of members here.
    ready: bool,
    /// In the list of rooms whose local count the home must be told.
    count_dirty: bool,
    /// In the list of rooms whose total the hosts must be told.
    total_dirty: bool,
}

/// A connection's memberships: a list, and which of them is goim's one room.
#[derive(Clone, Copy, Debug)]
pub struct SessionRooms {
    head: u32,
    /// The room of Auth and ChangeRoom, whose size heartbeats report.
    pub primary: Option<MemberIndex>,
    /// Memberships.
    pub count: u8,
    /// Why the room of its Auth frame was not entered, if it was not; an Error follows the reply.
    pub refused: Option<RoomRefusal>,
    /// The first room was joined again while a ChangeRoom that leaves it waits for its home: it is kept.
    pub keeps_first: bool,
}

impl SessionRooms {
    /// None.
    pub const EMPTY: SessionRooms =
        SessionRooms { head: NONE, primary: None, count: 0, refused: None, keeps_first: false };
}

/// Why the room of a login was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomRefusal {
    /// A table is full.
    Full,
    /// The client may not enter it.
    Forbidden,
}

/// Why a connection cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It is in the room already.
    Already(MemberIndex),
    /// It is in as many rooms as it may.
    TooMany,
    /// This worker's tables are full.
    Full,
}

/// What a host tells a room's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountChange {
    /// The room.
    pub room: Fingerprint,
    /// Members at the host.
    pub count: u32,
    /// What the host told last.
    pub before: u32,
    /// Which of the host's appearances in the room it is.
    pub appearance: u32,
}

/// All rooms of this worker.
#[derive(Debug)]
pub struct Rooms {
    table: IndexTable,
    rooms: Vec<Room>,
    free_room: u32,
    members: Vec<Member>,
    free_member: u32,
    members_used: usize,
    /// Memberships, besides one for each connection that is in a room, that all connections share.
    shared_members: usize,
    /// Connections that are in a room.
    members_first: usize,
    /// Rooms with members here, and how many there may be: what is beyond is for rooms of which the worker is only the home.
    hosted: usize,
    hosted_max: usize,
    /// At the room's home.
    hosts: Hosts,
    count_dirty: Vec<RoomIndex>,
    total_dirty: Vec<RoomIndex>,
    /// Appearances so far.
    appearances: u32,
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
            members_used: 0,
            shared_members: memberships_max,
            members_first: 0,
            hosted: 0,
            hosted_max: hosted_max(rooms_max, workers),
            hosts: Hosts::with_capacity(rooms_max, workers),
            count_dirty: Vec::with_capacity(rooms_max),
            total_dirty: Vec::with_capacity(rooms_max),
            appearances: 0,
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
        let flags = Flags { in_use: true, ..Flags::default() };
        self.appearances = self.appearances.wrapping_add(1);
        let record = Room {
            name,
            text: TextId::NONE,
            members: NONE,
            local: 0,
            told: 0,
            total: 0,
            cursor: NONE,
            appearance: self.appearances,
            fanouts: (NONE, NONE),
            queued: 0,
            heavy: 0,
            flags,
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
            self.rooms[index as usize].flags.in_use = false;
            self.rooms[index as usize].members = self.free_room;
            self.free_room = index;
            return None;
        }
        Some(RoomIndex(index))
    }

    // --- host ------------------------------------------------------------------------------------------------------

    /// Puts the connection at `session` into the room `key`.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has changed then.
    pub fn join(
        &mut self,
        texts: &mut TextStore,
        (name, key): (Fingerprint, &str),
        session: u32,
        rooms: &mut SessionRooms,
        limit: JoinLimit,
    ) -> Result<MemberIndex, JoinError> {
        if let Some(member) = self.membership(name, rooms) {
            return Err(JoinError::Already(member));
        }
        if rooms.count >= limit.rooms_max.saturating_add(limit.leaving) {
            return Err(JoinError::TooMany);
        }
        let keeps = usize::from(rooms.count.saturating_sub(limit.leaving));
        if !self.has_membership_for(keeps) {
            return Err(JoinError::Full);
        }
        let hosted = self.find(name).filter(|room| !self.rooms[room.0 as usize].text.is_none());
        if hosted.is_none() && !self.has_room_for(texts, key, keeps, rooms) {
            return Err(JoinError::Full);
        }
        let room = self.find_or_insert(name).ok_or(JoinError::Full)?;
        if self.rooms[room.0 as usize].text.is_none() {
            let Some(text) = texts.insert(key.as_bytes(), TextUse::Room) else {
                self.free_if_unused(room, texts);
                return Err(JoinError::Full);
            };
            self.rooms[room.0 as usize].text = text;
            self.hosted += 1;
        }
        Ok(self.link(room, session, rooms))
    }

    fn link(&mut self, room: RoomIndex, session: u32, rooms: &mut SessionRooms) -> MemberIndex {
        let record = &mut self.rooms[room.0 as usize];
        let member = Member::new(room, session, record.members, rooms.head);
        let index = if self.free_member != NONE {
            let index = self.free_member;
            self.free_member = self.members[index as usize].next_in_session;
            self.members[index as usize] = member;
            index
        } else {
            self.members.push(member);
            self.members.len() as u32 - 1
        };
        if member.next_in_room != NONE {
            self.members[member.next_in_room as usize].previous_in_room = index;
        }
        let record = &mut self.rooms[room.0 as usize];
        record.members = index;
        record.local += 1;
        rooms.head = index;
        self.members_first += usize::from(rooms.count == 0);
        rooms.count += 1;
        self.members_used += 1;
        self.mark_count_dirty(room);
        MemberIndex(index)
    }

    /// Ends a membership.
    pub fn leave(&mut self, member: MemberIndex, rooms: &mut SessionRooms) {
        let node = self.members[member.0 as usize];
        self.unlink_from_session(member, rooms);
        let record = &mut self.rooms[node.room().0 as usize];
        if record.cursor == member.0 {
            record.cursor = node.next_in_room;
        }
        record.local -= 1;
        match node.previous_in_room {
            NONE => record.members = node.next_in_room,
            previous => self.members[previous as usize].next_in_room = node.next_in_room,
        }
        if node.next_in_room != NONE {
            self.members[node.next_in_room as usize].previous_in_room = node.previous_in_room;
        }
        self.members[member.0 as usize].next_in_session = self.free_member;
        self.free_member = member.0;
        self.members_used -= 1;
        self.mark_count_dirty(node.room());
    }

    fn unlink_from_session(&mut self, member: MemberIndex, rooms: &mut SessionRooms) {
        let next = self.members[member.0 as usize].next_in_session;
        let (mut previous, mut index) = (NONE, rooms.head);
        while index != member.0 {
            (previous, index) = (index, self.members[index as usize].next_in_session);
        }
        match previous {
            NONE => rooms.head = next,
            previous => self.members[previous as usize].next_in_session = next,
        }
        rooms.count -= 1;
        self.members_first -= usize::from(rooms.count == 0);
        if rooms.primary == Some(member) {
            rooms.primary = None;
            rooms.keeps_first = false;
        }
    }

    /// Ends all memberships of a connection.
    pub fn leave_all(&mut self, rooms: &mut SessionRooms) {
        while rooms.head != NONE {
            self.leave(MemberIndex(rooms.head), rooms);
        }
    }

    /// The connection's membership in the room of this name.
    pub fn membership(&self, name: Fingerprint, rooms: &SessionRooms) -> Option<MemberIndex> {
        self.memberships(rooms).find(|member| self.name(self.room_of(*member)) == name)
    }

    /// The connection's memberships, the newest first.
    pub fn memberships(&self, rooms: &SessionRooms) -> impl Iterator<Item = MemberIndex> + '_ {
        let mut index = rooms.head;
        std::iter::from_fn(move || {
            let member = self.members.get(index as usize)?;
            Some(MemberIndex(std::mem::replace(&mut index, member.next_in_session)))
        })
    }

    /// The room of a membership.
    pub fn room_of(&self, member: MemberIndex) -> RoomIndex {
        self.members[member.0 as usize].room()
    }

    /// Notes what a new member waits with; false when it need not wait, for the home knows of this host.
    pub fn must_wait(&mut self, member: MemberIndex, awaiting: Awaiting, sequence: i32) -> bool {
        let node = &mut self.members[member.0 as usize];
        if self.rooms[node.room().0 as usize].flags.ready {
            return false;
        }
        node.await_with(awaiting);
        node.sequence = sequence;
        true
    }

    /// The home has answered: it knows of this host, or has no room.
    pub fn set_ready(&mut self, room: RoomIndex, ready: bool) {
        self.rooms[room.0 as usize].flags.ready = ready;
    }

    /// The room's newest member.
    pub fn first_member(&self, room: RoomIndex) -> Option<MemberIndex> {
        let head = self.rooms[room.0 as usize].members;
        (head != NONE).then_some(MemberIndex(head))
    }

    /// The member that joined before this one.
    pub fn next_member(&self, member: MemberIndex) -> Option<MemberIndex> {
        let next = self.members[member.0 as usize].next_in_room;
        (next != NONE).then_some(MemberIndex(next))
    }

    /// Whether a request waits with the member for the home's answer.
    pub fn is_awaiting(&self, member: MemberIndex) -> bool {
        self.members[member.0 as usize].awaiting() != Awaiting::Nothing
    }

    /// Whether a ChangeRoom waits with the member.
    pub fn awaits_change(&self, member: MemberIndex) -> bool {
        self.members[member.0 as usize].awaiting() == Awaiting::Change
    }

    /// Ends a member's wait for the home's answer: its session, what it waited with, and its sequence.
    pub fn take_awaiting(&mut self, member: MemberIndex) -> (u32, Awaiting, i32) {
        let member = &mut self.members[member.0 as usize];
        (member.session, member.await_with(Awaiting::Nothing), member.sequence)
    }

    fn mark_count_dirty(&mut self, room: RoomIndex) {
        if !std::mem::replace(&mut self.rooms[room.0 as usize].flags.count_dirty, true) {
            self.count_dirty.push(room);
        }
    }

    /// Which of this host's appearances in the room is the present one: an answer to an earlier one says nothing.
    pub fn appearance(&self, room: RoomIndex) -> u32 {
        self.rooms[room.0 as usize].appearance
    }

    /// A room whose home must be told the local count. Call until `None`, once a turn.
    pub fn next_count_change(&mut self, texts: &mut TextStore) -> Option<CountChange> {
        let room = self.count_dirty.pop()?;
        let record = &mut self.rooms[room.0 as usize];
        record.flags.count_dirty = false;
        let before = std::mem::replace(&mut record.told, record.local);
        let change =
            CountChange { room: record.name, count: record.local, before, appearance: record.appearance };
        if record.local == 0 {
            self.appearances = self.appearances.wrapping_add(1);
            record.appearance = self.appearances;
            record.flags.ready = false; // the home will forget this host
            self.free_if_unused(room, texts);
        }
        Some(change)
    }

    // --- home ------------------------------------------------------------------------------------------------------

    /// A host has told its count. Returns the total, and whether the host had no members before (it waits for an
    /// answer then); `None` when the table is full.
    pub fn set_host_count(
        &mut self,
        texts: &mut TextStore,
        worker: WorkerId,
        change: CountChange,
    ) -> Option<(u32, bool)> {
        let CountChange { room: name, count, before, .. } = change;
        let room = if count == 0 { self.find(name) } else { self.find_or_insert(name) };
        let Some(room) = room else { return (count == 0).then_some((0, false)) };
        // What a host told while the table was full did not count.
        let is_known = self.hosts.set(room, worker, count > 0);
        let before = if is_known { before } else { 0 };
        let record = &mut self.rooms[room.0 as usize];
        record.total = record.total + count - before;
        let total = record.total;
        if before != count && !std::mem::replace(&mut record.flags.total_dirty, true) {
            self.total_dirty.push(room);
        }
        self.free_if_unused(room, texts);
        Some((total, !is_known && count > 0))
    }

    /// Workers with members of the room, at its home.
    pub fn hosts(&self, room: RoomIndex) -> impl Iterator<Item = WorkerId> + '_ {
        self.hosts.iter(room)
    }

    /// A room whose hosts must be told the total. Call until `None`, now and then.
    pub fn next_total_change(&mut self, texts: &mut TextStore) -> Option<RoomIndex> {
        loop {
            let room = self.total_dirty.pop()?;
            let record = &mut self.rooms[room.0 as usize];
            record.flags.total_dirty = false;
            if record.total > 0 {
                return Some(room);
            }
            self.free_if_unused(room, texts);
        }
    }

    /// Whether homes or hosts must be told something.
    pub fn has_changes(&self) -> bool {
        !self.count_dirty.is_empty() || !self.total_dirty.is_empty()
    }

    // --- both ------------------------------------------------------------------------------------------------------

    /// Members everywhere, as far as this worker knows.
    pub fn total(&self, room: RoomIndex) -> u32 {
        let record = &self.rooms[room.0 as usize];
        record.total.max(record.local)
    }

    /// Takes over what the home says.
    pub fn set_total(&mut self, room: RoomIndex, total: u32) {
        self.rooms[room.0 as usize].total = total;
    }

    /// Members here.
    pub fn local(&self, room: RoomIndex) -> u32 {
        self.rooms[room.0 as usize].local
    }

    /// The room's name.
    pub fn name(&self, room: RoomIndex) -> Fingerprint {
        self.rooms[room.0 as usize].name
    }

    /// The room's key; none where this worker is only its home.
    pub fn text(&self, room: RoomIndex) -> TextId {
        self.rooms[room.0 as usize].text
    }

    /// Rooms with members here, from index `from` on.
    pub fn hosted(&self, from: u32) -> impl Iterator<Item = RoomIndex> + '_ {
        let range = from as usize..self.rooms.len();
        range.map(|index| RoomIndex(index as u32)).filter(|room| {
            let record = &self.rooms[room.0 as usize];
            record.flags.in_use && record.local > 0
        })
    }

    /// The session of a membership, by table index.
    pub fn session_of(&self, member: MemberIndex) -> u32 {
        self.members[member.0 as usize].session
    }

    /// Keys of all rooms that have one.
    pub fn texts(&self) -> impl Iterator<Item = TextId> + '_ {
        self.rooms.iter().filter(|room| room.flags.in_use).map(|room| room.text)
    }

    /// The first fan-out of each room that has any.
    pub fn fanout_heads(&self) -> impl Iterator<Item = u32> + '_ {
        let heads = self.rooms.iter().filter(|room| room.flags.in_use).map(|room| room.fanouts.0);
        heads.filter(|head| *head != NONE)
    }

    /// Gives the memory back when there is no room.
    pub fn trim(&mut self) {
        if !self.is_empty() || self.rooms.is_empty() {
            return;
        }
        // No room: no member, and nothing to be told of any.
        debug_assert!(self.members_used == 0 && !self.has_changes());
        self.table.trim();
        self.rooms.clear();
        self.members.clear();
        self.hosts.clear();
        (self.free_room, self.free_member) = (NONE, NONE);
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

    /// Connections that are in a room.
    pub fn joined_len(&self) -> usize {
        self.members_first
    }

    /// Memberships.
    pub fn memberships_len(&self) -> usize {
        self.members_used
    }

    fn free_if_unused(&mut self, room: RoomIndex, texts: &mut TextStore) {
        let record = &mut self.rooms[room.0 as usize];
        let dirty = record.flags.count_dirty || record.flags.total_dirty;
        let waits = record.fanouts.0 != NONE || record.heavy > 0;
        if record.members != NONE || waits || dirty || !record.flags.in_use {
            return;
        }
        if !self.hosts.is_empty(room) {
            return;
        }
        let record = &mut self.rooms[room.0 as usize];
        let name = record.name;
        let text = std::mem::replace(&mut record.text, TextId::NONE);
        self.hosted -= usize::from(!text.is_none());
        texts.remove(text, TextUse::Room);
        record.flags.in_use = false;
        record.members = self.free_room;
        self.free_room = room.0;
        self.table.remove(name, room.0);
    }
}
