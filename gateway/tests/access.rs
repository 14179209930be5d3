//! What one client may do to another where tokens say who clients are: keys, rooms, and operations
//! of services.

mod common;

use common::program::{Folder, Running, check, gateway};
use common::{Client, encoded};
use gateway_proto::auth::{Accepts, AuthRequest};
use gateway_proto::body::{
    Closed, Error, Join, JoinReply, MessageId, Name, Publish, PublishReply, PushOperation, RoomKey,
    SendMessage, SendMessageReply, Target,
};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "correct-horse-battery-staple-0123456789";

/// Runs a case on both backends of the kernel, with two workers: keys, users and rooms are at home
/// on either.
fn on_both(sets: &[&str], case: impl Fn(&Running)) {
    for backend in ["io.backend=epoll", "io.backend=io_uring"] {
        let mut all = vec![backend, "auth.mode=jwt", "auth.service_scope=gateway:send", "io.workers=2"];
        all.extend(sets);
        let mut order = gateway("run", &all);
        order.env("GATEWAY_AUTH__SECRET", SECRET);
        case(&Running::of(&mut order));
    }
}

fn token(mid: i64, more: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "sub": mid, "exp": now + 600 });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A client that has asked to log in.
fn knock(running: &Running, mid: i64, key: &str, room: &str, more: &Value) -> Client {
    knock_with(running, &token(mid, more), key, room)
}

fn knock_with(running: &Running, token: &str, key: &str, room: &str) -> Client {
    let mut client = Client::connect(running.address("tcp on ").parse().unwrap());
    let mut accepts = Accepts::default();
    [1000, 2000].into_iter().for_each(|operation| accepts.push(Operation(operation)).unwrap());
    let request = AuthRequest {
        token,
        key: Name::parse(key.as_bytes()).ok(),
        room: RoomKey::parse(room.as_bytes()).ok(),
        accepts,
        ..AuthRequest::default()
    };
    let mut out = vec![0; 4096];
    let size = request.emit(&mut out).unwrap();
    client.send(Operation::AUTH, 1, &out[..size]);
    client
}

fn login(running: &Running, mid: i64, key: &str, room: &str, more: &Value) -> Client {
    let mut client = knock(running, mid, key, room, more);
    let reply = client.read();
    assert_eq!((reply.operation, reply.sequence), (8, 1), "{reply:?}");
    client
}

fn ended_with(client: &mut Client) -> (CloseCode, String) {
    let closed = client.read();
    assert_eq!(closed.operation, 111, "{closed:?}");
    let closed = Closed::parse(&closed.body).unwrap();
    (closed.code, closed.reason.as_str().to_owned())
}

fn push(target: Target<'_>, operation: i32) -> Vec<u8> {
    encoded(&SendMessage {
        target,
        not_to_self: false,
        quiet: false,
        push_operation: PushOperation::new(Operation(operation)),
        traceparent: None,
        payload: b"x",
    })
}

fn sent(client: &mut Client, target: Target<'_>, operation: i32) -> Result<(), ErrorCode> {
    let reply = client.ask(Operation::SEND_MESSAGE, 5, &push(target, operation));
    SendMessageReply::parse(&reply.body).unwrap().result
}

fn lives(client: &mut Client) {
    assert_eq!(client.ask(Operation::HEARTBEAT, 77, b"").sequence, 77);
}

#[test]
fn clients_push_what_the_operator_allows_and_services_anything() {
    on_both(&["application.client_push_operations=1000,3000-3999"], |running| {
        let mut receiver = login(running, 7, "", "", &json!({}));
        let mut client = login(running, 8, "", "", &json!({}));
        let mut service = login(running, 9, "", "", &json!({ "scope": "gateway:send" }));
        for (operation, result) in [
            (1000, Ok(())),
            (3500, Ok(())),
            (2000, Err(ErrorCode::FORBIDDEN)),
            (4000, Err(ErrorCode::FORBIDDEN)),
        ] {
            assert_eq!(sent(&mut client, Target::Mid(7), operation), result, "{operation}");
        }
        assert_eq!(sent(&mut service, Target::Mid(7), 2000), Ok(()));
        assert_eq!(
            (receiver.read().operation, receiver.read().operation),
            (1000, 2000),
            "and nothing forged between"
        );
        lives(&mut receiver);
        lives(&mut client);
    });
}

#[test]
fn a_key_is_taken_over_by_its_own_user_only() {
    on_both(&[], |running| {
        let mut alice = login(running, 1, "alice-phone", "", &json!({}));
        let mut mallory = knock(running, 2, "alice-phone", "", &json!({}));
        let (code, reason) = ended_with(&mut mallory);
        assert_eq!(code, CloseCode::AUTH_FAILED, "{reason}");
        assert!(reason.contains("another user"), "{reason}");
        lives(&mut alice);
        let key = Target::Connection(Name::parse(b"alice-phone").unwrap());
        let mut bob = login(running, 3, "", "", &json!({}));
        assert_eq!(sent(&mut bob, key, 1000), Ok(()));
        assert_eq!(alice.read().operation, 1000, "what is for the key goes to its holder");
        let mut again = login(running, 1, "alice-phone", "", &json!({}));
        assert_eq!(ended_with(&mut alice).0, CloseCode::REPLACED);
        lives(&mut again);
    });
}

/// The key that the server made for a connection, as an operator sees it.
fn made_key(running: &Running, mid: i64) -> String {
    let url = format!("http://{}/api/v1/connections?mid={mid}", running.address("control="));
    let list: Value =
        serde_json::from_str(&ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()).unwrap();
    list["connections"][0]["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_that_the_server_made_is_taken_over_by_its_own_user_only() {
    on_both(&[], |running| {
        let mut alice = login(running, 1, "", "", &json!({}));
        let key = made_key(running, 1);
        let mut mallory = knock(running, 2, &key, "", &json!({}));
        assert_eq!(ended_with(&mut mallory).0, CloseCode::AUTH_FAILED);
        lives(&mut alice);
        let mut again = login(running, 1, &key, "", &json!({}));
        assert_eq!(ended_with(&mut alice).0, CloseCode::REPLACED);
        lives(&mut again);
    });
}

#[test]
fn a_key_may_be_bound_to_a_claim() {
    on_both(&["auth.key_claim=device"], |running| {
        let claims = json!({ "device": "alice-phone" });
        let mut early = knock(running, 2, "alice-phone", "", &json!({ "device": "mallory-phone" }));
        assert_eq!(ended_with(&mut early).0, CloseCode::AUTH_FAILED, "also while nobody has it");
        lives(&mut login(running, 1, "alice-phone", "", &claims));
        lives(&mut login(running, 3, "", "", &json!({})));
    });
}

fn join(client: &mut Client, room: &str) -> Result<(), ErrorCode> {
    let join = Join { room: RoomKey::parse(room.as_bytes()).unwrap(), since: None };
    let mut body = [0; 300];
    let size = join.emit(&mut body).unwrap();
    let reply = client.ask(Operation::JOIN, 9, &body[..size]);
    JoinReply::parse(&reply.body).unwrap().result
}

#[test]
fn every_door_to_a_room_asks_the_tokens_claim() {
    let rules = "application.room_access=private://* = claim,staff = closed,* = open";
    on_both(&[rules, "application.room_send=anyone"], |running| {
        let private = "private://alice-and-bob";
        let claims = json!({ "rooms": ["private://alice-and-bob", "private://team-7/*"] });
        let mut alice = login(running, 1, "", private, &claims);
        lives(&mut alice);
        // The login: in, but not in the room.
        let mut mallory = login(running, 2, "", private, &json!({ "rooms": "private://alice" }));
        let error = mallory.read();
        assert_eq!((error.operation, error.sequence), (112, 1), "{error:?}");
        assert_eq!(Error::parse(&error.body).unwrap().code, ErrorCode::FORBIDDEN);
        // The others.
        assert_eq!(join(&mut mallory, private), Err(ErrorCode::FORBIDDEN));
        let error = mallory.ask(Operation::CHANGE_ROOM, 4, private.as_bytes());
        assert_eq!((error.operation, Error::parse(&error.body).unwrap().code), (112, ErrorCode::FORBIDDEN));
        let room = || Target::Room(RoomKey::parse(private.as_bytes()).unwrap());
        assert_eq!(sent(&mut mallory, room(), 1000), Err(ErrorCode::FORBIDDEN));
        let message_id = MessageId::parse(b"m").unwrap();
        let publish =
            Publish { target: room(), message_id, not_to_self: false, traceparent: None, payload: b"x" };
        let mut body = vec![0; publish.encoded_size()];
        publish.emit(&mut body).unwrap();
        let reply = mallory.ask(Operation::PUBLISH, 6, &body);
        assert_eq!(PublishReply::parse(&reply.body).unwrap().result, Err(ErrorCode::FORBIDDEN));
        // What the rules leave open, and what the claim lists.
        assert_eq!(join(&mut mallory, "live://1"), Ok(()));
        assert_eq!(join(&mut alice, "private://team-7/lunch"), Ok(()));
        assert_eq!(join(&mut alice, "private://team-8"), Err(ErrorCode::FORBIDDEN));
        assert_eq!(join(&mut alice, "staff"), Err(ErrorCode::FORBIDDEN), "no claim opens what is closed");
        let mut service = login(running, 3, "", "staff", &json!({ "scope": "gateway:send" }));
        assert_eq!(join(&mut service, private), Ok(()));
        assert_eq!(sent(&mut service, room(), 1000), Ok(()));
        assert_eq!(alice.read().operation, 1000, "the first that alice hears");
    });
}

#[test]
fn rules_that_can_not_work_are_refused_with_advice() {
    for (set, part) in [
        ("application.room_access=live://* = open", "the last rule"),
        ("application.client_push_operations=4", "from 1000"),
    ] {
        let output = gateway("check", &[set]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(part), "{set}: {said}");
    }
    let said = check(&["application.room_access=private://* = claim,* = open"]);
    assert!(said.contains("with auth.mode = \"none\" these rooms are closed"), "{said}");
}

/// Asks the control port for a kick.
fn kicked(running: &Running, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/api/v1/kick", running.address("control="));
    let request = ureq::post(&url).header("Content-Type", "application/json");
    let mut response = request.config().http_status_as_error(false).build().send(body.to_string()).unwrap();
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    (status, serde_json::from_str::<Value>(&text).unwrap())
}

/// A key pair made for this test, and its public part as the key `kid` of a set.
const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgi3hvUm1hwqPu/v9c
jmHFWysGs6jgyViB2s5Ue6F5f2qhRANCAASMLFWrGf2kRUMtpxsfuxek619/e6qC
jA8AnCZYydyZHYQkPuISRcadVUMNWWSeJBSNoftomynmjb72D9LiRbDc
-----END PRIVATE KEY-----
";

fn public_key(kid: &str) -> Value {
    json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid,
        "x": "jCxVqxn9pEVDLacbH7sXpOtff3uqgowPAJwmWMncmR0", "y": "hCQ-4hJFxp1VQw1ZZJ4kFI2h-2ibKeaNvvYP0uJFsNw" })
}

/// A signing key has leaked: it is taken out of the set, and the sessions that it opened are
/// closed, those and no others.
#[test]
fn sessions_of_a_key_that_leaked_are_closed_after_it_was_removed() {
    let folder = Folder::new("leaked-key");
    let file = folder.0.join("keys.json");
    let write = |kids: &[&str]| {
        let keys: Vec<Value> = kids.iter().map(|kid| public_key(kid)).collect();
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    };
    write(&["leaked", "good"]);
    let jwks = format!("auth.jwks_file={}", file.display());
    let running = Running::start(&["auth.mode=jwt", &jwks, "io.workers=2"]);
    let login = |mid: i64, kid: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(SIGNING_KEY.as_bytes()).unwrap();
        let token = encode(&header, &json!({ "sub": mid, "exp": now + 600 }), &key).unwrap();
        let mut client = knock_with(&running, &token, "", "");
        let operation = client.read().operation;
        (client, operation)
    };
    let (mut leaked, mut good) = (login(1, "leaked"), login(2, "good"));
    assert_eq!((leaked.1, good.1), (8, 8));
    write(&["good", "next"]);
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    // Once the reload has happened a token of the key is refused.
    let start = std::time::Instant::now();
    while login(3, "leaked").1 == 8 {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "never reloaded");
    }
    let (status, answer) = kicked(&running, &json!({ "kid": "leaked" }));
    assert!(status == 200 && answer["closed"].as_u64() >= Some(1), "{status} {answer}");
    assert_eq!(ended_with(&mut leaked.0).0, CloseCode::KICKED);
    lives(&mut good.0);
    assert_eq!(kicked(&running, &json!({ "kid": "leaked" })).0, 404, "nobody is left");
    let mut next = login(4, "next");
    assert_eq!(kicked(&running, &json!({ "kid": "next" })), (200, json!({ "closed": 1 })));
    assert_eq!(ended_with(&mut next.0).0, CloseCode::KICKED);
    lives(&mut good.0);
}

#[test]
fn sessions_of_a_key_of_a_time_and_all_are_closed_by_a_kick() {
    on_both(&[], |running| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let kick = |body: Value| kicked(running, &body);
        let mut old = login(running, 1, "", "", &json!({ "iat": now - 100 }));
        let mut young = login(running, 2, "", "", &json!({ "iat": now - 10 }));
        let mut bare = login(running, 3, "", "", &json!({}));
        assert_eq!(kick(json!({ "issued_before": now - 50, "code": 3010 })), (200, json!({ "closed": 1 })));
        assert_eq!(ended_with(&mut old).0, CloseCode::TOKEN_EXPIRED);
        lives(&mut young);
        lives(&mut bare);
        assert_eq!(kick(json!({ "kid": "unknown" })).0, 404);
        for bad in
            [json!({ "all": false }), json!({ "all": true, "kid": "a" }), json!({ "all": true, "mid": 2 })]
        {
            assert_eq!(kick(bad.clone()).0, 400, "{bad}");
        }
        lives(&mut young);
        assert_eq!(kick(json!({ "all": true, "reason": "moving" })), (200, json!({ "closed": 2 })));
        assert_eq!(ended_with(&mut young), (CloseCode::KICKED, "moving".to_owned()));
        assert_eq!(ended_with(&mut bare).0, CloseCode::KICKED);
        assert_eq!(kick(json!({ "all": true })).0, 404, "nobody is left");
    });
}

/// A body that the verifier cannot read: its client learns what is wrong with it, and no more of a
/// token than before.
#[test]
fn a_body_that_can_not_be_read_is_said_what_is_wrong_with_it() {
    let bearer = token(7, &json!({}));
    let cases = [
        ("[]".to_owned(), "auth body is not a JSON object"),
        (r#"{"token":7}"#.to_owned(), "auth field token has another type: expected text in quotes"),
        (format!(r#"{{"token":"{bearer}","key":"\ud800"}}"#), "auth body has half of a surrogate pair"),
        (format!(r#"{{"token":"{bearer}","token":"{bearer}"}}"#), "auth field token is given twice"),
        (r#"{"token":"a.b.c"}"#.to_owned(), "the token was refused"),
    ];
    on_both(&[], |running| {
        for (body, expected) in &cases {
            let mut client = Client::connect(running.address("tcp on ").parse().unwrap());
            client.send(Operation::AUTH, 1, body.as_bytes());
            let (code, reason) = ended_with(&mut client);
            assert!(reason.starts_with(expected), "{body}: {reason}");
            let is_about_token = *expected == "the token was refused";
            let wanted = if is_about_token { CloseCode::AUTH_FAILED } else { CloseCode::PROTOCOL_ERROR };
            assert_eq!(code, wanted, "{body}");
        }
    });
}
