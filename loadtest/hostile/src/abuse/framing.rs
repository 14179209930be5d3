//! Wrong lengths and odd shapes in frames over TCP.

use super::answers::{ADDRESS, FAULTY, RATED, SLOW, answers};
use super::{Abuse, Needs, On, abuse, hold};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{frame, op, raw_frame};
use serde_json::json;
use std::io;
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "lying_lengths",
        On::Tcp,
        Needs::Nothing,
        lying_lengths,
        "Frames whose length or header length is too small, too large, negative, or short of the limit by one.",
        ("Closed with 3500 or 3506.", answers(&["closed 3500"], &[&["closed 3506"]])),
    ),
    abuse(
        "random_bytes",
        On::Tcp,
        Needs::Nothing,
        random_bytes,
        "Connections that send noise, before and after a login.",
        ("Closed with 3500 or 3506.", answers(&["closed 3500", "closed 3506"], &[])),
    ),
    abuse(
        "foreign_protocols",
        On::Tcp,
        Needs::Nothing,
        foreign_protocols,
        "HTTP, TLS, SSH, PROXY v1 and v2, and MQTT spoken to the TCP listener.",
        ("Closed at once with a code.", answers(&["closed 3500", "closed 3506"], &[])),
    ),
    abuse(
        "frames_byte_by_byte",
        On::Tcp,
        Needs::Nothing,
        frames_byte_by_byte,
        "Fifty users send their frames one byte at a time without a pause.",
        ("They are served; the turn of others does not wait.", answers(&["taken"], &[RATED])),
    ),
    abuse(
        "half_frames",
        On::Tcp,
        Needs::Nothing,
        half_frames,
        "Four hundred users begin a frame of 64 KiB and leave it at that.",
        (
            "They hold a bounded part of the blocks; the oldest are closed when these run short.",
            answers(&[], &[ADDRESS, &["closed 3002"]]),
        ),
    ),
    abuse(
        "unknown_operations",
        On::Tcp,
        Needs::Nothing,
        unknown_operations,
        "A user sends operations that only a server may send, negative ones and a second Auth, and reads the errors.",
        (
            "Errors 501 and 409 at a bounded rate, then closed.",
            answers(&["error 501"], &[FAULTY, RATED, &["error 409"]]),
        ),
    ),
    abuse(
        "malformed_bodies",
        On::Tcp,
        Needs::Nothing,
        malformed_bodies,
        "A user sends bodies that end early, have reserved bits, lie about the size of their names, or hold no UTF-8.",
        (
            "Error 400 or 501 to each; the connection stays, or is closed when it goes on.",
            answers(&["answered 400"], &[FAULTY, RATED, &["error 400", "error 501", "answered 501"]]),
        ),
    ),
    abuse(
        "largest_frames",
        On::Tcp,
        Needs::Nothing,
        largest_frames,
        "Ten users send application frames of the largest size without a pause, and read the replies.",
        ("They are served at their rate; blocks come back.", answers(&["taken"], &[RATED, SLOW])),
    ),
    abuse(
        "empty_frames",
        On::Tcp,
        Needs::Nothing,
        empty_frames,
        "Five users send empty application frames without a pause, and read the replies.",
        ("They are served at their rate.", answers(&["taken"], &[RATED, SLOW])),
    ),
];

fn lying_lengths(target: &Target) -> io::Result<Outcome> {
    let lies: [(u32, u16, u16); 9] = [
        (0, 16, 1),
        (15, 16, 1),
        (u32::MAX, 16, 1),
        (i32::MIN as u32, 16, 1),
        (0x7fff_ffff, 16, 1),
        (16 + 65_537, 16, 1),
        (20, 0, 1),
        (20, 17, 1),
        (20, 0xffff, 0xffff),
    ];
    let mut outcome = Outcome::of("lies");
    for number in 0..3000 {
        if target.is_over_after(number, lies.len()) {
            break;
        }
        let (length, header, version) = lies[number % lies.len()];
        let Ok((mut peer, _)) = target.user(&json!(null)) else { continue };
        peer.write(&raw_frame(length, header, version, op::HEARTBEAT, 5, &[0; 4]))?;
        let how = peer.ending(Duration::from_secs(3));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

/// Numbers that look random and are the same each time.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn random_bytes(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    for number in 0..3000 {
        if target.is_over_after(number as usize, 4) {
            break;
        }
        let mut peer = target.tcp()?;
        if number % 2 == 1 && target.login_as(&mut peer, target.new_mid(), &json!(null)).is_err() {
            continue;
        }
        let _ = peer.write(&noise(2000, number));
        let how = peer.ending(Duration::from_secs(3));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn foreign_protocols(target: &Target) -> io::Result<Outcome> {
    let protocols: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\x57\x08\xae",
        b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03abc",
    ];
    let mut outcome = Outcome::of("connections");
    for number in 0..1200 {
        if target.is_over_after(number, protocols.len()) {
            break;
        }
        let bytes = protocols[number % protocols.len()];
        let mut peer = target.tcp()?;
        let _ = peer.write(bytes);
        let how = peer.ending(Duration::from_secs(3));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn frames_byte_by_byte(target: &Target) -> io::Result<Outcome> {
    let mut users = target.users(50, |_| json!(null));
    let bytes = frame(op::APPLICATION, 3, &[9; 64]);
    let mut outcome = Outcome::of("bytes");
    while !target.is_over() && !users.is_empty() {
        for byte in &bytes {
            users.retain_mut(|(peer, _)| peer.write(&[*byte]).is_ok());
            outcome.add(users.len() as u64);
            if target.is_over() {
                break;
            }
        }
    }
    outcome.held(users.into_iter().map(|user| user.0).collect());
    Ok(outcome)
}

fn half_frames(target: &Target) -> io::Result<Outcome> {
    let whole = frame(op::APPLICATION, 3, &[9; 65_536]);
    let mut peers: Vec<_> = target.users(400, |_| json!(null)).into_iter().map(|user| user.0).collect();
    peers.retain_mut(|peer| peer.write(&whole[..40_000]).is_ok());
    Ok(hold(target, peers, "half frames"))
}

fn unknown_operations(target: &Target) -> io::Result<Outcome> {
    let users = target.users(4, |_| json!(null));
    let bytes: Vec<u8> = [3, 5, 8, 0, 1, 102, 111, 112, -1, i32::MIN, 7]
        .iter()
        .flat_map(|one| frame(*one, 9, b"xx"))
        .collect();
    let flood = target.flood(users.into_iter().map(|user| user.0).collect(), &bytes, true);
    let mut outcome = Outcome::of("frames").did(flood.copies * 11);
    outcome.flooded(flood);
    Ok(outcome)
}

fn malformed_bodies(target: &Target) -> io::Result<Outcome> {
    let bodies: [(i32, &[u8]); 10] = [
        (op::SEND, b""),
        (op::SEND, b"\x03\xff\0\0\0\0\0\0\0\0\0\0abc"),
        (op::SEND, b"\x01\x08\xff\xff\0\0\0\0\0\0\0\0aaaaaaaa"),
        (op::SEND, b"\x09\x01\0\0\0\0\0\0\0\0\0\0a"),
        (op::SEND, b"\x02\x02\0\0\0\0\0\0\0\0\0\0\xff\xfe"),
        (op::PUBLISH, b"\x01\x08\0\xff\0\0\0\0aaaaaaaa"),
        (op::JOIN, b"\0\0\xff\xff"),
        (op::JOIN, b"\xff\xff\0\x01\0\0\0\0\0\0\0\0\0\0\0\0a"),
        (op::SUBSCRIBE, b"1,,2,99999999999999"),
        (op::CHANGE_ROOM, b"\0\x01\x02"),
    ];
    let mut outcome = Outcome::of("bodies");
    while !target.is_over_after(outcome.did as usize, bodies.len()) {
        let (mut peer, _) = target.user(&json!(null))?;
        for (sequence, (operation, body)) in (2..).zip(bodies) {
            let Ok(reply) = peer.ask(operation, sequence, body) else { break };
            let refused = reply.operation == op::ERROR || reply.operation == op::CLOSED || reply.code() != 0;
            outcome.expect(refused, format!("operation {operation}, body {sequence}: taken"));
            outcome.reply(&reply);
            outcome.add(1);
        }
    }
    Ok(outcome)
}

/// `count` users that send `bytes` without a pause and read what comes back.
fn eager(target: &Target, count: u32, bytes: &[u8], unit: &str) -> io::Result<Outcome> {
    let users = target.users(count, |_| json!(null));
    let flood = target.flood(users.into_iter().map(|user| user.0).collect(), bytes, true);
    let mut outcome = Outcome::of(unit).did(flood.copies);
    outcome.flooded(flood);
    Ok(outcome)
}

fn largest_frames(target: &Target) -> io::Result<Outcome> {
    eager(target, 10, &frame(op::APPLICATION, 3, &[9; 65_536]), "frames")
}

fn empty_frames(target: &Target) -> io::Result<Outcome> {
    eager(target, 5, &frame(op::APPLICATION, 3, &[]).repeat(64), "bursts of 64")
}
