//! Memory runs short: newcomers are refused with a reason, then messages are shed, then slow
//! receivers are closed; a receiver that reads notices nothing.

mod common;

use common::{BackendChoice, Client, Frame, Gateway, send_message, settings};
use gateway_core::memory::{Level, ROOM_MAX, Signal};
use gateway_core::metrics::SlowReason;
use gateway_core::settings::{SlowConsumer, WorkerSettings};
use gateway_proto::body::{Closed, RoomKey, Target};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_backend!(
    strangers_are_turned_away_with_a_reason,
    a_storm_of_strangers_does_not_linger,
    at_the_very_end_strangers_are_reset,
    between_two_readings_no_more_are_taken_on_than_there_is_room_for,
    every_door_has_the_same_admission,
    the_answer_to_a_request_waits_for_its_first_bytes,
    droppable_messages_are_shed_for_slow_receivers_only,
    the_slowest_receivers_go_a_few_a_reading,
);

const ROOM: &str = "live://1";
/// Of 4 KB each: more than small socket buffers hold.
const MESSAGES: i32 = 16;

fn start(backend: &BackendChoice, workers: usize) -> (Gateway, Arc<Signal>) {
    let mut settings: WorkerSettings = settings(workers, 256);
    settings.listeners.iter_mut().for_each(|listener| {
        listener.socket.send_buffer = Some(4096);
        listener.socket.not_sent_low_water = Some(4096);
    });
    settings.reloadable.slow_consumer =
        [SlowConsumer::Close, SlowConsumer::Close, SlowConsumer::Drop, SlowConsumer::Drop];
    let signal = Arc::clone(&settings.shared.memory);
    (Gateway::start_on(backend, settings), signal)
}

const UPGRADE: &[u8] = b"GET /sub HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// All that an HTTP request is answered.
fn http(mut client: Client, request: &[u8]) -> String {
    client.write(request);
    let mut answer = String::new();
    let _ = client.stream.read_to_string(&mut answer);
    answer
}

fn upgrade(gateway: &Gateway) -> String {
    http(Client::connect(gateway.addresses[1]), UPGRADE)
}

/// The first line of the answer.
fn status(client: &mut Client, request: &[u8]) -> String {
    client.write(request);
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).expect("a whole line");
        line.extend(byte);
    }
    String::from_utf8(line).unwrap()
}

fn strangers_are_turned_away_with_a_reason(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    let mut held = gateway.login(1, ROOM);
    for level in [Level::Refuse, Level::Shed] {
        signal.publish(level, ROOM_MAX);
        let mut stranger = gateway.client();
        let word = stranger.read();
        let closed = Closed::parse(&word.body).unwrap();
        assert_eq!((word.operation, closed.code), (111, CloseCode::OVERLOAD));
        assert!(closed.reason.as_str().starts_with("memory is short"), "{closed:?}");
        assert!(stranger.try_read().is_none());
        let answer = upgrade(&gateway);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
        let length =
            answer.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap();
        assert_eq!(length.parse(), Ok(answer.split("\r\n\r\n").nth(1).unwrap().len()));
        assert_eq!(held.ask(Operation::HEARTBEAT, 1, b"").operation, 3, "who is in stays in");
    }
    assert_eq!(gateway.threads.as_ref().unwrap().metrics[0].memory_refusals.get(), 4);
    signal.publish(Level::Normal, ROOM_MAX);
    gateway.login(2, ROOM);
}

fn at_the_very_end_strangers_are_reset(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    signal.publish(Level::Close, ROOM_MAX);
    assert!(gateway.client().try_read().is_none());
    assert_eq!(upgrade(&gateway), "");
}

fn between_two_readings_no_more_are_taken_on_than_there_is_room_for(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    let mut held = Vec::new();
    for (reading, room) in (0..).zip([3, 2]) {
        signal.publish(Level::Normal, room);
        for mid in 0..i64::from(room) {
            held.push(gateway.login(10 * reading + mid, ROOM));
        }
        let mut stranger = gateway.client();
        let word = stranger.read();
        assert_eq!(Closed::parse(&word.body).unwrap().code, CloseCode::OVERLOAD, "{word:?}");
        assert!(stranger.try_read().is_none());
    }
    assert_eq!(gateway.threads.as_ref().unwrap().metrics[0].memory_refusals.get(), 2);
    for client in &mut held {
        assert_eq!(client.ask(Operation::HEARTBEAT, 1, b"").operation, 3, "who is in stays in");
    }
}

/// One connection has the room of a reading, whichever way it comes in; all others are refused.
fn every_door_has_the_same_admission(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    let [tcp, websocket, echo] = [0, 1, 2].map(|listener| gateway.addresses[listener]);
    let is_refused = |client: Client, request: &[u8]| {
        let answer = http(client, request);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    };
    let all_are_refused = || {
        let word = Client::connect(tcp).read();
        assert_eq!((word.operation, Closed::parse(&word.body).unwrap().code), (111, CloseCode::OVERLOAD));
        is_refused(Client::connect(websocket), UPGRADE);
        is_refused(Client::connect(websocket), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        is_refused(Client::connect(websocket), b"no request at all\r\n\r\n");
        is_refused(Client::connect(echo), UPGRADE);
    };
    for door in [tcp, websocket, echo] {
        signal.publish(Level::Normal, 1);
        let mut first = Client::connect(door);
        if door == tcp {
            first.login(1, "", ROOM);
        } else {
            assert_eq!(status(&mut first, UPGRADE), "HTTP/1.1 101 Switching Protocols\r\n");
        }
        all_are_refused();
    }
    // One that was admitted stays so, whatever comes before its request.
    signal.publish(Level::Normal, 1);
    let accepts = || gateway.threads.as_ref().unwrap().metrics[0].accepts[1].get();
    let before = accepts();
    let mut admitted = Client::connect(websocket);
    let until = Instant::now() + Duration::from_secs(60);
    while accepts() == before {
        assert!(Instant::now() < until, "it is not accepted");
        std::thread::yield_now();
    }
    all_are_refused();
    signal.publish(Level::Refuse, 0);
    all_are_refused();
    assert_eq!(status(&mut admitted, UPGRADE), "HTTP/1.1 101 Switching Protocols\r\n");
}

/// A client takes no answer to a request that it has not begun (RFC 9112 §9.3).
fn the_answer_to_a_request_waits_for_its_first_bytes(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    signal.publish(Level::Refuse, 0);
    let mut waits = Client::connect(gateway.addresses[1]);
    // Later connections were answered meanwhile, and this one not.
    for _ in 0..3 {
        assert!(upgrade(&gateway).starts_with("HTTP/1.1 503 "));
    }
    waits.stream.set_nonblocking(true).unwrap();
    let nothing = waits.stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    waits.stream.set_nonblocking(false).unwrap();
    // Its memory has passed, but it was refused.
    signal.publish(Level::Normal, ROOM_MAX);
    assert!(http(waits, b"G").starts_with("HTTP/1.1 503 "));
}

/// A client of the room that takes nothing, and more than fits its socket on the way to it.
fn slow_receiver(gateway: &Gateway, sender: &mut Client, mid: i64) -> Client {
    let client = gateway.login(mid, ROOM);
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
    for sequence in 0..MESSAGES {
        send(sender, Target::Mid(mid), sequence, &[5; 4000]);
        assert_eq!(sender.read().operation, 5);
    }
    client
}

fn send(client: &mut Client, target: Target<'_>, sequence: i32, payload: &[u8]) {
    let body = send_message(target, payload, true);
    client.send(Operation::SEND_MESSAGE, sequence, &body);
}

fn to_room(sender: &mut Client, payload: &[u8]) {
    send(sender, Target::Room(RoomKey::parse(ROOM.as_bytes()).unwrap()), 1, payload);
    assert_eq!(sender.read().operation, 5);
}

fn sum(gateway: &Gateway, of: impl Fn(&gateway_core::metrics::WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|one| of(one)).sum()
}

fn droppable_messages_are_shed_for_slow_receivers_only(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    let mut sender = gateway.login(1, "");
    sender.send(Operation::CHANGE_ROOM, 1, ROOM.as_bytes());
    assert_eq!(sender.read().operation, 13);
    let mut quick = gateway.login(2, ROOM);
    let mut slow = slow_receiver(&gateway, &mut sender, 3);
    to_room(&mut sender, b"before");
    assert_eq!(quick.read().body, b"before");
    signal.publish(Level::Shed, ROOM_MAX);
    // A turn that had begun has ended with the first answer, so all have heard of it with the
    // third.
    for sequence in 0..3 {
        assert_eq!(quick.ask(Operation::HEARTBEAT, sequence, b"").operation, 3);
    }
    for _ in 0..10 {
        to_room(&mut sender, b"shed");
        assert_eq!(quick.read().body, b"shed");
    }
    send(&mut sender, Target::Mid(3), 1, b"kept");
    assert_eq!(sender.read().operation, 5);
    assert_eq!(sum(&gateway, |one| one.memory_drops.get()), 10);
    assert_eq!(sum(&gateway, |one| one.drops[2].get()), 10);
    let mut rest: Vec<Frame> = vec![];
    while rest.last().is_none_or(|frame| frame.body != b"kept") {
        rest.push(slow.read());
    }
    assert_eq!(
        rest.len(),
        MESSAGES as usize + 2,
        "all, the one before, and the one that must not be dropped"
    );
}

fn the_slowest_receivers_go_a_few_a_reading(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    let mut sender = gateway.login(1, "");
    let mut quick = gateway.login(2, "");
    let slow: Vec<_> = (0..10).map(|mid| slow_receiver(&gateway, &mut sender, 100 + mid)).collect();
    signal.publish(Level::Close, ROOM_MAX);
    let closes = || sum(&gateway, |one| one.slow_closes_for(SlowReason::Memory).get());
    let until = Instant::now() + Duration::from_secs(60);
    while closes() < 8 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(closes(), 8, "one reading, some closes");
    signal.publish(Level::Close, ROOM_MAX);
    while closes() < 10 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((closes(), sum(&gateway, |one| one.slow_closes_in_all())), (10, 10));
    assert_eq!(quick.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
    drop(slow);
}

fn a_storm_of_strangers_does_not_linger(backend: &BackendChoice) {
    let (gateway, signal) = start(backend, 1);
    signal.publish(Level::Refuse, ROOM_MAX);
    let heard = (0..400).filter(|_| gateway.client().try_read().is_some()).count();
    assert!((256..400).contains(&heard), "{heard} of 400 got a reason");
}
