//! How fast a connection may ask, and what it may ask wrongly.
//!
//! ```text
//!   received ─► time pays, bytes are charged ─► frames: each is charged, refused or the end ─► above the burst? stop the socket
//!                                                                                 timer: paid down ─► receive again
//! ```
//!
//! `session::flow` has the arithmetic; here is what it means for a connection. Services are exempt
//! (`auth.service_scope`), echoes have no session to speak of. A connection that has not logged in
//! has a number of frames, not a rate.

use super::Handler;
use super::goodbye::Goodbye;
use crate::session::flow::Stage;
use crate::session::{CoarseInstant, Open, Phase};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, ConnectionId, Timestamp};

/// To a request above the rate.
const SLOW_DOWN: &str = "above the rate for too long: send less, or the connection is closed";

/// Whether a refusal is the fault of the request, and not of its time or its target.
fn is_faulty(code: ErrorCode) -> bool {
    use ErrorCode as E;
    [E::MALFORMED, E::NOT_AUTHENTICATED, E::FORBIDDEN, E::ALREADY, E::TOO_LARGE, E::UNSUPPORTED]
        .contains(&code)
}

impl<B: Backend> Handler<B> {
    /// Notes that `count` bytes were received now; returns the session's phase and listener, and
    /// whether earlier bytes wait for a later turn.
    pub(super) fn count_bytes(
        &mut self,
        connection: ConnectionId,
        count: usize,
    ) -> Option<(Phase, u8, bool)> {
        let now = CoarseInstant::of(self.turn.now);
        let session = self.shard.sessions.get_mut(connection)?;
        if now != session.heard_at {
            let allowance = self.policy.allowance(&session.flow);
            session.flow.pay(session.heard_at, now, &allowance);
            session.heard_at = now;
        }
        session.flow.charge_bytes(count);
        Some((session.phase, session.listener, session.flow.is_behind()))
    }

    /// Bytes were put back, and will be received once more.
    pub(super) fn return_bytes(&mut self, connection: ConnectionId, count: usize) {
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.return_bytes(count);
        }
    }

    /// Whether a request that was charged is to be handled, for a connection that has been above
    /// its rate.
    ///
    /// # Errors
    /// The request is refused. The proof is in it, unless the connection ends for it.
    pub(super) fn admits_above(&mut self, open: Open, header: Header) -> Result<Open, Option<Open>> {
        match self.stage(&open) {
            Stage::Within | Stage::Slowed => Ok(open),
            Stage::Refused => {
                self.io.metrics.rate_refused.add(1);
                self.note_refusal(&open);
                Err(self.refuse(open, header, ErrorCode::LIMITED, SLOW_DOWN))
            }
            Stage::Closed => {
                self.close_above(open);
                Err(None)
            }
        }
    }

    fn stage(&self, open: &Open) -> Stage {
        let flow = &self.shard.sessions.of(open).flow;
        flow.stage(&self.policy.allowance(flow), &self.policy.rate)
    }

    fn close_above(&mut self, open: Open) {
        self.io.metrics.rate_closed.add(1);
        let why = "above the rate for too long, and refusals did not help; come back and send less";
        self.close(open.connection(), Goodbye::Closed(CloseCode::RATE_LIMITED, &why));
    }

    /// Notes that the client is sent a refusal; true when it is the first since it was above its
    /// rate.
    fn note_refusal(&mut self, open: &Open) -> bool {
        self.shard.sessions.of_mut(open).flow.note_refusal(&self.policy.rate)
    }

    /// Whether a WebSocket ping is to be answered, or a pong taken. Before the login it is a frame
    /// like others.
    pub(super) fn admits_control(&mut self, connection: ConnectionId) -> bool {
        if let Some(open) = self.shard.sessions.open(connection) {
            return self.admits_open_control(open);
        }
        let Some(session) = self.shard.sessions.get(connection) else { return false };
        self.is_echo(session) || self.may_speak_before_login(connection)
    }

    fn admits_open_control(&mut self, open: Open) -> bool {
        self.turn.backlog.charge(1);
        let session = self.shard.sessions.of_mut(&open);
        session.flow.charge(1);
        if !session.flow.is_over() || session.service {
            return true;
        }
        match self.stage(&open) {
            Stage::Within | Stage::Slowed => true,
            Stage::Refused => {
                self.io.metrics.rate_refused.add(1);
                // A ping has no answer that refuses it: the first one is answered by an Error to a
                // heartbeat.
                if self.note_refusal(&open) {
                    let heartbeat = Header::new(Operation::HEARTBEAT, 0, 0);
                    let _ = self.refuse(open, heartbeat, ErrorCode::LIMITED, SLOW_DOWN);
                }
                false
            }
            Stage::Closed => {
                self.close_above(open);
                false
            }
        }
    }

    /// A fragment of a WebSocket message.
    pub(super) fn count_fragment(&mut self, connection: ConnectionId) {
        self.turn.backlog.charge(1);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.charge(1);
        }
    }

    /// Charges a message to a room for its deliveries; returns as how many messages, or `None` when
    /// there were too many of them: then it is to be refused.
    pub(super) fn admits_room(&mut self, from: &Open, members: u32) -> Option<u32> {
        let session = self.shard.sessions.of_mut(from);
        if session.service {
            return Some(0);
        }
        let allowance = self.policy.allowance(&session.flow);
        let charged = session.flow.charge_room(members, &allowance);
        self.io.metrics.rate_refused.add(u64::from(charged.is_none()));
        charged
    }

    /// A room whose size was not known turned out to have so many members: its message costs what
    /// it does to any other room.
    pub(super) fn settle_room(&mut self, from: &Open, prepaid: u8, members: u32) {
        let session = self.shard.sessions.of_mut(from);
        let allowance = self.policy.allowance(&session.flow);
        session.flow.settle_room(u32::from(prepaid), members, &allowance);
        // It may have been stopped for what is paid back now.
        if session.flow.is_stopped() && !session.flow.exceeds(&allowance) {
            self.resume(from.connection());
        } else {
            self.slow_down(from.connection());
        }
    }

    /// A frame before the login that is none: false when there were too many, and the connection is
    /// ending.
    pub(super) fn may_speak_before_login(&mut self, connection: ConnectionId) -> bool {
        let max = self.policy.rate.frames_before_login;
        let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
        let may = session.flow.fault(max);
        if !may {
            self.io.metrics.closes_before_login.add(1);
            let why = "too many frames before the login; the first one must be Auth";
            self.close(connection, Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
        }
        may
    }

    /// A request was refused with `code`: returns the proof if the connection is to be sent so, and
    /// ends it when it has made too many faulty ones.
    pub(super) fn may_err(&mut self, open: Open, code: ErrorCode) -> Option<Open> {
        let max = self.policy.rate.faulty_requests;
        let session = self.shard.sessions.of_mut(&open);
        if session.service || !is_faulty(code) || session.flow.fault(max) {
            return Some(open);
        }
        self.io.metrics.faulty_closes.add(1);
        let why = "too many requests were malformed, unknown or forbidden";
        self.close(open.connection(), Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
        None
    }

    // --- the socket --------------------------------------------------------------------------------------------------

    /// Leaves the socket unread while the debt exceeds the burst. Called after each receive.
    pub(super) fn slow_down(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let allowance = self.policy.allowance(&session.flow);
        let is_limited = session.phase == Phase::Open && !session.service && !session.flow.is_stopped();
        if !session.flow.exceeds(&allowance) || !is_limited {
            return;
        }
        session.flow.note_excess();
        session.flow.set_stopped(true);
        self.io.metrics.rate_slowed.add(1);
        self.io.metrics.rate_stopped.increment();
        self.io.set_receiving(connection, false);
        if let Some(next) = self.open_deadline(connection) {
            self.shard.sessions.timers.set(connection.index(), next);
        }
    }

    /// When time will have paid for what a stopped connection has sent.
    pub(super) fn resume_at(&self, connection: ConnectionId) -> Timestamp {
        let Some(session) = self.shard.sessions.get(connection) else { return self.turn.now };
        let allowance = self.policy.allowance(&session.flow);
        session.heard_at.before(self.turn.now)
            + CoarseInstant::duration(session.flow.ticks_to_burst(&allowance))
    }

    /// Time has paid.
    pub(super) fn resume(&mut self, connection: ConnectionId) {
        let now = CoarseInstant::of(self.turn.now);
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let allowance = self.policy.allowance(&session.flow);
        // Up to here the time is that of a stop.
        session.flow.pay(session.heard_at, now, &allowance);
        session.heard_at = now;
        session.flow.set_stopped(false);
        self.io.metrics.rate_stopped.decrement();
        self.receive_again(connection);
    }

    /// A connection is gone: if it was left unread, it no longer counts.
    pub(crate) fn forget_stop(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.flow.set_stopped(false) {
            self.io.metrics.rate_stopped.decrement();
        }
        if session.flow.set_held(false) {
            self.io.metrics.held.decrement();
        }
        self.end_uptake_wait(connection);
    }

    /// The user of a connection has so many connections now.
    pub(super) fn share_rate(&mut self, connection: ConnectionId, sharers: u8) {
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.set_sharers(sharers);
        }
    }
}
