//! Clients that have ended their side and still read (RFC 9293, 3.6): all that came before the end
//! is answered, then the connection ends.
//!
//! ```text
//!   the peer's FIN ─► nothing is due ──────────────► the backend sends what is queued, and ends it
//!                 ├─► some waits in the backlog ─┐         ▲
//!                 └─► others make an answer ─────┴─ unread ┘ the last answer is queued
//! ```
//!
//! The backend ends no connection that is left unread, so a stop is all that it takes: the backlog
//! and a rate stop the connection anyway, and answers that others make (of a login, a message, a
//! room) are one more reason.
//!
//! Bounds: an answer takes the turns of a few workers, and a login its time-out. A client that
//! takes nothing of what is queued for it goes after `session.slow_consumer_timeout_ms`.

use super::Handler;
use crate::metrics::SlowReason;
use crate::session::Phase;
use netpoll::{Backend, ConnectionId, Queues};

impl<B: Backend> Handler<B> {
    /// A client has ended its side, behind all that was received.
    pub(crate) fn peer_finished(&mut self, connection: ConnectionId) {
        let is_due = self.has_answers_due(connection);
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.finish();
        if is_due {
            session.flow.set_due(true);
            self.io.set_receiving(connection, false);
        }
        self.watch_finished(connection);
    }

    /// Whether a client is still to have an answer that others make.
    pub(crate) fn has_answers_due(&self, connection: ConnectionId) -> bool {
        let Some(session) = self.shard.sessions.get(connection) else { return false };
        let rooms = &self.shard.hosted_rooms;
        match session.phase {
            Phase::Verifying | Phase::Registering => true,
            Phase::Open => {
                session.answers_due > 0
                    || rooms.memberships(session.rooms()).any(|member| rooms.is_awaiting(member))
            }
            Phase::Vacant | Phase::Handshake | Phase::Unauthenticated | Phase::Closing => false,
        }
    }

    /// An answer that others made was queued: with the last one a client that has ended its side is
    /// let go.
    pub(super) fn end_if_answered(&mut self, connection: ConnectionId) {
        let is_held = self.shard.sessions.get(connection).is_some_and(|session| session.flow.is_due());
        if is_held && !self.has_answers_due(connection) {
            self.receive_again(connection);
        }
    }

    /// Whether a logged-in client that has ended its side takes nothing of what is queued for it.
    pub(super) fn is_finished_and_stalled(&self, connection: ConnectionId) -> bool {
        let is_finished =
            self.shard.sessions.get(connection).is_some_and(|session| session.flow.is_finished());
        let stalled = self.io.queues().stalled_for(connection, self.turn.now);
        is_finished && stalled >= self.policy.slow_consumer_timeout
    }

    /// Ends a client that takes nothing.
    pub(super) fn close_finished(&mut self, connection: ConnectionId) {
        self.close_slow(connection, SlowReason::Stalled);
    }

    /// Has a logged-in client that has ended its side looked at, for as long as it is there.
    pub(super) fn watch_finished(&mut self, connection: ConnectionId) {
        let is_watched = self
            .shard
            .sessions
            .get(connection)
            .is_some_and(|session| session.is_open() && session.flow.is_finished());
        if let Some(next) = self.open_deadline(connection).filter(|_| is_watched) {
            self.shard.sessions.timers.set(connection.index(), next);
        }
    }
}
