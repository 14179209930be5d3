//! goim's protocol from the client's side, over TCP or in WebSocket messages.
//!
//! ```text
//!   connected ─► [upgrade] ─► auth frame ─► auth reply ─► [joins ─► replies] ─► ready:
//!                                               heartbeats, echo frames, SendMessage, pushes
//! ```

use super::template::{ROOM_DIGITS, Template, digits, payload};
use super::websocket::{Upgrade, read_messages, upgraded};
use super::{Carrier, Link, Notice, Progress, Protocol, Sink, Stage, Violation};
use crate::plan::{FlowPlan, IdentityPlan, Path};
use crate::stamp::STAMP_SIZE;
use gateway_proto::auth::AuthRequest;
use gateway_proto::body::{
    Closed, Error, Join, JoinReply, Name, PushOperation, RoomKey, SendMessage, SendMessageReply, Target,
};
use gateway_proto::frame::{Frames, HEADER_SIZE, Header, Operation, Peek, VERSION};
use std::sync::Arc;

/// Bodies that a server may send, in bytes: goim bounds only what it receives.
const BODY_SIZE_MAX: u32 = 16 << 20;
/// The largest auth body that is written.
const AUTH_SIZE_MAX: usize = 16 << 10;
/// The body of a heartbeat's answer: the number of connections in the first room.
const HEARTBEAT_REPLY_SIZE: usize = 4;
/// The sequence of a login, and of the first Join; further Joins count from it.
const FIRST_SEQUENCE: i32 = 1;

/// Rules that answers break, as they are counted.
const WRONG_VERSION: &str = "wrong_version";
pub(crate) const WRONG_SEQUENCE: &str = "wrong_sequence";
pub(crate) const WRONG_OPERATION: &str = "wrong_operation";
pub(crate) const UNASKED: &str = "answer_unasked";

/// goim over TCP, or over WebSocket when there is an upgrade.
#[derive(Clone, Debug)]
pub(crate) struct Goim {
    pub(crate) identity: Arc<IdentityPlan>,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) run: u32,
}

impl Goim {
    fn auth_frame(&self, index: u32, out: &mut Vec<u8>) {
        let identity = &*self.identity;
        let key = format!("{:08x}-{index}", self.run);
        let room = room_name(identity, index);
        let mut request = AuthRequest {
            mid: identity.first_mid + i64::from(index),
            key: Name::parse(key.as_bytes()).ok(),
            room: RoomKey::parse(room.as_bytes()).ok(),
            platform: Name::parse(identity.platform.as_bytes()).ok(),
            token: &identity.token,
            ..AuthRequest::default()
        };
        // Two fit the 64 that a request may hold.
        let _ = request.accepts.push(Operation(identity.push_operation));
        let mut body = [0; AUTH_SIZE_MAX];
        let size = request.emit(&mut body).unwrap_or(0);
        let frame = frame(Operation::AUTH, &body[..size]);
        let template = Template::new(frame, None, None, None);
        self.emit(&template, out);
    }

    /// Writes the Joins of connection `index` at once. Returns how many there are.
    fn joins(&self, index: u32, out: &mut Vec<u8>) -> u8 {
        let identity = &*self.identity;
        for nth in 1..=identity.further_rooms {
            let name = room_text(identity, identity.further_room(index, nth));
            let Ok(room) = RoomKey::parse(name.as_bytes()) else { return 0 };
            let join = Join { room, since: None };
            let mut body = vec![0; join.encoded_size()];
            let _ = join.emit(&mut body);
            let sequence = FIRST_SEQUENCE + i32::from(nth) - 1;
            let bytes = numbered(Operation::JOIN, sequence, &body);
            self.emit(&Template::new(bytes, None, None, None), out);
        }
        identity.further_rooms
    }

    fn emit(&self, template: &Template, out: &mut Vec<u8>) {
        let template = self.dress(template.clone());
        let start = out.len();
        out.resize(start + template.size(), 0);
        template.write_plain(&mut out[start..]);
    }

    fn dress(&self, template: Template) -> Template {
        if self.upgrade.is_some() { template.in_websocket() } else { template }
    }

    fn publish_template(&self, flow: &FlowPlan) -> Template {
        let prefix = format!("{}://", self.identity.room_type);
        let room = format!("{prefix}{}", String::from_utf8_lossy(&digits(0)));
        let body = payload(flow.payload_size);
        let push_operation = PushOperation::new(Operation(self.identity.push_operation));
        let Ok(room_key) = RoomKey::parse(room.as_bytes()) else {
            return Template::new(Vec::new(), None, None, None);
        };
        let message = SendMessage {
            target: Target::Room(room_key),
            not_to_self: false,
            quiet: false,
            push_operation,
            traceparent: None,
            payload: &body,
        };
        let mut encoded = vec![0; message.encoded_size()];
        let _ = message.emit(&mut encoded);
        let payload_at = HEADER_SIZE + message.payload_offset();
        let room_at = payload_at - ROOM_DIGITS;
        Template::new(frame(Operation::SEND_MESSAGE, &encoded), Some(payload_at), Some(12), Some(room_at))
    }

    /// A message to a user; the user's number is patched in.
    fn direct_template(&self, flow: &FlowPlan) -> Template {
        let body = payload(flow.payload_size);
        let message = SendMessage {
            target: Target::Mid(self.identity.first_mid),
            not_to_self: false,
            // Services receive replies for failures, clients for each message.
            quiet: flow.path == Path::Service,
            push_operation: PushOperation::new(Operation(self.identity.push_operation)),
            traceparent: None,
            payload: &body,
        };
        let mut encoded = vec![0; message.encoded_size()];
        let _ = message.emit(&mut encoded);
        let payload_at = HEADER_SIZE + message.payload_offset();
        Template::new(frame(Operation::SEND_MESSAGE, &encoded), Some(payload_at), Some(12), None)
            .with_user_at(payload_at - size_of::<i64>())
    }

    /// Handles one frame. Every field of its header is checked; a wrong one is counted, and the
    /// body judged all the same, so that one fault does not look like two.
    fn dispatch(
        &self,
        link: &mut Link,
        header: Header,
        body: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Violation> {
        if header.version != VERSION {
            sink.broken(WRONG_VERSION);
        }
        let sequence = header.sequence.cast_unsigned();
        match header.operation {
            Operation::AUTH_REPLY | Operation::JOIN_REPLY => self.admitted(link, header, body, sink)?,
            Operation::HEARTBEAT_REPLY => {
                if body.len() != HEARTBEAT_REPLY_SIZE {
                    sink.broken("heartbeat_reply_malformed");
                }
                match self.echo_reply() == Operation::HEARTBEAT_REPLY.0 {
                    true => sink.short_echo(sequence, 0),
                    false => sink.heartbeat_reply(sequence),
                }
            }
            operation if operation.0 == self.echo_reply() => match body.len() {
                ..STAMP_SIZE => sink.short_echo(sequence, body.len()),
                _ => sink.message(Carrier::Echo(sequence), body),
            },
            Operation::SEND_MESSAGE_REPLY => {
                let reply = SendMessageReply::parse(body);
                if reply.is_err() {
                    sink.broken("send_message_reply_malformed");
                }
                let refused = reply.is_ok_and(|reply| reply.result.is_err());
                sink.publish_reply(sequence, !refused);
            }
            Operation::RAW => {
                for inner in Frames::new(body, BODY_SIZE_MAX) {
                    let (header, body) = inner.map_err(|error| Violation(error.label()))?;
                    if header.operation == Operation::RAW {
                        return Err(Violation("nested_envelope"));
                    }
                    self.dispatch(link, header, body, sink)?;
                }
            }
            Operation::CLOSED => {
                sink.notice(Notice::Closing(Closed::parse(body).map_or(0, |closed| closed.code.get())))
            }
            Operation::ERROR => {
                sink.notice(Notice::Refused(Error::parse(body).map_or(0, |error| error.code.get())))
            }
            Operation::RECONNECT => sink.notice(Notice::Reconnect),
            operation if operation.0 == self.identity.push_operation => {
                sink.message(Carrier::Push(sequence), body);
            }
            _ => {
                sink.broken(WRONG_OPERATION);
                if body.len() >= STAMP_SIZE {
                    sink.message(Carrier::Stray, body);
                }
            }
        }
        Ok(())
    }

    /// Handles the answer to a login or a Join.
    fn admitted(
        &self,
        link: &mut Link,
        header: Header,
        body: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Violation> {
        let further = self.identity.further_rooms;
        let (awaited, sequences) = match link.stage {
            Stage::Authenticating => (Operation::AUTH_REPLY, 1),
            // In any order: rooms may have their homes on different workers.
            Stage::Joining => (Operation::JOIN_REPLY, i32::from(further)),
            _ => (Operation::RAW, 0),
        };
        if header.operation != awaited {
            sink.broken(UNASKED);
            return Ok(());
        }
        if !(FIRST_SEQUENCE..FIRST_SEQUENCE + sequences).contains(&header.sequence) {
            sink.broken(WRONG_SEQUENCE);
        }
        if awaited == Operation::AUTH_REPLY {
            link.stage = if further > 0 { Stage::Joining } else { Stage::Ready };
            return Ok(());
        }
        match JoinReply::parse(body) {
            Ok(reply) if reply.result.is_err() => return Err(Violation("join_refused")),
            Ok(_) => {}
            Err(_) => sink.broken("join_reply_malformed"),
        }
        link.joins_due = link.joins_due.saturating_sub(1);
        if link.joins_due == 0 {
            link.stage = Stage::Ready;
        }
        Ok(())
    }

    fn echo_reply(&self) -> i32 {
        Operation(self.identity.echo_operation).reply().0
    }

    /// Reads whole frames off a TCP stream.
    fn read_stream(
        &self,
        link: &mut Link,
        input: &[u8],
        sink: &mut impl Sink,
    ) -> Result<Progress, Violation> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            match Header::peek(rest, BODY_SIZE_MAX).map_err(|error| Violation(error.label()))? {
                Peek::Incomplete { needed } => return Ok(Progress { consumed: at, needed }),
                Peek::Frame(header) => {
                    let end = header.frame_size();
                    self.dispatch(link, header, &rest[HEADER_SIZE..end], sink)?;
                    at += end;
                }
            }
        }
        Ok(Progress { consumed: at, needed: 0 })
    }
}

impl Protocol for Goim {
    fn hello(&self, index: u32, link: &mut Link, out: &mut Vec<u8>) {
        match &self.upgrade {
            Some(upgrade) if link.stage == Stage::Connecting => {
                upgrade.request(index, out);
                link.stage = Stage::Upgrading;
            }
            _ if link.stage == Stage::Joining => link.joins_due = self.joins(index, out),
            _ => {
                self.auth_frame(index, out);
                link.stage = Stage::Authenticating;
            }
        }
    }

    fn receive(
        &self,
        index: u32,
        link: &mut Link,
        input: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<Progress, Violation> {
        let Some(upgrade) = &self.upgrade else { return self.read_stream(link, input, sink) };
        if link.stage == Stage::Upgrading {
            let progress = upgrade.verify(index, input)?;
            if progress.consumed > 0 {
                upgraded(link);
                // Returns to the worker, which sends the auth frame; nothing can have come before
                // that.
                link.stage = Stage::Authenticating;
            }
            return Ok(progress);
        }
        let mut decoder = link.decoder;
        let result = read_messages(&mut decoder, input, sink, |message, sink| {
            for inner in Frames::new(message, BODY_SIZE_MAX) {
                let (header, body) = inner.map_err(|error| Violation(error.label()))?;
                self.dispatch(link, header, body, sink)?;
            }
            Ok(())
        });
        link.decoder = decoder;
        result
    }

    fn template(&self, flow: &FlowPlan) -> Template {
        let template = match flow.path {
            Path::Publish => self.publish_template(flow),
            Path::Direct | Path::Service => self.direct_template(flow),
            Path::Echo | Path::Http(_) => {
                let operation = Operation(self.identity.echo_operation);
                let body =
                    if flow.payload_size < STAMP_SIZE { Vec::new() } else { payload(flow.payload_size) };
                let stamp_at = (!body.is_empty()).then_some(HEADER_SIZE);
                Template::new(frame(operation, &body), stamp_at, Some(12), None)
            }
        };
        self.dress(template)
    }

    fn heartbeat(&self) -> Option<Template> {
        Some(self.dress(Template::new(frame(Operation::HEARTBEAT, &[]), None, Some(12), None)))
    }
}

/// The room of a connection; empty for none.
pub(crate) fn room_name(identity: &IdentityPlan, index: u32) -> String {
    room_text(identity, identity.room(index))
}

fn room_text(identity: &IdentityPlan, room: Option<u32>) -> String {
    match room {
        Some(room) => format!("{}://{}", identity.room_type, String::from_utf8_lossy(&digits(room))),
        None => String::new(),
    }
}

/// A whole frame with the first sequence.
fn frame(operation: Operation, body: &[u8]) -> Vec<u8> {
    numbered(operation, FIRST_SEQUENCE, body)
}

fn numbered(operation: Operation, sequence: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(operation, sequence, body.len() as u32).to_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}
