//! Frames over WebSocket: messages of whole frames, unmasked where they lie.

use super::Handler;
use super::framing::{Cut, Frame, Front, Intake, Sender, message_size_bound};
use super::goodbye::Goodbye;
use super::state::backlog::Rest;
use crate::session::{Session, Sessions};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{HEADER_SIZE, Header, Peek};
use gateway_proto::preface::Preface;
use gateway_proto::websocket::{Decoded, Decoder, Kind, Limits, Opcode, Role, WebSocketError};
use netpoll::{Backend, Buffer, ConnectionId};
use std::ops::Range;

/// The framing over WebSocket: its frames make messages, which hold frames of the protocol.
pub(super) struct Messages;

impl<B: Backend> Cut<B> for Messages {
    type Unit = (Range<usize>, Kind);
    type Limits = Limits;
    type Error = WebSocketError;

    fn limits(handler: &mut Handler<B>, sender: &Sender) -> Limits {
        let block = handler.io.pools().block_size_max();
        let session = handler.shard.sessions.get(sender.connection());
        let listener = session.map_or(0, |session| usize::from(session.listener));
        let listener = &handler.context.settings.listeners[listener];
        let mut size = listener.message_size_max.min(message_size_bound(block) as u64);
        if matches!(sender, Sender::Unauthenticated(_)) {
            size = size.min(u64::from(handler.body_size_max(sender)) + HEADER_SIZE as u64);
        }
        let fragments_max = listener.fragments_max;
        Limits { frame_payload_size_max: size, message_size_max: size, fragments_max }
    }

    fn look(
        sessions: &mut Sessions,
        sender: &Sender,
        limits: &Limits,
        bytes: &mut [u8],
    ) -> Result<Front<Self::Unit>, WebSocketError> {
        let session = match sender {
            Sender::Open(open) => Some(sessions.of_mut(open)),
            Sender::Unauthenticated(connection) => sessions.get_mut(connection.connection()),
        };
        front(session.and_then(|session| session.websocket_input.decoder()), limits, bytes)
    }

    fn look_at_carry(session: &mut Session, limits: &Limits) -> Result<Front<Self::Unit>, WebSocketError> {
        let Session { carry, websocket_input, .. } = session;
        front(websocket_input.decoder(), limits, carry.pending_mut())
    }

    fn unit(handler: &mut Handler<B>, sender: Sender, buffer: Buffer, (payload, kind): Self::Unit) -> Intake {
        handler.websocket_frame(sender, buffer, payload, kind)
    }

    fn unit_in_carry(
        handler: &mut Handler<B>,
        sender: Sender,
        size: usize,
        (payload, kind): Self::Unit,
    ) -> Intake {
        handler.carried_frame(sender, size, payload, kind)
    }

    fn refuse(handler: &mut Handler<B>, connection: ConnectionId, error: WebSocketError, _: Option<Preface>) {
        handler.close(connection, Goodbye::CloseFrame(error.close_code(), &error));
    }
}

fn front(
    decoder: Option<&mut Decoder>,
    limits: &Limits,
    bytes: &mut [u8],
) -> Result<Front<(Range<usize>, Kind)>, WebSocketError> {
    let Some(decoder) = decoder else {
        debug_assert!(false, "a connection whose frames are handled has a decoder");
        return Ok(Front::Incomplete { needed: bytes.len() + 1 });
    };
    Ok(match decoder.decode(bytes, limits, Role::Server)? {
        Decoded::Frame { consumed, payload, kind } => Front::Whole { size: consumed, unit: (payload, kind) },
        Decoded::Incomplete { needed } => Front::Incomplete { needed },
    })
}

impl<B: Backend> Handler<B> {
    /// A frame that was decoded in the carry.
    fn carried_frame(
        &mut self,
        sender: Sender,
        consumed: usize,
        payload: Range<usize>,
        kind: Kind,
    ) -> Intake {
        let connection = sender.connection();
        let Some(session) = self.shard.sessions.get_mut(connection) else { return Intake::Over };
        if session.carry.assembled() == 0 {
            return match session.carry.take(consumed) {
                Some(frame) => self.websocket_frame(sender, frame, payload, kind),
                None => Intake::Over,
            };
        }
        if let Kind::Data { last, .. } = kind {
            session.flow.charge(1);
            let intake = self.count_empty(sender, &payload, &kind);
            let (Intake::From(sender), Some(session)) = (intake, self.shard.sessions.get_mut(connection))
            else {
                return Intake::Over;
            };
            session.carry.keep_fragment(payload, consumed);
            return if last { self.assembled_message(sender) } else { Intake::From(sender) };
        }
        let mut copy = [0; 125];
        let size = payload.len().min(copy.len());
        copy[..size].copy_from_slice(&session.carry.pending_mut()[payload][..size]);
        session.carry.skip(consumed);
        self.websocket_control(connection, &copy[..size], kind);
        self.intake(connection)
    }

    /// Counts a data frame that brings nothing, as a ping is counted: no frame of the protocol in
    /// it would be, neither before the login nor after it.
    fn count_empty(&mut self, sender: Sender, payload: &Range<usize>, kind: &Kind) -> Intake {
        if !payload.is_empty() || !matches!(kind, Kind::Data { .. }) {
            return Intake::From(sender);
        }
        let connection = sender.connection();
        self.admits_control(connection);
        self.intake(connection)
    }

    /// A frame that ends `buffer`.
    fn websocket_frame(
        &mut self,
        sender: Sender,
        buffer: Buffer,
        payload: Range<usize>,
        kind: Kind,
    ) -> Intake {
        let connection = sender.connection();
        let sender = match self.count_empty(sender, &payload, &kind) {
            Intake::From(sender) => sender,
            over => return over,
        };
        match kind {
            Kind::Data { text: true, .. } => {
                let why = "frames come in binary messages";
                self.close(connection, Goodbye::CloseFrame(CloseCode::UNSUPPORTED_DATA, &why));
                Intake::Over
            }
            Kind::Data { first: true, last: true, .. } => self.message_frames(sender, buffer, payload.start),
            Kind::Data { last, .. } => {
                self.io.metrics.straddles.add(1);
                self.count_fragment(connection);
                let fragment = &buffer.as_slice()[payload];
                let Some(size) = self.may_carry(connection, fragment.len()) else { return Intake::Over };
                self.grow_carry(connection, size, |carry, pools| carry.append_fragment(pools, fragment));
                match self.intake(connection) {
                    Intake::From(sender) if last => self.assembled_message(sender),
                    intake => intake,
                }
            }
            Kind::Ping | Kind::Pong | Kind::Close { .. } => {
                self.websocket_control(connection, &buffer.as_slice()[payload], kind);
                self.intake(connection)
            }
        }
    }

    fn assembled_message(&mut self, sender: Sender) -> Intake {
        let session = self.shard.sessions.get_mut(sender.connection());
        let message = session.and_then(|session| {
            let size = session.carry.assembled();
            session.carry.take(size)
        });
        match message {
            Some(message) => self.message_frames(sender, message, 0),
            None => Intake::From(sender), // a message without a byte
        }
    }

    fn websocket_control(&mut self, connection: ConnectionId, payload: &[u8], kind: Kind) {
        if matches!(kind, Kind::Ping | Kind::Pong) && !self.admits_control(connection) {
            return;
        }
        match kind {
            Kind::Ping => match self.control_frame(connection, Opcode::Pong, payload) {
                Some(pong) => {
                    self.send(connection, pong);
                }
                None => self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
            },
            Kind::Close { code, .. } => self.close(connection, Goodbye::CloseAnswer(code)),
            Kind::Pong | Kind::Data { .. } => {}
        }
    }

    /// The frames of one message, which `buffer` ends with; the first begins at `start`. Those
    /// behind an Auth wait for its answer.
    pub(super) fn message_frames(&mut self, sender: Sender, mut buffer: Buffer, mut start: usize) -> Intake {
        let connection = sender.connection();
        let mut intake = Intake::From(sender);
        while start < buffer.len() {
            let sender = match intake {
                Intake::From(sender) => sender,
                Intake::Waits => {
                    self.keep_rest(connection, &buffer.as_slice()[start..]);
                    return self.intake(connection);
                }
                Intake::Over => return Intake::Over,
            };
            if self.has_had_its_part(&sender, &buffer) {
                buffer.advance(start);
                self.leave_for_later(Rest::Message(buffer));
                return Intake::From(sender);
            }
            let bytes = &buffer.as_slice()[start..];
            match Header::peek(bytes, self.body_size_max(&sender)) {
                Ok(Peek::Frame(header)) => {
                    let (end, body_start) = (start + header.frame_size(), start + HEADER_SIZE);
                    if end == buffer.len() {
                        return self.frame(sender, Frame { header, buffer, body_start });
                    }
                    let frame = Frame { header, buffer: buffer.split_to(end), body_start };
                    intake = self.frame(sender, frame);
                    start = 0;
                }
                Ok(Peek::Incomplete { .. }) => {
                    let why = "a WebSocket message holds whole frames";
                    self.close(connection, Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
                    return Intake::Over;
                }
                Err(error) => {
                    let preface = Preface::of(bytes);
                    self.refuse_frame(connection, error, preface);
                    return Intake::Over;
                }
            }
        }
        intake
    }

    /// Keeps the rest of a message, in front of what has come since, until the login is answered.
    fn keep_rest(&mut self, connection: ConnectionId, rest: &[u8]) {
        if let Some(size) = self.may_carry(connection, rest.len()) {
            self.grow_carry(connection, size, |carry, pools| carry.put_first(pools, rest));
        }
    }
}
