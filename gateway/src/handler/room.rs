//! Rooms, as clients ask for them.

use crate::address::Fingerprint;
use crate::router::rooms::{Awaiting, JoinError, MemberIndex};
use crate::worker::Worker;
use gateway_proto::body::{ChangeRoom, Join, JoinReply, Leave, LeaveReply, Position, RoomKey};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, ConnectionId};

impl<B: Backend> Worker<B> {
    /// Puts a connection into a room, `instead` of its one room in goim's sense or besides its others.
    fn enter(
        &mut self,
        connection: ConnectionId,
        room: &str,
        name: Fingerprint,
        instead: bool,
    ) -> Result<MemberIndex, JoinError> {
        let max = self.context.settings.tables.rooms_per_connection_max;
        let session = self.shard.sessions.get_mut(connection).ok_or(JoinError::Full)?;
        // One more for a moment, if the room before is left as soon as this one is entered.
        let max = max.saturating_add(u8::from(instead && session.rooms.primary.is_some()));
        let index = connection.index() as u32;
        let member =
            self.shard.rooms.join(&mut self.shard.texts, (name, room), index, &mut session.rooms, max)?;
        if session.rooms.primary.is_none() {
            session.rooms.primary = Some(member);
        }
        Ok(member)
    }

    /// Operation 12: goim's one room, changed or left. Answered with the room when messages to it arrive.
    pub(crate) fn change_room(&mut self, connection: ConnectionId, header: Header, body: &[u8]) {
        let change = match ChangeRoom::parse(body) {
            Ok(change) => change,
            Err(error) => {
                return self.refuse(connection, header, error.error_code(), "the room's key is malformed");
            }
        };
        if !self.settle_change(connection) {
            return;
        }
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let primary = session.rooms.primary;
        let name = change.room.map(|room| self.context.names.room(room.as_str()));
        let joined = name.and_then(|name| self.shard.rooms.membership(name, &session.rooms));
        if let Some(member) = joined.filter(|member| self.shard.rooms.is_awaiting(*member)) {
            if joined != primary {
                return self.refuse(connection, header, ErrorCode::BUSY, "the room is being joined");
            }
            if !self.settle(connection, member) {
                return;
            }
        }
        let (Some(room), Some(name)) = (change.room, name) else {
            let primary = self.shard.sessions.get(connection).and_then(|session| session.rooms.primary);
            if primary.is_none_or(|member| self.leave_member(connection, member)) {
                self.room_changed(connection, header, "");
            }
            return;
        };
        // The old room is left when the new one is entered: a request that is refused leaves everything as it was.
        match self.enter(connection, room.as_str(), name, true) {
            Ok(member) | Err(JoinError::Already(member)) => {
                if !self.shard.rooms.must_wait(member, Awaiting::Change, header.sequence)
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

    /// Answers a ChangeRoom that still waits for its room's home, for another request builds on it. False when the answer
    /// ended the connection.
    fn settle_change(&mut self, connection: ConnectionId) -> bool {
        let Some(session) = self.shard.sessions.get(connection) else { return false };
        let changing = {
            let mut members = self.shard.rooms.memberships(&session.rooms);
            members.find(|member| self.shard.rooms.awaits_change(*member))
        };
        match changing {
            Some(member) => self.settle(connection, member),
            None => true,
        }
    }

    /// Answers the request that waits with a member: it had its effect until now. False when the answer ended the connection.
    fn settle(&mut self, connection: ConnectionId, member: MemberIndex) -> bool {
        let room = self.shard.rooms.room_of(member);
        let (_, awaiting, sequence) = self.shard.rooms.take_awaiting(member);
        self.member_ready(connection, room, (awaiting, sequence), self.shard.rooms.total(room));
        self.shard.sessions.get(connection).is_some_and(|session| session.is_open())
    }

    /// Makes a membership the connection's one room in goim's sense, and ends that of the room before. False when that ended
    /// the connection.
    fn move_to(&mut self, connection: ConnectionId, member: MemberIndex) -> bool {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
        let old = session.rooms.primary.replace(member).filter(|old| *old != member);
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
        if self.post.is_congested() {
            return self.joined(connection, header.sequence, join.room, Err(ErrorCode::BUSY));
        }
        if !self.settle_change(connection) {
            return;
        }
        let name = self.context.names.room(join.room.as_str());
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
        self.metrics.errors.add(u64::from(members.is_err()));
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
        if !self.settle_change(connection) {
            return;
        }
        let name = self.context.names.room(room.as_str());
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let member = self.shard.rooms.membership(name, &session.rooms);
        if member.is_some_and(|member| !self.leave_member(connection, member)) {
            return;
        }
        self.metrics.errors.add(u64::from(member.is_none()));
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
            Some(session) => self.shard.rooms.leave(member, &mut session.rooms),
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
        let is_home = name.home(self.post.workers()) == self.post.me();
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
                if member.is_some_and(|member| self.move_to(connection, member)) {
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
            self.shard.rooms.leave(member, &mut session.rooms);
        }
        match awaiting {
            Awaiting::Nothing => {}
            Awaiting::Login => {
                if let Some(session) = self.shard.sessions.get_mut(connection) {
                    session.rooms.refused = true;
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
