//! Tables that connections share: rooms, memberships, names, text, accept sets, and the places of
//! one user.

use super::answers::{ADDRESS, BUSY, FAULTY, RATED, SLOW, TAKEN, answers};
use super::{Abuse, Needs, On, abuse, hold};
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{Item, frame, join_body, op};
use serde_json::json;
use std::io;
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "long_room_names",
        On::Tcp,
        Needs::Nothing,
        long_room_names,
        "Hundreds of users join thirty-two rooms each, with names of 255 bytes.",
        (
            "They are refused with 503 when their share of the text is used; logins of others find room.",
            answers(&["taken"], &[RATED, ADDRESS, &["answered 503"]]),
        ),
    ),
    abuse(
        "many_rooms",
        On::Tcp,
        Needs::Nothing,
        many_rooms,
        "Hundreds of users join thirty-two rooms each that no other user is in.",
        (
            "They are refused with 503 when their share of the rooms is used; others' rooms find a place.",
            answers(&["taken"], &[RATED, ADDRESS, &["answered 503"]]),
        ),
    ),
    abuse(
        "many_memberships",
        On::Tcp,
        Needs::Nothing,
        many_memberships,
        "Hundreds of users join the same thirty-two rooms.",
        (
            "They are refused with 503 when their share of the memberships is used; others' joins succeed.",
            answers(&["taken"], &[RATED, ADDRESS, &["answered 503"]]),
        ),
    ),
    abuse(
        "long_names_of_users",
        On::Tcp,
        Needs::Development,
        long_names_of_users,
        "Hundreds of connections log in with keys and user ids of 128 bytes.",
        ("They find a place or are refused with 3001; logins of others succeed.", answers(&[], &[ADDRESS])),
    ),
    abuse(
        "long_keys",
        On::Tcp,
        Needs::Tokens,
        long_keys,
        "Hundreds of connections of good users log in with keys of 128 bytes.",
        ("They find a place or are refused; logins of others succeed.", answers(&[], &[ADDRESS])),
    ),
    abuse(
        "different_accept_sets",
        On::Tcp,
        Needs::Nothing,
        different_accept_sets,
        "A user subscribes to more different sets of operations than the table holds.",
        (
            "It holds one set at a time; logins of others with sets of their own succeed.",
            answers(&["taken"], &[RATED, &["error 413"]]),
        ),
    ),
    abuse(
        "accept_sets_of_many",
        On::Tcp,
        Needs::Nothing,
        accept_sets_of_many,
        "Hundreds of connections of one address hold accept sets of their own.",
        (
            "They are refused with 413 when their share is used; logins of others with sets of their own succeed.",
            answers(&[], &[ADDRESS]),
        ),
    ),
    abuse(
        "largest_accept_sets",
        On::Tcp,
        Needs::Nothing,
        largest_accept_sets,
        "Users subscribe to sixty-four operations, and to more than are allowed.",
        ("Error 413 beyond the limit.", answers(&["error 413"], &[TAKEN])),
    ),
    abuse(
        "join_and_leave",
        On::Tcp,
        Needs::Nothing,
        join_and_leave,
        "Twenty users join and leave new rooms without a pause, and read.",
        (
            "They are served at their rate; records come back.",
            answers(&["taken"], &[RATED, SLOW, &["answered 404", "answered 409", "answered 503"]]),
        ),
    ),
    abuse(
        "pipelined_room_changes",
        On::Tcp,
        Needs::Nothing,
        pipelined_room_changes,
        "Twenty users write Join, ChangeRoom and Leave of the same rooms behind each other without waiting.",
        (
            "Each is answered in order, or with 409 and 503; records come back.",
            answers(&["taken"], &[FAULTY, RATED, BUSY, SLOW, &["answered 404", "answered 409"]]),
        ),
    ),
    abuse(
        "rooms_beyond_the_limit",
        On::Tcp,
        Needs::Nothing,
        rooms_beyond_the_limit,
        "A user joins twice as many rooms as are allowed.",
        ("413 from the limit on.", answers(&["answered 413"], &[TAKEN])),
    ),
    abuse(
        "devices_beyond_the_limit",
        On::Both,
        Needs::Nothing,
        devices_beyond_the_limit,
        "One user logs in over and over and keeps every connection.",
        ("The oldest of its own are closed with 3505.", answers(&["closed 3505"], &[])),
    ),
    abuse(
        "one_key_again_and_again",
        On::Both,
        Needs::Nothing,
        one_key_again_and_again,
        "One user logs in with the same key over and over, so that each login replaces the one before.",
        ("Its own are closed with 3504; slots come back.", answers(&["closed 3504"], &[])),
    ),
];

fn join_all(peer: &mut Peer, rooms: impl Iterator<Item = String>, outcome: &mut Outcome) {
    let bytes: Vec<u8> =
        (2..).zip(rooms).flat_map(|(sequence, room)| frame(op::JOIN, sequence, &join_body(&room))).collect();
    if peer.write(&bytes).is_err() {
        outcome.answer("write failed");
    }
}

/// Counts what came back on each connection, by code.
fn count_replies(peers: &mut [Peer], outcome: &mut Outcome) {
    for peer in peers {
        // A second for the first, because the gateway may be busy with the others.
        let mut patience = Duration::from_secs(1);
        while let Ok(Some(item)) = peer.read(std::mem::replace(&mut patience, Duration::from_millis(1))) {
            if let Item::Frame(frame) = item {
                outcome.reply(&frame);
            }
        }
    }
}

/// Users that join thirty-two rooms each, by a function of user and number, and stay.
fn joiners(target: &Target, room: impl Fn(u32, u32) -> String) -> Outcome {
    let mut outcome = Outcome::of("joins");
    let mut peers: Vec<Peer> = target.users(500, |_| json!(null)).into_iter().map(|user| user.0).collect();
    for (user, peer) in (0..).zip(&mut peers) {
        join_all(peer, (0..32).map(|number| room(user, number)), &mut outcome);
        outcome.add(32);
    }
    count_replies(&mut peers, &mut outcome);
    target.hold();
    outcome
}

fn long_room_names(target: &Target) -> io::Result<Outcome> {
    // Every fourth with short names: they take what is too little for a long one.
    let width = |user: u32| if user % 4 == 3 { 36 } else { 255 };
    let room =
        |user, number| format!("{:x<width$}", target.room(format!("{user}-{number}-")), width = width(user));
    Ok(joiners(target, room))
}

fn many_rooms(target: &Target) -> io::Result<Outcome> {
    Ok(joiners(target, |user, number| target.room(format!("{user}-{number}"))))
}

fn many_memberships(target: &Target) -> io::Result<Outcome> {
    Ok(joiners(target, |_, number| target.room(number)))
}

fn long_names_of_users(target: &Target) -> io::Result<Outcome> {
    let name = |kind: &str, number: u32| format!("{:y<128}", format!("{kind}-{number}-"));
    let users = target
        .users(800, |number| json!({ "key": name("key", number), "uid": name("uid", number), "mid": 0 }));
    Ok(hold(target, users.into_iter().map(|user| user.0).collect(), "users"))
}

fn long_keys(target: &Target) -> io::Result<Outcome> {
    let users = target
        .users(800, |number| json!({ "key": format!("{:y<128}", target.room(format!("key-{number}-"))) }));
    Ok(hold(target, users.into_iter().map(|user| user.0).collect(), "users"))
}

fn different_accept_sets(target: &Target) -> io::Result<Outcome> {
    let (mut peer, _) = target.user(&json!(null))?;
    let mut outcome = Outcome::of("sets");
    for number in 0..3000 {
        if target.is_over_after(number, 50) {
            break;
        }
        let subscribed = peer.ask(op::SUBSCRIBE, 2, format!("{}", 10_000 + number).as_bytes());
        let Ok(reply) = subscribed else { break };
        outcome.reply(&reply);
        if peer.ask(op::UNSUBSCRIBE, 3, format!("{}", 10_000 + number).as_bytes()).is_err() {
            break;
        }
        outcome.add(1);
    }
    Ok(outcome)
}

fn accept_sets_of_many(target: &Target) -> io::Result<Outcome> {
    let users = target.users(2000, |number| json!({ "accepts": [20_000 + number, 30_000 + number * 3] }));
    Ok(hold(target, users.into_iter().map(|user| user.0).collect(), "sets"))
}

fn largest_accept_sets(target: &Target) -> io::Result<Outcome> {
    let list = |count: u32, first: u32| {
        (0..count).map(|number| (first + number).to_string()).collect::<Vec<_>>().join(",").into_bytes()
    };
    let mut outcome = Outcome::of("sets");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 2000 {
        let (mut peer, _) = target.user(&json!(null))?;
        let first = 40_000 + outcome.did as u32 * 100;
        let whole = peer.ask(op::SUBSCRIBE, 2, &list(60, first))?;
        outcome.reply(&whole);
        let beyond = peer.ask(op::SUBSCRIBE, 3, &list(64, first + 1000))?;
        outcome.expect(
            beyond.operation == op::ERROR || beyond.operation == op::CLOSED,
            "a set beyond the limit is taken",
        );
        outcome.reply(&beyond);
        outcome.add(2);
    }
    Ok(outcome)
}

fn join_and_leave(target: &Target) -> io::Result<Outcome> {
    let peers: Vec<Peer> = target.users(20, |_| json!(null)).into_iter().map(|user| user.0).collect();
    let bytes: Vec<u8> = (0..50)
        .flat_map(|number| {
            let room = target.room(number);
            [frame(op::JOIN, 2, &join_body(&room)), frame(op::LEAVE, 3, room.as_bytes())].concat()
        })
        .collect();
    let flood = target.flood(peers, &bytes, true);
    let mut outcome = Outcome::of("joins").did(flood.copies * 50);
    outcome.flooded(flood);
    Ok(outcome)
}

fn pipelined_room_changes(target: &Target) -> io::Result<Outcome> {
    let peers: Vec<Peer> = target.users(20, |_| json!(null)).into_iter().map(|user| user.0).collect();
    let (a, b) = (target.room("a"), target.room("b"));
    let bytes = [
        frame(op::JOIN, 2, &join_body(&a)),
        frame(op::CHANGE_ROOM, 3, a.as_bytes()),
        frame(op::LEAVE, 4, a.as_bytes()),
        frame(op::CHANGE_ROOM, 5, b.as_bytes()),
        frame(op::JOIN, 6, &join_body(&a)),
        frame(op::CHANGE_ROOM, 7, b""),
        frame(op::LEAVE, 8, b.as_bytes()),
    ]
    .concat();
    let flood = target.flood(peers, &bytes.repeat(10), true);
    let mut outcome = Outcome::of("changes").did(flood.copies * 70);
    outcome.flooded(flood);
    Ok(outcome)
}

fn rooms_beyond_the_limit(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("joins");
    while !target.is_over_after(outcome.did as usize, 1) && outcome.did < 2000 {
        let (mut peer, _) = target.user(&json!(null))?;
        for number in 0..64 {
            let Ok(reply) = peer.ask(op::JOIN, 2 + number, &join_body(&target.room(number))) else { break };
            let joined = reply.operation == op::JOIN + 1 && reply.code() == 0;
            outcome.expect(!joined || number < 32, format!("room {number} was joined"));
            outcome.reply(&reply);
            outcome.add(1);
        }
    }
    Ok(outcome)
}

fn devices_beyond_the_limit(target: &Target) -> io::Result<Outcome> {
    let mid = target.new_mid();
    let peers = target.open_many(500, |number| {
        let mut peer = if number % 2 == 0 { target.tcp()? } else { target.websocket()? };
        target.login_as(&mut peer, mid, &json!(null))?;
        Ok(peer)
    });
    let mut outcome = Outcome::of("devices").did(peers.len() as u64);
    if let Some(mut first) = peers.into_iter().next() {
        let how = first.ending(Duration::from_secs(1));
        outcome.answer(how);
    }
    Ok(outcome)
}

fn one_key_again_and_again(target: &Target) -> io::Result<Outcome> {
    let mid = target.new_mid();
    let key = json!({ "key": target.room("key") });
    let peers = target.open_many(500, |number| {
        let mut peer = if number % 2 == 0 { target.tcp()? } else { target.websocket()? };
        target.login_as(&mut peer, mid, &key)?;
        Ok(peer)
    });
    let mut outcome = Outcome::of("logins").did(peers.len() as u64);
    outcome.held(peers);
    Ok(outcome)
}
