//! Receivers that read little or nothing: what waits for them must not be taken from others.

use super::answers::{BUSY, FAULTY, OVERLOAD, RATED, SLOW, TAKEN, answers};
use super::{Abuse, Needs, On, abuse};
use crate::client::{Flood, Peer};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{QUIET, To, frame, join_body, op, send_body};
use serde_json::json;
use std::io::{self, Read};
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "room_never_reads",
        On::Tcp,
        Needs::Nothing,
        room_never_reads,
        "Twenty users in one room never read; another one sends small messages to it without a pause.",
        (
            "Pushes to them are dropped or they are closed by class policy; no other connection is.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "users_never_read",
        On::Tcp,
        Needs::Nothing,
        users_never_read,
        "Fifty users never read; another one sends small messages to each without a pause.",
        (
            "They are closed with 3008 when they make no progress; no other connection is.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "large_messages_never_read",
        On::Tcp,
        Needs::Nothing,
        large_messages_never_read,
        "Fifty users never read; another one sends messages of 60 KiB to each without a pause.",
        (
            "What waits is bounded in all; they are closed when they make no progress.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "many_hold_little",
        On::Tcp,
        Needs::Nothing,
        many_hold_little,
        "Four hundred users never read; messages of 200 B go to each in turn, so that each holds little and all hold much.",
        (
            "Connections that hold most and make no progress go; no other connection does.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "replies_never_read",
        On::Tcp,
        Needs::Nothing,
        replies_never_read,
        "A hundred users ask for replies without a pause and never read one.",
        (
            "They are not read from, then closed with 3008.",
            answers(&["taken", "reset", "closed 3008"], &[RATED, SLOW]),
        ),
    ),
    abuse(
        "errors_never_read",
        On::WebSocket,
        Needs::Nothing,
        errors_never_read,
        "A hundred users send operations that do not exist without a pause and never read an error.",
        (
            "They are not read from, then closed.",
            answers(&["error 501", "reset", "closed 3008"], &[RATED, SLOW, FAULTY]),
        ),
    ),
    abuse(
        "joins_never_read",
        On::Tcp,
        Needs::Nothing,
        joins_never_read,
        "A hundred users join and leave rooms without a pause and never read a reply.",
        (
            "They are not read from, then closed.",
            answers(
                &["taken", "reset", "closed 3008"],
                &[RATED, SLOW, BUSY, &["answered 404", "answered 409"]],
            ),
        ),
    ),
    abuse(
        "large_echoes_never_read",
        On::WebSocket,
        Needs::Development,
        large_echoes_never_read,
        "A hundred users have application frames of 60 KiB sent back and never read.",
        (
            "What waits is bounded in all; they are not read from, then closed.",
            answers(&[], &[TAKEN, RATED, SLOW, OVERLOAD]),
        ),
    ),
    abuse(
        "one_byte_a_while",
        On::Both,
        Needs::Nothing,
        one_byte_a_while,
        "Forty users with a tiny receive window read one byte each 50 ms while messages come for them.",
        (
            "They keep what their class allows; no other connection waits.",
            answers(&[], &[RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
    abuse(
        "messages_among_deaf_users",
        On::Both,
        Needs::Nothing,
        messages_among_deaf_users,
        "Sixty users send messages to one of them without a pause and never read.",
        (
            "They are not read from, then closed with 3008.",
            answers(&[], &[TAKEN, RATED, BUSY, SLOW, &["answered 404"]]),
        ),
    ),
];

/// Users that do not read, with a small window so that the kernel holds little.
fn hogs(target: &Target, count: u32, more: impl Fn(u32) -> serde_json::Value) -> Vec<(Peer, i64)> {
    let hogs = target.users(count, more);
    hogs.iter().for_each(|(peer, _)| peer.small_window());
    hogs
}

/// One sender floods with `bytes` and reads what comes back to it; `hogs` stay open.
fn against(target: &Target, sender: Peer, bytes: &[u8], hogs: Vec<(Peer, i64)>, messages: u64) -> Outcome {
    let flood = target.flood(vec![sender], bytes, true);
    let mut outcome = Outcome::of("messages").did(flood.copies * messages);
    outcome.flooded(flood);
    outcome.held(hogs.into_iter().map(|hog| hog.0).collect());
    outcome
}

fn room_never_reads(target: &Target) -> io::Result<Outcome> {
    let room = target.room("lazy");
    let lazy = hogs(target, 20, |_| json!({ "room_id": room }));
    let (sender, _) = target.user(&json!({ "room_id": room }))?;
    let bytes = frame(op::SEND, 2, &send_body(To::Room(&room), QUIET, 0, &[1; 32])).repeat(100);
    Ok(against(target, sender, &bytes, lazy, 100))
}

/// One message to each of the hogs in turn.
fn to_each(target: &Target, count: u32, size: usize) -> io::Result<Outcome> {
    let lazy = hogs(target, count, |_| json!(null));
    let (sender, _) = target.user(&json!(null))?;
    let payload = vec![1; size];
    let bytes: Vec<u8> = lazy
        .iter()
        .flat_map(|(_, mid)| frame(op::SEND, 2, &send_body(To::Mid(*mid), QUIET, 0, &payload)))
        .collect();
    let messages = lazy.len() as u64;
    Ok(against(target, sender, &bytes, lazy, messages))
}

fn users_never_read(target: &Target) -> io::Result<Outcome> {
    to_each(target, 50, 32)
}

fn large_messages_never_read(target: &Target) -> io::Result<Outcome> {
    to_each(target, 50, 60_000)
}

fn many_hold_little(target: &Target) -> io::Result<Outcome> {
    to_each(target, 400, 200)
}

/// Users flood with `bytes` and do not read.
fn deaf(target: &Target, peers: Vec<Peer>, bytes: &[u8]) -> Outcome {
    peers.iter().for_each(Peer::small_window);
    let flood = target.flood(peers, bytes, false);
    let mut outcome = Outcome::of("KiB of requests").did(flood.bytes_out >> 10);
    outcome.flooded(flood);
    outcome
}

fn tcp_users(target: &Target, count: u32) -> Vec<Peer> {
    target.users(count, |_| json!(null)).into_iter().map(|user| user.0).collect()
}

fn ws_users(target: &Target, count: u32) -> Vec<Peer> {
    target.open_many(count, |_| Ok(target.ws_user(&json!(null))?.0))
}

fn replies_never_read(target: &Target) -> io::Result<Outcome> {
    Ok(deaf(target, tcp_users(target, 100), &frame(op::HEARTBEAT, 2, &[]).repeat(200)))
}

fn errors_never_read(target: &Target) -> io::Result<Outcome> {
    let peers = ws_users(target, 100);
    let bytes = peers.first().map(|peer| peer.wrap(&frame(-7, 2, &[]).repeat(200))).unwrap_or_default();
    Ok(deaf(target, peers, &bytes))
}

fn joins_never_read(target: &Target) -> io::Result<Outcome> {
    let room = target.room("joined-and-left");
    let mut bytes = frame(op::JOIN, 2, &join_body(&room));
    bytes.extend(frame(op::LEAVE, 3, room.as_bytes()));
    Ok(deaf(target, tcp_users(target, 100), &bytes.repeat(50)))
}

fn large_echoes_never_read(target: &Target) -> io::Result<Outcome> {
    let peers = ws_users(target, 100);
    let bytes =
        peers.first().map(|peer| peer.wrap(&frame(op::APPLICATION, 2, &[3; 60_000]))).unwrap_or_default();
    Ok(deaf(target, peers, &bytes))
}

fn one_byte_a_while(target: &Target) -> io::Result<Outcome> {
    let mut slow = hogs(target, 20, |_| json!(null));
    for _ in 0..target.crowd(20) {
        let Ok((peer, mid)) = target.ws_user(&json!(null)) else { continue };
        peer.small_window();
        slow.push((peer, mid));
    }
    let (sender, _) = target.user(&json!(null))?;
    let bytes: Vec<u8> = slow
        .iter()
        .flat_map(|(_, mid)| frame(op::SEND, 2, &send_body(To::Mid(*mid), QUIET, 0, &[1; 500])))
        .collect();
    let mut flood = Flood::new(vec![sender], true);
    let mut outcome = Outcome::of("bytes read");
    while !target.is_over() {
        flood.run(&bytes, std::time::Instant::now() + Duration::from_millis(50));
        for (peer, _) in &slow {
            let _ = peer.stream().set_nonblocking(true);
            outcome.add(u64::from(peer.stream().read(&mut [0]).is_ok()));
        }
        target.pause(Duration::from_millis(1));
    }
    outcome.flooded(flood);
    Ok(outcome)
}

fn messages_among_deaf_users(target: &Target) -> io::Result<Outcome> {
    let users = target.users(60, |_| json!(null));
    // All to one of them: its queue fills from sixty sides.
    let mid = users.first().map_or(1, |user| user.1);
    let bytes = frame(op::SEND, 2, &send_body(To::Mid(mid), 0, 0, &[1; 64])).repeat(100);
    Ok(deaf(target, users.into_iter().map(|user| user.0).collect(), &bytes))
}
