//! A small input with a large output: answers, fan-outs, log lines, disk.

use super::answers::{BUSY, FAULTY, RATED, SLOW, answers};
use super::{Abuse, Needs, On, abuse};
use crate::client::{Flood, Peer, status};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{QUIET, To, frame, op, send_body};
use serde_json::json;
use std::io;
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "room_of_readers",
        On::Tcp,
        Needs::Nothing,
        room_of_readers,
        "A user sends to a room of two hundred connections, which read, without a pause: each message is two hundred.",
        (
            "The sender is slowed by what its messages cost; deliveries of others go through.",
            answers(&[], &[RATED, BUSY]),
        ),
    ),
    abuse(
        "room_of_many_senders",
        On::Tcp,
        Needs::Nothing,
        room_of_many_senders,
        "Forty users in one room all send to it without a pause, and read.",
        ("They are slowed; deliveries of others go through.", answers(&[], &[RATED, BUSY])),
    ),
    abuse(
        "errors_for_bytes",
        On::Tcp,
        Needs::Nothing,
        errors_for_bytes,
        "A user sends empty frames of a forbidden operation, whose error is several times as long, and reads.",
        ("Errors come at a bounded rate; then the connection is closed.", answers(&["error 501"], &[FAULTY])),
    ),
    abuse(
        "log_lines_for_bytes",
        On::Both,
        Needs::Nothing,
        log_lines_for_bytes,
        "Thousands of connections break the protocol at once, each in another way.",
        (
            "Counted; the log and the journal grow by a bounded number of lines.",
            answers(&["closed 3500", "closed 3506"], &[&["400", "505", "reset"]]),
        ),
    ),
    abuse(
        "refused_logins_in_the_journal",
        On::Tcp,
        Needs::Tokens,
        refused_logins_in_the_journal,
        "Logins with a missing token and a key of 128 bytes, as fast as connections come about.",
        (
            "Each is closed with 3501; the journal grows by a bounded number of lines.",
            answers(&["closed 3501"], &[&["closed 3001"]]),
        ),
    ),
    abuse(
        "presence_of_a_busy_room",
        On::Tcp,
        Needs::Nothing,
        presence_of_a_busy_room,
        "Fifty users change between two rooms without a pause: sizes go to their homes and hosts again and again.",
        ("They are slowed; others' joins go through.", answers(&["taken"], &[RATED, BUSY, SLOW])),
    ),
];

fn peers(users: Vec<(Peer, i64)>) -> Vec<Peer> {
    users.into_iter().map(|user| user.0).collect()
}

fn room_of_readers(target: &Target) -> io::Result<Outcome> {
    let room = target.room("readers");
    let mut users = peers(target.users(200, |_| json!({ "room_id": room })));
    let Some(sender) = users.pop() else { return Ok(Outcome::of("messages")) };
    let bytes = frame(op::SEND, 2, &send_body(To::Room(&room), QUIET, 0, &[1; 64]));
    // One thread reads what two hundred receive.
    let readers = std::thread::scope(|scope| {
        let until = target.until();
        let reading = scope.spawn(move || {
            let mut reading = Flood::new(users, true);
            reading.run(&[], until);
            reading
        });
        let flood = target.flood(vec![sender], &bytes, true);
        (flood, reading.join())
    });
    let mut outcome = Outcome::of("messages").did(readers.0.copies);
    outcome.flooded(readers.0);
    readers.1.into_iter().for_each(|reading| outcome.flooded(reading));
    Ok(outcome)
}

fn room_of_many_senders(target: &Target) -> io::Result<Outcome> {
    let room = target.room("senders");
    let users = peers(target.users(40, |_| json!({ "room_id": room })));
    let bytes = frame(op::SEND, 2, &send_body(To::Room(&room), QUIET, 0, &[1; 64]));
    let flood = target.flood(users, &bytes, true);
    let mut outcome = Outcome::of("messages").did(flood.copies);
    outcome.flooded(flood);
    Ok(outcome)
}

fn errors_for_bytes(target: &Target) -> io::Result<Outcome> {
    let users = peers(target.users(3, |_| json!(null)));
    let flood = target.flood(users, &frame(111, 2, &[]).repeat(100), true);
    let mut outcome = Outcome::of("frames").did(flood.copies * 100);
    outcome.flooded(flood);
    Ok(outcome)
}

fn log_lines_for_bytes(target: &Target) -> io::Result<Outcome> {
    let broken: [&[u8]; 4] = [b"garbage garbage garbage!", &[0; 16], &[0xff; 16], b"GET /x HTTP/9.9\r\n\r\n"];
    let mut outcome = Outcome::of("connections");
    for number in 0..20_000 {
        if target.is_over_after(outcome.did as usize, 1) {
            break;
        }
        let to = if number % 2 == 0 { target.tcp_address() } else { target.websocket_address() };
        let Ok(stream) = target.connect(to) else { continue };
        let mut peer = Peer::tcp(stream);
        let _ = peer.write(broken[number / 2 % broken.len()]);
        outcome.add(1);
        // Now and then it waits for the answer; otherwise connections break as fast as they can be
        // made.
        if number % 50 < 8 {
            outcome.answer(broken_ending(peer, number % 2 == 0));
        }
    }
    Ok(outcome)
}

/// How a connection that broke the protocol ended: by a code over TCP, by a status before the
/// upgrade.
fn broken_ending(mut peer: Peer, is_tcp: bool) -> String {
    let patience = Duration::from_secs(3);
    if is_tcp { peer.ending(patience) } else { status(&mut peer.into_stream(), patience) }
}

fn refused_logins_in_the_journal(target: &Target) -> io::Result<Outcome> {
    let body = json!({ "mid": 5, "key": "k".repeat(128), "uid": "u".repeat(128) }).to_string();
    let mut outcome = Outcome::of("logins");
    while !target.is_over_after(outcome.did as usize, 1) {
        let Ok(mut peer) = target.tcp() else { continue };
        let _ = peer.send(op::AUTH, 1, body.as_bytes());
        let how = peer.ending(Duration::from_secs(2));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}

fn presence_of_a_busy_room(target: &Target) -> io::Result<Outcome> {
    let users = peers(target.users(50, |_| json!({ "room_id": target.room("left") })));
    let (left, right) = (target.room("left"), target.room("right"));
    let mut bytes = frame(op::CHANGE_ROOM, 2, right.as_bytes());
    bytes.extend(frame(op::CHANGE_ROOM, 3, left.as_bytes()));
    let flood = target.flood(users, &bytes.repeat(20), true);
    let mut outcome = Outcome::of("changes").did(flood.copies * 40);
    outcome.flooded(flood);
    Ok(outcome)
}
