//! Answers to the control thread's questions about connections and rooms.

use super::Handler;
use crate::InlineText;
use crate::address::Fingerprint;
use crate::message::{ConnectionRow, ControlMessage, Inspection, Query, RoomRow, SLOTS_PER_VISIT_MAX};
use crate::router::rooms::RoomIndex;
use crate::session::{Phase, Session, User};
use netpoll::{Backend, Queues};

impl<B: Backend> Handler<B> {
    /// Fills the list and sends it back.
    pub(crate) fn inspect(&mut self, mut inspection: Box<Inspection>) {
        match inspection.query() {
            Query::Connections { from, user, key } => {
                self.inspect_connections(&mut inspection, from, user, key)
            }
            Query::Connection(connection) => {
                if let Some(session) = self.shard.sessions.get(connection) {
                    inspection.push_connection(self.connection_row(session));
                }
            }
            Query::Rooms { from } => self.inspect_rooms(&mut inspection, from),
            Query::Room(name) => {
                if let Some(row) = self.room_row(name) {
                    inspection.push_room(row);
                }
            }
        }
        // A full mailbox loses the answer: the request times out at the control thread, which says
        // so to its client.
        let _ = self.outbox.control(ControlMessage::Inspected(inspection));
    }

    fn inspect_connections(
        &self,
        inspection: &mut Inspection,
        from: usize,
        user: Option<Fingerprint>,
        key: Option<Fingerprint>,
    ) {
        let end = self.shard.sessions.slots().min(from.saturating_add(SLOTS_PER_VISIT_MAX));
        for index in from..end {
            if inspection.is_full() {
                return inspection.finish(Some(index));
            }
            let Some(session) = self.shard.sessions.at(index) else { continue };
            let wanted = user.is_none_or(|user| self.user_name(session) == Some(user))
                && key.is_none_or(|key| session.is_open() && self.key_name(session) == key);
            if wanted && session.phase != Phase::Closing {
                inspection.push_connection(self.connection_row(session));
            }
        }
        inspection.finish((end < self.shard.sessions.slots()).then_some(end));
    }

    fn connection_row(&self, session: &Session) -> ConnectionRow {
        let mut scratch = [0; 255];
        let now = self.turn.now;
        let uid = match session.user() {
            User::Uid(uid) => InlineText::truncated(self.shard.texts.read(uid, &mut scratch)),
            User::Mid(_) | User::Anonymous => InlineText::EMPTY,
        };
        ConnectionRow {
            address: self.address(session.connection),
            listener: session.listener,
            authenticated: session.is_open(),
            mid: if let User::Mid(mid) = session.user() { mid } else { 0 },
            uid,
            key: InlineText::truncated(if session.is_open() {
                self.key_text(session, &mut scratch)
            } else {
                ""
            }),
            peer: session.peer(),
            connected_ms: now.since(session.opened_at.before(now)).as_millis() as u64,
            idle_ms: now.since(session.heard_at.before(now)).as_millis() as u64,
            rooms: u32::from(session.rooms().count),
            queued_bytes: self.io.queues().queued_bytes(session.connection) as u64,
            accepts: self.shard.sessions.accept_sets.size(session.accepts()) as u32,
        }
    }

    fn inspect_rooms(&self, inspection: &mut Inspection, from: usize) {
        for (visited, room) in self.shard.hosted_rooms.hosted(from as u32).enumerate() {
            if inspection.is_full() || visited == SLOTS_PER_VISIT_MAX {
                return inspection.finish(Some(room.0 as usize));
            }
            inspection.push_room(self.hosted_room_row(room));
        }
        inspection.finish(None);
    }

    /// A room that this worker is a host or the home of. The home without members does not know its
    /// key.
    fn room_row(&self, room: Fingerprint) -> Option<RoomRow> {
        if let Some(room) = self.shard.hosted_rooms.find(room) {
            return Some(self.hosted_room_row(room));
        }
        let total_members = self.shard.room_total(room)?;
        Some(RoomRow { room, name: InlineText::truncated(""), local_members: 0, total_members })
    }

    fn hosted_room_row(&self, room: RoomIndex) -> RoomRow {
        let rooms = &self.shard.hosted_rooms;
        RoomRow {
            room: rooms.name(room),
            name: InlineText::truncated(self.shard.texts.read(rooms.text(room), &mut [0; 255])),
            local_members: rooms.local(room),
            total_members: rooms.total(room),
        }
    }
}
