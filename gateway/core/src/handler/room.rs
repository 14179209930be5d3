//! Rooms, as clients ask for them.

use super::Handler;
use crate::access::{self, RoomAccess};
use crate::address::Fingerprint;
use crate::message::ROOMS_SIZE_MAX;
use crate::router::rooms::{Awaiting, JoinError, JoinLimit, MemberIndex, RoomRefusal};
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
    pub(crate) fn may_enter(&self, connection: ConnectionId, room: &str) -> bool {
        let access = self.policy.room_access.of(room);
        let Some(session) = self.shard.sessions.get(connection) else { return false };
        if access == RoomAccess::Open || session.service {
            return true;
        }
        let mut scratch = [0; ROOMS_SIZE_MAX];
        let grants = session.grants();
        access == RoomAccess::Claim
            && !grants.is_none()
            && access::lists(self.shard.texts.read(grants, &mut scratch), room)
    }

    /// Joins a room. Where records are missing that only wait for homes to hear of rooms without members, homes hear of them
    /// first.
    pub(super) fn join_room(
        &mut self,
        connection: ConnectionId,
        room: (Fingerprint, &str),
        limit: JoinLimit,
    ) -> Result<MemberIndex, JoinError> {
        let index = connection.index() as u32;
        let join = |shard: &mut Shard| {
            let session = shard.sessions.get_mut(connection).ok_or(JoinError::Full)?;
            shard.rooms.join(&mut shard.texts, room, index, &mut session.rooms, limit)
        };
        let joined = join(&mut self.shard);
        if joined != Err(JoinError::Full) || !self.shard.rooms.lacks_records() {
            return joined;
        }
        self.tell_counts();
        join(&mut self.shard)
    }

    /// Puts a connection into a room, `instead` of its first room or besides its others. A ChangeRoom that waits for its home
    /// leaves a room as soon as it is answered, so that room does not count here.
    fn enter(
        &mut self,
        connection: ConnectionId,
        room: &str,
        name: Fingerprint,
        instead: bool,
    ) -> Result<MemberIndex, JoinError> {
        let max = self.context.settings.tables.rooms_per_connection_max;
        let session = self.shard.sessions.get(connection).ok_or(JoinError::Full)?;
        let (leaving, changing) = self.shard.rooms.leaving(&session.rooms, instead);
        let limit = JoinLimit { rooms_max: max, leaving, sharers: session.flow.sharers() };
        let joined = self.join_room(connection, (name, room), limit);
        let rooms = &self.shard.rooms;
        let session = self.shard.sessions.get_mut(connection).ok_or(JoinError::Full)?;
        match joined {
            Ok(member) => {
                if session.rooms.primary.is_none() && !changing {
                    session.rooms.primary = Some(member);
                }
                Ok(member)
            }
            // Joined again before the change that leaves it was answered: it is kept.
            Err(JoinError::Already(member)) if changing && session.rooms.primary == Some(member) => {
                if !instead && session.rooms.count >= max.saturating_add(leaving) {
                    return Err(JoinError::TooMany);
                }
                session.rooms.keeps_first |= !rooms.is_awaiting(member);
                Err(JoinError::Already(member))
            }
            Err(error) => {
                self.io.metrics.table_refusals.add(u64::from(error == JoinError::Full));
                Err(error)
            }
        }
    }

    /// Operation 12: goim's one room, changed or left. Answered with the room when messages to it arrive, never before: a
    /// request behind it does not hasten the answer.
    pub(crate) fn change_room(&mut self, connection: ConnectionId, header: Header, body: &[u8]) {
        let change = match ChangeRoom::parse(body) {
            Ok(change) => change,
            Err(error) => {
                return self.refuse(connection, header, error.error_code(), "the room's key is malformed");
            }
        };
        let Some(room) = change.room else { return self.leave_first_room(connection, header) };
        if !self.may_enter(connection, room.as_str()) {
            return self.refuse(connection, header, ErrorCode::FORBIDDEN, NOT_YOURS);
        }
        let name = self.context.names.room(room.as_str());
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let rooms = &self.shard.rooms;
        let is_awaited = |member: MemberIndex| rooms.is_awaiting(member);
        if rooms.membership(name, &session.rooms).is_some_and(is_awaited) {
            return self.refuse(connection, header, ErrorCode::BUSY, "the room is being joined");
        }
        if rooms.changes(&session.rooms) >= CHANGES_MAX {
            let why = "too many changes of rooms wait for their answers";
            return self.refuse(connection, header, ErrorCode::BUSY, why);
        }
        // The old room is left when the new one is entered: a request that is refused leaves everything as it was.
        match self.enter(connection, room.as_str(), name, true) {
            Ok(member) | Err(JoinError::Already(member)) => {
                // Changes that wait are answered now only where this one is certain to leave their rooms.
                if !self.shard.rooms.must_wait(member, Awaiting::Change, header.sequence)
                    && self.settle_changes(connection, None)
                    && self.move_to(connection, member)
                {
                    self.room_changed(connection, header, room.as_str());
                }
            }
            Err(JoinError::TooMany) => {
                self.refuse(connection, header, ErrorCode::TOO_LARGE, "the connection is in too many rooms");
            }
            Err(JoinError::Full) => {
                self.refuse(connection, header, ErrorCode::BUSY, "the room table is full")
            }
        }
    }

    /// A ChangeRoom without a room. It can't be refused, so changes before it are answered: it leaves their rooms.
    fn leave_first_room(&mut self, connection: ConnectionId, header: Header) {
        if !self.settle_changes(connection, None) {
            return;
        }
        let primary = self.shard.sessions.get(connection).and_then(|session| session.rooms.primary);
        if primary.is_none_or(|member| self.leave_member(connection, member)) {
            self.room_changed(connection, header, "");
        }
    }

    /// Answers each ChangeRoom that waits for its room's home, the oldest first; only those older than the one of `newest`, if
    /// that is given. For requests that leave their rooms in any case: whoever is answered before the home knows of it may
    /// miss a message. False when an answer ended the connection.
    fn settle_changes(&mut self, connection: ConnectionId, newest: Option<MemberIndex>) -> bool {
        loop {
            let Some(session) = self.shard.sessions.get(connection) else { return false };
            let rooms = &self.shard.rooms;
            let members = rooms.memberships(&session.rooms);
            let older = members.skip_while(|member| newest.is_some_and(|newest| *member != newest));
            let older = older.filter(|member| Some(*member) != newest && rooms.awaits_change(*member));
            match older.last() {
                Some(member) => {
                    if !self.settle(connection, member) {
                        return false;
                    }
                }
                None => return true,
            }
        }
    }

    /// Answers the request that waits with a member: it had its effect until now. False when the answer ended the connection.
    fn settle(&mut self, connection: ConnectionId, member: MemberIndex) -> bool {
        let room = self.shard.rooms.room_of(member);
        let (_, awaiting, sequence) = self.shard.rooms.take_awaiting(member);
        self.member_ready(connection, room, (awaiting, sequence), self.shard.rooms.total(room));
        self.shard.sessions.get(connection).is_some_and(|session| session.is_open())
    }

    /// Makes a membership that of the connection's first room, and ends that of the room before unless it was joined again.
    /// False when that ended the connection.
    fn move_to(&mut self, connection: ConnectionId, member: MemberIndex) -> bool {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
        let keeps = std::mem::take(&mut session.rooms.keeps_first);
        let old = session.rooms.primary.replace(member).filter(|old| *old != member && !keeps);
        old.is_none_or(|old| self.leave_member(connection, old))
    }

    fn room_changed(&mut self, connection: ConnectionId, header: Header, room: &str) {
        let reply = Header { operation: Operation::CHANGE_ROOM, ..header }.reply(room.len() as u32);
        self.reply(connection, reply, |body| body.copy_from_slice(room.as_bytes()));
    }

    /// Operation 104: one more room.
    pub(crate) fn join(&mut self, connection: ConnectionId, header: Header, body: &[u8]) {
        let join = match Join::parse(body) {
            Ok(join) => join,
            Err(error) => {
                return self.refuse(connection, header, error.error_code(), "the Join is malformed");
            }
        };
        if !self.may_enter(connection, join.room.as_str()) {
            return self.joined(connection, header.sequence, join.room, Err(ErrorCode::FORBIDDEN));
        }
        let name = self.context.names.room(join.room.as_str());
        if !self.admits_post(connection, name.home(self.outbox.workers())) {
            return self.joined(connection, header.sequence, join.room, Err(ErrorCode::BUSY));
        }
        match self.enter(connection, join.room.as_str(), name, false) {
            Err(JoinError::Already(member)) if self.shard.rooms.is_awaiting(member) => {
                self.joined(connection, header.sequence, join.room, Err(ErrorCode::ALREADY));
            }
            Ok(member) | Err(JoinError::Already(member)) => {
                if !self.shard.rooms.must_wait(member, Awaiting::Join, header.sequence) {
                    let total = self.shard.rooms.total(self.shard.rooms.room_of(member));
                    self.joined(connection, header.sequence, join.room, Ok(total));
                }
            }
            Err(JoinError::TooMany) => {
                self.joined(connection, header.sequence, join.room, Err(ErrorCode::TOO_LARGE));
            }
            Err(JoinError::Full) => self.joined(connection, header.sequence, join.room, Err(ErrorCode::BUSY)),
        }
    }

    /// There is no history yet, so nothing was recovered: the client is told that it may have missed something.
    fn joined(
        &mut self,
        connection: ConnectionId,
        sequence: i32,
        room: RoomKey<'_>,
        members: Result<u32, ErrorCode>,
    ) {
        self.io.metrics.errors.add(u64::from(members.is_err()));
        let reply = JoinReply {
            result: members.map(|_| ()),
            recovered: false,
            position: Position::default(),
            members: members.unwrap_or(0),
            room,
        };
        let header = Header::new(Operation::JOIN_REPLY, sequence, reply.encoded_size() as u32);
        self.reply(connection, header, |body| {
            reply.emit(body);
        });
    }

    /// Operation 106: one room less.
    pub(crate) fn leave_room(&mut self, connection: ConnectionId, header: Header, body: &[u8]) {
        let room = match Leave::parse(body) {
            Ok(leave) => leave.room,
            Err(error) => {
                return self.refuse(connection, header, error.error_code(), "the room's key is malformed");
            }
        };
        let name = self.context.names.room(room.as_str());
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let member = self.shard.rooms.membership(name, &session.rooms);
        if member.is_some_and(|member| !self.leave_member(connection, member)) {
            return;
        }
        self.io.metrics.errors.add(u64::from(member.is_none()));
        let reply = LeaveReply { result: member.map(|_| ()).ok_or(ErrorCode::NOT_FOUND), room };
        let header = header.reply(reply.encoded_size() as u32);
        self.reply(connection, header, |body| {
            reply.emit(body);
        });
    }

    /// Ends a membership. A request that still waits for the room's home is answered first: it had its effect until now.
    /// False when that answer ended the connection.
    fn leave_member(&mut self, connection: ConnectionId, member: MemberIndex) -> bool {
        if !self.settle(connection, member) {
            return false;
        }
        match self.shard.sessions.get_mut(connection).filter(|session| session.is_open()) {
            Some(session) => self.shard.rooms.leave(&mut self.shard.texts, member, &mut session.rooms),
            None => return false,
        }
        true
    }

    /// A room's home has answered the first members here; `None`: it has no room for the room.
    pub(crate) fn room_ready(&mut self, name: Fingerprint, total: Option<u32>, appearance: u32) {
        let Some(room) = self.shard.rooms.find(name) else { return };
        if self.shard.rooms.appearance(room) != appearance {
            return; // its members have left since; those of today wait for their own answer
        }
        self.shard.rooms.set_ready(room, total.is_some());
        let is_home = name.home(self.outbox.workers()) == self.outbox.me();
        if let Some(total) = total.filter(|_| !is_home) {
            self.shard.rooms.set_total(room, total);
        }
        let mut next = self.shard.rooms.first_member(room);
        while let Some(member) = next {
            next = self.shard.rooms.next_member(member);
            let (session, awaiting, sequence) = self.shard.rooms.take_awaiting(member);
            let Some(session) = self.shard.sessions.at(session as usize) else { continue };
            let connection = session.connection;
            if awaiting == Awaiting::Nothing {
                continue;
            }
            match total {
                Some(total) => self.member_ready(connection, room, (awaiting, sequence), total),
                None => self.member_refused(connection, member, room, (awaiting, sequence)),
            }
        }
    }

    fn member_ready(
        &mut self,
        connection: ConnectionId,
        room: crate::router::rooms::RoomIndex,
        (awaiting, sequence): (Awaiting, i32),
        total: u32,
    ) {
        let mut scratch = [0; 255];
        let text = self.shard.texts.read(self.shard.rooms.text(room), &mut scratch);
        match awaiting {
            Awaiting::Nothing => {}
            Awaiting::Login => self.login_answered(connection),
            Awaiting::Join => {
                if let Ok(key) = RoomKey::parse(text.as_bytes()) {
                    self.joined(connection, sequence, key, Ok(total));
                }
            }
            Awaiting::Change => {
                let name = self.shard.rooms.name(room);
                let session = self.shard.sessions.get(connection);
                let member = session.and_then(|session| self.shard.rooms.membership(name, &session.rooms));
                // Changes before this one come first: this one leaves the room of the last of them.
                let moves = |member| {
                    self.settle_changes(connection, Some(member)) && self.move_to(connection, member)
                };
                if member.is_some_and(moves) {
                    self.room_changed(connection, Header::new(Operation::CHANGE_ROOM, sequence, 0), text);
                }
            }
        }
    }

    fn member_refused(
        &mut self,
        connection: ConnectionId,
        member: MemberIndex,
        room: crate::router::rooms::RoomIndex,
        (awaiting, sequence): (Awaiting, i32),
    ) {
        let mut scratch = [0; 255];
        let text = self.shard.texts.read(self.shard.rooms.text(room), &mut scratch);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            self.shard.rooms.leave(&mut self.shard.texts, member, &mut session.rooms);
            session.rooms.keeps_first &= self.shard.rooms.changes(&session.rooms) > 0;
        }
        match awaiting {
            Awaiting::Nothing => {}
            Awaiting::Login => {
                if let Some(session) = self.shard.sessions.get_mut(connection) {
                    session.rooms.refused = Some(RoomRefusal::Full);
                }
                self.login_answered(connection);
            }
            Awaiting::Join => {
                if let Ok(key) = RoomKey::parse(text.as_bytes()) {
                    self.joined(connection, sequence, key, Err(ErrorCode::BUSY));
                }
            }
            Awaiting::Change => {
                let request = Header::new(Operation::CHANGE_ROOM, sequence, 0);
                self.refuse(connection, request, ErrorCode::BUSY, "the room table is full");
            }
        }
    }
}
