//! The kinds of message, each in both codecs.

use super::protobuf::{self, Body, Envelope};
use bytes::Bytes;
use gateway_proto::auth::AuthRequest;
use gateway_proto::body::{
    self, DeliverPrefix, Name, Position, PushOperation, RoomKey, SendMessage, SendMessageReply, Target,
};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation, Peek};

/// The operation of pushes.
const PUSH: Operation = Operation(1000);
/// A body's bound, in bytes, as a server has one.
const BODY_SIZE_MAX: u32 = 16 << 10;

/// What all kinds are made of.
pub(super) struct Source {
    sequence: i32,
    receivers: u32,
    offset: u64,
    time_ms: u64,
    room: String,
    sender: String,
    token: String,
    payload: Bytes,
}

impl Source {
    /// Message `number`, with a payload of `size` bytes.
    pub(super) fn new(number: usize, size: usize) -> Source {
        let spread = number * number * 131;
        Source {
            sequence: spread as i32 + 1,
            receivers: spread as u32 % 5000,
            offset: (spread as u64) << (number % 32),
            time_ms: 1_795_970_737_000 + spread as u64,
            room: format!("chat://{}", spread % 10_000),
            sender: format!("user-{number}"),
            token: "0123456789abcdef".repeat(4 + number % 16),
            payload: (0..size).map(|at| (at + number) as u8).collect(),
        }
    }

    fn envelope(&self, body: Body) -> Envelope {
        Envelope { sequence: self.sequence, body: Some(body) }
    }
}

/// A message kind.
pub(super) trait Kind {
    /// Its name in the reports.
    const NAME: &'static str;
    /// Bytes of its payload.
    const PAYLOAD: usize;
    /// Whether the bar applies.
    const IS_JUDGED: bool = true;
    /// What parsing returns.
    type Parsed<'a>;

    /// Writes the frame to the front of `out`; its size.
    fn emit(source: &Source, out: &mut [u8]) -> Option<usize>;

    /// Reads a frame.
    fn parse(frame: &[u8]) -> Option<Self::Parsed<'_>>;

    /// Whether that is what was written.
    fn holds(parsed: &Self::Parsed<'_>, source: &Source) -> bool;

    /// The same as protobuf.
    fn protobuf(source: &Source) -> Envelope;
}

/// Writes a frame around the body that `body` writes.
#[inline]
fn emit(
    operation: Operation,
    sequence: i32,
    out: &mut [u8],
    body: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<usize> {
    let (head, rest) = out.split_first_chunk_mut::<HEADER_SIZE>()?;
    let size = body(rest)?;
    Header::new(operation, sequence, size as u32).emit(head);
    Some(HEADER_SIZE + size)
}

/// A frame's header and body.
#[inline]
fn cut(frame: &[u8]) -> Option<(Header, &[u8])> {
    match Header::peek(frame, BODY_SIZE_MAX) {
        Ok(Peek::Frame(header)) => Some((header, frame.get(HEADER_SIZE..header.frame_size())?)),
        _ => None,
    }
}

/// Operation 2: no body.
pub(super) struct Heartbeat;

impl Kind for Heartbeat {
    const NAME: &'static str = "heartbeat";
    const PAYLOAD: usize = 0;
    type Parsed<'a> = Header;

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        emit(Operation::HEARTBEAT, source.sequence, out, |_| Some(0))
    }

    fn parse(frame: &[u8]) -> Option<Header> {
        cut(frame).map(|(header, _)| header)
    }

    fn holds(parsed: &Header, source: &Source) -> bool {
        *parsed == Header::new(Operation::HEARTBEAT, source.sequence, 0)
    }

    fn protobuf(source: &Source) -> Envelope {
        source.envelope(Body::Heartbeat(protobuf::Heartbeat {}))
    }
}

/// A push: its operation and a payload of so many bytes.
pub(super) struct Push<const SIZE: usize>;

impl<const SIZE: usize> Kind for Push<SIZE> {
    const NAME: &'static str = if SIZE == 64 { "push, 64 B" } else { "push, 1 KiB" };
    const PAYLOAD: usize = SIZE;
    type Parsed<'a> = (Header, &'a [u8]);

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        emit(PUSH, source.sequence, out, |body| {
            body.get_mut(..source.payload.len())?.copy_from_slice(&source.payload);
            Some(source.payload.len())
        })
    }

    fn parse(frame: &[u8]) -> Option<(Header, &[u8])> {
        cut(frame)
    }

    fn holds((header, payload): &(Header, &[u8]), source: &Source) -> bool {
        *header == Header::new(PUSH, source.sequence, SIZE as u32) && *payload == source.payload
    }

    fn protobuf(source: &Source) -> Envelope {
        let payload = source.payload.clone();
        source.envelope(Body::Push(protobuf::Push { operation: PUSH.0, payload }))
    }
}

/// Operation 4: a message of 64 bytes to a room.
pub(super) struct SendRoom;

fn send(source: &Source) -> Option<SendMessage<'_>> {
    Some(SendMessage {
        target: Target::Room(RoomKey::parse(source.room.as_bytes()).ok()?),
        not_to_self: true,
        quiet: false,
        push_operation: PushOperation::new(PUSH),
        traceparent: None,
        payload: &source.payload,
    })
}

impl Kind for SendRoom {
    const NAME: &'static str = "message to a room, 64 B";
    const PAYLOAD: usize = 64;
    type Parsed<'a> = (Header, SendMessage<'a>);

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        emit(Operation::SEND_MESSAGE, source.sequence, out, |body| send(source)?.emit(body))
    }

    fn parse(frame: &[u8]) -> Option<(Header, SendMessage<'_>)> {
        let (header, body) = cut(frame)?;
        Some((header, SendMessage::parse(body).ok()?))
    }

    fn holds((header, message): &(Header, SendMessage<'_>), source: &Source) -> bool {
        header.sequence == source.sequence && Some(*message) == send(source)
    }

    fn protobuf(source: &Source) -> Envelope {
        source.envelope(Body::Send(protobuf::Send {
            room: source.room.clone(),
            not_to_self: true,
            quiet: false,
            push_operation: PUSH.0,
            payload: source.payload.clone(),
        }))
    }
}

/// Operation 5: the answer to it.
pub(super) struct SendReply;

impl Kind for SendReply {
    const NAME: &'static str = "answer to a message";
    const PAYLOAD: usize = 0;
    type Parsed<'a> = (Header, SendMessageReply);

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        let reply = SendMessageReply { result: Ok(()), receivers: source.receivers };
        emit(Operation::SEND_MESSAGE_REPLY, source.sequence, out, |body| reply.emit(body))
    }

    fn parse(frame: &[u8]) -> Option<(Header, SendMessageReply)> {
        let (header, body) = cut(frame)?;
        Some((header, SendMessageReply::parse(body).ok()?))
    }

    fn holds((header, reply): &(Header, SendMessageReply), source: &Source) -> bool {
        header.sequence == source.sequence && reply.receivers == source.receivers
    }

    fn protobuf(source: &Source) -> Envelope {
        source.envelope(Body::SendReply(protobuf::SendReply { code: 0, receivers: source.receivers }))
    }
}

/// Operation 102: a published message of 64 bytes.
pub(super) struct Deliver;

fn deliver(source: &Source) -> Option<body::Deliver<'_>> {
    let prefix = DeliverPrefix {
        stream: Target::Room(RoomKey::parse(source.room.as_bytes()).ok()?),
        sender: Some(Name::parse(source.sender.as_bytes()).ok()?),
        position: Position { epoch: 7, offset: source.offset },
        server_time_ms: source.time_ms,
        traceparent: None,
    };
    Some(body::Deliver { prefix, payload: &source.payload })
}

impl Kind for Deliver {
    const NAME: &'static str = "published message, 64 B";
    const PAYLOAD: usize = 64;
    type Parsed<'a> = (Header, body::Deliver<'a>);

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        emit(Operation::DELIVER, source.sequence, out, |body| deliver(source)?.emit(body))
    }

    fn parse(frame: &[u8]) -> Option<(Header, body::Deliver<'_>)> {
        let (header, body) = cut(frame)?;
        Some((header, body::Deliver::parse(body).ok()?))
    }

    fn holds((header, message): &(Header, body::Deliver<'_>), source: &Source) -> bool {
        header.sequence == source.sequence && Some(*message) == deliver(source)
    }

    fn protobuf(source: &Source) -> Envelope {
        source.envelope(Body::Deliver(protobuf::Deliver {
            room: source.room.clone(),
            sender: source.sender.clone(),
            epoch: 7,
            offset: source.offset,
            server_time_ms: source.time_ms,
            payload: source.payload.clone(),
        }))
    }
}

/// Operation 7, the first frame of a connection: goim's JSON here. No bar: its clients write JSON,
/// and once.
pub(super) struct Login;

/// The operations that a client accepts.
const ACCEPTS: [i32; 3] = [1000, 1001, 1002];

fn login(source: &Source) -> Option<AuthRequest<'_>> {
    let mut request = AuthRequest {
        mid: source.sequence.into(),
        room: Some(RoomKey::parse(source.room.as_bytes()).ok()?),
        platform: Some(Name::parse(b"web").ok()?),
        token: &source.token,
        ..AuthRequest::default()
    };
    ACCEPTS.iter().try_for_each(|one| request.accepts.push(Operation(*one))).ok()?;
    Some(request)
}

impl Kind for Login {
    const NAME: &'static str = "login (JSON here)";
    const PAYLOAD: usize = 0;
    const IS_JUDGED: bool = false;
    type Parsed<'a> = (Header, AuthRequest<'a>);

    fn emit(source: &Source, out: &mut [u8]) -> Option<usize> {
        emit(Operation::AUTH, source.sequence, out, |body| login(source)?.emit(body))
    }

    fn parse(frame: &[u8]) -> Option<(Header, AuthRequest<'_>)> {
        let (header, body) = cut(frame)?;
        Some((header, AuthRequest::parse(body, &mut []).ok()?)) // nothing is escaped
    }

    fn holds((header, request): &(Header, AuthRequest<'_>), source: &Source) -> bool {
        header.sequence == source.sequence && Some(*request) == login(source)
    }

    fn protobuf(source: &Source) -> Envelope {
        source.envelope(Body::Login(protobuf::Login {
            mid: source.sequence.into(),
            room: source.room.clone(),
            platform: "web".to_owned(),
            accepts: ACCEPTS.into(),
            token: source.token.clone(),
        }))
    }
}
