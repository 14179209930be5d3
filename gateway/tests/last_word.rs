//! A connection that the server ends hears why, however much its client writes meanwhile, and ends
//! without a reset: over WebSocket behind the client's close frame (RFC 6455 §7.1.2), over TCP by a
//! half-close. And those that are waited for take nobody's place.

mod common;

use common::websocket::{Said, WebSocket, masked};
use common::{BackendChoice, Client, Gateway, frame, settings};
use gateway_core::message::{KickTarget, Message};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::LINGER;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

on_each_backend!(
    a_websocket_ends_behind_the_clients_close_frame,
    a_client_that_writes_without_pause_loses_nothing,
    a_client_that_never_answers_is_ended_all_the_same,
    those_that_linger_make_room_for_newcomers,
    an_upgrade_that_never_comes_whole_is_answered,
);

/// Long enough to see that FIN does not come by itself.
const MOMENT: Duration = Duration::from_millis(150);

/// A gateway whose connections linger until something ends that: no stall of the machine does.
fn patient(backend: &BackendChoice, connections_max: usize) -> Gateway {
    let mut settings = settings(1, connections_max);
    settings.linger = Duration::from_secs(24 * 3600);
    Gateway::start_on(backend, settings)
}

fn kick(gateway: &Gateway, mid: i64) {
    let target = KickTarget::Name(gateway.names.mid(mid));
    for worker in 0..gateway.threads.as_ref().unwrap().senders.len() {
        gateway.tell(worker, Message::Kick { target, code: CloseCode::KICKED, reason: None, ticket: 0 });
    }
}

fn expect_last_word(client: &mut WebSocket) {
    loop {
        match client.read() {
            Said::Close(code) => return assert_eq!(code, Some(CloseCode::KICKED)),
            Said::Message(_) | Said::Pong(_) => {}
            Said::End => panic!("ended without a close frame"),
        }
    }
}

/// Whether the stream has ended, cleanly, within `wait`.
fn has_ended(stream: &mut TcpStream, wait: Duration) -> bool {
    stream.set_read_timeout(Some(wait)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(count) => {
            assert_eq!(count, 0, "something follows the last word");
            true
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            false
        }
    }
}

fn metric(gateway: &Gateway, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|metrics| of(metrics)).sum()
}

/// `before` is what the client has sent when it is closed, `after` what it still sends before its
/// close frame.
fn answered(gateway: &Gateway, mid: i64, before: &[u8], after: &[u8]) {
    let mut client = WebSocket::login(gateway.addresses[1], mid, "");
    client.write(before);
    std::thread::sleep(Duration::from_millis(20)); // it has arrived
    kick(gateway, mid);
    expect_last_word(&mut client);
    assert!(!has_ended(&mut client.stream, MOMENT), "FIN came before the client's close frame");
    client.write(after);
    assert!(!has_ended(&mut client.stream, MOMENT), "what is no close frame was taken for one");
    client.write(&masked(Opcode::Close, true, &CloseCode::KICKED.get().to_be_bytes()));
    client.write(&masked(Opcode::Binary, true, b"and more"));
    assert!(has_ended(&mut client.stream, Duration::from_secs(60)), "the end did not follow the close frame");
}

fn a_websocket_ends_behind_the_clients_close_frame(backend: &BackendChoice) {
    let gateway = patient(backend, 64);
    // Its payload reads as close frames, were it taken for headers.
    let message = masked(Opcode::Binary, true, &frame(Operation(200), 1, &[0x88 ^ 0x11; 5000]));
    let fragment = masked(Opcode::Binary, false, &[0x88; 300]);
    let ping = masked(Opcode::Ping, true, b"there?");
    let cuts = [0, 1, 3, 7, 8, 100, message.len() - 1];
    let mut cases: Vec<_> = cuts.map(|cut| (message[..cut].to_vec(), message[cut..].to_vec())).into();
    cases.push((vec![], [&message[..], &ping, &message, &ping].concat()));
    cases.push((fragment.clone(), [&ping[..], &masked(Opcode::Continuation, true, &[0x88; 300])].concat()));
    cases.push(([&fragment[..], &ping[..3]].concat(), ping[3..].to_vec()));
    for (number, (before, after)) in cases.iter().enumerate() {
        println!("case {number}");
        answered(&gateway, number as i64 + 1, before, after);
    }
    // The close frame may have come before the connection ended, behind bytes that are in the way.
    let refused = masked(Opcode::Text, true, b"no text here");
    let close = masked(Opcode::Close, true, &[]);
    for bytes in [[&refused[..], &close].concat(), [&refused[..], &message, &ping, &close].concat()] {
        let mut client = WebSocket::login(gateway.addresses[1], 99, "");
        client.write(&bytes);
        assert_eq!(client.read(), Said::Close(Some(CloseCode::UNSUPPORTED_DATA)));
        assert!(has_ended(&mut client.stream, Duration::from_secs(60)), "the close frame was overlooked");
    }
}

/// Writes `bytes` again and again until `done`, from another thread; then lets `then` end it.
fn flood<T>(
    stream: &TcpStream,
    bytes: &[u8],
    body: impl FnOnce() -> T,
    then: impl FnOnce(&mut TcpStream),
) -> T {
    let done = AtomicBool::new(false);
    let mut stream = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                stream.write_all(bytes).expect("no reset while the last word is under way");
            }
            stream
        });
        let result = body();
        std::thread::sleep(MOMENT);
        done.store(true, Ordering::Release);
        then(&mut writer.join().unwrap());
        result
    })
}

fn a_client_that_writes_without_pause_loses_nothing(backend: &BackendChoice) {
    let gateway = patient(backend, 64);
    let message = frame(Operation(200), 1, &[7; 100]);
    for mid in 1..6 {
        let mut client = WebSocket::login(gateway.addresses[1], mid, "");
        let stream = client.stream.try_clone().unwrap();
        let many = masked(Opcode::Binary, true, &message).repeat(20);
        let until_closed = || {
            kick(&gateway, mid);
            expect_last_word(&mut client);
        };
        flood(&stream, &many, until_closed, |stream| {
            stream.write_all(&masked(Opcode::Close, true, &[])).unwrap();
        });
        assert!(has_ended(&mut client.stream, Duration::from_secs(60)));
    }
    for mid in 1..6 {
        let mut client = gateway.login(mid, "");
        let stream = client.stream.try_clone().unwrap();
        let until_closed = || {
            kick(&gateway, mid);
            while client.read().operation != Operation::CLOSED.0 {}
            assert!(has_ended(&mut client.stream, Duration::from_secs(60)), "a half-close follows");
        };
        flood(&stream, &message.repeat(20), until_closed, |stream| stream.shutdown(Shutdown::Write).unwrap());
    }
}

fn a_client_that_never_answers_is_ended_all_the_same(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 64));
    let mut client = WebSocket::login(gateway.addresses[1], 1, "");
    let kicked = Instant::now();
    kick(&gateway, 1);
    expect_last_word(&mut client);
    assert!(has_ended(&mut client.stream, Duration::from_secs(60)), "it sees FIN, not a reset");
    assert!(kicked.elapsed() >= LINGER / 2, "it had its time");
    wait_until(|| metric(&gateway, |one| one.lingering.get()) == 0, "the end of the connection");
    assert_eq!(metric(&gateway, |one| one.linger_evictions.get()), 0);
}

/// Counts are published ten times a second.
fn wait_until(done: impl Fn() -> bool, what: &str) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn those_that_linger_make_room_for_newcomers(backend: &BackendChoice) {
    const PLACES: usize = 16;
    let gateway = patient(backend, PLACES);
    let mut old: Vec<_> =
        (1..=PLACES as i64).map(|mid| WebSocket::login(gateway.addresses[1], mid, "")).collect();
    for (mid, client) in old.iter_mut().enumerate() {
        kick(&gateway, mid as i64 + 1);
        expect_last_word(client); // and never answers
    }
    let new: Vec<_> = (0..PLACES as i64).map(|mid| gateway.login(100 + mid, "")).collect();
    wait_until(|| metric(&gateway, |one| one.lingering.get()) == 0, "the old ones to go");
    assert_eq!(metric(&gateway, |one| one.linger_evictions.get()), PLACES as u64);
    drop((old, new));
}

fn an_upgrade_that_never_comes_whole_is_answered(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    settings.reloadable.auth_timeout = Duration::from_millis(200);
    let gateway = Gateway::start_on(backend, settings);
    let mut client = Client::connect(gateway.addresses[1]);
    client.write(b"GET /sub HTTP/1.1\r\nHost: a\r\n");
    let mut answer = String::new();
    client.stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}
