//! Wrong lengths and odd shapes in WebSocket framing (RFC 6455).

use super::answers::{GONE, OVERLOAD, RATED, SLOW, answers};
use super::{Abuse, Needs, On, abuse, hold};
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{frame, op, ws, ws_frame, ws_head};
use serde_json::json;
use std::io;
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "ws_ping_flood",
        On::WebSocket,
        Needs::Nothing,
        ws_ping_flood,
        "Five users send pings of 125 bytes without a pause, and read the pongs.",
        ("They are answered at a bounded rate, or closed.", answers(&["taken"], &[RATED])),
    ),
    abuse(
        "ws_pings_never_read",
        On::WebSocket,
        Needs::Nothing,
        ws_pings_never_read,
        "Fifty users send pings without a pause and never read a pong.",
        (
            "What waits for them is bounded; they are closed as slow.",
            answers(&["taken", "reset", "closed 3008"], &[RATED, SLOW]),
        ),
    ),
    abuse(
        "ws_one_byte_fragments",
        On::WebSocket,
        Needs::Nothing,
        ws_one_byte_fragments,
        "Messages in fragments of one byte, beyond the number that is allowed.",
        ("Closed with 1008.", answers(&["closed 1008"], &[])),
    ),
    abuse(
        "ws_endless_message",
        On::WebSocket,
        Needs::Nothing,
        ws_endless_message,
        "Two hundred users begin a message in fragments that never ends.",
        (
            "Closed with 1009, with 3001 where blocks are short, or with 3002; they hold a bounded part of the blocks.",
            answers(&[], &[OVERLOAD, RATED, &["closed 1009", "closed 1008", "closed 3002", "reset"]]),
        ),
    ),
    abuse(
        "ws_empty_fragments",
        On::WebSocket,
        Needs::Nothing,
        ws_empty_fragments,
        "Empty messages, and empty continuations of a message that has begun, without a pause.",
        ("Taken at a bounded rate, or closed with 1008.", answers(&[], &[RATED, &["closed 1008"]])),
    ),
    abuse(
        "ws_broken_framing",
        On::WebSocket,
        Needs::Nothing,
        ws_broken_framing,
        "Unmasked frames, reserved bits and opcodes, fragmented and long control frames, lengths in a longer form.",
        ("Closed with 1002.", answers(&["closed 1002"], &[])),
    ),
    abuse(
        "ws_lying_lengths",
        On::WebSocket,
        Needs::Nothing,
        ws_lying_lengths,
        "Messages that announce up to 2^63 bytes.",
        ("Closed with 1002 or 1009 at the header.", answers(&["closed 1009"], &[&["closed 1002"]])),
    ),
    abuse(
        "ws_text_messages",
        On::WebSocket,
        Needs::Nothing,
        ws_text_messages,
        "Text messages, with and without valid UTF-8.",
        ("Closed with 1003 or 1007.", answers(&["closed 1003"], &[&["closed 1007"]])),
    ),
    abuse(
        "ws_half_messages",
        On::WebSocket,
        Needs::Nothing,
        ws_half_messages,
        "Three hundred users send half a message of 60 KiB and leave it at that.",
        (
            "They hold a bounded part of the blocks; the oldest are closed when these run short.",
            answers(&[], &[GONE, OVERLOAD, &["closed 3002"]]),
        ),
    ),
    abuse(
        "ws_frames_cut_by_messages",
        On::WebSocket,
        Needs::Nothing,
        ws_frames_cut_by_messages,
        "Messages that end within a frame.",
        ("Closed with 3500.", answers(&["closed 3500"], &[])),
    ),
    abuse(
        "ws_talks_behind_close",
        On::WebSocket,
        Needs::Nothing,
        ws_talks_behind_close,
        "Users send a Close frame, then messages without a pause, and never end.",
        (
            "What is behind the Close is discarded; the connection ends within seconds.",
            answers(&["closed 1000", "ended", "reset"], &[]),
        ),
    ),
    abuse(
        "echo_largest_messages",
        On::Echo,
        Needs::Development,
        echo_largest_messages,
        "Thirty connections send messages of 16 MiB to the echo listener and never read.",
        ("The echo listener's memory is bounded in all.", answers(&[], &[GONE, OVERLOAD])),
    ),
];

fn users(target: &Target, count: u32) -> Vec<Peer> {
    target.open_many(count, |_| Ok(target.ws_user(&json!(null))?.0))
}

fn eager(target: &Target, count: u32, bytes: &[u8], reads: bool) -> Outcome {
    let peers = users(target, count);
    let flood = target.flood(peers, bytes, reads);
    let mut outcome = Outcome::of("bursts").did(flood.copies);
    outcome.flooded(flood);
    outcome
}

fn ws_ping_flood(target: &Target) -> io::Result<Outcome> {
    Ok(eager(target, 5, &ws_frame(ws::PING, true, &[7; 125]).repeat(30), true))
}

fn ws_pings_never_read(target: &Target) -> io::Result<Outcome> {
    Ok(eager(target, 50, &ws_frame(ws::PING, true, &[7; 125]).repeat(30), false))
}

fn ws_empty_fragments(target: &Target) -> io::Result<Outcome> {
    let mut bytes = ws_frame(ws::BINARY, true, &[]).repeat(50);
    bytes.extend(ws_frame(ws::BINARY, false, &[]));
    bytes.extend(ws_frame(ws::CONTINUATION, false, &[]).repeat(50));
    bytes.extend(ws_frame(ws::CONTINUATION, true, &[]));
    Ok(eager(target, 5, &bytes, true))
}

/// Sends each of `bytes` on a connection of its own, over and over; `right` judges how it ended.
fn each(target: &Target, many: &[Vec<u8>], right: impl Fn(usize, &str) -> bool) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    for number in 0..3000 {
        if target.is_over_after(number, many.len()) {
            break;
        }
        let which = number % many.len();
        let Ok((mut peer, _)) = target.ws_user(&json!(null)) else { continue };
        let _ = peer.write(&many[which]);
        let how = peer.ending(Duration::from_secs(4));
        outcome.expect(right(which, &how) || target.excuses(&how), format!("number {which}: {how}"));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn ws_one_byte_fragments(target: &Target) -> io::Result<Outcome> {
    let mut bytes = ws_frame(ws::BINARY, false, &[0]);
    bytes.extend(ws_frame(ws::CONTINUATION, false, &[0]).repeat(2000));
    each(target, &[bytes], |_, how| how == "closed 1008")
}

fn ws_endless_message(target: &Target) -> io::Result<Outcome> {
    let mut peers = users(target, 200);
    peers.retain_mut(|peer| peer.write(&ws_frame(ws::BINARY, false, &[0; 1000])).is_ok());
    let flood = target.flood(peers, &ws_frame(ws::CONTINUATION, false, &[0; 1000]), false);
    let mut outcome = Outcome::of("fragments").did(flood.copies);
    outcome.flooded(flood);
    Ok(outcome)
}

fn ws_broken_framing(target: &Target) -> io::Result<Outcome> {
    let mut unmasked = ws_head(0x82, 4);
    unmasked[1] &= 0x7f;
    unmasked.extend_from_slice(&[0; 4]);
    let mut longer_form = vec![0x82, 0x80 | 126, 0, 5];
    longer_form.extend_from_slice(&[0; 9]);
    let many = [
        unmasked,
        ws_frame(0x40 | ws::BINARY, true, b"x"),
        ws_frame(3, true, b"x"),
        ws_frame(11, true, b"x"),
        ws_frame(ws::PING, false, b"x"),
        ws_frame(ws::PING, true, &[0; 126]),
        ws_frame(ws::CONTINUATION, true, b"x"),
        longer_form,
        ws_frame(ws::CLOSE, true, &[3]),
        ws_frame(ws::CLOSE, true, &999_u16.to_be_bytes()),
    ];
    each(target, &many, |_, how| how == "closed 1002")
}

fn ws_lying_lengths(target: &Target) -> io::Result<Outcome> {
    let head = |size: u64| [ws_head(0x82, size), vec![0; 40]].concat();
    let many =
        [head(u64::MAX), head(1 << 63), head(i64::MAX as u64), head(u64::from(u32::MAX)), head(1 << 20)];
    each(target, &many, |_, how| how == "closed 1002" || how == "closed 1009")
}

fn ws_text_messages(target: &Target) -> io::Result<Outcome> {
    let many = [
        ws_frame(ws::TEXT, true, b"hello"),
        ws_frame(ws::TEXT, true, b"\xff\xfe"),
        ws_frame(ws::TEXT, false, b"a"),
    ];
    each(target, &many, |_, how| how == "closed 1003" || how == "closed 1007")
}

fn ws_half_messages(target: &Target) -> io::Result<Outcome> {
    let whole = ws_frame(ws::BINARY, true, &[0; 60_000]);
    let mut peers = users(target, 300);
    peers.retain_mut(|peer| peer.write(&whole[..30_000]).is_ok());
    Ok(hold(target, peers, "half messages"))
}

fn ws_frames_cut_by_messages(target: &Target) -> io::Result<Outcome> {
    let whole = frame(op::HEARTBEAT, 1, &[1; 10]);
    let many = [ws_frame(ws::BINARY, true, &whole[..20]), ws_frame(ws::BINARY, true, &whole[..3])];
    each(target, &many, |_, how| how == "closed 3500")
}

fn ws_talks_behind_close(target: &Target) -> io::Result<Outcome> {
    let mut peers = users(target, 50);
    peers.retain_mut(|peer| peer.write(&ws_frame(ws::CLOSE, true, &1000_u16.to_be_bytes())).is_ok());
    let bytes = ws_frame(ws::BINARY, true, &frame(op::HEARTBEAT, 1, &[])).repeat(50);
    let flood = target.flood(peers, &bytes, false);
    let mut outcome = Outcome::of("bursts behind a Close").did(flood.copies + flood.ended);
    outcome.flooded(flood);
    Ok(outcome)
}

fn echo_largest_messages(target: &Target) -> io::Result<Outcome> {
    let message = ws_frame(ws::BINARY, true, &vec![7; 16 << 20]);
    let peers = target.open_many(30, |_| target.echo());
    let flood = target.flood(peers, &message, false);
    let mut outcome = Outcome::of("KiB of messages").did(flood.bytes_out >> 10);
    outcome.flooded(flood);
    Ok(outcome)
}
