//! What the vectors do not say: limits of the parts, cuts, and full buffers.

use super::*;
use crate::codes::CloseCode;
use crate::frame::Operation;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

const TRACE: &[u8; TRACEPARENT_SIZE] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes()).expect("a name")
}

fn room(text: &str) -> RoomKey<'_> {
    RoomKey::parse(text.as_bytes()).expect("a room")
}

/// Emits into exactly enough, into less, and parses back; gives the bytes.
macro_rules! emitted {
    ($type:ty, $value:expr) => {{
        let value: $type = $value;
        let mut out = vec![0; value.encoded_size()];
        for short in 0..out.len() {
            assert_eq!(value.emit(&mut out[..short]), None, "{value:?} in {short}");
        }
        assert_eq!(value.emit(&mut out), Some(out.len()));
        assert_eq!(<$type>::parse(&out), Ok(value));
        out
    }};
}

/// No cut of the first `head` bytes parses: the body ends too early there.
macro_rules! refused_when_cut {
    ($type:ty, $bytes:expr, $head:expr) => {
        for cut in 0..$head {
            assert_eq!(<$type>::parse(&$bytes[..cut]).err(), Some(BodyError::Truncated), "cut {cut}");
        }
    };
}

/// And a byte more is too many.
macro_rules! refused_when_longer {
    ($type:ty, $bytes:expr) => {{
        let mut longer = $bytes.clone();
        longer.push(0);
        assert_eq!(<$type>::parse(&longer).err(), Some(BodyError::TrailingBytes));
    }};
}

#[test]
fn messages_round_trip_and_do_not_parse_when_cut() {
    let targets = [
        Target::Mid(i64::MIN),
        Target::Uid(name("alice")),
        Target::Room(room("live://1")),
        Target::Connection(name("k")),
        Target::Stream(name("s")),
    ];
    for target in targets {
        for traceparent in [None, Traceparent::parse(TRACE).ok()] {
            let push_operation = PushOperation::new(Operation(1000));
            let (not_to_self, payload) = (true, &b"payload"[..]);
            let quiet = traceparent.is_none();
            let send = SendMessage { target, not_to_self, quiet, push_operation, traceparent, payload };
            let bytes = emitted!(SendMessage<'_>, send);
            assert_eq!(&bytes[send.payload_offset()..], payload);
            refused_when_cut!(SendMessage<'_>, bytes, send.payload_offset());

            let message_id = MessageId::parse(b"\0id").expect("an id");
            let publish = Publish { target, message_id, not_to_self: false, traceparent, payload };
            let bytes = emitted!(Publish<'_>, publish);
            assert_eq!(&bytes[publish.payload_offset()..], payload);
            refused_when_cut!(Publish<'_>, bytes, publish.payload_offset());

            let position = Position { epoch: 1, offset: u64::MAX };
            let sender = Some(name("bob"));
            let prefix =
                DeliverPrefix { stream: target, sender, position, server_time_ms: u64::MAX, traceparent };
            let bytes = emitted!(Deliver<'_>, Deliver { prefix, payload });
            refused_when_cut!(Deliver<'_>, bytes, prefix.encoded_size());
            let mut out = [0; DeliverPrefix::SIZE_MAX];
            assert_eq!(prefix.emit(&mut out), Some(prefix.encoded_size()));
            assert_eq!(bytes[..prefix.encoded_size()], out[..prefix.encoded_size()]);

            let bytes = emitted!(DeliverAck<'_>, DeliverAck { stream: target, position });
            refused_when_cut!(DeliverAck<'_>, bytes, bytes.len());
            refused_when_longer!(DeliverAck<'_>, bytes);
        }
    }
}

#[test]
fn the_largest_prefix_fits_its_bound() {
    let longest = "n".repeat(NAME_SIZE_MAX);
    let prefix = DeliverPrefix {
        stream: Target::Stream(name(&longest)),
        sender: Some(name(&longest)),
        position: Position::default(),
        server_time_ms: 0,
        traceparent: Traceparent::parse(TRACE).ok(),
    };
    assert_eq!(prefix.encoded_size(), DeliverPrefix::SIZE_MAX);
    assert_eq!(prefix.emit(&mut [0; DeliverPrefix::SIZE_MAX]), Some(DeliverPrefix::SIZE_MAX));
}

#[test]
fn replies_round_trip_and_do_not_parse_when_cut() {
    for result in [Ok(()), Err(ErrorCode::NOT_FOUND)] {
        let position = Position { epoch: u32::MAX, offset: 1 << 60 };
        let bytes = emitted!(SendMessageReply, SendMessageReply { result, receivers: 7 });
        refused_when_cut!(SendMessageReply, bytes, bytes.len());
        refused_when_longer!(SendMessageReply, bytes);
        let bytes = emitted!(PublishReply, PublishReply { result, position, receivers: u32::MAX });
        refused_when_cut!(PublishReply, bytes, bytes.len());
        refused_when_longer!(PublishReply, bytes);
        let reply = JoinReply { result, recovered: result.is_ok(), position, members: 3, room: room("r") };
        let bytes = emitted!(JoinReply<'_>, reply);
        refused_when_cut!(JoinReply<'_>, bytes, bytes.len());
        refused_when_longer!(JoinReply<'_>, bytes);
        let bytes = emitted!(LeaveReply<'_>, LeaveReply { result, room: room("r") });
        refused_when_cut!(LeaveReply<'_>, bytes, 4);
    }
    let bytes = emitted!(HeartbeatReply, HeartbeatReply { online: -1 });
    refused_when_cut!(HeartbeatReply, bytes, 4);
    refused_when_longer!(HeartbeatReply, bytes);
}

#[test]
fn rooms_round_trip_and_do_not_parse_when_cut() {
    let longest = "r".repeat(NAME_SIZE_MAX);
    for key in ["r", "live://1000", "комната", &longest] {
        for since in [None, Some(Position::default()), Some(Position { epoch: 1, offset: 2 })] {
            let bytes = emitted!(Join<'_>, Join { room: room(key), since });
            refused_when_cut!(Join<'_>, bytes, bytes.len());
            refused_when_longer!(Join<'_>, bytes);
        }
        emitted!(Leave<'_>, Leave { room: room(key) });
        emitted!(ChangeRoom<'_>, ChangeRoom { room: Some(room(key)) });
    }
    emitted!(ChangeRoom<'_>, ChangeRoom { room: None });
    assert_eq!(room("live://1000").split(), Some(("live", "1000")));
    assert_eq!(room("live:1000").split(), None);
}

#[test]
fn notices_round_trip_and_do_not_parse_when_cut() {
    for address in [None, Some(name("b.example:3101"))] {
        let reconnect = Reconnect::new(100, 5000, address).expect("ordered");
        let bytes = emitted!(Reconnect<'_>, reconnect);
        refused_when_cut!(Reconnect<'_>, bytes, 8);
        assert_eq!((reconnect.delay_min_ms(), reconnect.delay_max_ms()), (100, 5000));
        assert_eq!(Reconnect::new(2, 1, address), Err(BodyError::Delay));
    }
    for reason in ["", "too slow", &"x".repeat(REASON_SIZE_MAX)] {
        let reason = Reason::truncated(reason);
        let bytes = emitted!(Closed<'_>, Closed { code: CloseCode::SLOW_CONSUMER, reason });
        refused_when_cut!(Closed<'_>, bytes, 4);
        assert!(bytes.len() <= Closed::SIZE_MAX);
        let error = Error { code: ErrorCode::LIMITED, operation: Operation(-1), reason };
        let bytes = emitted!(Error<'_>, error);
        refused_when_cut!(Error<'_>, bytes, 8);
        assert!(bytes.len() <= Error::SIZE_MAX);
    }
}

#[test]
fn names_are_short_and_printable() {
    let longest = [b'a'; NAME_SIZE_MAX];
    let over = [b'a'; NAME_SIZE_MAX + 1];
    let cases: &[(&[u8], Option<BodyError>)] = &[
        (b"", Some(BodyError::IdSize)),
        (&longest, None),
        (&over, Some(BodyError::IdSize)),
        (b"a b", None),
        ("é中😀".as_bytes(), None),
        (b"a\0", Some(BodyError::Text)),
        (b"a\n", Some(BodyError::Text)),
        (b"\x7f", Some(BodyError::Text)),
        ("\u{85}".as_bytes(), Some(BodyError::Text)),
        (b"\xc3", Some(BodyError::Text)),
        (b"\xed\xa0\x80", Some(BodyError::Text)),
    ];
    for (bytes, error) in cases {
        assert_eq!(Name::parse(bytes).err(), *error, "{bytes:02x?}");
        assert_eq!(RoomKey::parse(bytes).err(), *error, "{bytes:02x?}");
    }
    assert_eq!(MessageId::parse(&[]).err(), Some(BodyError::IdSize));
    assert_eq!(MessageId::parse(&longest[..64]).err(), None);
    assert_eq!(MessageId::parse(&longest[..65]).err(), Some(BodyError::IdSize));
}

#[test]
fn reasons_are_cut_at_a_character() {
    let cases = [("", ""), ("plain", "plain"), ("one\ntwo", "one"), ("\u{7f}", "")];
    for (text, reason) in cases {
        assert_eq!(Reason::truncated(text).as_str(), reason);
    }
    for text in ["a".repeat(200), "é".repeat(100), "中".repeat(100), "😀".repeat(100)] {
        let reason = Reason::truncated(&text);
        let size = reason.as_str().len();
        assert!(size <= REASON_SIZE_MAX && size > REASON_SIZE_MAX - 4);
        assert_eq!(Reason::parse(reason.as_str().as_bytes()), Ok(reason));
    }
    assert_eq!(Reason::parse(&[b'a'; 124]), Err(BodyError::ReasonSize));
    assert_eq!(Reason::parse(b"a\n"), Err(BodyError::Text));
}

#[test]
fn a_traceparent_is_the_standards() {
    assert_eq!(Traceparent::parse(TRACE).map(Traceparent::as_str).map(str::len), Ok(TRACEPARENT_SIZE));
    for index in 0..TRACEPARENT_SIZE {
        for byte in [b'g', b'A', b' ', 0x80, 0] {
            let mut bad = *TRACE;
            bad[index] = byte;
            assert_eq!(Traceparent::parse(&bad), Err(BodyError::Traceparent), "{index}");
        }
        assert_eq!(Traceparent::parse(&TRACE[..index]), Err(BodyError::Traceparent));
    }
    let zero = |from: usize, to: usize| {
        let mut bad = *TRACE;
        bad[from..to].fill(b'0');
        Traceparent::parse(&bad).is_err()
    };
    assert!(zero(3, 35) && zero(36, 52) && !zero(53, 55));
    // One digit of an id is enough.
    assert!(!zero(3, 34) && !zero(3, 4) && !zero(36, 51) && !zero(37, 52));
}

#[test]
fn operation_lists_have_a_limit_and_an_order() {
    let list = OperationList::parse(b" 3, 1 ,+2,-4", 4).expect("a list");
    assert_eq!(list.count(), 4);
    assert_eq!(list.iter().size_hint(), (4, Some(4)));
    assert_eq!(list.iter().map(|operation| operation.0).collect::<Vec<_>>(), [3, 1, 2, -4]);
    assert_eq!(OperationList::parse(b"1,2,3,4,5", 4), Err(BodyError::TooMany));
    assert_eq!(OperationList::parse(b"1", 0), Err(BodyError::TooMany));
    assert_eq!(OperationList::parse(b"   ", 0).map(|list| list.count()), Ok(0));
    let many = ["1"].repeat(OPERATIONS_MAX + 1).join(",");
    assert_eq!(OperationList::parse(many.as_bytes(), usize::MAX), Err(BodyError::TooMany));
    for bad in
        ["x", "1,", ",", "1,,2", "1;2", "2147483648", "-2147483649", "1.0", "--1", "\u{661}", "1 2", "\t1"]
    {
        assert_eq!(OperationList::parse(bad.as_bytes(), 64), Err(BodyError::Number), "{bad}");
    }
    assert_eq!(OperationList::parse(b"\xff", 64), Err(BodyError::Number));
    let mut out = [0; 8];
    assert_eq!(OperationList::emit([Operation(10), Operation(-2)], &mut out), Some(5));
    assert_eq!(&out[..5], b"10,-2");
    assert_eq!(OperationList::emit([Operation(10), Operation(-2)], &mut out[..4]), None);
    assert_eq!(OperationList::emit([], &mut []), Some(0));
}

#[test]
fn push_operations_begin_at_a_thousand() {
    assert_eq!(PushOperation::new(Operation(999)), None);
    assert_eq!(PushOperation::new(Operation(-1)), None);
    assert_eq!(PushOperation::new(Operation(1000)).map(PushOperation::get), Some(Operation(1000)));
}

#[test]
fn targets_have_kinds() {
    for (kind, id) in [(0, &b"x"[..]), (6, b"x"), (255, b"x")] {
        assert_eq!(Target::from_parts(kind, id), Err(BodyError::TargetKind));
    }
    for size in [0, 7, 9] {
        assert_eq!(Target::from_parts(1, &vec![0; size]), Err(BodyError::IdSize));
    }
    let all = (1..=5).filter_map(|kind| Target::from_parts(kind, b"12345678").ok());
    let labels: BTreeSet<_> = all.map(|target| (target.kind(), target.label())).collect();
    assert_eq!(labels.len(), 5);
}

#[test]
fn errors_name_themselves() {
    use BodyError::*;
    let all = [
        Truncated,
        TrailingBytes,
        TargetKind,
        IdSize,
        Text,
        Flags,
        Reserved,
        PushOperation,
        Traceparent,
        Code,
        ReasonSize,
        Delay,
        Number,
        TooMany,
    ];
    let labels: BTreeSet<_> = all.iter().map(|error| error.label()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((labels.len(), texts.len()), (all.len(), all.len()));
    assert_eq!(Truncated.error_code(), ErrorCode::MALFORMED);
    assert_eq!(TooMany.error_code(), ErrorCode::TOO_LARGE);
    assert_eq!(Flags.error_code(), ErrorCode::UNSUPPORTED);
}
