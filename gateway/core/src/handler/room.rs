//! Rooms, as clients ask for them.

use super::Handler;
use crate::access::{self, RoomAccess};
use crate::address::Fingerprint;
use crate::message::ROOMS_SIZE_MAX;
use crate::router::rooms::{Awaiting, JoinError, JoinLimit, MemberIndex, RoomIndex, RoomRefusal};
use crate::session::{Identified, Open};
use crate::shard::Shard;
use gateway_proto::body::{ChangeRoom, Join, JoinReply, Leave, LeaveReply, Position, RoomKey};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, ConnectionId};

/// Changes of rooms of one connection that may wait for their homes at a time.
const CHANGES_MAX: u8 = 8;

const NOT_YOURS: &str = "the room is not one of the token's";

impl<B: Backend> Handler<B> {
    /// Whether a connection may enter the room, or send to it without being a member.
    pub(super) fn may_enter(&self, who: &Identified, room: &str) -> bool {
        let access = self.policy.room_access.of(room);
        let session = self.shard.sessions.of(who);
        if access == RoomAccess::Open || session.service {
            return true;
        }
        let mut scratch = [0; ROOMS_SIZE_MAX];
        let grants = session.grants();
        access == RoomAccess::Claim
            && !grants.is_none()
            && access::lists(self.shard.texts.read(grants, &mut scratch), room)
    }

    /// Joins a room. Where records are missing that only wait for homes to hear of rooms without
    /// members, homes hear of them first.
    pub(super) fn join_room(
        &mut self,
        who: &Identified,
        room: (Fingerprint, &str),
        limit: JoinLimit,
    ) -> Result<MemberIndex, JoinError> {
        let index = who.connection().index() as u32;
        let join = |shard: &mut Shard| {
            let rooms = shard.sessions.rooms_mut(who);
            shard.hosted_rooms.join(&mut shard.texts, room, index, rooms, limit)
        };
        let mut joined = join(&mut self.shard);
        if joined == Err(JoinError::Full) && self.shard.hosted_rooms.lacks_records() {
            self.report_counts();
            joined = join(&mut self.shard);
        }
        if joined.is_ok() {
            self.take_own_total(room.0);
        }
        joined
    }

    /// Puts a connection into a room, `instead` of its first room or besides its others. A
    /// ChangeRoom that waits for its home leaves a room as soon as it is answered, so that room
    /// does not count here.
    fn enter(
        &mut self,
        open: &Open,
        room: &str,
        name: Fingerprint,
        instead: bool,
    ) -> Result<MemberIndex, JoinError> {
        let max = self.context.settings.tables.rooms_per_connection_max;
        let session = self.shard.sessions.of(open);
        let (leaving, changing) = self.shard.hosted_rooms.leaving(session.rooms(), instead);
        let limit = JoinLimit { rooms_max: max, leaving, sharers: session.flow.sharers() };
        let joined = self.join_room(open, (name, room), limit);
        let rooms = self.shard.sessions.rooms_mut(open);
        match joined {
            Ok(member) => {
                if rooms.primary.is_none() && !changing {
                    rooms.primary = Some(member);
                }
                Ok(member)
            }
            // Joined again before the change that leaves it was answered: it is kept.
            Err(JoinError::Already(member)) if changing && rooms.primary == Some(member) => {
                if !instead && rooms.count >= max.saturating_add(leaving) {
                    return Err(JoinError::TooMany);
                }
                rooms.keeps_first |= !self.shard.hosted_rooms.is_awaiting(member);
                Err(JoinError::Already(member))
            }
            Err(error) => {
                self.io.metrics.table_refusals.add(u64::from(error == JoinError::Full));
                Err(error)
            }
        }
    }

    /// Operation 12: goim's one room, changed or left. Answered with the room when messages to it
    /// arrive, never before: a request behind it does not hasten the answer.
    pub(super) fn change_room(&mut self, open: Open, header: Header, body: &[u8]) -> Option<Open> {
        let change = match ChangeRoom::parse(body) {
            Ok(change) => change,
            Err(error) => {
                return self.refuse(open, header, error.error_code(), "the room's key is malformed");
            }
        };
        let Some(room) = change.room else { return self.leave_first_room(open, header) };
        if !self.may_enter(&open, room.as_str()) {
            return self.refuse(open, header, ErrorCode::FORBIDDEN, NOT_YOURS);
        }
        let name = self.context.names.room(room.as_str());
        let (rooms, own) = (&self.shard.hosted_rooms, self.shard.sessions.of(&open).rooms());
        if rooms.membership(name, own).is_some_and(|member| rooms.is_awaiting(member)) {
            return self.refuse(open, header, ErrorCode::BUSY, "the room is being joined");
        }
        if rooms.changes(own) >= CHANGES_MAX {
            let why = "too many changes of rooms wait for their answers";
            return self.refuse(open, header, ErrorCode::BUSY, why);
        }
        // The old room is left when the new one is entered: a request that is refused leaves
        // everything as it was.
        match self.enter(&open, room.as_str(), name, true) {
            Ok(member) | Err(JoinError::Already(member)) => {
                if self.shard.hosted_rooms.must_wait(member, Awaiting::Change, header.sequence) {
                    return Some(open);
                }
                // Changes that wait are answered now, for this one is certain to leave their rooms.
                let open = self.answer_waiting_changes(open, None)?;
                let open = self.move_to(open, member)?;
                self.room_changed(open, header, room.as_str())
            }
            Err(JoinError::TooMany) => {
                self.refuse(open, header, ErrorCode::TOO_LARGE, "the connection is in too many rooms")
            }
            Err(JoinError::Full) => self.refuse(open, header, ErrorCode::BUSY, "the room table is full"),
        }
    }

    /// A ChangeRoom without a room. It can't be refused, so changes before it are answered: it
    /// leaves their rooms.
    fn leave_first_room(&mut self, open: Open, header: Header) -> Option<Open> {
        let mut open = self.answer_waiting_changes(open, None)?;
        if let Some(member) = self.shard.sessions.of(&open).rooms().primary {
            open = self.leave_member(open, member)?;
        }
        self.room_changed(open, header, "")
    }

    /// Answers each ChangeRoom that waits for its room's home, the oldest first; only those older
    /// than the one of `newest`, if that is given. For requests that leave their rooms in any case:
    /// a client that is answered before the home knows of it may miss a message. `None` when an
    /// answer ended the connection.
    fn answer_waiting_changes(&mut self, mut open: Open, newest: Option<MemberIndex>) -> Option<Open> {
        loop {
            let rooms = &self.shard.hosted_rooms;
            let members = rooms.memberships(self.shard.sessions.of(&open).rooms());
            let older = members.skip_while(|member| newest.is_some_and(|newest| *member != newest));
            let older = older.filter(|member| Some(*member) != newest && rooms.awaits_change(*member));
            let Some(member) = older.last() else { return Some(open) };
            open = self.answer_waiting(open, member)?;
        }
    }

    /// Answers the request that waits with a member: it had its effect until now. `None` when the
    /// answer ended the connection.
    fn answer_waiting(&mut self, open: Open, member: MemberIndex) -> Option<Open> {
        let room = self.shard.hosted_rooms.room_of(member);
        let (_, awaiting, sequence) = self.shard.hosted_rooms.take_awaiting(member);
        self.member_ready(open, room, (awaiting, sequence), self.shard.hosted_rooms.total(room))
    }

    /// Makes a membership that of the connection's first room, and ends that of the room before
    /// unless it was joined again. `None` when that ended the connection.
    fn move_to(&mut self, open: Open, member: MemberIndex) -> Option<Open> {
        let rooms = self.shard.sessions.rooms_mut(&open);
        let keeps = std::mem::take(&mut rooms.keeps_first);
        match rooms.primary.replace(member).filter(|old| *old != member && !keeps) {
            Some(old) => self.leave_member(open, old),
            None => Some(open),
        }
    }

    fn room_changed(&mut self, open: Open, header: Header, room: &str) -> Option<Open> {
        let reply = Header { operation: Operation::CHANGE_ROOM, ..header }.reply(room.len() as u32);
        self.reply(open, reply, |body| body.copy_from_slice(room.as_bytes()))
    }

    /// Operation 104: one more room.
    pub(super) fn join(&mut self, open: Open, header: Header, body: &[u8]) -> Option<Open> {
        let join = match Join::parse(body) {
            Ok(join) => join,
            Err(error) => return self.refuse(open, header, error.error_code(), "the Join is malformed"),
        };
        if !self.may_enter(&open, join.room.as_str()) {
            return self.joined(open, header.sequence, join.room, Err(ErrorCode::FORBIDDEN));
        }
        let name = self.context.names.room(join.room.as_str());
        if !self.admits_post(&open, name.home(self.outbox.workers())) {
            return self.joined(open, header.sequence, join.room, Err(ErrorCode::BUSY));
        }
        let result = match self.enter(&open, join.room.as_str(), name, false) {
            Err(JoinError::Already(member)) if self.shard.hosted_rooms.is_awaiting(member) => {
                Err(ErrorCode::ALREADY)
            }
            Ok(member) | Err(JoinError::Already(member)) => {
                if self.shard.hosted_rooms.must_wait(member, Awaiting::Join, header.sequence) {
                    return Some(open);
                }
                Ok(self.shard.hosted_rooms.total(self.shard.hosted_rooms.room_of(member)))
            }
            Err(JoinError::TooMany) => Err(ErrorCode::TOO_LARGE),
            Err(JoinError::Full) => Err(ErrorCode::BUSY),
        };
        self.joined(open, header.sequence, join.room, result)
    }

    /// There is no history yet, so nothing was recovered: the reply says that the client may have
    /// missed something.
    fn joined(
        &mut self,
        open: Open,
        sequence: i32,
        room: RoomKey<'_>,
        members: Result<u32, ErrorCode>,
    ) -> Option<Open> {
        self.io.metrics.errors.add(u64::from(members.is_err()));
        let reply = JoinReply {
            result: members.map(|_| ()),
            recovered: false,
            position: Position::default(),
            members: members.unwrap_or(0),
            room,
        };
        let header = Header::new(Operation::JOIN_REPLY, sequence, reply.encoded_size() as u32);
        self.reply(open, header, |body| {
            reply.emit(body);
        })
    }

    /// Operation 106: one room less.
    pub(super) fn leave_room(&mut self, mut open: Open, header: Header, body: &[u8]) -> Option<Open> {
        let room = match Leave::parse(body) {
            Ok(leave) => leave.room,
            Err(error) => {
                return self.refuse(open, header, error.error_code(), "the room's key is malformed");
            }
        };
        let name = self.context.names.room(room.as_str());
        let member = self.shard.hosted_rooms.membership(name, self.shard.sessions.of(&open).rooms());
        if let Some(member) = member {
            open = self.leave_member(open, member)?;
        }
        self.io.metrics.errors.add(u64::from(member.is_none()));
        let reply = LeaveReply { result: member.map(|_| ()).ok_or(ErrorCode::NOT_FOUND), room };
        let header = header.reply(reply.encoded_size() as u32);
        self.reply(open, header, |body| {
            reply.emit(body);
        })
    }

    /// Ends a membership. A request that still waits for the room's home is answered first: it had
    /// its effect until now. `None` when that answer ended the connection.
    fn leave_member(&mut self, open: Open, member: MemberIndex) -> Option<Open> {
        let open = self.answer_waiting(open, member)?;
        let shard = &mut self.shard;
        shard.hosted_rooms.leave(&mut shard.texts, member, shard.sessions.rooms_mut(&open));
        Some(open)
    }

    /// A room's home has answered the first members here; `None`: it has no room for the room.
    pub(super) fn room_ready(&mut self, name: Fingerprint, total: Option<u32>, appearance: u32) {
        let Some(room) = self.shard.hosted_rooms.find(name) else { return };
        if self.shard.hosted_rooms.appearance(room) != appearance {
            return; // its members have left since; those of today wait for their own answer
        }
        self.shard.hosted_rooms.set_ready(room, total.is_some());
        let is_home = name.home(self.outbox.workers()) == self.outbox.me();
        if let Some(total) = total.filter(|_| !is_home) {
            self.shard.hosted_rooms.set_total(room, total);
        }
        self.shard.hosted_rooms.begin_pass(room);
        // An answer may end connections, this member's or others', and a login resumes requests.
        while let Some(member) = self.shard.hosted_rooms.next_in_pass() {
            let (session, awaiting, sequence) = self.shard.hosted_rooms.take_awaiting(member);
            let Some(session) = self.shard.sessions.at(session as usize) else { continue };
            let connection = session.connection;
            match (awaiting, total) {
                (Awaiting::Nothing, _) => continue,
                (Awaiting::Login, Some(_)) => self.login_answered(connection),
                (_, Some(total)) => {
                    if let Some(open) = self.shard.sessions.open(connection) {
                        let _ = self.member_ready(open, room, (awaiting, sequence), total);
                    }
                }
                (_, None) => self.member_refused(connection, member, room, (awaiting, sequence)),
            }
            self.end_if_answered(connection);
        }
    }

    fn member_ready(
        &mut self,
        open: Open,
        room: RoomIndex,
        (awaiting, sequence): (Awaiting, i32),
        total: u32,
    ) -> Option<Open> {
        let mut scratch = [0; 255];
        let text = self.shard.texts.read(self.shard.hosted_rooms.text(room), &mut scratch);
        match awaiting {
            Awaiting::Nothing => Some(open),
            Awaiting::Login => {
                debug_assert!(false, "a login that waits is not answered yet");
                Some(open)
            }
            Awaiting::Join => match RoomKey::parse(text.as_bytes()) {
                Ok(key) => self.joined(open, sequence, key, Ok(total)),
                Err(_) => Some(open),
            },
            Awaiting::Change => {
                let name = self.shard.hosted_rooms.name(room);
                let own = self.shard.sessions.of(&open).rooms();
                let Some(member) = self.shard.hosted_rooms.membership(name, own) else { return Some(open) };
                // Changes before this one come first: this one leaves the room of the last of them.
                let open = self.answer_waiting_changes(open, Some(member))?;
                let open = self.move_to(open, member)?;
                self.room_changed(open, Header::new(Operation::CHANGE_ROOM, sequence, 0), text)
            }
        }
    }

    fn member_refused(
        &mut self,
        connection: ConnectionId,
        member: MemberIndex,
        room: RoomIndex,
        (awaiting, sequence): (Awaiting, i32),
    ) {
        let mut scratch = [0; 255];
        let shard = &mut self.shard;
        let text = shard.texts.read(shard.hosted_rooms.text(room), &mut scratch);
        let Some(who) = shard.sessions.identified(connection) else { return };
        let own = shard.sessions.rooms_mut(&who);
        shard.hosted_rooms.leave(&mut shard.texts, member, own);
        own.keeps_first &= shard.hosted_rooms.changes(own) > 0;
        if awaiting == Awaiting::Login {
            own.refused = Some(RoomRefusal::Full);
            return self.login_answered(connection);
        }
        let Some(open) = shard.sessions.open(connection) else { return };
        let _ = match awaiting {
            Awaiting::Nothing | Awaiting::Login => Some(open),
            Awaiting::Join => match RoomKey::parse(text.as_bytes()) {
                Ok(key) => self.joined(open, sequence, key, Err(ErrorCode::BUSY)),
                Err(_) => Some(open),
            },
            Awaiting::Change => {
                let request = Header::new(Operation::CHANGE_ROOM, sequence, 0);
                self.refuse(open, request, ErrorCode::BUSY, "the room table is full")
            }
        };
    }
}
