//! Frames as the standard spells them, and every way to break them.

use super::utf8::Utf8State;
use super::*;
use crate::body::Reason;
use crate::codes::CloseCode;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

const LIMITS: Limits =
    Limits { frame_payload_size_max: 70_000, message_size_max: 100_000, fragments_max: 16 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn client_frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; MASKED_HEADER_SIZE_MAX + payload.len()];
    let size = emit_masked_header(opcode, fin, payload.len() as u64, MASK, &mut frame).expect("a frame");
    frame.truncate(size);
    frame.extend_from_slice(payload);
    apply_mask(&mut frame[size..], MASK);
    frame
}

/// Decodes all frames, and gives the kinds and payloads.
fn decode_all(bytes: &[u8], role: Role) -> Result<Vec<(Kind, Vec<u8>)>, WebSocketError> {
    let (mut decoder, mut bytes, mut found) = (Decoder::default(), bytes.to_vec(), Vec::new());
    while let Decoded::Frame { consumed, payload, kind } = decoder.decode(&mut bytes, &LIMITS, role)? {
        found.push((kind, bytes[payload].to_vec()));
        bytes.drain(..consumed);
    }
    assert!(bytes.is_empty(), "a torn frame");
    Ok(found)
}

fn first_error(bytes: &[u8]) -> Option<WebSocketError> {
    decode_all(bytes, Role::Server).err()
}

const fn data(text: bool, first: bool, last: bool) -> Kind {
    Kind::Data { text, first, last }
}

#[test]
fn the_examples_of_the_standard_decode() {
    // RFC 6455 §5.7.
    let hello: &[(&[u8], Role)] = &[
        (&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Role::Client),
        (&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], Role::Server),
    ];
    for (bytes, role) in hello {
        assert_eq!(decode_all(bytes, *role), Ok(vec![(data(true, true, true), b"Hello".to_vec())]));
    }
    let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let parts = vec![(data(true, true, false), b"Hel".to_vec()), (data(true, false, true), b"lo".to_vec())];
    assert_eq!(decode_all(&fragmented, Role::Client), Ok(parts));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode_all(&pong, Role::Server), Ok(vec![(Kind::Pong, b"Hello".to_vec())]));
}

#[test]
fn a_frame_of_any_length_form_survives_every_cut() {
    for size in [0, 1, 125, 126, 127, 300] {
        let payload: Vec<_> = (0..size).map(|i| i as u8).collect();
        let frame = client_frame(Opcode::Binary, true, &payload);
        assert_eq!(frame.len(), header_size(size as u64) + 4 + size);
        for cut in 0..frame.len() {
            let (mut decoder, mut bytes) = (Decoder::default(), frame.clone());
            let Ok(Decoded::Incomplete { needed }) = decoder.decode(&mut bytes[..cut], &LIMITS, Role::Server)
            else {
                panic!("size {size}, cut {cut}");
            };
            assert!(cut < needed && needed <= frame.len());
            assert_eq!((bytes.as_slice(), decoder), (frame.as_slice(), Decoder::default()));
        }
        assert_eq!(decode_all(&frame, Role::Server), Ok(vec![(data(false, true, true), payload)]));
    }
    for size in [65_535, 65_536, 70_000] {
        let frame = client_frame(Opcode::Binary, true, &vec![7; size]);
        assert_eq!(frame.len(), header_size(size as u64) + 4 + size);
        assert_eq!(decode_all(&frame, Role::Server).map(|found| found[0].1.len()), Ok(size));
    }
}

#[test]
fn control_frames_come_between_fragments() {
    let mut bytes = client_frame(Opcode::Text, false, &[0xf0, 0x9f]);
    bytes.extend(client_frame(Opcode::Ping, true, b"?"));
    bytes.extend(client_frame(Opcode::Continuation, false, &[]));
    bytes.extend(client_frame(Opcode::Continuation, true, &[0x98, 0x80]));
    let kinds: Vec<_> =
        decode_all(&bytes, Role::Server).expect("valid").into_iter().map(|(kind, _)| kind).collect();
    let expected = [data(true, true, false), Kind::Ping, data(true, false, false), data(true, false, true)];
    assert_eq!(kinds, expected);
}

#[test]
fn headers_are_refused_as_soon_as_they_can_be() {
    use WebSocketError::*;
    // As far as the bytes go; none has its payload.
    let cases: &[(&[u8], WebSocketError)] = &[
        (&[0xc2], ReservedBits),
        (&[0xa2], ReservedBits),
        (&[0x92], ReservedBits),
        (&[0x83], Opcode),
        (&[0x87], Opcode),
        (&[0x8b], Opcode),
        (&[0x8f], Opcode),
        (&[0x09], ControlFragmented),
        (&[0x08], ControlFragmented),
        (&[0x00], ContinuationWithoutStart),
        (&[0x80], ContinuationWithoutStart),
        (&[0x82, 0x01], MaskMissing),
        (&[0x89, 0xfe], ControlTooLong),
        (&[0x88, 0xff], ControlTooLong),
        (&[0x82, 0xfe, 0x00, 0x7d], LengthNotMinimal),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], LengthNotMinimal),
        (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], LengthOverflow),
        (&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], FrameTooLarge),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71], FrameTooLarge),
    ];
    for (bytes, error) in cases {
        let mut bytes = bytes.to_vec();
        let last = bytes.len() - 1;
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&mut bytes, &LIMITS, Role::Server), Err(*error), "{bytes:02x?}");
        let before = decoder.decode(&mut bytes[..last], &LIMITS, Role::Server);
        assert!(matches!(before, Ok(Decoded::Incomplete { .. })), "{bytes:02x?}");
    }
    let masked = Decoder::default().decode(&mut [0x82, 0x81], &LIMITS, Role::Client);
    assert_eq!(masked, Err(MaskPresent));
    let unlimited = Limits { frame_payload_size_max: u64::MAX, message_size_max: u64::MAX, fragments_max: 1 };
    let mut huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let needed = (1 << 63) - 1 + 14;
    let found = Decoder::default().decode(&mut huge, &unlimited, Role::Server);
    assert_eq!(found, Ok(Decoded::Incomplete { needed }));
}

#[test]
fn messages_have_an_order_and_limits() {
    let start = |size: usize| client_frame(Opcode::Binary, false, &vec![0; size]);
    let next = |size: usize| client_frame(Opcode::Continuation, false, &vec![0; size]);
    for opcode in [Opcode::Text, Opcode::Binary] {
        let bytes = [start(1), client_frame(opcode, true, b"x")].concat();
        assert_eq!(first_error(&bytes), Some(WebSocketError::MessageInterrupted));
    }
    assert_eq!(first_error(&[start(60_000), next(40_000)].concat()), None);
    let over = [start(60_000), next(40_001)].concat();
    assert_eq!(first_error(&over), Some(WebSocketError::MessageTooLarge));
    assert_eq!(first_error(&[start(0), next(0).repeat(15)].concat()), None);
    let many = [start(0), next(0).repeat(16)].concat();
    assert_eq!(first_error(&many), Some(WebSocketError::TooManyFragments));
    // A message's end closes its account.
    let whole = client_frame(Opcode::Binary, true, &[0; 70_000]);
    assert_eq!(first_error(&whole.repeat(3)), None);
}

#[test]
fn text_is_utf8_over_any_fragments() {
    let good = ["", "κόσμε", "a😀b", "\u{10ffff}\u{7ff}\u{800}"];
    for text in good {
        for cut in 0..=text.len() {
            let mut bytes = client_frame(Opcode::Text, false, &text.as_bytes()[..cut]);
            bytes.extend(client_frame(Opcode::Continuation, true, &text.as_bytes()[cut..]));
            assert_eq!(first_error(&bytes), None, "{text} cut at {cut}");
        }
    }
    let bad: &[&[u8]] = &[
        &[0xff],
        &[0x80],
        &[0xc0, 0xaf],
        &[0xed, 0xa0, 0x80],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xe2, 0x82],
        &[0xe2, 0x28, 0xa1],
        &[b'a', 0xf0, 0x9f, 0x98],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
    ];
    for text in bad {
        for cut in 0..=text.len() {
            let mut bytes = client_frame(Opcode::Text, false, &text[..cut]);
            bytes.extend(client_frame(Opcode::Continuation, true, &text[cut..]));
            assert_eq!(first_error(&bytes), Some(WebSocketError::TextNotUtf8), "{text:02x?} at {cut}");
        }
        assert_eq!(first_error(&client_frame(Opcode::Binary, true, text)), None);
    }
    // The first bad frame fails, not the last.
    let surrogate = client_frame(Opcode::Text, false, &[0xed, 0xa0]);
    assert_eq!(first_error(&surrogate), Some(WebSocketError::TextNotUtf8));
}

#[test]
fn the_streaming_validator_agrees_with_the_whole() {
    let alphabet = [b'a', 0x80, 0x9f, 0xa0, 0xbf, 0xc2, 0xe0, 0xed, 0xf0, 0xf4];
    for n in 0..10_000_usize {
        let text: Vec<_> = (0..4).map(|place| alphabet[n / 10_usize.pow(place) % 10]).collect();
        let bytewise = text.iter().try_fold(Utf8State::default(), |state, byte| state.push(&[*byte]));
        assert_eq!(bytewise, Utf8State::default().push(&text), "{text:02x?}");
        let valid = bytewise.is_some_and(Utf8State::is_boundary);
        assert_eq!(valid, core::str::from_utf8(&text).is_ok(), "{text:02x?}");
    }
}

#[test]
fn close_frames_are_judged() {
    let close = |payload: &[u8]| decode_all(&client_frame(Opcode::Close, true, payload), Role::Server);
    assert_eq!(close(&[]), Ok(vec![(Kind::Close { code: None, reason: 6..6 }, vec![])]));
    let found = close(b"\x03\xe8bye");
    let kind = Kind::Close { code: Some(CloseCode::NORMAL), reason: 8..11 };
    assert_eq!(found, Ok(vec![(kind, b"\x03\xe8bye".to_vec())]));
    assert_eq!(close(b"\x03"), Err(WebSocketError::CloseSize));
    assert_eq!(close(b"\x03\xe8\xff"), Err(WebSocketError::ReasonNotUtf8));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
        assert_eq!(close(&code.to_be_bytes()), Err(WebSocketError::CloseCode), "{code}");
    }
    for code in [1000_u16, 1003, 1007, 1014, 3000, 3999, 4000, 4999] {
        assert!(close(&code.to_be_bytes()).is_ok(), "{code}");
    }
    let mut out = [0; CONTROL_PAYLOAD_SIZE_MAX];
    let size = emit_close(CloseCode::REPLACED, Reason::truncated(&"é".repeat(100)), &mut out);
    assert_eq!(size, Some(2 + 122));
    assert!(close(&out[..124]).is_ok());
    assert_eq!(emit_close(CloseCode::REPLACED, Reason::truncated("long"), &mut out[..5]), None);
}

#[test]
fn headers_emit_in_their_shortest_form() {
    let mut out = [0xee; MASKED_HEADER_SIZE_MAX];
    let cases: &[(u64, &[u8])] = &[
        (0, &[0x82, 0]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (0xffff, &[0x82, 126, 0xff, 0xff]),
        (0x10000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (i64::MAX as u64, &[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (size, bytes) in cases {
        assert_eq!(emit_header(Opcode::Binary, true, *size, &mut out), Some(bytes.len()));
        assert_eq!((&out[..bytes.len()], header_size(*size)), (*bytes, bytes.len()));
        assert_eq!(emit_header(Opcode::Binary, true, *size, &mut out[..bytes.len() - 1]), None);
        let masked = bytes.len() + 4;
        assert_eq!(emit_masked_header(Opcode::Binary, true, *size, MASK, &mut out), Some(masked));
        assert_eq!(out[masked - 4..masked], MASK);
        assert_eq!(emit_masked_header(Opcode::Binary, true, *size, MASK, &mut out[..masked - 1]), None);
    }
    assert_eq!(emit_header(Opcode::Binary, true, 1 << 63, &mut out), None);
    assert_eq!(emit_header(Opcode::Ping, true, 126, &mut out), None);
    assert_eq!(emit_header(Opcode::Close, false, 2, &mut out), None);
}

#[test]
fn a_servers_frames_are_split_as_they_were_written() {
    let mut out = [0xee; HEADER_SIZE_MAX + 70_000];
    for size in [0, 125, 126, 0xffff, 0x10000] {
        let header = emit_header(Opcode::Binary, true, size as u64, &mut out).unwrap();
        let end = header + size;
        let (opcode, payload, behind) = split_frame(&out[..end + 3]).unwrap();
        assert_eq!((opcode, payload.len(), behind.len()), (Opcode::Binary, size, 3));
        assert_eq!(payload.as_ptr(), out[header..].as_ptr());
        for cut in [0, 1, header - 1, end.saturating_sub(1)] {
            assert_eq!(split_frame(&out[..cut]), None, "{cut} of {end} bytes");
        }
    }
    emit_masked_header(Opcode::Binary, true, 1, MASK, &mut out).unwrap();
    assert_eq!(split_frame(&out), None, "a client's");
    emit_header(Opcode::Close, true, 2, &mut out).unwrap();
    assert_eq!(split_frame(&out[..4]), Some((Opcode::Close, &out[2..4], &out[..0])));
}

#[test]
fn masking_is_right_at_any_alignment_and_size() {
    let mut bytes = [0; 80];
    for start in 0..16 {
        for size in 0..64 {
            bytes = core::array::from_fn(|i| i as u8 ^ 0x5a);
            let before = bytes;
            apply_mask(&mut bytes[start..start + size], MASK);
            for (i, byte) in bytes.iter().enumerate() {
                let inside = (start..start + size).contains(&i);
                let key = if inside { MASK[(i - start) % 4] } else { 0 };
                assert_eq!(*byte, before[i] ^ key);
            }
        }
    }
    assert_ne!(bytes, [0; 80]);
}

#[test]
fn errors_name_themselves_and_their_close_code() {
    use WebSocketError::*;
    let all = [
        ReservedBits,
        Opcode,
        MaskMissing,
        MaskPresent,
        ControlFragmented,
        ControlTooLong,
        LengthNotMinimal,
        LengthOverflow,
        FrameTooLarge,
        MessageTooLarge,
        TooManyFragments,
        ContinuationWithoutStart,
        MessageInterrupted,
        TextNotUtf8,
        CloseSize,
        CloseCode,
        ReasonNotUtf8,
    ];
    let labels: BTreeSet<_> = all.iter().map(|error| error.label()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((labels.len(), texts.len()), (all.len(), all.len()));
    let codes: Vec<_> = all.iter().map(|error| error.close_code().get()).collect();
    let expected = [
        1002, 1002, 1002, 1002, 1002, 1002, 1002, 1002, 1009, 1009, 1008, 1002, 1002, 1007, 1002, 1002, 1007,
    ];
    assert_eq!(codes, expected);
}
