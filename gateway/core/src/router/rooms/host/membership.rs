//! Memberships of a host's connections, and the counts that it reports to the rooms' homes.

use super::member::{Awaiting, Member};
use super::shares::Place;
use super::{Flags, HostedRooms, JoinError, JoinLimit, MemberIndex, NONE, RoomIndex, SessionRooms};
use crate::address::Fingerprint;
use crate::message::CountChange;
use crate::session::text::{TextId, TextStore, TextUse};

impl HostedRooms {
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
        let found = self.find(name);
        let place = self.place_for(found, rooms, limit).ok_or(JoinError::Full)?;
        let is_new = found.is_none_or(|room| self.local(room) == 0);
        if is_new && !self.has_text_for(texts, key, rooms, limit) {
            return Err(JoinError::Full);
        }
        let room = self.find_or_insert(name).ok_or(JoinError::Full)?;
        if is_new {
            let Some(text) = texts.insert(key.as_bytes(), TextUse::Room) else {
                self.free_if_unused(room);
                return Err(JoinError::Full);
            };
            self.rooms[room.0 as usize].text = text;
        }
        Ok(self.link(room, session, rooms, place))
    }

    fn link(&mut self, room: RoomIndex, session: u32, rooms: &mut SessionRooms, place: Place) -> MemberIndex {
        let record = &mut self.rooms[room.0 as usize];
        let mut member = Member::new(room, session, record.members, rooms.head);
        member.set_guaranteed(place == Place::Guaranteed);
        let index = if self.free_member != NONE {
            let index = self.free_member;
            self.free_member = self.members[index as usize].next_in_session;
            self.members[index as usize] = member;
            index
        } else {
            debug_assert!(self.members.len() < self.members.capacity(), "places are counted");
            self.members.push(member);
            self.members.len() as u32 - 1
        };
        if member.next_in_room != NONE {
            self.members[member.next_in_room as usize].previous_in_room = index;
        }
        record.members = index;
        record.local += 1;
        self.shares.entered(place, record);
        rooms.head = index;
        rooms.count += 1;
        self.mark_count_dirty(room);
        MemberIndex(index)
    }

    /// Ends a membership.
    pub fn leave(&mut self, texts: &mut TextStore, member: MemberIndex, rooms: &mut SessionRooms) {
        let node = self.members[member.0 as usize];
        self.unlink_from_session(member, rooms);
        if node.is_guaranteed() {
            self.pass_guarantee(rooms);
        }
        let record = &mut self.rooms[node.room().0 as usize];
        if record.cursor == member.0 {
            record.cursor = node.next_in_room;
        }
        if self.pass == member.0 {
            self.pass = node.next_in_room;
        }
        record.local -= 1;
        self.shares.left(node.place(), record);
        if record.local == 0 {
            texts.remove(std::mem::replace(&mut record.text, TextId::NONE), TextUse::Room);
        }
        match node.previous_in_room {
            NONE => record.members = node.next_in_room,
            previous => self.members[previous as usize].next_in_room = node.next_in_room,
        }
        if node.next_in_room != NONE {
            self.members[node.next_in_room as usize].previous_in_room = node.previous_in_room;
        }
        self.members[member.0 as usize].next_in_session = self.free_member;
        self.free_member = member.0;
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
        if rooms.primary == Some(member) {
            rooms.primary = None;
            rooms.keeps_first = false;
        }
    }

    /// Ends all memberships of a connection.
    pub fn leave_all(&mut self, texts: &mut TextStore, rooms: &mut SessionRooms) {
        while rooms.head != NONE {
            self.leave(texts, MemberIndex(rooms.head), rooms);
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

    /// Notes the request with which a new member waits. False when it need not wait, for the home
    /// knows of this host.
    pub fn must_wait(&mut self, member: MemberIndex, awaiting: Awaiting, sequence: i32) -> bool {
        let node = &mut self.members[member.0 as usize];
        if self.rooms[node.room().0 as usize].flags.has(Flags::READY) {
            return false;
        }
        node.await_with(awaiting);
        node.sequence = sequence;
        true
    }

    /// Takes the home's answer: it knows of this host, or its table is full.
    pub fn set_ready(&mut self, room: RoomIndex, ready: bool) {
        self.rooms[room.0 as usize].flags.set(Flags::READY, ready);
    }

    /// Begins a pass over the room's members, the newest first. One pass is under way at a time.
    pub fn begin_pass(&mut self, room: RoomIndex) {
        debug_assert_eq!(self.pass, NONE, "one pass over members at a time");
        self.pass = self.rooms[room.0 as usize].members;
    }

    /// The next member of the pass; `None` at its end. Members may leave in between, also those
    /// that the pass has not come to: their records may be another room's by then.
    pub fn next_in_pass(&mut self) -> Option<MemberIndex> {
        let member = self.members.get(self.pass as usize)?;
        Some(MemberIndex(std::mem::replace(&mut self.pass, member.next_in_room)))
    }

    /// Whether a request waits with the member for the home's answer.
    pub fn is_awaiting(&self, member: MemberIndex) -> bool {
        self.members[member.0 as usize].awaiting() != Awaiting::Nothing
    }

    /// Whether a ChangeRoom waits with the member.
    pub fn awaits_change(&self, member: MemberIndex) -> bool {
        self.members[member.0 as usize].awaiting() == Awaiting::Change
    }

    /// Ends a member's wait for the home's answer: its session, what it waited with, and its
    /// sequence.
    pub fn take_awaiting(&mut self, member: MemberIndex) -> (u32, Awaiting, i32) {
        let member = &mut self.members[member.0 as usize];
        (member.session, member.await_with(Awaiting::Nothing), member.sequence)
    }

    fn mark_count_dirty(&mut self, room: RoomIndex) {
        if !self.rooms[room.0 as usize].flags.set(Flags::COUNT_DIRTY, true) {
            self.count_dirty.push(room);
        }
    }

    /// Number of this host's present appearance in the room: answers to earlier ones are ignored.
    pub fn appearance(&self, room: RoomIndex) -> u32 {
        self.rooms[room.0 as usize].appearance
    }

    /// Whether records are missing that become free once homes have the counts of rooms without
    /// members.
    pub fn lacks_records(&self) -> bool {
        self.is_full() && !self.count_dirty.is_empty()
    }

    /// A room with a local count that its home does not have yet. Call until `None`, once a turn.
    pub fn next_count_change(&mut self) -> Option<CountChange> {
        let room = self.count_dirty.pop()?;
        let record = &mut self.rooms[room.0 as usize];
        record.flags.set(Flags::COUNT_DIRTY, false);
        let before = std::mem::replace(&mut record.reported, record.local);
        let change =
            CountChange { room: record.name, count: record.local, before, appearance: record.appearance };
        if record.local == 0 {
            self.appearances = self.appearances.wrapping_add(1);
            record.appearance = self.appearances;
            record.flags.set(Flags::READY, false); // the home will forget this host
            self.free_if_unused(room);
        }
        Some(change)
    }
    /// Whether counts wait to be sent to homes.
    pub fn has_changes(&self) -> bool {
        !self.count_dirty.is_empty()
    }

    /// Frees the records of rooms that came and went before their homes heard of members here.
    /// Called when a record is missing. Bounds: `shares` keeps so many records spare that a call
    /// frees many.
    pub(super) fn free_unheard(&mut self) {
        let mut index = 0;
        while let Some(room) = self.count_dirty.get(index).copied() {
            let record = &mut self.rooms[room.0 as usize];
            if record.local > 0 || record.reported > 0 {
                index += 1;
                continue;
            }
            record.flags.set(Flags::COUNT_DIRTY, false);
            self.count_dirty.swap_remove(index);
            self.free_if_unused(room);
        }
    }
}
