//! goim frames over WebSocket: whole, fragmented, cut anywhere, mixed with control frames; and what
//! is refused.

mod common;

use common::websocket::{Said, WebSocket, masked};
use common::{BackendChoice, Client, Frame, Gateway, auth_body, frame, send_message, settings};
use gateway_core::message::{Message, MessageClass, Origin};
use gateway_proto::body::{Reason, Target};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::{Opcode, emit_close};
use netpoll::{BackendConfig, BufferPools};
use std::io::{Read, Write};
use std::time::Duration;

on_each_backend!(
    frames_travel_in_messages_however_they_are_cut,
    fragments_and_control_frames_mix,
    several_frames_to_a_message,
    a_batch_reaches_websocket_receivers_in_an_envelope,
    frames_behind_the_auth_in_its_message_wait_for_the_answer,
    tcp_and_websocket_clients_meet,
    closing_is_answered_with_the_same_code,
    faults_of_framing_end_with_their_code,
    faults_of_frames_end_with_both_words,
    messages_without_a_byte_are_counted_before_the_login,
    upgrades_are_refused_with_http,
    the_demo_page_is_served,
    upgrades_take_absolute_targets_large_cookies_and_subprotocols,
    a_message_larger_than_any_block_ends_its_sender_and_nobody_else,
);

fn frames_travel_in_messages_however_they_are_cut(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "");
    let sizes = [0, 1, 100, 109, 110, 126, 3000, 5000, 65_000, 65_519, 65_520, 65_536];
    let all: Vec<u8> = (0..sizes.len())
        .flat_map(|seq| {
            masked(Opcode::Binary, true, &frame(Operation(200), seq as i32, &vec![seq as u8; sizes[seq]]))
        })
        .collect();
    for cut in [13, 1000, 4096, all.len()] {
        let chunks: Vec<_> = all.chunks(cut).map(<[u8]>::to_vec).collect();
        let mut copy = client.stream.try_clone().unwrap();
        let writer =
            std::thread::spawn(move || chunks.iter().for_each(|chunk| copy.write_all(chunk).unwrap()));
        for (seq, size) in sizes.iter().enumerate() {
            let reply = client.frame();
            assert_eq!(
                (reply.operation, reply.sequence, reply.body.len()),
                (200, seq as i32, *size),
                "cut {cut}"
            );
            assert!(reply.body.iter().all(|byte| *byte == seq as u8));
        }
        writer.join().unwrap();
    }
}

fn fragments_and_control_frames_mix(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "");
    let body: Vec<u8> = (0..9000).map(|index| index as u8).collect();
    let message = frame(Operation(200), 3, &body);
    let parts: Vec<_> = message.chunks(2500).collect();
    for pause in [false, true] {
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { Opcode::Binary } else { Opcode::Continuation };
            let bytes = masked(opcode, index + 1 == parts.len(), part);
            let (head, tail) = bytes.split_at(if pause { 5 } else { bytes.len() });
            client.write(head);
            if pause {
                std::thread::sleep(Duration::from_millis(5));
            }
            client.write(tail);
            client.write(&masked(Opcode::Ping, true, b"still here"));
        }
        let said: Vec<_> = (0..=parts.len()).map(|_| client.read()).collect();
        let pongs = said.iter().filter(|said| **said == Said::Pong(b"still here".to_vec())).count();
        assert_eq!(pongs, parts.len());
        let expected = Said::Message(frame(Operation(200), 3, &body));
        assert_eq!(said.iter().filter(|said| **said == expected).count(), 1);
    }
}

fn several_frames_to_a_message(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "");
    let frames: Vec<u8> = (0..5).flat_map(|seq| frame(Operation(200), seq, &[seq as u8; 50])).collect();
    client.write(&masked(Opcode::Binary, true, &frames));
    for seq in 0..5 {
        assert_eq!(client.frame(), Frame { operation: 200, sequence: seq, body: vec![seq as u8; 50] });
    }
    client.write(&masked(Opcode::Binary, true, b""));
    client.write(&masked(Opcode::Binary, true, &frames[..40]));
    assert_eq!(client.frame().operation, 111, "a message holds whole frames");
    assert_eq!(client.read(), Said::Close(Some(CloseCode::PROTOCOL_ERROR)));
    assert_eq!(client.read(), Said::End);
}

fn a_batch_reaches_websocket_receivers_in_an_envelope(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 16));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "r");
    let frames = [frame(Operation(1000), 0, b"one"), frame(Operation(1000), 0, b"two")].concat();
    let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
    let push = common::push(&mut pools, MessageClass::Room, 1000, &[b"one", b"two"]).unwrap();
    let (room, origin) = (gateway.names.room("r"), Origin::None);
    gateway.tell(0, Message::ToRoom { room, push, exclude: Default::default(), origin });
    let heard = client.frame();
    assert_eq!((heard.operation, heard.body), (9, frames));
}

fn frames_behind_the_auth_in_its_message_wait_for_the_answer(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 16));
    let auth = frame(Operation::AUTH, 1, &auth_body(1, "", "r"));
    let early = frame(Operation(200), 2, b"in the same message");
    let late = frame(Operation(200), 3, b"in the next one");
    let next = masked(Opcode::Binary, true, &late);
    let message = [&auth[..], &early, &early].concat();
    let whole = masked(Opcode::Binary, true, &message);
    let (head, tail) = message.split_at(auth.len() - 3);
    let fragments = [masked(Opcode::Binary, false, head), masked(Opcode::Continuation, true, tail)].concat();
    for login in [whole, fragments] {
        let both = [login, next.clone()].concat();
        for cut in [both.len(), both.len() - next.len(), both.len() - next.len() + 5, 40, 7] {
            let mut client = WebSocket::open(gateway.addresses[1]);
            for chunk in both.chunks(cut) {
                client.write(chunk);
                if cut > 40 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            let heard: Vec<_> = (0..4).map(|_| client.frame()).collect();
            let operations: Vec<_> = heard.iter().map(|frame| (frame.operation, frame.sequence)).collect();
            assert_eq!(operations, [(8, 1), (200, 2), (200, 2), (200, 3)], "cut {cut}");
            assert_eq!(heard[1].body, b"in the same message");
        }
    }
}

fn tcp_and_websocket_clients_meet(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 8));
    let mut web = WebSocket::login(gateway.addresses[1], 1, "r");
    let mut tcp = gateway.login(2, "r");
    let send = |mid, payload: &[u8]| send_message(Target::Mid(mid), payload, false);
    for size in [0, 1, 125, 200, 40_000, 65_000] {
        let payload = vec![5; size];
        web.write(&masked(Opcode::Binary, true, &frame(Operation::SEND_MESSAGE, 1, &send(2, &payload))));
        assert_eq!(web.frame().operation, 5);
        assert_eq!(tcp.read(), Frame { operation: 1000, sequence: 0, body: payload.clone() });
        tcp.send(Operation::SEND_MESSAGE, 1, &send(1, &payload));
        assert_eq!(tcp.read().operation, 5);
        assert_eq!(web.frame(), Frame { operation: 1000, sequence: 0, body: payload });
    }
}

fn closing_is_answered_with_the_same_code(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    for code in [None, Some(CloseCode::NORMAL), CloseCode::new(4321)] {
        let mut client = WebSocket::login(gateway.addresses[1], 1, "");
        let mut payload = [0; 125];
        let size = code.map_or(0, |code| emit_close(code, Reason::truncated("bye"), &mut payload).unwrap());
        client.write(&masked(Opcode::Close, true, &payload[..size]));
        assert_eq!(client.read(), Said::Close(code));
        assert_eq!(client.read(), Said::End);
    }
}

fn faults_of_framing_end_with_their_code(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let unmasked = [0x82, 1, 7];
    let reserved = [0xc2, 0x81, 0, 0, 0, 0, 7];
    let large = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    let cases = [
        (unmasked.to_vec(), CloseCode::WEBSOCKET_PROTOCOL),
        (reserved.to_vec(), CloseCode::WEBSOCKET_PROTOCOL),
        (large.to_vec(), CloseCode::MESSAGE_TOO_BIG),
        (masked(Opcode::Text, true, b"hello"), CloseCode::UNSUPPORTED_DATA),
        (masked(Opcode::Text, true, b"\xff"), CloseCode::INVALID_PAYLOAD),
        (masked(Opcode::Continuation, true, b""), CloseCode::WEBSOCKET_PROTOCOL),
    ];
    for (bytes, code) in cases {
        let mut client = WebSocket::login(gateway.addresses[1], 1, "");
        client.write(&bytes);
        assert_eq!(client.read(), Said::Close(Some(code)));
        assert_eq!(client.read(), Said::End);
    }
}

fn faults_of_frames_end_with_both_words(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "");
    client.write(&masked(Opcode::Binary, true, &[0, 0, 0, 3, 0, 16, 0, 1]));
    assert_eq!(client.frame().operation, 111);
    assert_eq!(client.read(), Said::Close(Some(CloseCode::PROTOCOL_ERROR)));
    assert_eq!(client.read(), Said::End);
}

/// A client that has not logged in may send so many frames; a message without one is one of them.
fn messages_without_a_byte_are_counted_before_the_login(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let whole = masked(Opcode::Binary, true, &[]);
    let parts = [masked(Opcode::Binary, false, &[]), masked(Opcode::Continuation, true, &[])].concat();
    for message in [whole, parts] {
        let few = message.repeat(4);
        let mut honest = WebSocket::open(gateway.addresses[1]);
        honest.write(&few);
        honest.write(&masked(Opcode::Binary, true, &frame(Operation::AUTH, 1, &auth_body(1, "", ""))));
        assert_eq!(honest.frame().operation, Operation::AUTH_REPLY.0);
        let mut client = WebSocket::open(gateway.addresses[1]);
        client.write(&message.repeat(64));
        assert_eq!(client.frame().operation, Operation::CLOSED.0);
        assert_eq!(client.read(), Said::Close(Some(CloseCode::PROTOCOL_ERROR)));
    }
}

fn upgrades_are_refused_with_http(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    settings.listeners[1].origins = vec!["https://chat.example".into()];
    let gateway = Gateway::start_on(backend, settings);
    let ask = |request: &str| {
        let mut client = Client::connect(gateway.addresses[1]);
        client.write(request.as_bytes());
        let mut answer = String::new();
        client.stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let upgrade = |path: &str, more: &str| {
        ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n\r\n"
        ))
    };
    assert!(upgrade("/other", "Sec-WebSocket-Version: 13").starts_with("HTTP/1.1 404 "));
    assert!(upgrade("/sub", "Sec-WebSocket-Version: 8").starts_with("HTTP/1.1 426 "));
    let foreign = "Sec-WebSocket-Version: 13\r\nOrigin: https://evil.example";
    assert!(upgrade("/sub", foreign).starts_with("HTTP/1.1 403 "));
    assert!(ask("POST / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(
        ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(17_000)))
            .starts_with("HTTP/1.1 431 ")
    );
    assert!(ask("\u{16}\u{3}\u{1}\0\0").starts_with("HTTP/1.1 400 "));
}

fn upgrades_take_absolute_targets_large_cookies_and_subprotocols(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let ask = |target: &str, fields: &str| {
        let mut client = Client::connect(gateway.addresses[1]);
        let text = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        client.write(text.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    };
    assert!(ask("ws://127.0.0.1:3102/sub", "").starts_with("HTTP/1.1 101 "));
    let cookie = |size: usize| format!("Cookie: {}\r\n", "a".repeat(size));
    assert!(ask("/sub", &cookie(9 << 10)).starts_with("HTTP/1.1 101 "));
    assert!(ask("/sub", &cookie(17 << 10)).starts_with("HTTP/1.1 431 "));
    let chosen = ask("/sub", "Sec-WebSocket-Protocol: other, goim.v1, goim.v2\r\n");
    assert!(chosen.to_ascii_lowercase().contains("\r\nsec-websocket-protocol: goim.v1\r\n"), "{chosen}");
    let none = ask("/sub", "Sec-WebSocket-Protocol: other\r\n");
    assert!(
        none.starts_with("HTTP/1.1 101 ") && !none.to_ascii_lowercase().contains("sec-websocket-protocol"),
        "{none}"
    );
}

fn the_demo_page_is_served(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    for (request, has_page) in [("GET", true), ("HEAD", false)] {
        let mut client = Client::connect(gateway.addresses[1]);
        client.write(format!("{request} / HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let mut answer = String::new();
        client.stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(answer.contains("<!doctype html>"), has_page);
        // What its script keeps to: a frame of more would end the connection.
        assert_eq!(answer.contains(r#"<meta name="limits" content="65536 8192">"#), has_page, "{answer}");
    }
}

/// A fragmented message that outgrows the largest block used to close slow receivers, one after the
/// other, until nobody was left: no pool could ever serve it.
fn a_message_larger_than_any_block_ends_its_sender_and_nobody_else(backend: &BackendChoice) {
    let mut settings = settings(1, 16);
    settings.listeners[1].message_size_max = 1 << 20;
    settings.listeners[0].socket.send_buffer = Some(16 << 10);
    let gateway = Gateway::start_on(backend, settings);
    // Slow, with a queue that is worth closing: many pushes that it does not read.
    let slow = gateway.login(1, "live://slow");
    let mut talker = gateway.login(2, "live://slow");
    let body = {
        let target = Target::Room(gateway_proto::body::RoomKey::parse(b"live://slow").unwrap());
        send_message(target, &[9; 3000], true)
    };
    let mut sequence = 0;
    let queued = |gateway: &Gateway| gateway.threads.as_ref().unwrap().metrics[0].backend.send_waits.get();
    let mut more = 30;
    while more > 0 {
        sequence += 1;
        more -= i32::from(queued(&gateway) > 0);
        assert!(sequence < 20_000, "the receiver never became slow");
        let reply = talker.ask(Operation::SEND_MESSAGE, sequence, &body);
        assert_eq!(reply.operation, 5, "message {sequence}: {reply:?}");
        std::thread::sleep(Duration::from_millis(1)); // counts are published ten times a second
    }
    let mut sender = WebSocket::login(gateway.addresses[1], 3, "");
    // The largest block of these tests has 128 KiB; the message claims 200 KiB in fragments of 12.
    for part in 0..17 {
        let opcode = if part == 0 { Opcode::Binary } else { Opcode::Continuation };
        if sender.stream.write_all(&masked(opcode, part == 16, &vec![0; 12 << 10])).is_err() {
            break;
        }
    }
    assert_eq!(sender.read(), Said::Close(Some(CloseCode::MESSAGE_TOO_BIG)));
    assert_eq!(talker.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(gateway.threads.as_ref().unwrap().metrics[0].slow_closes_in_all(), 0);
    drop(slow);
}
