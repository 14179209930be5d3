//! A connection's one timer: the login, idleness, the end of its token, of a stop, of its
//! lingering.

use super::Handler;
use super::goodbye::Goodbye;
use crate::session::Phase;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId, Timestamp};
use std::time::Duration;

/// Timers handled in a turn at most.
const TIMERS_PER_TURN: usize = 1024;

/// How often a stopped connection is looked at: a reload, or another connection of its user's that
/// leaves, may shorten the stop.
const STOP_LOOK_EVERY: Duration = Duration::from_secs(1);

impl<B: Backend> Handler<B> {
    /// Fires the timers that are due, and ends frames that are overdue, if they may `fire` in this
    /// turn.
    pub(crate) fn expire(&mut self, fire: bool) {
        for _ in 0..if fire { TIMERS_PER_TURN } else { 0 } {
            let Some(index) = self.shard.sessions.timers.expire(self.turn.now) else { break };
            self.timer_fired(index);
        }
        let lag = self.shard.sessions.timers.lag(self.turn.now);
        self.io.metrics.timer_lag_nanos.set(lag.as_nanos() as u64);
        if fire {
            self.expire_frames();
        }
    }

    /// A connection's one timer: login, idleness, the end of its token, the end of a stop, or the
    /// end of the peer's moment.
    fn timer_fired(&mut self, index: usize) {
        let Some(session) = self.shard.sessions.at(index) else { return };
        let connection = session.connection;
        let now = self.turn.now;
        let policy = &self.policy;
        match session.phase {
            Phase::Vacant => {}
            Phase::Closing => self.linger_is_over(connection),
            Phase::Handshake if let Some(refusal) = session.websocket_input.refusal() => {
                self.answer_refused(connection, refusal);
            }
            Phase::Handshake | Phase::Unauthenticated | Phase::Verifying | Phase::Registering => {
                let opened_at = session.opened_at.before(now);
                let deadline = opened_at + policy.auth_timeout + self.stood_still(opened_at);
                if now < deadline {
                    return self.shard.sessions.timers.set(index, deadline);
                }
                self.close(connection, Goodbye::Closed(CloseCode::AUTH_TIMEOUT, &"no login in time"));
            }
            Phase::Open => self.open_timer_fired(connection),
        }
    }

    fn open_timer_fired(&mut self, connection: ConnectionId) {
        let now = self.turn.now;
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let token_until = session.ends.time();
        if session.flow.is_stopped() && now >= self.resume_at(connection) {
            self.resume(connection);
        }
        if token_until.is_some_and(|end| now >= end) {
            self.close(
                connection,
                Goodbye::Closed(CloseCode::TOKEN_EXPIRED, &"the token has ended; log in with a new one"),
            );
        } else if self.is_finished_and_stalled(connection) {
            self.close_finished(connection);
        } else if self.idle_deadline(connection).is_some_and(|end| now >= end) {
            self.close(
                connection,
                Goodbye::Closed(CloseCode::IDLE_TIMEOUT, &"nothing was heard for too long"),
            );
        } else if let Some(next) = self.open_deadline(connection) {
            self.shard.sessions.timers.set(connection.index(), next);
        }
    }

    /// When a session will have been silent for too long; `None` while its socket is left unread
    /// for the rate. One that is left unread for another reason is looked at again: nothing could
    /// be heard of it.
    fn idle_deadline(&self, connection: ConnectionId) -> Option<netpoll::Timestamp> {
        let session = self.shard.sessions.get(connection).filter(|session| !session.flow.is_stopped())?;
        let heard_at = session.heard_at.before(self.turn.now);
        let is_unheard = session.flow.is_unread();
        let since = if is_unheard { self.turn.now } else { heard_at };
        Some(since + self.policy.idle_timeout + self.stood_still(since))
    }

    /// When the timer of a session that is logged in has to fire next.
    pub(super) fn open_deadline(&self, connection: ConnectionId) -> Option<netpoll::Timestamp> {
        let session = self.shard.sessions.get(connection)?;
        let resume_at = session
            .flow
            .is_stopped()
            .then(|| self.resume_at(connection).min(self.turn.now + STOP_LOOK_EVERY));
        let is_finished = session.flow.is_finished();
        let stalls_at = is_finished.then(|| self.turn.now + self.policy.slow_consumer_timeout);
        let ends = [session.ends.time(), self.idle_deadline(connection), resume_at, stalls_at];
        ends.into_iter().flatten().min()
    }

    /// After a poll that brought `count` completions: reads the time, and returns whether timers
    /// may fire in this turn.
    pub(super) fn take_time(&mut self, count: usize) -> bool {
        let now = self.io.now();
        self.turn.now = now;
        let late = self.turn.lateness.begin(now);
        if let Some(late) = late {
            self.io.metrics.late_nanos.add(late.as_nanos() as u64);
            let frames = now + late.min(self.policy.frame_timeout);
            self.turn.frames_due = self.turn.frames_due.max(frames);
        }
        let little = 2 * count <= self.context.settings.completions_per_turn_max;
        self.turn.lateness.has_read(now, late.is_some(), little)
    }

    /// How much of the time since then counts for no client, because the worker stood still.
    pub(super) fn stood_still(&self, since: Timestamp) -> Duration {
        self.turn.lateness.stood_still(since)
    }
}
