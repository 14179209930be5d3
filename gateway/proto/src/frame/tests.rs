use super::*;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

fn bytes(length: u32, header_size: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&header_size.to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 7, 0, 0, 0, 9]);
    out.extend_from_slice(body);
    out
}

#[test]
fn a_frame_is_whole_or_says_what_it_needs_at_every_cut() {
    let frame = bytes(21, 16, b"hello");
    for cut in 0..frame.len() {
        let needed = if cut < HEADER_SIZE { HEADER_SIZE } else { frame.len() };
        assert_eq!(Header::peek(&frame[..cut], 5), Ok(Peek::Incomplete { needed }), "cut {cut}");
    }
    let header = Header { body_size: 5, version: 1, operation: Operation::AUTH, sequence: 9 };
    assert_eq!(Header::peek(&frame, 5), Ok(Peek::Frame(header)));
    assert_eq!(header.frame_size(), frame.len());
    assert_eq!(header.to_bytes(), frame[..HEADER_SIZE]);
}

#[test]
fn both_sides_of_the_length_are_checked() {
    let cases = [
        (0, 16, 64, Err(FrameError::LengthTooSmall)),
        (15, 16, 64, Err(FrameError::LengthTooSmall)),
        (16, 16, 0, Ok(0)),
        (17, 16, 0, Err(FrameError::LengthTooLarge)),
        (80, 16, 64, Ok(64)),
        (81, 16, 64, Err(FrameError::LengthTooLarge)),
        (0x7fff_ffff, 16, u32::MAX, Ok(BODY_SIZE_LIMIT)),
        (0x8000_0000, 16, u32::MAX, Err(FrameError::LengthTooLarge)),
        (u32::MAX, 16, u32::MAX, Err(FrameError::LengthTooLarge)),
        (16, 15, 64, Err(FrameError::HeaderLength)),
        (16, 17, 64, Err(FrameError::HeaderLength)),
        (16, 0, 64, Err(FrameError::HeaderLength)),
    ];
    for (length, header_size, body_size_max, expected) in cases {
        let frame = bytes(length, header_size, &[0; 64]);
        let found = Header::peek(&frame, body_size_max).map(|peek| match peek {
            Peek::Frame(header) => header.body_size,
            Peek::Incomplete { needed } => (needed - HEADER_SIZE) as u32,
        });
        assert_eq!(found, expected, "length {length}, header {header_size}, max {body_size_max}");
        // What the whole says, no prefix contradicts.
        for cut in 0..HEADER_SIZE {
            let early = Header::peek(&frame[..cut], body_size_max);
            assert!(matches!(early, Ok(Peek::Incomplete { .. })) || early.err() == expected.err());
        }
    }
}

#[test]
fn other_versions_are_accepted_and_echoed() {
    let mut frame = bytes(16, 16, b"");
    frame[6..8].copy_from_slice(&[0xff, 0xfe]);
    let Ok(Peek::Frame(header)) = Header::peek(&frame, 0) else { panic!("refused") };
    assert_eq!(header.version, 0xfffe);
    let reply = header.reply(3);
    assert_eq!((reply.version, reply.sequence, reply.operation), (0xfffe, 9, Operation::AUTH_REPLY));
    assert_eq!(reply.frame_size(), 19);
}

#[test]
fn emit_never_overflows_the_length_field() {
    let header = Header::new(Operation::RAW, 0, u32::MAX);
    assert_eq!(header.to_bytes()[..4], [0x7f, 0xff, 0xff, 0xff]);
}

#[test]
fn frames_are_iterated_and_a_torn_one_ends_it() {
    let mut message = bytes(18, 16, b"ab");
    message.extend(bytes(16, 16, b""));
    let found: Vec<_> = Frames::new(&message, 64).map(|item| item.map(|(_, body)| body)).collect();
    assert_eq!(found, [Ok(&b"ab"[..]), Ok(&b""[..])]);
    for cut in 1..message.len() {
        let items: Vec<_> = Frames::new(&message[..cut], 64).collect();
        let torn = cut != 18;
        assert_eq!(items.contains(&Err(FrameError::Truncated)), torn, "cut {cut}");
        assert!(items[..items.len() - 1].iter().all(Result::is_ok));
    }
    let refused = bytes(3, 16, b"");
    let refused: Vec<_> = Frames::new(&refused, 64).collect();
    assert_eq!(refused, [Err(FrameError::LengthTooSmall)]);
}

#[test]
fn operations_have_classes() {
    let application = [18, 99, 200, 999, 1000, i32::MAX];
    let reserved = [i32::MIN, -1, 0, 1, 2, 6, 10, 17, 100, 111, 150, 199];
    assert!(application.iter().all(|&op| Operation(op).is_application()));
    assert!(reserved.iter().all(|&op| !Operation(op).is_application()));
    assert!(Operation(1000).is_push() && !Operation(999).is_push() && !Operation(-1).is_push());
    assert_eq!(Operation::JOIN.reply(), Operation::JOIN_REPLY);
    assert_eq!(Operation(5000).reply(), Operation(5000));
    let labels: BTreeSet<_> = (-5..2000).map(|op| Operation(op).label()).collect();
    assert_eq!(labels.len(), 16);
    assert_eq!(Operation(1000).to_string(), "1000 (push)");
    assert!(Operation::ALL.is_sorted() && Operation::ALL.iter().all(|op| !op.is_application()));
    assert_eq!((Operation(6).label(), Operation(108).label()), ("reserved", "reserved"));
}

#[test]
fn errors_name_themselves() {
    let all = [
        FrameError::LengthTooSmall,
        FrameError::LengthTooLarge,
        FrameError::HeaderLength,
        FrameError::Truncated,
    ];
    let labels: BTreeSet<_> = all.iter().map(|error| error.label()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((labels.len(), texts.len()), (4, 4));
    assert_eq!(FrameError::LengthTooLarge.close_code(), CloseCode::FRAME_TOO_LARGE);
    assert_eq!(FrameError::HeaderLength.close_code(), CloseCode::PROTOCOL_ERROR);
}
