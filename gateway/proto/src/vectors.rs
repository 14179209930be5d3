//! Every vector of `vectors/*.hex` parses to its fields, or is refused for its reason; what parses
//! re-emits.

use crate::auth::{AuthRequest, SCRATCH_SIZE_MAX};
use crate::body::{
    ChangeRoom, Closed, Deliver, DeliverAck, Error, HeartbeatReply, Join, JoinReply, Leave, LeaveReply, Name,
    OPERATIONS_MAX, OperationList, Position, Publish, PublishReply, Reconnect, SendMessage, SendMessageReply,
    Target, Traceparent,
};
use crate::codes::ErrorCode;
use crate::frame::{Frames, HEADER_SIZE, Header, Operation, Peek};
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs, vec};

const BODY_SIZE_MAX: u32 = 64 * 1024;

type Fields = Vec<(&'static str, String)>;
type Parsed = Result<(Fields, Vec<u8>), String>;

struct Vector {
    name: String,
    bytes: Vec<u8>,
    fields: Vec<(String, String)>,
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn load(path: &Path) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in fs::read_to_string(path).expect("a file").lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']').into();
            vectors.push(Vector { name, bytes: vec![], fields: vec![] });
        } else if let Some(vector) = vectors.last_mut() {
            match line.split_once(" =") {
                Some(("hex", text)) => vector.bytes = unhex(text),
                Some((key, value)) => vector.fields.push((key.into(), value.trim_start().into())),
                None => vector.bytes.extend(unhex(line)),
            }
        }
    }
    vectors
}

fn code(result: Result<(), ErrorCode>) -> (&'static str, String) {
    ("code", result.map_or_else(|code| code.get(), |()| 0).to_string())
}

fn target(target: Target<'_>) -> String {
    let id = match target {
        Target::Mid(mid) => mid.to_string(),
        Target::Uid(name) | Target::Connection(name) | Target::Stream(name) => name.as_str().into(),
        Target::Room(room) => room.as_str().into(),
    };
    format!("{} {id}", target.label())
}

fn trace(traceparent: Option<Traceparent<'_>>) -> (&'static str, String) {
    ("traceparent", traceparent.map_or("", Traceparent::as_str).into())
}

fn place(position: Position) -> [(&'static str, String); 2] {
    [("epoch", position.epoch.to_string()), ("offset", position.offset.to_string())]
}

/// Parses, renders with the closure, and re-emits.
macro_rules! body {
    ($type:ty, $bytes:expr, $render:expr) => {{
        let value = <$type>::parse($bytes).map_err(|error| format!("body.{}", error.label()))?;
        let mut out = vec![0; value.encoded_size()];
        assert_eq!(value.emit(&mut out), Some(out.len()));
        let render: fn(&$type) -> Fields = $render;
        Ok((render(&value), out))
    }};
}

fn message(operation: Operation, bytes: &[u8]) -> Parsed {
    match operation {
        Operation::HEARTBEAT_REPLY => {
            body!(HeartbeatReply, bytes, |v| vec![("online", v.online.to_string())])
        }
        Operation::SEND_MESSAGE => body!(SendMessage<'_>, bytes, |v| vec![
            ("target", target(v.target)),
            ("push_operation", v.push_operation.map_or(0, |op| op.get().0).to_string()),
            ("not_to_self", v.not_to_self.to_string()),
            ("quiet", v.quiet.to_string()),
            trace(v.traceparent),
            ("payload", hex(v.payload)),
        ]),
        Operation::SEND_MESSAGE_REPLY => {
            body!(SendMessageReply, bytes, |v| vec![code(v.result), ("receivers", v.receivers.to_string())])
        }
        Operation::PUBLISH => body!(Publish<'_>, bytes, |v| vec![
            ("target", target(v.target)),
            ("message_id", hex(v.message_id.as_bytes())),
            ("not_to_self", v.not_to_self.to_string()),
            trace(v.traceparent),
            ("payload", hex(v.payload)),
        ]),
        Operation::PUBLISH_REPLY => body!(PublishReply, bytes, |v| {
            let [epoch, offset] = place(v.position);
            vec![code(v.result), epoch, offset, ("receivers", v.receivers.to_string())]
        }),
        Operation::DELIVER => body!(Deliver<'_>, bytes, |v| {
            let [epoch, offset] = place(v.prefix.position);
            let time = ("server_time_ms", v.prefix.server_time_ms.to_string());
            let sender = ("sender", v.prefix.sender.map_or("", Name::as_str).into());
            let stream = ("stream", target(v.prefix.stream));
            vec![
                stream,
                sender,
                epoch,
                offset,
                time,
                trace(v.prefix.traceparent),
                ("payload", hex(v.payload)),
            ]
        }),
        Operation::DELIVER_ACK => body!(DeliverAck<'_>, bytes, |v| {
            let [epoch, offset] = place(v.position);
            vec![("stream", target(v.stream)), epoch, offset]
        }),
        _ => room(operation, bytes),
    }
}

fn room(operation: Operation, bytes: &[u8]) -> Parsed {
    match operation {
        Operation::CHANGE_ROOM | Operation::CHANGE_ROOM_REPLY => {
            body!(ChangeRoom<'_>, bytes, |v| vec![("room", v.room.map_or("", |room| room.as_str()).into())])
        }
        Operation::JOIN => body!(Join<'_>, bytes, |v| vec![
            ("room", v.room.as_str().into()),
            ("since", v.since.map_or("none".into(), |at| format!("{} {}", at.epoch, at.offset))),
        ]),
        Operation::JOIN_REPLY => body!(JoinReply<'_>, bytes, |v| {
            let [epoch, offset] = place(v.position);
            let recovered = ("recovered", v.recovered.to_string());
            let members = ("members", v.members.to_string());
            vec![code(v.result), recovered, epoch, offset, members, ("room", v.room.as_str().into())]
        }),
        Operation::LEAVE => body!(Leave<'_>, bytes, |v| vec![("room", v.room.as_str().into())]),
        Operation::LEAVE_REPLY => {
            body!(LeaveReply<'_>, bytes, |v| vec![code(v.result), ("room", v.room.as_str().into())])
        }
        _ => notice(operation, bytes),
    }
}

fn notice(operation: Operation, bytes: &[u8]) -> Parsed {
    match operation {
        Operation::RECONNECT => body!(Reconnect<'_>, bytes, |v| vec![
            ("delay_min_ms", v.delay_min_ms().to_string()),
            ("delay_max_ms", v.delay_max_ms().to_string()),
            ("address", v.address().map_or("", Name::as_str).into()),
        ]),
        Operation::CLOSED => body!(Closed<'_>, bytes, |v| vec![
            ("code", v.code.get().to_string()),
            ("reconnect", v.code.reconnect().to_string()),
            ("reason", v.reason.as_str().into()),
        ]),
        Operation::ERROR => body!(Error<'_>, bytes, |v| vec![
            ("code", v.code.get().to_string()),
            ("of", v.operation.0.to_string()),
            ("reason", v.reason.as_str().into()),
        ]),
        _ => text(operation, bytes),
    }
}

/// Bodies that have more than one spelling, or none of their own: re-emitted as they are.
fn text(operation: Operation, bytes: &[u8]) -> Parsed {
    let fields = match operation {
        Operation::SUBSCRIBE | Operation::UNSUBSCRIBE => {
            let list = OperationList::parse(bytes, OPERATIONS_MAX)
                .map_err(|error| format!("body.{}", error.label()))?;
            let mut out = vec![0; bytes.len()];
            let size = OperationList::emit(list.iter(), &mut out).expect("never longer");
            vec![("operations", String::from_utf8_lossy(&out[..size]).into())]
        }
        Operation::AUTH => {
            let mut scratch = [0; SCRATCH_SIZE_MAX];
            let request =
                AuthRequest::parse(bytes, &mut scratch).map_err(|error| format!("auth.{}", error.label()))?;
            let room = request.room.map_or("", |room| room.as_str());
            vec![("mid", request.mid.to_string()), ("room_id", room.into())]
        }
        Operation::RAW => {
            let frames: Result<Vec<_>, _> = Frames::new(bytes, BODY_SIZE_MAX).collect();
            let frames = frames.map_err(|error| format!("frame.{}", error.label()))?;
            vec![("frames", frames.len().to_string())]
        }
        _ => vec![("body", hex(bytes))],
    };
    Ok((fields, bytes.to_vec()))
}

fn parse(bytes: &[u8]) -> Parsed {
    let peek = Header::peek(bytes, BODY_SIZE_MAX).map_err(|error| format!("frame.{}", error.label()))?;
    let Peek::Frame(header) = peek else { return Err("frame.incomplete".into()) };
    assert_eq!(header.frame_size(), bytes.len());
    let (mut fields, body) = message(header.operation, &bytes[HEADER_SIZE..])?;
    fields.insert(0, ("sequence", header.sequence.to_string()));
    fields.insert(0, ("operation", header.operation.0.to_string()));
    let mut emitted = header.to_bytes().to_vec();
    emitted.extend(body);
    Ok((fields, emitted))
}

#[test]
fn every_vector_parses_and_re_emits_or_is_refused_for_its_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let (mut valid, mut invalid) = (0, 0);
    for entry in fs::read_dir(folder).expect("the vectors") {
        for vector in load(&entry.expect("an entry").path()) {
            let found: Vec<(String, String)> = match parse(&vector.bytes) {
                Ok((fields, emitted)) => {
                    valid += 1;
                    assert_eq!(hex(&emitted), hex(&vector.bytes), "{}", vector.name);
                    fields.into_iter().map(|(key, value)| (key.into(), value)).collect()
                }
                Err(error) => {
                    invalid += 1;
                    vec![("error".into(), error)]
                }
            };
            assert_eq!(found, vector.fields, "{}", vector.name);
        }
    }
    assert!(valid >= 40 && invalid >= 50, "{valid} valid, {invalid} invalid");
}
