//! Bytes to frames, and frames to handlers.
//!
//! ```text
//!   received ─► cut (TCP: frames; WebSocket: WebSocket frames, then the frames in a message) ─► frame ─► its operation
//!                └─ what has not come whole waits in the session's carry, and is completed by the next bytes
//! ```
//!
//! One loop serves every framing ([`Cut`]). It looks a session up once; from there on [`Intake`]
//! says what the next frame may do, and a frame of a logged-in client carries the proof of that
//! ([`Open`]).

use super::Handler;
use super::framing::{Cut, Frame, Front, Intake, Sender};
use super::goodbye::Goodbye;
use super::state::backlog::Rest;
use super::websocket::Messages;
use crate::listener::{Application, Framing};
use crate::message::AuditKind;
use crate::metrics::OperationClass;
use crate::session::flow::cost;
use crate::session::{Open, Packed, Phase, Session, Sessions};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{FrameError, HEADER_SIZE, Header, Operation, Peek};
use gateway_proto::preface::Preface;
use netpoll::{Backend, Buffer, ConnectionId, PoolSet};
use std::time::Duration;

/// How often a worker reports connections that speak another protocol.
const FOREIGN_INTERVAL: Duration = Duration::from_secs(60);

/// The framing over TCP: frames follow one another.
pub(super) struct Plain;

impl<B: Backend> Cut<B> for Plain {
    type Unit = Header;
    type Limits = u32;
    type Error = FrameError;

    #[inline]
    fn limits(handler: &mut Handler<B>, sender: &Sender) -> u32 {
        handler.body_size_max(sender)
    }

    #[inline]
    fn look(
        _: &mut Sessions,
        _: &Sender,
        body_size_max: &u32,
        bytes: &mut [u8],
    ) -> Result<Front<Header>, FrameError> {
        front(Header::peek(bytes, *body_size_max))
    }

    fn look_at_carry(session: &mut Session, body_size_max: &u32) -> Result<Front<Header>, FrameError> {
        front(Header::peek(session.carry.pending_mut(), *body_size_max))
    }

    #[inline]
    fn unit(handler: &mut Handler<B>, sender: Sender, buffer: Buffer, header: Header) -> Intake {
        handler.frame(sender, Frame { header, buffer, body_start: HEADER_SIZE })
    }

    fn unit_in_carry(handler: &mut Handler<B>, sender: Sender, size: usize, header: Header) -> Intake {
        let session = handler.shard.sessions.get_mut(sender.connection());
        match session.and_then(|session| session.carry.take(size)) {
            Some(buffer) => handler.frame(sender, Frame { header, buffer, body_start: HEADER_SIZE }),
            None => Intake::Over,
        }
    }

    fn refuse(
        handler: &mut Handler<B>,
        connection: ConnectionId,
        error: FrameError,
        preface: Option<Preface>,
    ) {
        handler.refuse_frame(connection, error, preface);
    }
}

fn front(peek: Result<Peek, FrameError>) -> Result<Front<Header>, FrameError> {
    Ok(match peek? {
        Peek::Frame(header) => Front::Whole { size: header.frame_size(), unit: header },
        Peek::Incomplete { needed } => Front::Incomplete { needed },
    })
}

impl<B: Backend> Handler<B> {
    /// Bytes of a connection.
    pub(crate) fn received(&mut self, connection: ConnectionId, mut buffer: Buffer) {
        let Some((phase, listener, is_behind)) = self.count_bytes(connection, buffer.len()) else { return };
        if is_behind && phase == Phase::Closing {
            self.catch_up(connection); // what waits is discarded
        } else if is_behind {
            match self.wait_behind(connection, buffer) {
                None => return,
                Some(back) => buffer = back,
            }
        }
        // What came before it waits for a block.
        if self.io.has_unread(connection) {
            let count = buffer.len();
            match self.io.unread(connection, buffer, usize::MAX) {
                Ok(()) => return self.return_bytes(connection, count),
                Err(back) => buffer = back,
            }
        }
        let listener = &self.context.settings.listeners[usize::from(listener)];
        let (application, framing) = (listener.application, listener.framing);
        self.in_turn(connection, |handler| match (phase, application) {
            (Phase::Closing, _) => handler.discard_until_close(connection, buffer.as_slice()),
            (Phase::Vacant, _) => {}
            (Phase::Handshake, _) => handler.handshake_received(connection, buffer),
            (_, Application::Goim) => handler.cut_by(framing, connection, buffer),
            (_, Application::Echo) => handler.echo_received(connection, &buffer),
        });
        self.slow_down(connection);
        self.await_uptake(connection);
    }

    /// Cuts bytes into frames and handles them.
    fn cut_by(&mut self, framing: Framing, connection: ConnectionId, buffer: Buffer) {
        match framing {
            Framing::Tcp => self.cut::<Plain>(connection, buffer),
            Framing::WebSocket => self.cut::<Messages>(connection, buffer),
        }
    }

    /// How large a frame's body may be.
    pub(super) fn body_size_max(&self, sender: &Sender) -> u32 {
        let settings = &self.context.settings;
        let max = settings.frame_body_size_max;
        match sender {
            Sender::Open(_) => max,
            Sender::Unauthenticated(_) => max.min(settings.auth_body_size_max),
        }
    }

    /// What becomes of the next bytes of a connection.
    pub(super) fn intake(&self, connection: ConnectionId) -> Intake {
        if let Some(open) = self.shard.sessions.open(connection) {
            return Intake::From(Sender::Open(open));
        }
        let phase = self.shard.sessions.get(connection).map_or(Phase::Vacant, |session| session.phase);
        match phase {
            Phase::Unauthenticated | Phase::Handshake => {
                Intake::From(Sender::Unauthenticated(Packed::new(connection)))
            }
            Phase::Verifying | Phase::Registering => Intake::Waits,
            Phase::Open | Phase::Closing | Phase::Vacant => Intake::Over,
        }
    }

    /// Whether the connection is ending, or gone.
    pub(super) fn is_over(&self, connection: ConnectionId) -> bool {
        self.shard.sessions.get(connection).is_none_or(|session| session.phase == Phase::Closing)
    }

    /// A stream of units: several to a buffer, cut anywhere. Only a unit that straddles two buffers
    /// is copied.
    pub(super) fn cut<C: Cut<B>>(&mut self, connection: ConnectionId, mut buffer: Buffer) {
        let mut intake = self.intake(connection);
        let is_carrying = |session: &Session| session.carry.pending() > 0;
        if self.shard.sessions.get(connection).is_some_and(is_carrying) {
            intake = self.complete_carry::<C>(connection, intake, &mut buffer);
        }
        while !buffer.is_empty() {
            let sender = match intake {
                Intake::From(sender) => sender,
                Intake::Waits => {
                    let count = buffer.len();
                    return self.carry_stream(connection, buffer.as_slice(), count);
                }
                Intake::Over => return self.discard_until_close(connection, buffer.as_slice()),
            };
            if self.has_had_its_part(&sender, &buffer) {
                return self.leave_for_later(Rest::Stream(buffer));
            }
            let limits = C::limits(self, &sender);
            match C::look(&mut self.shard.sessions, &sender, &limits, buffer.as_mut_slice()) {
                Ok(Front::Whole { size, unit }) if size < buffer.len() => {
                    let front = buffer.split_to(size);
                    intake = C::unit(self, sender, front, unit);
                }
                Ok(Front::Whole { unit, .. }) => {
                    C::unit(self, sender, buffer, unit);
                    return;
                }
                Ok(Front::Incomplete { needed }) => {
                    let count = buffer.len();
                    let Some(buffer) = self.wait_for_block(connection, buffer, count) else { return };
                    self.io.metrics.straddles.add(1);
                    return self.carry_stream(connection, buffer.as_slice(), needed);
                }
                Err(error) => {
                    let preface = Preface::of(buffer.as_slice());
                    C::refuse(self, connection, error, preface);
                    return self.discard_until_close(connection, buffer.as_slice());
                }
            }
        }
    }

    /// Whether the receive at hand has had its part, so that `left` of it has to wait. A block that
    /// is no receive buffer never waits: it is one message, of a pool that others are short of
    /// sooner.
    #[inline]
    pub(super) fn has_had_its_part(&mut self, sender: &Sender, left: &Buffer) -> bool {
        self.turn.backlog.is_used_up()
            && matches!(sender, Sender::Open(_))
            && self.io.pools().is_of(left, PoolSet::RECEIVE)
    }

    /// Handles what was left of an earlier receive.
    pub(super) fn handle_rest(&mut self, connection: ConnectionId, rest: Rest) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        match rest {
            Rest::Stream(buffer) => self.cut_by(session.framing, connection, buffer),
            Rest::Message(buffer) => {
                // The frames of one that is ending are no WebSocket frames, so they are not shown
                // to what looks for a close frame.
                if let Some(open) = self.shard.sessions.open(connection) {
                    self.message_frames(Sender::Open(open), buffer, 0);
                }
            }
        }
        self.slow_down(connection);
        self.await_uptake(connection);
    }

    /// Completes the units that began in earlier buffers with the front of this one, as far as they
    /// go.
    fn complete_carry<C: Cut<B>>(
        &mut self,
        connection: ConnectionId,
        mut intake: Intake,
        buffer: &mut Buffer,
    ) -> Intake {
        loop {
            let Intake::From(sender) = intake else { return intake };
            let limits = C::limits(self, &sender);
            let Some(session) = self.shard.sessions.get_mut(connection) else { return Intake::Over };
            let pending = session.carry.pending();
            if pending == 0 {
                return Intake::From(sender);
            }
            match C::look_at_carry(session, &limits) {
                Ok(Front::Whole { size, unit }) => intake = C::unit_in_carry(self, sender, size, unit),
                Ok(Front::Incomplete { needed }) => {
                    let missing = (needed - pending).min(buffer.len());
                    if missing == 0 {
                        return Intake::From(sender);
                    }
                    let whole = buffer.split_to(buffer.len());
                    let Some(whole) = self.wait_for_block(connection, whole, missing) else {
                        return Intake::From(sender); // the buffer is empty now
                    };
                    *buffer = whole;
                    self.carry(connection, &buffer.as_slice()[..missing], needed);
                    if self.is_over(connection) {
                        return Intake::Over; // the bytes did not get into the carry
                    }
                    buffer.advance(missing);
                    intake = Intake::From(sender);
                }
                Err(error) => {
                    let preface = Preface::of(session.carry.pending_mut());
                    C::refuse(self, connection, error, preface);
                    return Intake::Over;
                }
            }
        }
    }

    /// Ends a connection whose bytes are no frame; one that began in another protocol is told so,
    /// and now and then the log.
    pub(super) fn refuse_frame(
        &mut self,
        connection: ConnectionId,
        error: FrameError,
        preface: Option<Preface>,
    ) {
        let begins_so = self.shard.sessions.get(connection).is_some_and(|session| {
            session.phase == Phase::Unauthenticated && session.framing == Framing::Tcp
        });
        let Some(preface) = preface.filter(|_| begins_so) else {
            return self.close(connection, Goodbye::Closed(error.close_code(), &error));
        };
        if self.turn.now >= self.turn.foreign_due {
            self.turn.foreign_due = self.turn.now + FOREIGN_INTERVAL;
            self.tell_control(connection, AuditKind::Foreign(preface));
        }
        self.close(connection, Goodbye::Closed(error.close_code(), &preface));
    }

    /// Keeps bytes until more come; ends the connection when no block is free or too much would
    /// wait.
    pub(super) fn carry(&mut self, connection: ConnectionId, bytes: &[u8], needed: usize) {
        if let Some(size) = self.may_carry(connection, bytes.len()) {
            self.grow_carry(connection, size, |carry, pools| carry.append(pools, bytes, needed));
        }
    }

    /// Keeps bytes of the stream until more come. Where the connection ends over that, they are
    /// looked at like those that still come.
    fn carry_stream(&mut self, connection: ConnectionId, bytes: &[u8], needed: usize) {
        self.carry(connection, bytes, needed);
        self.discard_until_close(connection, bytes);
    }

    /// The carry's size with so many bytes more; ends the connection, and says `None`, when that
    /// exceeds the largest block.
    pub(super) fn may_carry(&mut self, connection: ConnectionId, count: usize) -> Option<usize> {
        let bound = self.io.pools().block_size_max();
        let session = self.shard.sessions.get(connection)?;
        let size = session.carry.assembled() + session.carry.pending() + count;
        if size <= bound {
            return Some(size);
        }
        match self.intake(connection) {
            Intake::Waits => {
                let why = "too much was sent before the login was answered";
                self.close(connection, Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
            }
            // Sizes are bounded when they are announced, by less than a block.
            Intake::From(_) | Intake::Over => {
                let why = "the message exceeds the largest block";
                self.close(connection, Goodbye::Closed(CloseCode::MESSAGE_TOO_BIG, &why));
            }
        }
        None
    }

    /// The login was answered: handles what came meanwhile.
    pub(super) fn resume_frames(&mut self, open: Open) {
        let connection = open.connection();
        self.in_turn(connection, |handler| handler.take_carried(open));
        self.slow_down(connection);
    }

    fn take_carried(&mut self, open: Open) {
        let connection = open.connection();
        let session = self.shard.sessions.of_mut(&open);
        let (framing, rest) = (session.framing, session.carry.assembled());
        // The rest of the message that the Auth frame came in; over TCP there are no messages.
        if rest > 0
            && let Some(message) = session.carry.take(rest)
        {
            self.message_frames(Sender::Open(open), message, 0);
        }
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let Some(buffer) = session.carry.take(session.carry.pending()) else { return };
        self.cut_by(framing, connection, buffer);
    }

    /// One frame. Inlined down to the echo, so that what is known of a frame stays in registers: as
    /// an argument of each function on the way it would be copied four times.
    #[inline(always)]
    pub(super) fn frame(&mut self, sender: Sender, frame: Frame) -> Intake {
        let (operation, size) = (frame.header.operation, frame.header.frame_size());
        self.io.metrics.count_received(OperationClass::of(operation), size);
        self.turn.backlog.charge(cost(operation));
        let open = match sender {
            Sender::Open(open) => open,
            Sender::Unauthenticated(connection) => {
                return self.frame_before_login(connection.connection(), frame);
            }
        };
        let session = self.shard.sessions.of_mut(&open);
        session.flow.charge(cost(operation));
        if session.flow.is_over() && !session.service {
            return self.frame_above_rate(open, frame);
        }
        match operation.is_application() {
            true => self.application(open, frame).into(),
            false => self.request(open, frame).into(),
        }
    }

    /// A frame of a connection that has been above its rate.
    fn frame_above_rate(&mut self, open: Open, frame: Frame) -> Intake {
        match self.admits_above(open, frame.header) {
            Ok(open) if frame.header.operation.is_application() => self.application(open, frame).into(),
            Ok(open) => self.request(open, frame).into(),
            Err(refused) => refused.into(),
        }
    }

    /// A frame of a connection that has not begun to log in: its Auth, or a fault.
    fn frame_before_login(&mut self, connection: ConnectionId, frame: Frame) -> Intake {
        let header = frame.header;
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.flow.charge(cost(header.operation));
        }
        if header.operation == Operation::AUTH {
            self.auth(connection, frame);
        } else if self.may_speak_before_login(connection) {
            self.refuse_before_login(connection, header, "the first frame must be Auth");
        }
        self.intake(connection)
    }

    /// Handles a request of a logged-in client, of the protocol's own. `None` when that ended the
    /// connection.
    fn request(&mut self, open: Open, frame: Frame) -> Option<Open> {
        let header = frame.header;
        match header.operation {
            Operation::HEARTBEAT => self.heartbeat(open, header),
            Operation::SEND_MESSAGE => self.send_message(open, frame),
            Operation::PUBLISH => self.publish(open, frame),
            Operation::CHANGE_ROOM => self.change_room(open, header, frame.body()),
            Operation::JOIN => self.join(open, header, frame.body()),
            Operation::LEAVE => self.leave_room(open, header, frame.body()),
            Operation::SUBSCRIBE => self.subscribe(open, header, frame.body(), true),
            Operation::UNSUBSCRIBE => self.subscribe(open, header, frame.body(), false),
            Operation::DELIVER_ACK => Some(open), // there is no history to move on in yet
            Operation::AUTH => self.refuse(open, header, ErrorCode::ALREADY, "the session is logged in"),
            operation => self.refuse(open, header, ErrorCode::UNSUPPORTED, not_offered(operation)),
        }
    }
}

/// Why an operation that is not offered is refused, and what to send instead.
const fn not_offered(operation: Operation) -> &'static str {
    match operation {
        Operation(..0) => "operations are not negative; an application's own are 18 to 99, and 200 and above",
        Operation::HEARTBEAT_REPLY
        | Operation::SEND_MESSAGE_REPLY
        | Operation::AUTH_REPLY
        | Operation::RAW
        | Operation::CHANGE_ROOM_REPLY
        | Operation::SUBSCRIBE_REPLY
        | Operation::UNSUBSCRIBE_REPLY
        | Operation::PUBLISH_REPLY
        | Operation::DELIVER
        | Operation::JOIN_REPLY
        | Operation::LEAVE_REPLY
        | Operation::RECONNECT
        | Operation::CLOSED
        | Operation::ERROR => "only the server sends this operation; send the request that it answers",
        Operation(100..=199) => {
            "not known to this server: 100 to 199 are extensions, of which a later version may offer it"
        }
        _ => {
            "goim's own and not offered here; an application's own operations are 18 to 99, and 200 and above"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::body::{REASON_SIZE_MAX, Reason};

    #[test]
    fn each_kind_of_operation_that_is_not_offered_is_told_apart() {
        let texts = [(-1, "negative"), (0, "goim's own"), (5, "only the server"), (112, "only the server")];
        for (operation, part) in texts.into_iter().chain([(108, "later version"), (199, "later version")]) {
            let text = not_offered(Operation(operation));
            assert!(text.contains(part) && text.len() <= REASON_SIZE_MAX, "{operation}: {text}");
            assert!(Reason::parse(text.as_bytes()).is_ok());
        }
    }
}
