//! SendMessage and Publish: messages between clients, relayed where they were received.

use super::Handler;
use super::framing::Frame;
use super::goodbye::Goodbye;
use crate::address::{Address, Fingerprint, WorkerId};
use crate::io::rewrite_in_place;
use crate::listener::Framing;
use crate::message::{ControlMessage, EncodedPush, Exclude, Message, MessageClass, Origin};
use crate::session::{Open, User};
use gateway_proto::body::{
    DeliverPrefix, Name, Position, Publish, PublishReply, SendMessage, SendMessageReply, Target,
};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{Backend, Buffer, ConnectionId, SharedBuffer};

/// Members that a room is taken to have for its messages' cost when none of them is on the sender's
/// worker, until its home has said how many they are: the outcome settles it.
const UNKNOWN_MEMBERS: u32 = 1024;

/// What its sender gets to hear.
#[derive(Clone, Copy)]
enum Answer {
    Publish,
    Send { quiet: bool },
}

/// Where a message goes.
#[derive(Clone, Copy)]
enum Route {
    Name(Fingerprint),
    MadeKey(Address, Fingerprint),
    Room {
        name: Fingerprint,
        /// Messages that were charged for its deliveries although its size is not known here.
        prepaid: u8,
    },
}

impl Route {
    /// The worker that a message goes to first, of so many.
    fn worker(self, workers: usize) -> WorkerId {
        match self {
            Route::Name(name) | Route::Room { name, .. } => name.home(workers),
            Route::MadeKey(address, _) => address.worker(),
        }
    }

    /// Class of the messages that go there.
    fn class(self) -> MessageClass {
        match self {
            Route::Name(_) | Route::MadeKey(..) => MessageClass::User,
            Route::Room { .. } => MessageClass::Room,
        }
    }
}

impl<B: Backend> Handler<B> {
    /// Operation 4: the payload reaches its receivers as a push of the operation that the sender
    /// names.
    pub(super) fn send_message(&mut self, open: Open, frame: Frame) -> Option<Open> {
        let Frame { header, buffer, body_start } = frame;
        let message = match SendMessage::parse(&buffer.as_slice()[body_start..]) {
            Ok(message) => message,
            Err(error) => return self.answer_send(open, header.sequence, Err(error.error_code())),
        };
        let route = match self.route(&open, &message.target) {
            Ok(route) => route,
            Err(code) => return self.answer_send(open, header.sequence, Err(code)),
        };
        let default = self.context.settings.default_push_operation;
        let operation = message.push_operation.map_or(Operation(default), |operation| operation.get());
        // What a service pushes must not be what any client can push.
        let may_name = operation.0 == default
            || self.policy.client_push_operations.contains(operation.0)
            || self.is_service(&open);
        if !may_name {
            return self.answer_send(open, header.sequence, Err(ErrorCode::FORBIDDEN));
        }
        let exclude = self.exclude(&open, route, message.not_to_self);
        let answer = Answer::Send { quiet: message.quiet };
        let payload_start = body_start + message.payload_offset();
        let push = self.relay(buffer, payload_start, (route.class(), operation), &[]);
        self.dispatch(open, header.sequence, answer, (route, exclude), push)
    }

    /// Operation 100: the payload reaches its receivers in a Deliver, with its sender and the
    /// server's time.
    pub(super) fn publish(&mut self, open: Open, frame: Frame) -> Option<Open> {
        let Frame { header, buffer, body_start } = frame;
        let message = match Publish::parse(&buffer.as_slice()[body_start..]) {
            Ok(message) => message,
            Err(error) => return self.answer_publish(open, header.sequence, Err(error.error_code())),
        };
        let route = match self.route(&open, &message.target) {
            Ok(route) => route,
            Err(code) => return self.answer_publish(open, header.sequence, Err(code)),
        };
        let mut sender = [0; 255];
        let prefix = DeliverPrefix {
            stream: message.target,
            sender: self.sender_name(&open, &mut sender),
            position: Position::default(),
            server_time_ms: self.wall_clock_ms(),
            traceparent: message.traceparent,
        };
        let mut bytes = [0; DeliverPrefix::SIZE_MAX];
        let size = prefix.emit(&mut bytes).unwrap_or(0);
        let exclude = self.exclude(&open, route, message.not_to_self);
        let payload_start = body_start + message.payload_offset();
        let push = self.relay(buffer, payload_start, (route.class(), Operation::DELIVER), &bytes[..size]);
        self.dispatch(open, header.sequence, Answer::Publish, (route, exclude), push)
    }

    /// The wall clock, in milliseconds since 1970.
    fn wall_clock_ms(&self) -> u64 {
        self.context.settings.shared.wall.now_ms(self.context.unix_start_ms + self.turn.now.as_millis())
    }

    /// The sender of a message, as its receivers see it: the user id, as text.
    fn sender_name<'s>(&self, from: &Open, scratch: &'s mut [u8; 255]) -> Option<Name<'s>> {
        let session = self.shard.sessions.of(from);
        let text = match session.user() {
            User::Anonymous => self.key_text(session, scratch),
            User::Uid(uid) => self.shard.texts.read(uid, scratch),
            User::Mid(mid) => decimal(mid, scratch),
        };
        Name::parse(text.as_bytes()).ok()
    }

    /// Where a client's message may go, and that there is room for it. A service's may go
    /// everywhere.
    fn route(&mut self, from: &Open, target: &Target<'_>) -> Result<Route, ErrorCode> {
        let route = self.find_route(from, target)?;
        let workers = self.outbox.workers();
        let to = route.worker(workers);
        if !self.admits_post(from, to) {
            return Err(ErrorCode::BUSY);
        }
        match route {
            Route::Room { name, .. } => {
                let size = self.shard.room_total(name);
                let charged = self.admits_room(from, size.unwrap_or(UNKNOWN_MEMBERS));
                let charged = charged.ok_or(ErrorCode::LIMITED)?;
                let prepaid = if size.is_some() { 0 } else { u8::try_from(charged).unwrap_or(u8::MAX) };
                Ok(Route::Room { name, prepaid })
            }
            Route::Name(_) | Route::MadeKey(..) => Ok(route),
        }
    }

    fn find_route(&self, from: &Open, target: &Target<'_>) -> Result<Route, ErrorCode> {
        let is_service = || self.is_service(from);
        if !(self.policy.client_send || is_service()) {
            return Err(ErrorCode::FORBIDDEN);
        }
        let names = &self.context.names;
        match target {
            Target::Mid(mid) => Ok(Route::Name(names.mid(*mid))),
            Target::Uid(uid) => Ok(Route::Name(names.uid(uid.as_str()))),
            Target::Connection(key) => {
                let name = names.key(key.as_str());
                let made = names.address_in(key.as_str());
                Ok(made.map_or(Route::Name(name), |address| Route::MadeKey(address, name)))
            }
            Target::Room(room) => {
                let name = names.room(room.as_str());
                // A client that may not enter a room may not speak in it from outside either.
                let may_from_outside =
                    || !self.policy.room_members_only && self.may_enter(from, room.as_str());
                let allowed = self.is_member(from, name) || may_from_outside() || is_service();
                if allowed { Ok(Route::Room { name, prepaid: 0 }) } else { Err(ErrorCode::FORBIDDEN) }
            }
            Target::Stream(_) => Err(ErrorCode::UNSUPPORTED),
        }
    }

    fn is_service(&self, open: &Open) -> bool {
        self.shard.sessions.of(open).service
    }

    fn is_member(&self, open: &Open, room: Fingerprint) -> bool {
        self.shard.hosted_rooms.membership(room, self.shard.sessions.of(open).rooms()).is_some()
    }

    /// The sender's own connection, if it wants to be left out.
    fn exclude(&self, from: &Open, route: Route, not_to_self: bool) -> Exclude {
        let reached = match route {
            Route::Room { name, .. } => self.is_member(from, name),
            Route::Name(name) => {
                let session = self.shard.sessions.of(from);
                self.user_name(session) == Some(name) || self.own_key_name(session) == Some(name)
            }
            Route::MadeKey(address, _) => address == self.address(from.connection()),
        };
        let address = not_to_self.then(|| self.address(from.connection()));
        Exclude { address, is_counted: not_to_self && reached }
    }

    /// Makes the push of a received message: in place where there is room in front of the payload,
    /// else by one copy.
    fn relay(
        &mut self,
        buffer: Buffer,
        payload_start: usize,
        (class, operation): (MessageClass, Operation),
        prefix: &[u8],
    ) -> Option<EncodedPush> {
        let payload_size = buffer.len() - payload_start;
        let header = Header::new(operation, 0, (prefix.len() + payload_size) as u32);
        let bytes = match rewrite_in_place(buffer, payload_start, header, prefix, Framing::WebSocket) {
            Ok(bytes) => bytes,
            Err(buffer) => {
                self.io.metrics.payload_copies.add(1);
                let payload = &buffer.as_slice()[payload_start..];
                self.io.frame(Framing::WebSocket, header, |body| {
                    let (head, rest) = body.split_at_mut(prefix.len());
                    head.copy_from_slice(prefix);
                    rest.copy_from_slice(payload);
                })?
            }
        };
        Some(EncodedPush::of_frame(class, header, bytes))
    }

    fn dispatch(
        &mut self,
        from: Open,
        sequence: i32,
        answer: Answer,
        (route, exclude): (Route, Exclude),
        push: Option<EncodedPush>,
    ) -> Option<Open> {
        let publish = matches!(answer, Answer::Publish);
        let quiet = matches!(answer, Answer::Send { quiet: true });
        let prepaid = if let Route::Room { prepaid, .. } = route { prepaid } else { 0 };
        let address = self.address(from.connection());
        let origin = Origin::Client { address, sequence, publish, quiet, prepaid };
        let Some(push) = push else {
            return self.answer(from, origin, Err(ErrorCode::BUSY));
        };
        if origin.is_answered() {
            let session = self.shard.sessions.of_mut(&from);
            session.answers_due = session.answers_due.saturating_add(1);
        }
        let workers = self.outbox.workers();
        let to = route.worker(workers);
        let push = if self.outbox.is_free(to) { push } else { self.copy_out(push) };
        match route {
            Route::Name(name) => {
                self.outbox.request(name.home(workers), Message::ToName { name, push, exclude, origin });
            }
            Route::MadeKey(address, name) => {
                let connection = address.connection();
                let message = Message::ToMadeKey { connection, name, push, exclude, origin };
                self.outbox.request(address.worker(), message);
            }
            Route::Room { name: room, .. } => {
                self.outbox.request(room.home(workers), Message::ToRoom { room, push, exclude, origin });
            }
        }
        Some(from)
    }

    /// Tells an origin what became of its message.
    pub(crate) fn report(&mut self, origin: Origin, result: Result<u32, ErrorCode>) {
        match origin {
            Origin::None => {}
            Origin::Client { .. } if !origin.is_answered() && result.is_ok_and(|count| count > 0) => {}
            Origin::Client { address, .. } => {
                self.outbox.send(address.worker(), Message::Outcome { origin, result });
            }
            Origin::Sum { home, .. } => self.outbox.send(home, Message::Outcome { origin, result }),
            Origin::Control { ticket } => {
                // A full mailbox loses the answer: the request times out at the control thread.
                let _ = self.outbox.control(ControlMessage::Outcome { ticket, result });
            }
        }
    }

    /// Answers the client that a message came from, if it is still there.
    pub(super) fn outcome(&mut self, origin: Origin, result: Result<u32, ErrorCode>) {
        let Origin::Client { address, .. } = origin else { return };
        let connection = Address::connection(address);
        let Some(open) = self.shard.sessions.open(connection) else { return };
        if origin.is_answered() {
            let session = self.shard.sessions.of_mut(&open);
            session.answers_due = session.answers_due.saturating_sub(1);
        }
        let _ = self.answer(open, origin, result);
        self.end_if_answered(connection);
    }

    fn answer(&mut self, open: Open, origin: Origin, result: Result<u32, ErrorCode>) -> Option<Open> {
        let Origin::Client { sequence, publish, quiet, prepaid, .. } = origin else { return Some(open) };
        if prepaid > 0 {
            self.settle_room(&open, prepaid, result.unwrap_or(0));
        }
        if quiet && result.is_ok_and(|count| count > 0) {
            return Some(open);
        }
        match publish {
            true => self.answer_publish(open, sequence, result),
            false => self.answer_send(open, sequence, result),
        }
    }

    fn answer_send(&mut self, open: Open, sequence: i32, result: Result<u32, ErrorCode>) -> Option<Open> {
        let open = self.count_result(open, result)?;
        let reply = SendMessageReply { result: result.map(|_| ()), receivers: result.unwrap_or(0) };
        let header = Header::new(Operation::SEND_MESSAGE_REPLY, sequence, SendMessageReply::SIZE as u32);
        self.reply(open, header, |body| {
            reply.emit(body);
        })
    }

    /// Counts what became of a message; `None` when the connection ends for it.
    fn count_result(&mut self, open: Open, result: Result<u32, ErrorCode>) -> Option<Open> {
        self.io.metrics.errors.add(u64::from(result.is_err()));
        match result {
            Ok(_) => Some(open),
            Err(code) => self.may_err(open, code),
        }
    }

    fn answer_publish(&mut self, open: Open, sequence: i32, result: Result<u32, ErrorCode>) -> Option<Open> {
        let open = self.count_result(open, result)?;
        let reply = PublishReply {
            result: result.map(|_| ()),
            position: Position::default(),
            receivers: result.unwrap_or(0),
        };
        let header = Header::new(Operation::PUBLISH_REPLY, sequence, PublishReply::SIZE as u32);
        self.reply(open, header, |body| {
            reply.emit(body);
        })
    }

    /// A kick: closes a connection with a code and a reason, which is the code's label where none
    /// is given.
    pub(crate) fn kick(&mut self, connection: ConnectionId, code: CloseCode, reason: Option<&SharedBuffer>) {
        let given = reason.and_then(|reason| std::str::from_utf8(reason).ok());
        self.close(connection, Goodbye::Closed(code, &given.unwrap_or(code.label())));
    }
}

/// `number` in decimal, at the front of `scratch`.
fn decimal(number: i64, scratch: &mut [u8; 255]) -> &str {
    use std::io::Write;
    let mut rest = &mut scratch[..];
    let _ = write!(rest, "{number}"); // 20 digits fit
    let size = 255 - rest.len();
    std::str::from_utf8(&scratch[..size]).unwrap_or_default()
}
