//! Connections that are left unread while what they post has to wait, and requests that are refused
//! for that.
//!
//! ```text
//!   a request that becomes a message ─► its destination takes it at once ─────────────────► posted
//!                                    ├─► it waits, and little does ──────────────────────► posted, as far as its share goes
//!                                    └─► much waits ─► posted, one message at least ─► the socket is left unread
//!                                                                                        │ at most 16 a turn, in order
//!                                                                      it drains ────────┴─► receive again
//! ```
//!
//! A request is refused with 503 where its connection has used up its share of the turn, so the
//! connection that posts most is refused, and one that posts now and then is not. `outbox::Outbox`
//! has the arithmetic.
//!
//! [`super::rate`] and [`super::answers`] stop sockets for other reasons: a connection is received
//! from again when all reasons are gone. Silence is not counted against a connection while it is
//! left unread.
//!
//! Bounds: as many connections are held as requests may wait; one more is not held. A hold ends
//! when the destination has taken most of what waits, which depends on no client.

use super::Handler;
use crate::address::WorkerId;
use crate::session::{CoarseInstant, Open};
use netpoll::{Backend, ConnectionId};

/// Held connections that are looked at in a turn at most.
const LOOKS_PER_TURN: usize = 16;

impl<B: Backend> Handler<B> {
    /// Whether a connection's request may become a message to `to`; if not, it is to be refused as
    /// busy.
    pub(super) fn admits_post(&mut self, from: &Open, to: WorkerId) -> bool {
        if self.outbox.is_free(to) {
            return true;
        }
        let is_held = self.shard.sessions.of(from).flow.is_held();
        let admits = self.outbox.admits(from.connection(), is_held, to);
        if self.outbox.is_pressed(to) {
            self.hold(from, to);
        }
        self.io.metrics.outbox_refusals.add(u64::from(!admits));
        admits
    }

    /// Leaves a connection unread until less waits for `to`.
    fn hold(&mut self, open: &Open, to: WorkerId) {
        if !self.held.has_place() || !self.shard.sessions.of_mut(open).flow.set_held(true) {
            return;
        }
        self.held.posts.push_back((open.connection(), to));
        self.io.metrics.held.increment();
        self.io.metrics.holds.add(1);
        self.io.set_receiving(open.connection(), false);
    }

    /// Receives again from connections as soon as there is room for their messages, or answers.
    pub(crate) fn release_held(&mut self) {
        for _ in 0..LOOKS_PER_TURN.min(self.held.posts.len()) {
            let Some((connection, to)) = self.held.posts.pop_front() else { break };
            if self.still_awaits_worker(connection, to) {
                self.held.posts.push_back((connection, to));
            }
        }
        self.look_at_uptake();
    }

    /// Receives again from a connection if there is room for its messages. True when it is held
    /// further.
    fn still_awaits_worker(&mut self, connection: ConnectionId, to: WorkerId) -> bool {
        if self.outbox.is_calm(to) || self.turn.is_stopping() {
            self.end_hold(connection);
            return false;
        }
        self.shard.sessions.get(connection).is_some_and(|session| session.flow.is_held())
    }

    fn end_hold(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.flow.set_held(false) {
            self.io.metrics.held.decrement();
            self.receive_again(connection);
        }
    }

    /// Receives again, unless there is another reason not to. The time in which nothing could be
    /// heard of the client is no silence of its own, and no time that it took for a frame.
    pub(super) fn receive_again(&mut self, connection: ConnectionId) {
        let now = CoarseInstant::of(self.turn.now);
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let allowance = self.policy.allowance(&session.flow);
        session.flow.pay(session.heard_at, now, &allowance);
        session.heard_at = now;
        if !session.carry.is_empty() {
            session.carry.begin(now);
        }
        if session.flow.is_finished() {
            let is_due = self.has_answers_due(connection);
            if let Some(session) = self.shard.sessions.get_mut(connection) {
                session.flow.set_due(is_due);
            }
        }
        if self.shard.sessions.get(connection).is_some_and(|session| !session.flow.is_unread()) {
            self.io.set_receiving(connection, true);
        }
    }
}
