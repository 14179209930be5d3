//! Bytes to frames over TCP, and frames to handlers.

use super::Handler;
use super::close::Goodbye;
use crate::message::AuditKind;
use crate::metrics::OperationClass;
use crate::session::Phase;
use crate::session::flow::cost;
use crate::settings::ListenerKind;
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{FrameError, HEADER_SIZE, Header, Operation, Peek};
use gateway_proto::preface::Preface;
use netpoll::{Backend, Buffer, ConnectionId};
use std::time::Duration;

/// How often a worker reports connections that speak another protocol.
const FOREIGN_INTERVAL: Duration = Duration::from_secs(60);

impl<B: Backend> Handler<B> {
    /// Bytes of a connection.
    pub(crate) fn received(&mut self, connection: ConnectionId, mut buffer: Buffer) {
        let Some((phase, listener)) = self.count_bytes(connection, buffer.len()) else { return };
        // What came before it waits for a block.
        if self.io.has_unread(connection) {
            let count = buffer.len();
            match self.io.unread(connection, buffer, usize::MAX) {
                Ok(()) => return self.return_bytes(connection, count),
                Err(back) => buffer = back,
            }
        }
        let kind = self.context.settings.listeners[usize::from(listener)].kind;
        match (phase, kind) {
            (Phase::Closing, _) => self.discard_until_close(connection, buffer.as_slice()),
            (Phase::Vacant, _) => {}
            (Phase::Handshake, _) => self.handshake_received(connection, buffer),
            (_, ListenerKind::Tcp) => self.frames_received(connection, buffer),
            (_, ListenerKind::WebSocket) => self.websocket_received(connection, buffer),
            (_, ListenerKind::WebSocketEcho) => self.echo_received(connection, &buffer),
        }
        self.slow_down(connection);
    }

    /// How large a frame's body may be now.
    pub(crate) fn body_size_max(&self, phase: Phase) -> u32 {
        let settings = &self.context.settings;
        let max = settings.frame_body_size_max;
        if phase == Phase::Open { max } else { max.min(settings.auth_body_size_max) }
    }

    /// Whether the session takes frames now; while its login is under way they wait in its carry.
    pub(crate) fn takes_frames(&self, connection: ConnectionId) -> Option<bool> {
        match self.shard.sessions.get(connection)?.phase {
            Phase::Open | Phase::Unauthenticated | Phase::Handshake => Some(true),
            Phase::Verifying | Phase::Registering => Some(false),
            Phase::Closing | Phase::Vacant => None,
        }
    }

    /// A stream of frames: several to a buffer, cut anywhere. Only a frame that straddles two buffers is copied.
    pub(crate) fn frames_received(&mut self, connection: ConnectionId, mut buffer: Buffer) {
        if !self.complete_carried_frames(connection, &mut buffer) {
            return;
        }
        while !buffer.is_empty() {
            let takes = match self.takes_frames(connection) {
                Some(takes) => takes,
                None => return,
            };
            if !takes {
                return self.carry(connection, buffer.as_slice(), buffer.len());
            }
            match self.peek(connection, buffer.as_slice()) {
                Some(Peek::Frame(header)) => {
                    let size = header.frame_size();
                    let rest = (size < buffer.len()).then(|| buffer.split_to(size));
                    match rest {
                        Some(frame) => self.frame(connection, header, frame, HEADER_SIZE),
                        None => return self.frame(connection, header, buffer, HEADER_SIZE),
                    }
                }
                Some(Peek::Incomplete { needed }) => {
                    let count = buffer.len();
                    let Some(buffer) = self.wait_for_block(connection, buffer, count) else { return };
                    self.io.metrics.straddles.add(1);
                    return self.carry(connection, buffer.as_slice(), needed);
                }
                None => return,
            }
        }
    }

    /// Completes the frames that began in earlier buffers with the front of this one; false when it is used up or the
    /// connection is ending.
    fn complete_carried_frames(&mut self, connection: ConnectionId, buffer: &mut Buffer) -> bool {
        loop {
            let Some(takes) = self.takes_frames(connection) else { return false };
            let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
            if session.carry.is_empty() {
                return !buffer.is_empty();
            }
            if !takes {
                self.carry(connection, buffer.as_slice(), buffer.len());
                return false;
            }
            let max = self.body_size_max_of(connection);
            let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
            match Header::peek(session.carry.pending_mut(), max) {
                Ok(Peek::Frame(header)) => {
                    if let Some(frame) = session.carry.take(header.frame_size()) {
                        self.frame(connection, header, frame, HEADER_SIZE);
                    }
                }
                Ok(Peek::Incomplete { needed }) => {
                    let missing = (needed - session.carry.pending()).min(buffer.len());
                    if missing == 0 {
                        return false;
                    }
                    let whole = buffer.split_to(buffer.len());
                    let Some(whole) = self.wait_for_block(connection, whole, missing) else { return false };
                    *buffer = whole;
                    self.carry(connection, &buffer.as_slice()[..missing], needed);
                    buffer.advance(missing);
                }
                Err(error) => {
                    let preface = Preface::of(session.carry.pending_mut());
                    self.refuse_frame(connection, error, preface);
                    return false;
                }
            }
        }
    }

    fn body_size_max_of(&self, connection: ConnectionId) -> u32 {
        let phase = self.shard.sessions.get(connection).map_or(Phase::Vacant, |session| session.phase);
        self.body_size_max(phase)
    }

    /// Looks at the front of `bytes`; ends the connection, and says `None`, when it can't be a frame.
    pub(crate) fn peek(&mut self, connection: ConnectionId, bytes: &[u8]) -> Option<Peek> {
        match Header::peek(bytes, self.body_size_max_of(connection)) {
            Ok(peek) => Some(peek),
            Err(error) => {
                self.refuse_frame(connection, error, Preface::of(bytes));
                None
            }
        }
    }

    /// Ends a connection whose bytes are no frame; one that began in another protocol is told so, and now and then the log.
    fn refuse_frame(&mut self, connection: ConnectionId, error: FrameError, preface: Option<Preface>) {
        let begins_so = self.shard.sessions.get(connection).is_some_and(|session| {
            let listener = &self.context.settings.listeners[usize::from(session.listener)];
            session.phase == Phase::Unauthenticated && listener.kind == ListenerKind::Tcp
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

    /// Keeps bytes until more come; ends the connection when no block is free or too much would wait.
    pub(crate) fn carry(&mut self, connection: ConnectionId, bytes: &[u8], needed: usize) {
        if let Some(size) = self.may_carry(connection, bytes.len()) {
            self.grow_carry(connection, size, |carry, pools| carry.append(pools, bytes, needed));
        }
    }

    /// The carry's size with so many bytes more; ends the connection, and says `None`, when that exceeds the largest block.
    pub(crate) fn may_carry(&mut self, connection: ConnectionId, count: usize) -> Option<usize> {
        let bound = self.io.pools().block_size_max();
        let session = self.shard.sessions.get(connection)?;
        let size = session.carry.assembled() + session.carry.pending() + count;
        if size <= bound {
            return Some(size);
        }
        match self.takes_frames(connection) {
            Some(false) => {
                let why = "too much was sent before the login was answered";
                self.close(connection, Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
            }
            // Sizes are bounded when they are announced, by less than a block.
            _ => self.close(
                connection,
                Goodbye::Closed(CloseCode::MESSAGE_TOO_BIG, &"the message exceeds the largest block"),
            ),
        }
        None
    }

    /// The login was answered: handles what came meanwhile.
    pub(crate) fn resume_frames(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let (websocket, rest) = (session.websocket, session.carry.assembled());
        // The rest of the message that the Auth frame came in; over TCP there are no messages.
        if rest > 0
            && let Some(message) = session.carry.take(rest)
        {
            self.message_frames(connection, message, 0);
        }
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let Some(buffer) = session.carry.take(session.carry.pending()) else { return };
        if websocket {
            self.websocket_received(connection, buffer);
        } else {
            self.frames_received(connection, buffer);
        }
        self.slow_down(connection);
    }

    /// One frame: `buffer` ends with it, and its body begins at `body_start`.
    pub(crate) fn frame(
        &mut self,
        connection: ConnectionId,
        header: Header,
        buffer: Buffer,
        body_start: usize,
    ) {
        let class = OperationClass::of(header.operation);
        self.io.metrics.count_received(class, header.frame_size());
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.charge(cost(header.operation));
        let (phase, is_above) = (session.phase, session.flow.is_over() && !session.service);
        match phase {
            Phase::Open if is_above && !self.admits_above(connection, header) => {}
            Phase::Open => self.operation(connection, header, buffer, body_start),
            Phase::Unauthenticated if header.operation == Operation::AUTH => {
                self.auth(connection, header.sequence, buffer, body_start);
            }
            Phase::Unauthenticated if !self.may_speak_before_login(connection) => {}
            Phase::Unauthenticated => {
                self.refuse(connection, header, ErrorCode::NOT_AUTHENTICATED, "the first frame must be Auth");
            }
            // What comes while a login is under way waits in the carry.
            Phase::Verifying | Phase::Registering => debug_assert!(false, "a frame passed a login"),
            Phase::Handshake | Phase::Closing | Phase::Vacant => {}
        }
    }

    fn operation(&mut self, connection: ConnectionId, header: Header, buffer: Buffer, body_start: usize) {
        match header.operation {
            Operation::HEARTBEAT => self.heartbeat(connection, header),
            Operation::SEND_MESSAGE => self.send_message(connection, header, buffer, body_start),
            Operation::PUBLISH => self.publish(connection, header, buffer, body_start),
            Operation::CHANGE_ROOM => self.change_room(connection, header, &buffer.as_slice()[body_start..]),
            Operation::JOIN => self.join(connection, header, &buffer.as_slice()[body_start..]),
            Operation::LEAVE => self.leave_room(connection, header, &buffer.as_slice()[body_start..]),
            Operation::SUBSCRIBE => {
                self.subscribe(connection, header, &buffer.as_slice()[body_start..], true)
            }
            Operation::UNSUBSCRIBE => {
                self.subscribe(connection, header, &buffer.as_slice()[body_start..], false)
            }
            Operation::DELIVER_ACK => {} // there is no history to move on in yet
            Operation::AUTH => {
                self.refuse(connection, header, ErrorCode::ALREADY, "the session is logged in")
            }
            operation if operation.is_application() => {
                self.application(connection, header, buffer, body_start)
            }
            operation => self.refuse(connection, header, ErrorCode::UNSUPPORTED, not_offered(operation)),
        }
    }
}

/// Why an operation that is nobody's is refused, and what to send instead.
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
