//! A peer's close frame in streams cut anywhere.

use super::super::{CONTROL_PAYLOAD_SIZE_MAX, emit_header, emit_masked_header};
use super::*;
use std::vec;
use std::vec::Vec;

fn frame(opcode: Opcode, size: usize) -> Vec<u8> {
    let mut out = vec![0; 14];
    let header = emit_masked_header(opcode, true, size as u64, [9; 4], &mut out).unwrap();
    out.truncate(header);
    // Payload that would read as close frames, were it taken for headers.
    out.resize(header + size, 0x88);
    out
}

#[test]
fn the_close_frame_is_found_wherever_the_stream_is_cut() {
    let mut stream = vec![];
    for size in [0, 1, 125, 126, 300, 0xffff, 0x1_0000] {
        stream.extend(frame(Opcode::Binary, size));
        stream.extend(frame(Opcode::Ping, size.min(CONTROL_PAYLOAD_SIZE_MAX)));
    }
    let before = stream.len();
    stream.extend(frame(Opcode::Close, 20));
    let end = stream.len();
    stream.extend(frame(Opcode::Binary, 3));
    for piece in [1, 2, 3, 7, 1000, usize::MAX] {
        let mut watch = CloseWatch::default();
        let mut seen = 0;
        let found = stream.chunks(piece.min(stream.len())).find(|bytes| {
            seen += bytes.len();
            watch.has_closed(bytes)
        });
        assert!(found.is_some(), "in pieces of {piece}");
        assert!(
            seen >= end && seen - end < piece,
            "in pieces of {piece}: at {seen}, the frame is {before}..{end}"
        );
    }
}

#[test]
fn frames_that_are_refused_are_skipped_like_others() {
    let unmasked = |opcode, size: usize| {
        let mut out = vec![0; 10];
        let header = emit_header(opcode, true, size as u64, &mut out).unwrap();
        out.truncate(header);
        out.resize(header + size, 0x88);
        out
    };
    let reserved = [0xf3, 0x82, 1, 2, 3, 4, 0x88, 0x88];
    let not_minimal = [0x82, 0xfe, 0, 1, 1, 2, 3, 4, 0x88];
    for bytes in [&unmasked(Opcode::Text, 200)[..], &reserved, &not_minimal] {
        let mut watch = CloseWatch::default();
        assert!(!watch.has_closed(bytes));
        assert!(watch.has_closed(&unmasked(Opcode::Close, 0)));
    }
}

#[test]
fn a_length_that_never_comes_whole_is_waited_for_and_nothing_more() {
    let mut watch = CloseWatch::default();
    assert!(!watch.has_closed(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]));
    assert!(!watch.has_closed(&[0x88; 100_000]));
}
