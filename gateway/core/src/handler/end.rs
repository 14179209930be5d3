//! How connections end: the last word, which [`super::linger`] gives the time to arrive.

use super::Handler;
use super::linger::Answer;
use crate::address::Fingerprint;
use crate::message::{AuditKind, Message, NameKind};
use crate::metrics::{OperationClass, SlowReason};
use crate::session::{Phase, Session, User};
use crate::settings::ListenerKind;
use gateway_proto::body::{Closed, Name, Reason, Reconnect};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_close};
use netpoll::{Backend, ConnectionId, SharedBuffer};
use std::fmt::{Display, Write};
use std::time::Duration;

/// How often a stopped connection is looked at: a reload, or another connection of its user's that leaves, may shorten the stop.
const STOP_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Timers handled in a turn at most.
const TIMERS_PER_TURN: usize = 1024;

/// Text of at most 123 bytes (`REASON_SIZE_MAX`), written without allocating.
struct Brief {
    bytes: [u8; 123],
    len: usize,
}

impl Brief {
    fn of(text: &dyn Display) -> Brief {
        let mut brief = Brief { bytes: [0; 123], len: 0 };
        let _ = write!(brief, "{text}"); // an error means that it was cut
        brief
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Brief {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let cut = text.floor_char_boundary(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += cut;
        if cut == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

impl<B: Backend> Handler<B> {
    /// Ends a connection with a code and a reason as its last word (operation 111; over WebSocket a close frame
    /// besides). Its names and rooms are given up at once.
    pub(crate) fn end(&mut self, connection: ConnectionId, code: CloseCode, reason: &str) {
        self.end_for(connection, code, &reason);
    }

    pub(crate) fn listener_kind(&self, session: &Session) -> ListenerKind {
        self.context.settings.listeners[usize::from(session.listener)].kind
    }

    /// [`Handler::end`] with anything that can be written as the reason.
    pub(crate) fn end_for(&mut self, connection: ConnectionId, code: CloseCode, reason: &dyn Display) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        if session.phase == Phase::Closing {
            return;
        }
        if session.phase == Phase::Handshake {
            return self.refuse_handshake(connection, code);
        }
        if self.listener_kind(session) == ListenerKind::WebSocketEcho {
            return self.end_websocket(connection, code, reason); // who talks to an echo knows no frames
        }
        let websocket = session.websocket;
        let brief = Brief::of(reason);
        let closed = Closed { code, reason: Reason::truncated(brief.as_str()) };
        let header = Header::new(Operation::CLOSED, 0, closed.encoded_size() as u32);
        let write = |body: &mut [u8]| {
            closed.emit(body);
        };
        let word = self.encode(connection, websocket, header, write);
        if word.is_some() {
            self.io.metrics.count_sent(OperationClass::Notice, header.frame_size());
        }
        let close = if websocket { self.close_frame(connection, code, &brief) } else { None };
        let last = match (word, close) {
            (Some(mut word), Some(close)) => match word.try_join(close) {
                Ok(()) => Some(word),
                Err(close) => {
                    let _ = self.io.backend.send(connection, word); // a farewell that does not fit is no loss
                    Some(close)
                }
            },
            (word, close) => word.or(close),
        };
        self.part(connection, code, last, Answer::Awaited);
    }

    /// Ends a WebSocket for a fault of its framing: a close frame, and no frame of ours.
    pub(crate) fn end_websocket(&mut self, connection: ConnectionId, code: CloseCode, reason: &dyn Display) {
        let close = self.close_frame(connection, code, &Brief::of(reason));
        self.part(connection, code, close, Answer::Awaited);
    }

    /// The peer's close frame, answered with its own code (RFC 6455 §5.5.1).
    pub(crate) fn answer_close(&mut self, connection: ConnectionId, code: Option<CloseCode>) {
        let close = match code {
            Some(code) => self.close_frame(connection, code, &Brief::of(&"")),
            None => self.control_frame(connection, Opcode::Close, &[]),
        };
        self.part(connection, CloseCode::NORMAL, close, Answer::Came);
    }

    fn close_frame(
        &mut self,
        connection: ConnectionId,
        code: CloseCode,
        reason: &Brief,
    ) -> Option<SharedBuffer> {
        let mut payload = [0; 125];
        let size = emit_close(code, Reason::truncated(reason.as_str()), &mut payload)?;
        self.control_frame(connection, Opcode::Close, &payload[..size])
    }

    /// A WebSocket control frame.
    pub(super) fn control_frame(
        &mut self,
        connection: ConnectionId,
        opcode: Opcode,
        payload: &[u8],
    ) -> Option<SharedBuffer> {
        self.with_block(connection, payload.len() + HEADER_SIZE_MAX, |handler| {
            handler.io.encoder.control(handler.io.backend.pools(), opcode, payload)
        })
    }

    /// Ends a connection with plain bytes as its last (an HTTP response).
    pub(crate) fn last_bytes(&mut self, connection: ConnectionId, bytes: &[u8], code: CloseCode) {
        let last = self.with_block(connection, bytes.len(), |handler| {
            handler.io.encoder.bytes(handler.io.backend.pools(), bytes)
        });
        self.part(connection, code, last, Answer::Came);
    }

    /// Ends a connection without a word.
    pub(crate) fn abort(&mut self, connection: ConnectionId, code: CloseCode) {
        if self.shard.sessions.get(connection).is_some_and(Session::is_open) {
            self.audit(connection, AuditKind::Kicked(code));
        }
        self.leave(connection);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.set_close_code(session.close_code().unwrap_or(code));
        }
        self.stop_lingering(connection);
        self.io.backend.close(connection);
    }

    /// A peer that does not take what it is sent.
    pub(crate) fn end_slow(&mut self, connection: ConnectionId, reason: SlowReason) {
        let is_live = |session: &Session| session.phase != Phase::Closing;
        if !self.shard.sessions.get(connection).is_some_and(is_live) {
            return; // several messages of one slice found its queue full
        }
        self.io.metrics.slow_closes_for(reason).add(1);
        self.end(connection, CloseCode::SLOW_CONSUMER, "the connection takes messages too slowly");
    }

    fn part(
        &mut self,
        connection: ConnectionId,
        code: CloseCode,
        last: Option<SharedBuffer>,
        answer: Answer,
    ) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        if session.phase == Phase::Closing {
            return;
        }
        if session.is_open() {
            self.audit(connection, AuditKind::Kicked(code));
        }
        let watch = self.close_watch(connection, answer);
        self.leave(connection);
        self.forget_stop(connection); // what comes is discarded from here on
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.set_close_code(code);
        }
        let store = self.io.backend.send_store();
        if store.used == store.max {
            self.make_room_in_store(connection); // else the last word could be lost
        }
        self.linger(connection, last, watch);
    }

    /// Gives up a session's names and rooms. Nothing is routed to it from here on.
    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        if matches!(session.phase, Phase::Registering | Phase::Open) {
            if session.key_number() > 0 {
                self.io.metrics.token_keys.remove(session.key_number());
            }
            let names =
                [(NameKind::Key, self.own_key_name(session)), (NameKind::User, self.user_name(session))];
            let from = self.address(connection);
            let workers = self.outbox.workers();
            for (kind, name) in names {
                let Some(name) = name else { continue };
                self.outbox.send(name.home(workers), Message::Release { kind, name, from });
            }
        }
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            self.shard.rooms.leave_all(&mut self.shard.texts, &mut session.rooms);
        }
        self.shard.sessions.forget(&mut self.shard.texts, connection);
    }

    /// A session's key.
    pub(crate) fn key_text<'s>(&self, session: &Session, scratch: &'s mut [u8; 255]) -> &'s str {
        if !session.key.is_none() {
            return self.shard.texts.read(session.key, scratch);
        }
        let made = self.context.names.made_key(self.address(session.connection));
        scratch[..made.len()].copy_from_slice(&made);
        std::str::from_utf8(&scratch[..made.len()]).unwrap_or_default()
    }

    /// The name of the key that a client brought; `None` when the server made its key.
    pub(crate) fn own_key_name(&self, session: &Session) -> Option<Fingerprint> {
        (!session.key.is_none()).then(|| self.key_name(session))
    }

    /// The name of a session's key.
    pub(crate) fn key_name(&self, session: &Session) -> Fingerprint {
        self.context.names.key(self.key_text(session, &mut [0; 255]))
    }

    /// The name that a session's user is known by.
    pub(crate) fn user_name(&self, session: &Session) -> Option<Fingerprint> {
        match session.user() {
            User::Anonymous => None,
            User::Mid(mid) => Some(self.context.names.mid(mid)),
            User::Uid(uid) => {
                let mut scratch = [0; 255];
                Some(self.context.names.uid(self.shard.texts.read(uid, &mut scratch)))
            }
        }
    }

    /// The server drains: the client is told when and where to come back.
    pub(crate) fn send_away(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        if session.is_open() {
            let values = self.policy.values();
            let (min, max) = values.reconnect_delay;
            let address = Name::parse(values.reconnect_address.as_bytes()).ok();
            if let Ok(notice) = Reconnect::new(min.as_millis() as u32, max.as_millis() as u32, address) {
                let header = Header::new(Operation::RECONNECT, 0, notice.encoded_size() as u32);
                self.reply(connection, header, |body| {
                    notice.emit(body);
                });
            }
        }
        self.end(connection, CloseCode::SHUTDOWN, "the server is shutting down");
    }

    /// Fires the timers that are due, and ends frames that are overdue, if they may `fire` in this turn.
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

    /// A connection's one timer: login, idleness, the end of its token, the end of a stop, or the end of the peer's moment.
    fn timer_fired(&mut self, index: usize) {
        let Some(session) = self.shard.sessions.at(index) else { return };
        let connection = session.connection;
        let now = self.turn.now;
        let policy = &self.policy;
        match session.phase {
            Phase::Vacant => {}
            Phase::Closing => self.linger_is_over(connection),
            Phase::Handshake | Phase::Unauthenticated | Phase::Verifying | Phase::Registering => {
                let opened_at = session.opened_at.before(now);
                let deadline = opened_at + policy.auth_timeout + self.stood_still(opened_at);
                if now < deadline {
                    return self.shard.sessions.timers.set(index, deadline);
                }
                self.end(connection, CloseCode::AUTH_TIMEOUT, "no login in time");
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
            self.end(connection, CloseCode::TOKEN_EXPIRED, "the token has ended; log in with a new one");
        } else if self.idle_deadline(connection).is_some_and(|end| now >= end) {
            self.end(connection, CloseCode::IDLE_TIMEOUT, "nothing was heard for too long");
        } else if let Some(next) = self.open_deadline(connection) {
            self.shard.sessions.timers.set(connection.index(), next);
        }
    }

    /// When a session will have been silent for too long; `None` while its socket is left unread for the rate. One that is held
    /// is looked at again: nothing could be heard of it.
    fn idle_deadline(&self, connection: ConnectionId) -> Option<netpoll::Timestamp> {
        let session = self.shard.sessions.get(connection).filter(|session| !session.flow.is_stopped())?;
        let heard_at = session.heard_at.before(self.turn.now);
        let since = if session.flow.is_held() { self.turn.now } else { heard_at };
        Some(since + self.policy.idle_timeout + self.stood_still(since))
    }

    /// When the timer of a session that is logged in has to fire next.
    pub(super) fn open_deadline(&self, connection: ConnectionId) -> Option<netpoll::Timestamp> {
        let session = self.shard.sessions.get(connection)?;
        let resume_at = session
            .flow
            .is_stopped()
            .then(|| self.resume_at(connection).min(self.turn.now + STOP_LOOK_EVERY));
        let ends = [session.ends.time(), self.idle_deadline(connection), resume_at];
        ends.into_iter().flatten().min()
    }
}
