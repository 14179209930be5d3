//! Ends of connections: never ended by the peer, ended in the middle, ended by a reset.

use super::answers::{ADDRESS, answers};
use super::{Abuse, Needs, On, abuse, hold};
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{Item, To, frame, op, raw_frame, send_body};
use serde_json::json;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

/// How long a client waits for its next answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "never_ends_its_side",
        On::Both,
        Needs::Nothing,
        never_ends_its_side,
        "Hundreds of connections break the protocol, are closed, and keep their side open.",
        ("Their slots are free after two seconds.", answers(&["closed 3500"], &[ADDRESS])),
    ),
    abuse(
        "never_ends_and_sends",
        On::Both,
        Needs::Nothing,
        never_ends_and_sends,
        "Hundreds of connections are closed and go on sending without a pause.",
        (
            "What comes is discarded; their slots are free after two seconds.",
            answers(&["closed 3500", "reset"], &[ADDRESS]),
        ),
    ),
    abuse(
        "half_close_with_requests",
        On::Tcp,
        Needs::Nothing,
        half_close_with_requests,
        "Users write requests and end their side right behind them.",
        ("The session ends; messages to others are delivered.", answers(&[], &[])),
    ),
    abuse(
        "requests_then_half_close",
        On::Both,
        Needs::Nothing,
        requests_then_half_close,
        "Users write requests, end their side right behind them, and read to the end.",
        ("Every request is answered; then the session ends.", answers(&["ended"], &[ADDRESS])),
    ),
    abuse(
        "reset_with_requests",
        On::Both,
        Needs::Nothing,
        reset_with_requests,
        "Users write requests and reset the connection right behind them.",
        ("The session ends; nothing is left.", answers(&[], &[])),
    ),
    abuse(
        "reset_while_registering",
        On::Tcp,
        Needs::Tokens,
        reset_while_registering,
        "Connections with good tokens are reset while the token is checked and the names are registered.",
        ("Names, rooms and slots come back.", answers(&[], &[])),
    ),
    abuse(
        "reset_while_room_speaks",
        On::Tcp,
        Needs::Nothing,
        reset_while_room_speaks,
        "Members of a busy room are reset in the middle of its fan-outs and come back.",
        ("Deliveries to others go on; nothing is left.", answers(&[], &[])),
    ),
];

fn either(target: &Target, number: u32) -> io::Result<Peer> {
    Ok(if number.is_multiple_of(2) { target.user(&json!(null))?.0 } else { target.ws_user(&json!(null))?.0 })
}

/// Connections that break the protocol.
fn broken(target: &Target, count: u32) -> Vec<Peer> {
    target.open_many(count, |number| {
        let mut peer = either(target, number)?;
        let bytes = peer.wrap(&raw_frame(3, 16, 1, op::HEARTBEAT, 1, &[]));
        peer.write(&bytes)?;
        Ok(peer)
    })
}

fn never_ends_its_side(target: &Target) -> io::Result<Outcome> {
    Ok(hold(target, broken(target, 600), "connections"))
}

fn never_ends_and_sends(target: &Target) -> io::Result<Outcome> {
    let peers = broken(target, 300);
    let opened = peers.len() as u64;
    let flood = target.flood(peers, &frame(op::HEARTBEAT, 1, &[0; 1000]).repeat(10), false);
    let mut outcome = Outcome::of("connections").did(opened);
    outcome.flooded(flood);
    Ok(outcome)
}

/// Requests whose replies and messages are under way when the connection ends.
fn requests(mid: i64) -> Vec<u8> {
    let mut bytes = frame(op::HEARTBEAT, 2, &[]).repeat(20);
    bytes.extend(frame(op::SEND, 3, &send_body(To::Mid(mid), 0, 0, &[1; 300])).repeat(20));
    bytes
}

fn half_close_with_requests(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 5000 {
        let Ok((mut peer, mid)) = target.user(&json!(null)) else { continue };
        let _ = peer.write(&requests(mid));
        let _ = peer.stream().shutdown(Shutdown::Write);
        outcome.add(1);
    }
    Ok(outcome)
}

fn requests_then_half_close(target: &Target) -> io::Result<Outcome> {
    const HEARTBEATS: u32 = 100;
    let mut outcome = Outcome::of("connections");
    for number in 0..5000 {
        if target.is_over_after(number as usize, 1) {
            break;
        }
        let Ok(mut peer) = either(target, number) else { continue };
        let bytes = peer.wrap(&frame(op::HEARTBEAT, 7, &[]).repeat(HEARTBEATS as usize));
        if peer.write(&bytes).is_err() || peer.stream().shutdown(Shutdown::Write).is_err() {
            continue;
        }
        let mut answered = 0;
        while let Ok(Some(item)) = peer.read(PATIENCE) {
            answered += u32::from(matches!(item, Item::Frame(frame) if frame.sequence == 7));
        }
        outcome.answer(peer.ending(PATIENCE));
        outcome.expect(answered == HEARTBEATS, format!("{answered} of {HEARTBEATS} requests were answered"));
        outcome.add(1);
    }
    Ok(outcome)
}

fn reset_with_requests(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    for number in 0..5000 {
        if target.is_over_after(number as usize, 1) {
            break;
        }
        let Ok(mut peer) = either(target, number) else { continue };
        // Each user of this abuse writes to the first one.
        let bytes = peer.wrap(&requests(target.first_mid()));
        let _ = peer.write(&bytes);
        peer.reset_at_end();
        outcome.add(1);
    }
    Ok(outcome)
}

fn reset_while_registering(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("connections");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 10_000 {
        let Ok(mut peer) = target.tcp() else { continue };
        let body = target.auth(
            target.new_mid(),
            &json!({ "room_id": target.room("briefly"), "key": target.room(outcome.did % 50) }),
        );
        let _ = peer.send(op::AUTH, 1, &body);
        peer.reset_at_end();
        outcome.add(1);
    }
    Ok(outcome)
}

fn reset_while_room_speaks(target: &Target) -> io::Result<Outcome> {
    let room = target.room("busy");
    let more = json!({ "room_id": room });
    let mut members: Vec<Peer> = target.users(60, |_| more.clone()).into_iter().map(|user| user.0).collect();
    let bytes = frame(op::SEND, 2, &send_body(To::Room(&room), 0, 0, &[1; 200])).repeat(5);
    let mut outcome = Outcome::of("resets");
    while !target.is_over() && !members.is_empty() {
        let next = outcome.did as usize % members.len();
        let _ = members[next].write(&bytes);
        let gone = members.swap_remove(next);
        gone.reset_at_end();
        drop(gone);
        members.extend(target.user(&more).map(|user| user.0));
        outcome.add(1);
    }
    Ok(outcome)
}
