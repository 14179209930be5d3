//! False identities: keys, rooms, push operations, tokens and scopes of other users.

use super::answers::{FAULTY, TAKEN, answers};
use super::{Abuse, Needs, On, abuse, reply_word};
use crate::bystanders::{SERVICE_PUSH, person};
use crate::client::{Peer, status};
use crate::outcome::Outcome;
use crate::target::Target;
use crate::tokens::{claims, now_s};
use crate::wire::{Item, To, join_body, op, publish_body, send_body};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

pub(super) const ABUSES: &[Abuse] = &[
    abuse(
        "key_of_a_bystander",
        On::Both,
        Needs::Tokens,
        key_of_a_bystander,
        "Users log in with good tokens of their own and with bystanders' keys.",
        ("Closed with 3501; the bystander keeps its key.", answers(&["closed 3501"], &[])),
    ),
    abuse(
        "service_push_operation",
        On::Tcp,
        Needs::Tokens,
        service_push_operation,
        "A user sends a message with the push operation that services use.",
        (
            "Refused: the receiver can tell a service's push from a client's.",
            answers(&["answered 403"], &[FAULTY]),
        ),
    ),
    abuse(
        "join_a_foreign_room",
        On::Tcp,
        Needs::Tokens,
        join_a_foreign_room,
        "A user joins a room that its token does not list, by each of the ways there are.",
        (
            "Refused with 403 or 3501; nothing of the room arrives.",
            answers(&["answered 403"], &[TAKEN, FAULTY, &["error 403", "closed 3501"]]),
        ),
    ),
    abuse(
        "send_to_a_foreign_room",
        On::Tcp,
        Needs::Tokens,
        send_to_a_foreign_room,
        "A user sends and publishes to rooms that it is not in.",
        ("403.", answers(&["answered 403"], &[FAULTY])),
    ),
    abuse(
        "another_users_name",
        On::Both,
        Needs::Tokens,
        another_users_name,
        "Users log in with good tokens of their own and name a bystander as their user.",
        ("Closed with 3501.", answers(&["closed 3501"], &[])),
    ),
    abuse(
        "tokens_that_must_not_be_taken",
        On::Tcp,
        Needs::Tokens,
        tokens_that_must_not_be_taken,
        "Tokens without a signature, signed with the public key as a secret, ended, not yet good, for another service, without a user.",
        ("Each is closed with 3501 or 3010.", answers(&["closed 3501"], &[&["closed 3010"]])),
    ),
    abuse(
        "scopes_that_look_alike",
        On::Tcp,
        Needs::Tokens,
        scopes_that_look_alike,
        "Tokens whose scope contains, nests, or differs in case from the word that makes a service.",
        (
            "They are users: 403 to rooms that they are not in.",
            answers(&["answered 403"], &[&["login closed 3501"]]),
        ),
    ),
    abuse(
        "tokens_that_end_at_once",
        On::Tcp,
        Needs::Tokens,
        tokens_that_end_at_once,
        "Users whose tokens end while they are logged in, again and again.",
        (
            "Each is closed with 3010 when its token ends; others are not.",
            answers(&[], &[&["closed 3010", "login closed 3010"]]),
        ),
    ),
    abuse(
        "wrong_api_keys",
        On::Control,
        Needs::Tokens,
        wrong_api_keys,
        "Pushes, kicks and reads with missing, wrong and nearly right keys, and with keys in the wrong place.",
        ("401 or 403; the journal grows by a bounded number of lines.", answers(&["401"], &[&["403"]])),
    ),
];

/// Bystanders to aim at, in turn.
fn aim(target: &Target, number: u32) -> u32 {
    number.wrapping_mul(7) % target.bystanders()
}

/// Logs in with `body`; returns whether it was accepted, and the answer.
fn try_login(mut peer: Peer, body: &[u8]) -> (bool, String) {
    if peer.send(op::AUTH, 1, body).is_err() {
        return (false, "not sent".into());
    }
    let reply = peer.reply_to(1, Duration::from_secs(3));
    let accepted = matches!(&reply, Ok(Some(frame)) if frame.operation == op::AUTH_REPLY);
    (accepted, reply_word(reply))
}

fn either(target: &Target, number: u32) -> io::Result<Peer> {
    if number % 3 == 2 { target.websocket() } else { target.tcp() }
}

fn key_of_a_bystander(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    for number in 0..200 {
        if target.is_over_after(number as usize, 3) {
            break;
        }
        let body = target.auth(target.new_mid(), &json!({ "key": person::key(aim(target, number)) }));
        let (accepted, answer) = try_login(either(target, number)?, &body);
        outcome.expect(!accepted, "a bystander's key was given away");
        outcome.answer(answer);
        outcome.add(1);
    }
    Ok(outcome)
}

fn service_push_operation(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("messages");
    let (mut peer, _) = target.user(&json!(null))?;
    for number in 0..50 {
        if target.is_over_after(number as usize, 1) {
            break;
        }
        let to = To::Mid(person::mid(aim(target, number)));
        let reply = peer.ask(op::SEND, 5, &send_body(to, 0, SERVICE_PUSH, b"your account is locked"))?;
        outcome.expect(reply.code() != 0, "a client's message went out as a service's push");
        outcome.reply(&reply);
        outcome.add(1);
    }
    Ok(outcome)
}

fn join_a_foreign_room(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("tries");
    for number in 0..100 {
        if target.is_over_after(number as usize, 1) {
            break;
        }
        let room = person::room(aim(target, number));
        let (accepted, answer) =
            try_login(target.tcp()?, &target.auth(target.new_mid(), &json!({ "room_id": room })));
        outcome.answer(answer);
        let (mut peer, _) = target.user(&json!(null))?;
        let joined = peer.ask(op::JOIN, 2, &join_body(&room))?;
        outcome.reply(&joined);
        let changed = peer.ask(op::CHANGE_ROOM, 3, room.as_bytes())?;
        outcome.reply(&changed);
        outcome.add(3);
        let arrives = receives_push(&mut peer);
        outcome.expect(joined.code() != 0, "Join to a room that the token does not list succeeded");
        outcome.expect(
            changed.operation == op::ERROR,
            "ChangeRoom to a room that the token does not list succeeded",
        );
        outcome.expect(!arrives, "messages of a foreign room arrive");
        // A login may succeed and leave the room out, with an Error behind its reply.
        let _ = accepted;
    }
    Ok(outcome)
}

/// Whether a push arrives within a moment.
fn receives_push(peer: &mut Peer) -> bool {
    let read = peer.read(Duration::from_millis(100));
    matches!(read, Ok(Some(Item::Frame(frame))) if frame.operation >= op::PUSH)
}

fn send_to_a_foreign_room(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("messages");
    let (mut peer, _) = target.user(&json!(null))?;
    for number in 0..200 {
        if target.is_over_after(number as usize, 2) {
            break;
        }
        let room = person::room(aim(target, number));
        for (operation, body) in [
            (op::SEND, send_body(To::Room(&room), 0, 0, b"hello")),
            (op::PUBLISH, publish_body(To::Room(&room), b"1", b"hello")),
        ] {
            let Ok(reply) = peer.ask(operation, 5, &body) else { return Ok(outcome) };
            outcome.expect(reply.code() != 0, format!("operation {operation} to a foreign room succeeded"));
            outcome.reply(&reply);
            outcome.add(1);
        }
    }
    Ok(outcome)
}

fn another_users_name(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    for number in 0..200 {
        if target.is_over_after(number as usize, 2) {
            break;
        }
        let theirs = person::mid(aim(target, number));
        let more =
            if number % 2 == 0 { json!({ "mid": theirs }) } else { json!({ "uid": theirs.to_string() }) };
        let (accepted, answer) = try_login(either(target, number)?, &target.auth(target.new_mid(), &more));
        outcome.expect(!accepted, format!("a login as another user was accepted: {more}"));
        outcome.answer(answer);
        outcome.add(1);
    }
    Ok(outcome)
}

/// Tokens of user 5 that a gateway must not take, each with a name.
fn bad_tokens(target: &Target) -> Vec<(&'static str, String)> {
    let sign = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(&json!(5), &[]);
        change(&mut claims);
        target.signer().sign(&claims)
    };
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = claims(&json!(5), &[]);
    let unsigned = format!("{}.{}.", part(json!({ "alg": "none" })), part(good.clone()));
    let public = target.signer().jwks().unwrap_or_default();
    let confused =
        encode(&Header::default(), &good, &EncodingKey::from_secret(public.as_bytes())).unwrap_or_default();
    let signed = target.signer().sign(&good);
    let (head, rest) = signed.split_once('.').unwrap_or_default();
    let other_head = format!("{}.{rest}", part(json!({ "alg": "ES256", "kid": "../../dev/null" })));
    vec![
        ("unsigned", unsigned),
        ("the public key as a secret", confused),
        ("another head", other_head),
        ("without a signature", format!("{head}.{}.", rest.split('.').next().unwrap_or_default())),
        ("ended", sign(&|claims| claims["exp"] = json!(now_s() - 3600))),
        ("without an end", sign(&|claims| claims["exp"] = Value::Null)),
        ("not yet good", sign(&|claims| claims["nbf"] = json!(now_s() + 3600))),
        ("for another service", sign(&|claims| claims["aud"] = json!("mail"))),
        ("from another issuer", sign(&|claims| claims["iss"] = json!("https://evil.example"))),
        ("without a user", sign(&|claims| claims["sub"] = Value::Null)),
        ("user in a list", sign(&|claims| claims["sub"] = json!([5]))),
        ("end as text", sign(&|claims| claims["exp"] = json!("tomorrow"))),
        ("user of 300 bytes", sign(&|claims| claims["sub"] = json!("u".repeat(300)))),
    ]
}

fn tokens_that_must_not_be_taken(target: &Target) -> io::Result<Outcome> {
    let tokens = bad_tokens(target);
    let mut outcome = Outcome::of("logins");
    for (number, (name, token)) in tokens.iter().cycle().take(2000).enumerate() {
        if target.is_over_after(number, tokens.len()) {
            break;
        }
        let (accepted, answer) = try_login(target.tcp()?, json!({ "token": token }).to_string().as_bytes());
        outcome.expect(!accepted, format!("a token {name} was accepted"));
        outcome.answer(answer);
        outcome.add(1);
    }
    Ok(outcome)
}

fn scopes_that_look_alike(target: &Target) -> io::Result<Outcome> {
    let scopes = [
        json!("gateway:sender"),
        json!("xgateway:send"),
        json!("GATEWAY:SEND"),
        json!("gateway:send,other"),
        json!("gateway: send"),
        json!([["gateway:send"]]),
        json!({ "gateway:send": true }),
        json!(""),
        json!(1),
        json!(["gateway", ":send"]),
    ];
    let mut outcome = Outcome::of("messages");
    for (number, scope) in (0..).zip(scopes.iter().cycle().take(500)) {
        if target.is_over_after(number as usize, scopes.len()) {
            break;
        }
        let mid = target.new_mid();
        let mut claims = claims(&json!(mid), &[]);
        claims["scope"] = scope.clone();
        let mut peer = target.tcp()?;
        let login = target.login_as(&mut peer, mid, &json!({ "token": target.signer().sign(&claims) }));
        outcome.add(1);
        if login.is_err() {
            continue; // the refusal is counted with the logins
        }
        let room = person::room(aim(target, number));
        let reply = peer.ask(op::SEND, 5, &send_body(To::Room(&room), 0, 0, b"hello"))?;
        outcome.expect(reply.code() != 0, format!("scope {scope} made a service"));
        outcome.reply(&reply);
    }
    Ok(outcome)
}

fn tokens_that_end_at_once(target: &Target) -> io::Result<Outcome> {
    let mut outcome = Outcome::of("logins");
    let mut peers = vec![];
    for _ in 0..target.crowd(200) {
        if target.is_over_after(outcome.did as usize, 1) {
            break;
        }
        let mid = target.new_mid();
        let mut claims = claims(&json!(mid), &[]);
        // Within the leeway: valid for a second or two more.
        claims["exp"] = json!(now_s() - 28);
        let mut peer = target.tcp()?;
        let login = target.login_as(&mut peer, mid, &json!({ "token": target.signer().sign(&claims) }));
        outcome.add(1);
        if login.is_ok() {
            peers.push(peer);
        }
    }
    target.hold();
    outcome.held(peers);
    Ok(outcome)
}

fn wrong_api_keys(target: &Target) -> io::Result<Outcome> {
    let key = crate::profile::API_KEY;
    let near = &key[..key.len() - 1];
    let heads = [
        String::new(),
        "Authorization: Bearer wrong\r\n".into(),
        format!("Authorization: Bearer {near}\r\n"),
        format!("Authorization: Bearer {key}x\r\n"),
        format!("Authorization: Basic {key}\r\n"),
        format!("Cookie: X-API-Key={key}\r\n"),
        format!("X-API-Key: {}\r\n", "k".repeat(4000)),
    ];
    let body = json!({ "target": { "mid": 1 }, "operation": 1000, "payload": "x" }).to_string();
    let mut outcome = Outcome::of("requests");
    for number in 0..20_000 {
        if target.is_over_after(number, 21) {
            break;
        }
        let head = &heads[number % heads.len()];
        let request = match number % 3 {
            0 => format!(
                "GET /api/v1/connections?limit=10 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n"
            ),
            1 => format!(
                "GET /api/v1/rooms/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n",
                "A".repeat(3000)
            ),
            _ => format!(
                "POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{head}\r\n{body}",
                body.len()
            ),
        };
        let mut stream = target.control()?;
        let _ = stream.write_all(request.as_bytes());
        let how = status(&mut stream, Duration::from_secs(5));
        outcome.answer(how);
        outcome.add(1);
    }
    Ok(outcome)
}
