//! As much as a connection can send: messages, requests, and what they cost others.

use super::answers::{BUSY, RATED, SLOW, answers};
use super::{Abuse, Needs, On, abuse};
use crate::bystanders::person;
use crate::client::Peer;
use crate::outcome::Outcome;
use crate::target::Target;
use crate::wire::{QUIET, To, frame, join_body, op, publish_body, send_body};
use serde_json::json;
use std::io;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "flood_at_one_bystander",
        On::Tcp,
        Needs::Nothing,
        flood_at_one_bystander,
        "A user sends small quiet messages to one bystander without a pause.",
        (
            "The sender is slowed, refused with 429, then closed; the bystander stays.",
            answers(&[], &[RATED, BUSY]),
        ),
    ),
    abuse(
        "flood_of_many_at_one_bystander",
        On::Both,
        Needs::Nothing,
        flood_of_many_at_one_bystander,
        "Sixteen connections of one user send small quiet messages to one bystander without a pause.",
        ("The user is slowed as one; the bystander stays.", answers(&[], &[RATED, BUSY, &["taken"]])),
    ),
    abuse(
        "large_messages_at_one_bystander",
        On::Tcp,
        Needs::Nothing,
        large_messages_at_one_bystander,
        "A user sends messages of 60 KiB to one bystander without a pause.",
        ("The sender is slowed; the bystander stays.", answers(&[], &[RATED, BUSY])),
    ),
    abuse(
        "publishes_at_one_bystander",
        On::Tcp,
        Needs::Nothing,
        publishes_at_one_bystander,
        "A user publishes to one bystander by key without a pause.",
        ("The sender is slowed; the bystander stays.", answers(&["taken"], &[RATED, BUSY])),
    ),
    abuse(
        "flood_at_all_bystanders",
        On::Tcp,
        Needs::Nothing,
        flood_at_all_bystanders,
        "A user sends quiet messages to one bystander after the other without a pause.",
        ("The sender is slowed; no bystander's queue fills.", answers(&[], &[RATED, BUSY])),
    ),
    abuse(
        "messages_to_users_who_are_away",
        On::Tcp,
        Needs::Nothing,
        messages_to_users_who_are_away,
        "Five users send messages to users that do not exist, and read the answers.",
        ("Answered 404 at a bounded rate.", answers(&["answered 404"], &[RATED, BUSY])),
    ),
    abuse(
        "heartbeat_flood",
        On::Both,
        Needs::Nothing,
        heartbeat_flood,
        "Ten users send heartbeats without a pause, and read the replies.",
        ("They are answered at a bounded rate, or closed.", answers(&["taken"], &[RATED, SLOW])),
    ),
    abuse(
        "subscribe_flood",
        On::Tcp,
        Needs::Nothing,
        subscribe_flood,
        "Five users subscribe and unsubscribe without a pause.",
        ("They are answered at a bounded rate, or closed.", answers(&["taken"], &[RATED, SLOW])),
    ),
    abuse(
        "fanouts_from_one_sender",
        On::Tcp,
        Needs::Nothing,
        fanouts_from_one_sender,
        "A user in thirty-two rooms sends to one after the other without a pause, in bursts.",
        ("Its fan-outs are bounded; room messages of others go through.", answers(&[], &[RATED, BUSY])),
    ),
    abuse(
        "mailbox_of_one_worker",
        On::Tcp,
        Needs::Nothing,
        mailbox_of_one_worker,
        "Eight users send to one name without a pause: all goes through the mailbox of that name's worker.",
        (
            "Senders are slowed or answered 503; messages of others go through.",
            answers(&["answered 404"], &[RATED, BUSY]),
        ),
    ),
    abuse(
        "acknowledgement_flood",
        On::Tcp,
        Needs::Nothing,
        acknowledgement_flood,
        "Five users send DeliverAck, which has no reply, without a pause.",
        ("They are read at a bounded rate.", answers(&[], &[RATED])),
    ),
    abuse(
        "distributed_flood",
        On::Tcp,
        Needs::Nothing,
        distributed_flood,
        "A hundred users from a hundred addresses send quiet messages to one bystander, each as fast as it may.",
        ("The bystander stays: it reads, so it is not slow.", answers(&[], &[RATED, BUSY, &["taken"]])),
    ),
];

/// The bystander that floods aim at: one over TCP.
fn victim(target: &Target) -> u32 {
    person::flooded(target.bystanders())
}

/// `peers` write `bytes`, which hold so many messages, without a pause, and read what comes back.
fn eager(target: &Target, peers: Vec<Peer>, bytes: &[u8], messages: u64) -> Outcome {
    let flood = target.flood(peers, bytes, true);
    let mut outcome = Outcome::of("messages").did(flood.copies * messages);
    outcome.flooded(flood);
    outcome
}

fn users(target: &Target, count: u32) -> Vec<Peer> {
    target.users(count, |_| json!(null)).into_iter().map(|user| user.0).collect()
}

fn flood_at_one_bystander(target: &Target) -> io::Result<Outcome> {
    let to = To::Mid(person::mid(victim(target)));
    let bytes = frame(op::SEND, 2, &send_body(to, QUIET, 0, &[1; 64])).repeat(100);
    Ok(eager(target, users(target, 1), &bytes, 100))
}

fn flood_of_many_at_one_bystander(target: &Target) -> io::Result<Outcome> {
    let to = To::Mid(person::mid(victim(target)));
    let bytes = frame(op::SEND, 2, &send_body(to, QUIET, 0, &[1; 64])).repeat(100);
    let mid = target.new_mid();
    let peers = target.open_many(16, |_| {
        let mut peer = target.tcp()?;
        target.login_as(&mut peer, mid, &json!(null))?;
        Ok(peer)
    });
    Ok(eager(target, peers, &bytes, 100))
}

fn large_messages_at_one_bystander(target: &Target) -> io::Result<Outcome> {
    let to = To::Mid(person::mid(victim(target)));
    let bytes = frame(op::SEND, 2, &send_body(to, QUIET, 0, &[1; 60_000]));
    Ok(eager(target, users(target, 1), &bytes, 1))
}

fn publishes_at_one_bystander(target: &Target) -> io::Result<Outcome> {
    let key = person::key(victim(target));
    let bytes = frame(op::PUBLISH, 2, &publish_body(To::Key(&key), b"1", &[1; 64])).repeat(100);
    Ok(eager(target, users(target, 1), &bytes, 100))
}

fn flood_at_all_bystanders(target: &Target) -> io::Result<Outcome> {
    let to = |index| send_body(To::Mid(person::mid(index)), QUIET, 0, &[1; 64]);
    let bytes: Vec<u8> = (0..target.bystanders()).flat_map(|index| frame(op::SEND, 2, &to(index))).collect();
    Ok(eager(target, users(target, 1), &bytes, u64::from(target.bystanders())))
}

fn messages_to_users_who_are_away(target: &Target) -> io::Result<Outcome> {
    let away = |number: i64| send_body(To::Mid(-1 - number), 0, 0, b"hello");
    let bytes: Vec<u8> = (0..100).flat_map(|number| frame(op::SEND, 2, &away(number))).collect();
    Ok(eager(target, users(target, 5), &bytes, 100))
}

fn heartbeat_flood(target: &Target) -> io::Result<Outcome> {
    Ok(eager(target, users(target, 10), &frame(op::HEARTBEAT, 2, &[]).repeat(100), 100))
}

fn subscribe_flood(target: &Target) -> io::Result<Outcome> {
    let mut bytes = frame(op::SUBSCRIBE, 2, b"1000,1001,1002,1003");
    bytes.extend(frame(op::UNSUBSCRIBE, 3, b"1002,1003"));
    Ok(eager(target, users(target, 5), &bytes.repeat(50), 100))
}

fn fanouts_from_one_sender(target: &Target) -> io::Result<Outcome> {
    let (mut peer, _) = target.user(&json!(null))?;
    let rooms: Vec<String> = (0..31).map(|number| target.room(number)).collect();
    for (sequence, room) in (2..).zip(&rooms) {
        peer.ask(op::JOIN, sequence, &join_body(room))?;
    }
    let bytes: Vec<u8> = rooms
        .iter()
        .flat_map(|room| frame(op::SEND, 90, &send_body(To::Room(room), QUIET, 0, &[1; 64])))
        .collect();
    Ok(eager(target, vec![peer], &bytes.repeat(4), 4 * rooms.len() as u64))
}

fn mailbox_of_one_worker(target: &Target) -> io::Result<Outcome> {
    let to = To::Uid("a-name-whose-home-is-one-worker");
    let bytes = frame(op::SEND, 2, &send_body(to, 0, 0, &[1; 16])).repeat(200);
    Ok(eager(target, users(target, 8), &bytes, 200))
}

fn acknowledgement_flood(target: &Target) -> io::Result<Outcome> {
    let mut body = vec![1, 8, 0, 0];
    body.extend_from_slice(&[0; 12]);
    body.extend_from_slice(&7_i64.to_be_bytes());
    Ok(eager(target, users(target, 5), &frame(op::DELIVER_ACK, 2, &body).repeat(100), 100))
}

fn distributed_flood(target: &Target) -> io::Result<Outcome> {
    let to = To::Mid(person::mid(victim(target)));
    let bytes = frame(op::SEND, 2, &send_body(to, QUIET, 0, &[1; 64])).repeat(10);
    let peers = target.open_many(100, |number| {
        let mut peer = Peer::tcp(target.connect_from(target.source_of_many(number), target.tcp_address())?);
        target.login_as(&mut peer, target.new_mid(), &json!(null))?;
        Ok(peer)
    });
    Ok(eager(target, peers, &bytes, 10))
}
