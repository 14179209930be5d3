//! How connections share a turn: what each receive is handled of now, and what waits in the
//! backlog ([`super::state::backlog`] has the picture and the bounds).

use super::Handler;
use super::state::backlog::{BACKLOG_PER_TURN, RESTS_MAX, Rest};
use netpoll::{Backend, Buffer, ConnectionId};

impl<B: Backend> Handler<B> {
    /// Keeps what is left of the receive at hand for a later turn.
    pub(super) fn leave_for_later(&mut self, rest: Rest) {
        let place = self.turn.backlog.rests.iter_mut().find(|place| place.is_none());
        debug_assert!(place.is_some(), "a receive leaves a message and a stream at most");
        if let Some(place) = place {
            *place = Some(rest);
        }
    }

    /// Handles what a connection has brought by `handle`, as far as it may now; the rest waits.
    pub(super) fn in_turn(&mut self, connection: ConnectionId, handle: impl FnOnce(&mut Self)) {
        if self.turn.backlog.frames_max != u32::MAX {
            return handle(self); // within a receive: its share is that one's
        }
        let share = if self.turn.backlog.has_room() { self.turn.backlog.share() } else { u32::MAX };
        self.turn.backlog.begin(share);
        handle(self);
        let frames = self.turn.backlog.end();
        self.turn.backlog.turn_frames = self.turn.backlog.turn_frames.saturating_add(frames);
        let mut waits = false;
        for place in 0..RESTS_MAX {
            let Some(rest) = self.turn.backlog.rests[place].take() else { break };
            self.enter_backlog(connection, rest);
            waits = true;
        }
        if waits {
            self.fall_behind(connection);
        }
    }

    /// Puts what was received of a connection behind what already waits of it; `None` when it does.
    /// Without room all that waits is handled first.
    pub(super) fn wait_behind(&mut self, connection: ConnectionId, buffer: Buffer) -> Option<Buffer> {
        if !self.turn.backlog.has_room() {
            self.catch_up(connection);
            return Some(buffer);
        }
        self.enter_backlog(connection, Rest::Stream(buffer));
        None
    }

    /// Puts what was received of a connection behind all that waits.
    fn enter_backlog(&mut self, connection: ConnectionId, rest: Rest) {
        self.turn.backlog.waiting.push_back((connection, rest));
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.begin_wait();
        }
    }

    /// Something that waited of the connection is handled now.
    fn leave_backlog(&mut self, connection: ConnectionId) {
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.end_wait();
        }
    }

    fn fall_behind(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.set_behind(true);
        self.io.set_receiving(connection, false);
    }

    /// Nothing waits of the connection any more.
    fn end_wait(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.set_behind(false);
        if session.is_open() {
            self.receive_again(connection);
        }
    }

    /// Handles a part of what waits.
    pub(crate) fn work_off(&mut self) {
        let mut left = BACKLOG_PER_TURN;
        while left > 0 {
            let Some((connection, rest)) = self.turn.backlog.waiting.pop_front() else { return };
            self.leave_backlog(connection);
            self.turn.backlog.begin(left);
            self.handle_rest(connection, rest);
            left = left.saturating_sub(self.turn.backlog.end().max(1));
            for place in (0..RESTS_MAX).rev() {
                if let Some(rest) = self.turn.backlog.rests[place].take() {
                    self.turn.backlog.waiting.push_front((connection, rest));
                    if let Some(session) = self.shard.sessions.get_mut(connection) {
                        session.flow.begin_wait();
                    }
                }
            }
            if self.shard.sessions.get(connection).is_some_and(|session| session.flow.waiting() == 0) {
                self.end_wait(connection);
            }
            self.handle_local();
        }
    }

    /// Handles all that waits of a connection.
    pub(super) fn catch_up(&mut self, connection: ConnectionId) {
        while let Some((_, rest)) = self.turn.backlog.waiting.remove_first(|(other, _)| *other == connection)
        {
            self.leave_backlog(connection);
            self.handle_rest(connection, rest);
            self.handle_local();
        }
        self.end_wait(connection);
    }
}
