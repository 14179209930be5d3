//! Abuses without a login: take slots, waste the verifier, provoke answers.

use super::answers::{ADDRESS, GONE, OVERLOAD, RATED, TAKEN, answers};
use super::{Abuse, Needs, On, abuse, hold, reply_word};
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{frame, op};
use serde_json::json;
use std::io;
use std::time::{Duration, Instant};

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "silent_connections",
        On::Tcp,
        Needs::Nothing,
        silent_connections,
        "More connections than the gateway has slots connect from one address and say nothing.",
        (
            "New logins still get in: the oldest connections without a login go first.",
            answers(&[], &[ADDRESS, &["closed 3003"]]),
        ),
    ),
    abuse(
        "silent_connections_of_many",
        On::Both,
        Needs::Nothing,
        silent_connections_of_many,
        "The same over both transports from hundreds of addresses, as a botnet does.",
        (
            "New logins still get in: the oldest connections without a login go first.",
            answers(&[], &[GONE, OVERLOAD, &["closed 3003", "408", "503"]]),
        ),
    ),
    abuse(
        "connect_and_leave",
        On::Both,
        Needs::Nothing,
        connect_and_leave,
        "Thousands of connections connect and end at once, half of them by a reset.",
        ("Each slot is free again at once.", answers(&[], &[])),
    ),
    abuse(
        "heartbeats_before_login",
        On::Tcp,
        Needs::Nothing,
        heartbeats_before_login,
        "Heartbeats instead of a login, as fast as they are taken.",
        ("Closed after a few.", answers(&["closed 3500"], &[&["error 401", "reset"]])),
    ),
    abuse(
        "unknown_operations_before_login",
        On::WebSocket,
        Needs::Nothing,
        unknown_operations_before_login,
        "Frames of operations that do not exist instead of a login, many in one message.",
        ("Closed after a few errors.", answers(&["closed 3500"], &[&["error 401", "reset"]])),
    ),
    abuse(
        "pings_before_login",
        On::WebSocket,
        Needs::Nothing,
        pings_before_login,
        "WebSocket pings instead of a login, as fast as they are taken.",
        ("Closed after a few.", answers(&["closed 3500"], &[TAKEN, &["reset"]])),
    ),
    abuse(
        "half_auth_frames",
        On::Both,
        Needs::Nothing,
        half_auth_frames,
        "Hundreds of connections announce an Auth frame of 8 KiB and send half of it.",
        (
            "They hold a bounded part of the blocks and are closed with 3003.",
            answers(&[], &[ADDRESS, &["closed 3003"]]),
        ),
    ),
    abuse(
        "auth_byte_by_byte",
        On::Tcp,
        Needs::Nothing,
        auth_byte_by_byte,
        "A hundred logins arrive one byte at a time.",
        (
            "They are served as their bytes come; no others wait.",
            answers(&[], &[TAKEN, &["closed 3003", "closed 3505"]]),
        ),
    ),
    abuse(
        "malformed_auth_bodies",
        On::Tcp,
        Needs::Nothing,
        malformed_auth_bodies,
        "Auth bodies that are no JSON, nest without end, repeat fields, or hold numbers beyond any range.",
        ("Each is closed with 3500.", answers(&["closed 3500"], &[&["closed 3501"]])),
    ),
    abuse(
        "oversized_auth",
        On::Both,
        Needs::Nothing,
        oversized_auth,
        "Auth frames that announce a megabyte.",
        ("Each is closed with 3506, nothing is buffered.", answers(&["closed 3506"], &[])),
    ),
    abuse(
        "unreadable_tokens",
        On::Tcp,
        Needs::Tokens,
        unreadable_tokens,
        "Logins with tokens that are no tokens, as fast as connections come about.",
        (
            "Each is closed with 3501; honest logins do not wait for them.",
            answers(&["closed 3501"], &[&["closed 3001"]]),
        ),
    ),
    abuse(
        "forged_tokens",
        On::Both,
        Needs::Tokens,
        forged_tokens,
        "Logins with well-formed tokens whose signature is wrong: each costs the verifier a check.",
        (
            "Each is closed with 3501 or 3001; honest logins do not wait for them.",
            answers(&["closed 3501"], &[&["closed 3001"]]),
        ),
    ),
    abuse(
        "pipelined_behind_auth",
        On::Tcp,
        Needs::Tokens,
        pipelined_behind_auth,
        "Hundreds of connections send 60 KiB of frames behind an Auth frame whose token is still being checked.",
        (
            "They hold a bounded part of the blocks; what does not fit is closed.",
            answers(&["taken"], &[RATED, ADDRESS, &["closed 3500"]]),
        ),
    ),
    abuse(
        "login_storm",
        On::Tcp,
        Needs::Nothing,
        login_storm,
        "One user logs in and leaves again without a pause.",
        ("Honest logins succeed beside it.", answers(&["taken"], &[&["closed 3001"]])),
    ),
];

/// How long a closed connection may linger: two seconds, and what a loaded machine adds.
const CLOSING_PATIENCE: Duration = Duration::from_secs(6);
/// At most so many bytes of answers per connection before its login.
const ANSWERS_SIZE_MAX: u64 = 16 << 10;

fn silent_connections(target: &Target) -> io::Result<Outcome> {
    let wanted = target.connections_max() + 200;
    Ok(hold(target, target.open_many(wanted, |_| target.tcp()), "connections"))
}

fn silent_connections_of_many(target: &Target) -> io::Result<Outcome> {
    let wanted = target.connections_max() + 200;
    let peers = target.open_many(wanted, |number| {
        let to = if number % 2 == 0 { target.tcp_address() } else { target.websocket_address() };
        let stream = target.connect_from(target.source_of_many(number), to)?;
        Ok(if number % 2 == 0 { Peer::tcp(stream) } else { Peer::http(stream) })
    });
    Ok(hold(target, peers, "connections"))
}

fn connect_and_leave(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    for number in 0..20_000 {
        if target.is_over_after(outcome.did as usize, 1) {
            break;
        }
        let to = if number % 3 == 0 { target.websocket_address() } else { target.tcp_address() };
        let Ok(stream) = target.connect(to) else { continue };
        let peer = Peer::tcp(stream);
        if number % 2 == 0 {
            peer.reset_at_end();
        }
        outcome.add(1);
    }
    Ok(outcome)
}

/// Floods with `bytes` on connections that are not logged in; each must be closed soon.
fn talk(target: &Target, count: u32, bytes: &[u8], open: impl Fn() -> io::Result<Peer>) -> Outcome {
    let peers = target.open_many(count, |_| open());
    let opened = peers.len() as u64;
    let mut flood = target.flood(peers, bytes, true);
    // After its close a gateway discards what arrives for two seconds before the connection ends.
    flood.run(&[], Instant::now() + CLOSING_PATIENCE);
    let mut outcome = Outcome::of("bursts").did(flood.copies + opened);
    outcome.expect(flood.ended == opened, format!("only {} of {opened} were closed", flood.ended));
    let few = flood.bytes_back <= opened * ANSWERS_SIZE_MAX;
    outcome.expect(few, format!("{} KiB of answers before the login", flood.bytes_back >> 10));
    outcome.flooded(flood);
    outcome
}

fn heartbeats_before_login(target: &Target) -> io::Result<Outcome> {
    Ok(talk(target, 5, &frame(op::HEARTBEAT, 1, &[]).repeat(100), || target.tcp()))
}

fn unknown_operations_before_login(target: &Target) -> io::Result<Outcome> {
    let bytes = crate::wire::ws_frame(crate::wire::ws::BINARY, true, &frame(-5, 1, &[]).repeat(100));
    Ok(talk(target, 5, &bytes, || target.websocket()))
}

fn pings_before_login(target: &Target) -> io::Result<Outcome> {
    let bytes = crate::wire::ws_frame(crate::wire::ws::PING, true, &[7; 125]).repeat(20);
    Ok(talk(target, 5, &bytes, || target.websocket()))
}

fn half_auth_frames(target: &Target) -> io::Result<Outcome> {
    let half = frame(op::AUTH, 1, &[b' '; 8000]);
    let half = &half[..4000];
    let peers = target.open_many(600, |number| {
        let mut peer = if number % 4 == 3 { target.websocket()? } else { target.tcp()? };
        let bytes = if number % 4 == 3 {
            crate::wire::ws_frame(crate::wire::ws::BINARY, false, half)
        } else {
            half.to_vec()
        };
        peer.write(&bytes)?;
        Ok(peer)
    });
    Ok(hold(target, peers, "half frames"))
}

fn auth_byte_by_byte(target: &Target) -> io::Result<Outcome> {
    let mut peers = target.open_many(100, |_| target.tcp());
    let mut outcome = Outcome::of("bytes");
    let bytes = frame(op::AUTH, 1, &target.auth(target.new_mid(), &json!(null)));
    for byte in &bytes {
        for peer in &mut peers {
            outcome.add(u64::from(peer.write(&[*byte]).is_ok()));
        }
        target.pause(Duration::from_millis(5));
        if target.is_over() {
            break;
        }
    }
    outcome.held(peers);
    Ok(outcome)
}

fn malformed_auth_bodies(target: &Target) -> io::Result<Outcome> {
    let nested = format!("{{\"resume\":{}", "[".repeat(7000));
    let deep = format!("{{\"resume\":{}{}}}", "[".repeat(3900), "]".repeat(3900));
    let long = format!("{{\"mid\":{}}}", "9".repeat(4000));
    let bodies: [&[u8]; 10] = [
        b"",
        b"null",
        b"[]",
        b"{\"mid\":1",
        b"{\"mid\":1}}",
        b"{\"mid\":1,\"mid\":2}",
        b"\xff\xfe{}",
        nested.as_bytes(),
        deep.as_bytes(),
        long.as_bytes(),
    ];
    let mut outcome = Outcome::of("logins");
    for number in 0..2000 {
        if target.is_over_after(number, bodies.len()) {
            break;
        }
        let body = bodies[number % bodies.len()];
        let mut peer = target.tcp()?;
        peer.send(op::AUTH, 1, body)?;
        let how = peer.ending(Duration::from_secs(3));
        // Deep JSON in an ignored field may be skipped; then the missing token is the error.
        let right = how == "closed 3500" || how == "closed 3501";
        outcome.expect(right || target.excuses(&how), format!("body {}: {how}", number % bodies.len()));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn oversized_auth(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    for number in 0..500 {
        if target.is_over_after(number, 2) {
            break;
        }
        let mut peer = if number % 2 == 0 { target.tcp()? } else { target.websocket()? };
        let bytes = crate::wire::raw_frame(1 << 20, 16, 1, op::AUTH, 1, &[b' '; 2000]);
        let bytes = peer.wrap(&bytes);
        peer.write(&bytes)?;
        let how = peer.ending(Duration::from_secs(3));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

/// Logins with tokens from `token`, several at a time; all must be refused.
fn bad_logins(
    target: &Target,
    open: impl Fn() -> io::Result<Peer>,
    token: impl Fn(u32) -> String,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    let mut number = 0;
    while !target.is_over_after(number as usize, 1) && number < 20_000 {
        let mut peers = vec![];
        for _ in 0..20 {
            number += 1;
            let Ok(mut peer) = open() else { continue };
            let body = json!({ "mid": 5, "token": token(number) }).to_string();
            if peer.send(op::AUTH, 1, body.as_bytes()).is_ok() {
                peers.push(peer);
            }
        }
        for mut peer in peers {
            let reply = peer.reply_to(1, Duration::from_secs(3));
            let accepted = matches!(&reply, Ok(Some(frame)) if frame.operation == op::AUTH_REPLY);
            outcome.expect(!accepted, "a bad token was accepted");
            outcome.answer(reply_word(reply));
            outcome.add(1);
        }
    }
    Ok(outcome)
}

fn unreadable_tokens(target: &Target) -> io::Result<Outcome> {
    let tokens = ["x".repeat(4000), "a.b.c".into(), "eyJhbGciOiJub25lIn0.e30.".into(), "....".into()];
    bad_logins(target, || target.tcp(), |number| tokens[number as usize % tokens.len()].clone())
}

fn forged_tokens(target: &Target) -> io::Result<Outcome> {
    let mut good = target.signer().user(&json!(5), &[]);
    // Another signature of the same form.
    let at = good.len() - 20;
    let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    good.replace_range(at..=at, other);
    let turn = std::cell::Cell::new(0_u32);
    let open = || {
        turn.set(turn.get() + 1);
        if turn.get().is_multiple_of(4) { target.websocket() } else { target.tcp() }
    };
    bad_logins(target, open, |_| good.clone())
}

fn pipelined_behind_auth(target: &Target) -> io::Result<Outcome> {
    let behind = frame(op::APPLICATION, 2, &[1; 2984]).repeat(20);
    let peers = target.open_many(400, |_| {
        let mut peer = target.tcp()?;
        let mut bytes = frame(op::AUTH, 1, &target.auth(target.new_mid(), &json!(null)));
        bytes.extend_from_slice(&behind);
        let _ = peer.write(&bytes);
        Ok(peer)
    });
    Ok(hold(target, peers, "connections"))
}

fn login_storm(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    let body = target.auth(target.new_mid(), &json!(null));
    while !target.is_over_after(outcome.did as usize, 1) {
        let Ok(mut peer) = target.tcp() else { continue };
        let _ = peer.send(op::AUTH, 1, &body);
        let reply = peer.reply_to(1, Duration::from_secs(2));
        outcome.answer(reply_word(reply));
        outcome.add(1);
    }
    Ok(outcome)
}
