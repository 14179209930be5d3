//! How connections end: one [`Handler::close`], with the last that the client is sent.
//! [`super::linger`] gives it the time to arrive.

use super::Handler;
use super::goodbye::{Answer, Brief, Goodbye};
use crate::listener::{Application, Framing};
use crate::message::{AuditKind, Message, NameKind};
use crate::metrics::{OperationClass, SlowReason};
use crate::session::{Phase, Session};
use gateway_proto::body::{Closed, Name, Reason, Reconnect};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_close};
use netpoll::{Backend, ConnectionId, Priority, Queues, SharedBuffer};
use std::fmt::Display;

impl<B: Backend> Handler<B> {
    /// Ends a connection, unless it is ending already. Its names and rooms are given up at once;
    /// nothing is routed to it from here on.
    pub(crate) fn close(&mut self, connection: ConnectionId, goodbye: Goodbye<'_>) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let goodbye = match goodbye {
            Goodbye::Closed(..) if session.phase == Phase::Handshake => goodbye.before_upgrade(),
            Goodbye::Closed(code, reason) if self.is_echo(session) => Goodbye::CloseFrame(code, reason),
            goodbye => goodbye,
        };
        if let Goodbye::Silent(code) = goodbye {
            return self.abort(connection, code);
        }
        if session.phase == Phase::Closing {
            return;
        }
        let framing = session.framing;
        let (last, answer) = match goodbye {
            Goodbye::Closed(code, reason) => {
                (self.closed_frame(connection, framing, code, reason), Answer::Awaited)
            }
            Goodbye::CloseFrame(code, reason) => {
                (self.close_frame(connection, code, &Brief::of(reason)), Answer::Awaited)
            }
            Goodbye::CloseAnswer(Some(code)) => {
                (self.close_frame(connection, code, &Brief::of(&"")), Answer::Came)
            }
            Goodbye::CloseAnswer(None) => (self.control_frame(connection, Opcode::Close, &[]), Answer::Came),
            Goodbye::Http(_, bytes) => {
                let last = self.with_block(connection, bytes.len(), |handler| handler.io.bytes(bytes));
                (last, Answer::Came)
            }
            Goodbye::Silent(_) => return,
        };
        self.part(connection, goodbye.code(), last, answer);
    }

    /// Whether the session's frames are echoed.
    pub(crate) fn is_echo(&self, session: &Session) -> bool {
        self.context.settings.listeners[usize::from(session.listener)].application == Application::Echo
    }

    /// Operation 111, over WebSocket with a close frame behind it.
    fn closed_frame(
        &mut self,
        connection: ConnectionId,
        framing: Framing,
        code: CloseCode,
        reason: &dyn Display,
    ) -> Option<SharedBuffer> {
        let brief = Brief::of(reason);
        let closed = Closed { code, reason: Reason::truncated(brief.as_str()) };
        let header = Header::new(Operation::CLOSED, 0, closed.encoded_size() as u32);
        let write = |body: &mut [u8]| {
            closed.emit(body);
        };
        let word = self.encode(connection, framing, header, write);
        if word.is_some() {
            self.io.metrics.count_sent(OperationClass::Notice, header.frame_size());
        }
        let close = match framing {
            Framing::WebSocket => self.close_frame(connection, code, &brief),
            Framing::Tcp => None,
        };
        match (word, close) {
            (Some(mut word), Some(close)) => match word.try_join(close) {
                Ok(()) => Some(word),
                Err(close) => {
                    let _ = self.io.send(connection, word, Priority::Reply); // one that does not fit is no loss
                    Some(close)
                }
            },
            (word, close) => word.or(close),
        }
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
            handler.io.control_frame(opcode, payload)
        })
    }

    /// Ends a connection at once.
    fn abort(&mut self, connection: ConnectionId, code: CloseCode) {
        if self.shard.sessions.get(connection).is_some_and(Session::is_open) {
            self.audit(connection, AuditKind::Kicked(code));
        }
        self.leave(connection);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.set_close_code(session.close_code().unwrap_or(code));
        }
        self.stop_lingering(connection);
        self.io.close(connection);
    }

    /// Ends a connection that does not take what it is sent: its last word comes next.
    pub(crate) fn close_slow(&mut self, connection: ConnectionId, reason: SlowReason) {
        let is_live = |session: &Session| session.phase != Phase::Closing;
        if !self.shard.sessions.get(connection).is_some_and(is_live) {
            return; // several messages of one slice found its queue full
        }
        self.io.metrics.slow_closes_for(reason).add(1);
        self.drop_unsent(connection);
        let why = "the connection takes messages too slowly";
        self.close(connection, Goodbye::Closed(CloseCode::SLOW_CONSUMER, &why));
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
        let store = self.io.queues().send_store();
        if store.used == store.max {
            self.make_room_in_store(connection); // else the last word could be lost
        }
        self.linger(connection, last, watch);
    }

    /// Gives up a session's names and rooms. Nothing is routed to it from here on.
    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        if let Some(number) = session.verifying() {
            self.outbox.withdraw(number);
        }
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
        let shard = &mut self.shard;
        shard.sessions.leave_rooms(&mut shard.hosted_rooms, &mut shard.texts, connection);
        self.shard.sessions.forget(&mut self.shard.texts, connection);
    }

    /// The server drains: the client receives when and where to come back.
    pub(crate) fn send_away(&mut self, connection: ConnectionId) {
        if let Some(open) = self.shard.sessions.open(connection) {
            let values = self.policy.values();
            let (min, max) = values.reconnect.delay;
            let address = Name::parse(values.reconnect.address.as_bytes()).ok();
            if let Ok(notice) = Reconnect::new(min.as_millis() as u32, max.as_millis() as u32, address) {
                let header = Header::new(Operation::RECONNECT, 0, notice.encoded_size() as u32);
                let _ = self.reply(open, header, |body| {
                    notice.emit(body);
                });
            }
        }
        self.close(connection, Goodbye::Closed(CloseCode::SHUTDOWN, &"the server is shutting down"));
    }
}
