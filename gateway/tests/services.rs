//! A backend service that pushes over a connection of its own, beside clients that may not.

mod common;

use common::program::{Running, gateway};
use common::{Client, auth_body, encoded};
use gateway_proto::auth::AuthRequest;
use gateway_proto::body::{PushOperation, RoomKey, SendMessage, SendMessageReply, Target};
use gateway_proto::codes::ErrorCode;
use gateway_proto::frame::Operation;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "correct-horse-battery-staple-0123456789";

fn token(mid: i64, scope: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": mid, "exp": now + 600, "scope": scope });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn login(running: &Running, mid: i64, room: &str, scope: &str) -> Client {
    let mut client = Client::connect(running.address("tcp on ").parse().unwrap());
    let (mut scratch, body, token) = ([0; 4096], auth_body(mid, "", room), token(mid, scope));
    let request = AuthRequest { token: &token, ..AuthRequest::parse(&body, &mut scratch).unwrap() };
    let mut out = vec![0; 4096];
    let size = request.emit(&mut out).unwrap();
    let reply = client.ask(Operation::AUTH, 1, &out[..size]);
    assert_eq!((reply.operation, reply.sequence), (8, 1), "{reply:?}");
    client
}

fn message(target: Target<'_>, quiet: bool) -> Vec<u8> {
    let push_operation = PushOperation::new(Operation(1001));
    let message = SendMessage {
        target,
        not_to_self: false,
        quiet,
        push_operation,
        traceparent: None,
        payload: b"hello",
    };
    encoded(&message)
}

fn answer(client: &mut Client, target: Target<'_>) -> (Result<(), ErrorCode>, u32) {
    let reply = client.ask(Operation::SEND_MESSAGE, 5, &message(target, false));
    let reply = SendMessageReply::parse(&reply.body).unwrap();
    (reply.result, reply.receivers)
}

#[test]
fn a_service_sends_to_everyone_where_clients_may_send_to_nobody() {
    // What a service sends below is far above a client's rate.
    let rate = ["rate.messages_per_second_max=1", "rate.messages_burst_max=50", "rate.bytes_burst_max=1024"];
    let sets =
        ["auth.mode=jwt", "auth.service_scope=gateway:send", "application.client_send=false", "io.workers=2"];
    let sets: Vec<&str> = sets.into_iter().chain(rate).collect();
    let mut order = gateway("run", &sets);
    order.env("GATEWAY_AUTH__SECRET", SECRET);
    let running = Running::of(&mut order);
    let mut user = login(&running, 7, "live://1", "gateway:receive");
    let mut service = login(&running, 1, "", "openid gateway:send");
    let room = || Target::Room(RoomKey::parse(b"live://1").unwrap());
    for target in [Target::Mid(1), room()] {
        assert_eq!(answer(&mut user, target), (Err(ErrorCode::FORBIDDEN), 0), "{target:?}");
    }
    for target in [Target::Mid(7), room()] {
        assert_eq!(answer(&mut service, target), (Ok(()), 1), "{target:?}");
        let push = user.read();
        assert_eq!((push.operation, &push.body[..]), (1001, &b"hello"[..]));
    }
    // As it would in bulk: in one write, and heard of only where nobody was there.
    let pushes: Vec<u8> = (0..100)
        .flat_map(|number| {
            let mid = if number == 50 { 8 } else { 7 };
            common::frame(Operation::SEND_MESSAGE, 100 + number, &message(Target::Mid(mid), true))
        })
        .collect();
    service.write(&pushes);
    let reply = service.read();
    assert_eq!((reply.operation, reply.sequence), (5, 150));
    assert_eq!(SendMessageReply::parse(&reply.body).unwrap().result, Err(ErrorCode::NOT_FOUND));
    (0..99).for_each(|number| assert_eq!(user.read().operation, 1001, "push {number}"));
    assert_eq!(service.ask(Operation::HEARTBEAT, 9, b"").sequence, 9, "nothing else was said");
}
