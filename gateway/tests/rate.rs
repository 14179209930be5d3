//! How much a connection may send: the burst, the socket left unread, the refusals, the close; and
//! what may be said wrongly, or before the login.

mod common;

use common::{BackendChoice, Client, Frame, Gateway, frame, send_message, settings};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::{RateLimits, WorkerSettings};
use gateway_proto::body::{Closed, Error, Join, RoomKey, SendMessageReply, Target};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use std::io::{Read, Write};
use std::time::Duration;

on_each_backend!(
    an_honest_burst_is_not_slowed,
    a_sender_that_is_slowed_loses_nothing,
    bytes_are_limited_as_messages_are,
    whoever_goes_on_is_refused_and_then_closed,
    a_stop_is_no_silence,
    a_peer_that_leaves_while_it_is_stopped_is_gone_soon,
    the_connections_of_a_user_share_its_rate,
    a_key_that_is_taken_over_again_and_again_gains_no_rate,
    a_client_that_keeps_to_its_rate_is_never_refused,
    a_small_room_far_away_costs_what_a_small_room_costs,
    a_reload_lifts_the_limit,
    few_frames_before_the_login_are_answered,
    few_websocket_pings_before_the_login_are_answered,
    few_faulty_requests_are_answered,
    what_is_nobodys_fault_is_not_counted,
);

/// A gateway whose connections may send `limits`.
fn limited(backend: &BackendChoice, workers: usize, limits: RateLimits) -> Gateway {
    let mut settings: WorkerSettings = settings(workers, 64);
    settings.reloadable.rate = limits;
    Gateway::start_on(backend, settings)
}

/// Messages only: so many a second, twice as many at once, never refused.
fn messages(per_second: u32, burst: u32) -> RateLimits {
    RateLimits { messages_per_second: per_second, messages_burst: burst, ..RateLimits::NONE }
}

fn count(gateway: &Gateway, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|metrics| of(metrics)).sum()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}

fn beats(count: i32) -> Vec<u8> {
    (0..count).flat_map(|sequence| frame(Operation::HEARTBEAT, sequence, b"")).collect()
}

/// Reads replies to heartbeats 0 to `count`, in order.
fn expect_beats(client: &mut Client, count: i32) {
    for sequence in 0..count {
        let reply = client.read();
        assert_eq!((reply.operation, reply.sequence), (3, sequence));
    }
}

fn code_of(closed: &Frame) -> CloseCode {
    assert_eq!(closed.operation, 111, "{closed:?}");
    Closed::parse(&closed.body).unwrap().code
}

/// The limits that hold by default: a login, all rooms, and what an application asks at its start.
fn an_honest_burst_is_not_slowed(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = gateway.login(1, "live://1");
    let mut burst = beats(50);
    for number in 0..31 {
        let room = format!("room://{number}");
        let join = Join { room: RoomKey::parse(room.as_bytes()).unwrap(), since: None };
        let mut body = [0; 64];
        let size = join.emit(&mut body).unwrap();
        burst.extend(frame(Operation::JOIN, 1000 + number, &body[..size]));
    }
    (0..200).for_each(|sequence| burst.extend(frame(Operation(200), 2000 + sequence, &[7; 1000])));
    client.write(&burst);
    (0..50 + 31 + 200).for_each(|_| drop(client.read()));
    let limited = |metrics: &WorkerMetrics| metrics.rate_slowed.get() + metrics.rate_refused.get();
    assert_eq!(count(&gateway, limited), 0);
}

fn a_sender_that_is_slowed_loses_nothing(backend: &BackendChoice) {
    let gateway = limited(backend, 1, messages(400, 50));
    let mut client = gateway.login(1, "");
    let mut neighbor = gateway.login(2, "");
    client.write(&beats(1000));
    until("the stop", || count(&gateway, |one| one.rate_stopped.get()) == 1);
    assert_eq!(neighbor.ask(Operation::HEARTBEAT, 9, b"").operation, 3, "others are served meanwhile");
    expect_beats(&mut client, 1000);
    until("the end of the last stop", || count(&gateway, |one| one.rate_stopped.get()) == 0);
    assert_eq!(count(&gateway, |one| one.rate_refused.get() + one.rate_closed.get()), 0);
    client.write(&beats(10));
    expect_beats(&mut client, 10);
}

fn bytes_are_limited_as_messages_are(backend: &BackendChoice) {
    let limits = RateLimits { bytes_per_second: 1 << 20, bytes_burst: 100_000, ..RateLimits::NONE };
    let gateway = limited(backend, 1, limits);
    let mut client = gateway.login(1, "");
    let body = vec![7; 50_000];
    let mut writer = client.stream.try_clone().unwrap();
    let all: Vec<u8> = (0..20).flat_map(|sequence| frame(Operation(200), sequence, &body)).collect();
    let writer = std::thread::spawn(move || writer.write_all(&all).unwrap());
    for sequence in 0..20 {
        let reply = client.read();
        assert_eq!((reply.sequence, reply.body.len()), (sequence, body.len()));
    }
    writer.join().unwrap();
    assert!(count(&gateway, |one| one.rate_slowed.get()) > 0);
}

fn whoever_goes_on_is_refused_and_then_closed(backend: &BackendChoice) {
    let limits = RateLimits { refuse_after_ticks: 8, close_after_ticks: 24, ..messages(200, 50) };
    let gateway = limited(backend, 1, limits);
    let mut client = gateway.login(1, "");
    let mut victim = gateway.login(2, "");
    let mut writer = client.stream.try_clone().unwrap();
    let flood = send_message(Target::Mid(2), &[7; 64], false);
    let flood: Vec<u8> = (0..100).flat_map(|number| frame(Operation::SEND_MESSAGE, number, &flood)).collect();
    // Until the other end is gone.
    let writer = std::thread::spawn(move || while writer.write_all(&flood).is_ok() {});
    let reader = std::thread::spawn(move || {
        let (mut sent, mut refused, mut last) = (0, 0, None);
        while let Some(frame) = client.try_read() {
            match frame.operation {
                5 => sent += 1,
                112 => {
                    let error = Error::parse(&frame.body).unwrap();
                    assert_eq!((error.code, error.operation), (ErrorCode::LIMITED, Operation::SEND_MESSAGE));
                    refused += 1;
                }
                _ => last = Some(frame),
            }
        }
        (sent, refused, last)
    });
    let (sent, refused, last) = reader.join().unwrap();
    writer.join().unwrap();
    assert!(sent > 50, "the burst passes: {sent}");
    assert!(refused > 0, "it is told before it is closed");
    assert_eq!(code_of(&last.expect("a last word")), CloseCode::RATE_LIMITED);
    assert_eq!(count(&gateway, |one| one.rate_refused.get()), refused);
    assert_eq!(count(&gateway, |one| one.rate_closed.get()), 1);
    assert!(count(&gateway, |one| one.rate_slowed.get()) > 0, "it was slowed before it was told");
    assert_eq!(count(&gateway, |one| one.rate_stopped.get()), 0);
    // The receiver stays, and has what was answered; and what was on its way when the sender was
    // closed.
    victim.send(Operation::HEARTBEAT, 1, b"");
    let pushes = std::iter::repeat_with(|| victim.read()).take_while(|frame| frame.operation == 1000).count();
    assert!(pushes >= sent, "{pushes} came of {sent}");
}

/// A connection that is left unread for longer than the idle time is not idle, and may complete its
/// frame.
fn a_stop_is_no_silence(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    settings.reloadable.rate = messages(16, 16);
    settings.reloadable.idle_timeout = Duration::from_millis(1000);
    settings.reloadable.frame_timeout = Duration::from_millis(1000);
    let gateway = Gateway::start_on(backend, settings);
    let mut client = gateway.login(1, "");
    let mut bytes = beats(65);
    bytes.truncate(bytes.len() - 4); // the rest of the last one comes when the stop is long under way
    client.write(&bytes);
    until("the stop", || count(&gateway, |one| one.rate_stopped.get()) == 1);
    std::thread::sleep(Duration::from_millis(1500));
    client.write(&64_i32.to_be_bytes());
    expect_beats(&mut client, 65);
}

fn a_peer_that_leaves_while_it_is_stopped_is_gone_soon(backend: &BackendChoice) {
    let gateway = limited(backend, 1, messages(100, 50));
    for resets in [false, true] {
        let mut client = gateway.login(1, "");
        client.write(&beats(200));
        until("the stop", || count(&gateway, |one| one.rate_stopped.get()) == 1);
        if !resets {
            expect_beats(&mut client, 100); // unread answers would make it a reset
        }
        drop(client);
        until("the end", || count(&gateway, |one| one.sessions.get() + one.rate_stopped.get()) == 0);
    }
}

fn the_connections_of_a_user_share_its_rate(backend: &BackendChoice) {
    let limits = RateLimits { user_messages_per_second: 100, ..messages(100, 100) };
    for workers in [1, 3] {
        let gateway = limited(backend, workers, limits);
        let mut first = gateway.login(7, "");
        let mut burst = |gateway: &Gateway| {
            let before = count(gateway, |one| one.rate_slowed.get());
            std::thread::sleep(Duration::from_millis(1100)); // time pays for an earlier one
            first.write(&beats(60));
            expect_beats(&mut first, 60);
            count(gateway, |one| one.rate_slowed.get()) > before
        };
        assert!(!burst(&gateway), "alone it has all of the user's");
        let others: Vec<Client> = (0..3).map(|_| gateway.login(7, "")).collect();
        until("a quarter of it", || burst(&gateway));
        drop(others);
        until("all of it again", || !burst(&gateway));
    }
}

/// The connection that brings a key again has its part of its user's rate, whatever order the homes
/// of key and user answer in.
fn a_key_that_is_taken_over_again_and_again_gains_no_rate(backend: &BackendChoice) {
    // Time pays next to nothing.
    let limits = RateLimits { user_messages_per_second: 3, ..messages(3, 300) };
    let gateway = limited(backend, 3, limits);
    let login = |key: &str| {
        let mut client = gateway.client();
        client.login(7, key, "");
        client
    };
    let keys = ["phone", "tablet", "laptop"];
    let mut clients: Vec<Client> = keys.iter().map(|key| login(key)).collect();
    for _ in 0..30 {
        for (client, key) in clients.iter_mut().zip(keys) {
            *client = login(key);
        }
    }
    until("the end of those before", || count(&gateway, |one| one.sessions.get()) == 3);
    std::thread::sleep(Duration::from_millis(500));
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(&beats(150)); // more than a third of the burst, less than all of it
        until("the stop", || count(&gateway, |one| one.rate_slowed.get()) > number as u64);
    }
}

/// A client that shapes its messages to the documented rate: the burst at once, then as many as
/// time pays for.
fn a_client_that_keeps_to_its_rate_is_never_refused(backend: &BackendChoice) {
    let limits = RateLimits { refuse_after_ticks: 8, close_after_ticks: 24, ..messages(100, 200) };
    let gateway = limited(backend, 1, limits);
    let mut client = gateway.login(1, "");
    let began = std::time::Instant::now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(4) {
        // A client that is late, or whose machine is, sends no more than that either.
        let allowed = 198 + (began.elapsed().as_millis() / 100) as i32 * 10;
        let burst: Vec<u8> =
            (sent..allowed).flat_map(|sequence| frame(Operation::HEARTBEAT, sequence, b"")).collect();
        client.write(&burst);
        (sent..allowed).for_each(|sequence| assert_eq!(client.read().sequence, sequence));
        sent = allowed;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(count(&gateway, |one| one.rate_refused.get() + one.rate_closed.get()), 0);
}

/// A room whose members are all on other workers: its size is not known where the sender is.
fn a_small_room_far_away_costs_what_a_small_room_costs(backend: &BackendChoice) {
    let mut settings = settings(4, 64);
    settings.reloadable.rate = messages(1, 500);
    settings.reloadable.room_members_only = false;
    let gateway = Gateway::start_on(backend, settings);
    let members: Vec<Client> = (0..16).map(|mid| gateway.login(100 + mid, &format!("far://{mid}"))).collect();
    let mut sender = gateway.login(1, "");
    for number in 0..320 {
        let room = format!("far://{}", number % 16);
        let message = send_message(Target::Room(RoomKey::parse(room.as_bytes()).unwrap()), b"hello", false);
        let reply = sender.ask(Operation::SEND_MESSAGE, number, &message);
        let reply = SendMessageReply::parse(&reply.body).unwrap();
        assert_eq!((reply.result, reply.receivers), (Ok(()), 1));
    }
    assert_eq!(count(&gateway, |one| one.rate_slowed.get() + one.rate_refused.get()), 0);
    drop(members);
}

fn a_reload_lifts_the_limit(backend: &BackendChoice) {
    let gateway = limited(backend, 1, messages(1, 1));
    let mut client = gateway.login(1, "");
    client.write(&beats(400));
    until("the stop", || count(&gateway, |one| one.rate_stopped.get()) == 1);
    let mut reloadable = settings(1, 8).reloadable;
    reloadable.rate = RateLimits::NONE;
    gateway.tell(0, gateway_core::message::Message::Reload(std::sync::Arc::new(reloadable)));
    expect_beats(&mut client, 400); // the stop would have been one of minutes
}

fn few_frames_before_the_login_are_answered(backend: &BackendChoice) {
    let gateway = limited(backend, 1, RateLimits::default());
    let mut client = gateway.client();
    client.write(&beats(500));
    for sequence in 0..16 {
        let reply = client.read();
        assert_eq!((reply.operation, reply.sequence), (112, sequence));
        assert_eq!(Error::parse(&reply.body).unwrap().code, ErrorCode::NOT_AUTHENTICATED);
    }
    assert_eq!(code_of(&client.read()), CloseCode::PROTOCOL_ERROR);
    assert_eq!(client.try_read(), None);
    assert_eq!(count(&gateway, |one| one.closes_before_login.get()), 1);
    // A few are forgiven.
    let mut hasty = gateway.client();
    hasty.write(&beats(10));
    (0..10).for_each(|_| drop(hasty.read()));
    hasty.login(1, "", "");
}

fn few_websocket_pings_before_the_login_are_answered(backend: &BackendChoice) {
    let gateway = limited(backend, 1, RateLimits::default());
    let mut stream = Client::connect(gateway.addresses[1]).stream;
    stream
        .write_all(
            b"GET /sub HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .unwrap();
    let mut response = vec![];
    while !response.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    stream.write_all(&[0x89, 0x80, 0, 0, 0, 0].repeat(500)).unwrap();
    let mut answers = vec![];
    let _ = stream.read_to_end(&mut answers);
    let pongs = answers.chunks(2).take_while(|frame| *frame == [0x8a, 0]).count();
    assert_eq!(pongs, 16);
    assert!(answers.windows(2).any(|two| two == 3500_u16.to_be_bytes()), "{answers:?}");
}

fn few_faulty_requests_are_answered(backend: &BackendChoice) {
    let gateway = limited(backend, 1, RateLimits { faulty_requests: 20, ..RateLimits::NONE });
    let requests = [(Operation(108), 112), (Operation::JOIN, 112), (Operation::SEND_MESSAGE, 5)];
    for (number, (operation, answer)) in requests.into_iter().enumerate() {
        let mut client = gateway.login(1, "");
        let all: Vec<u8> = (0..200).flat_map(|sequence| frame(operation, sequence, b"")).collect();
        client.write(&all);
        let mut answers = 0;
        let last = loop {
            let reply = client.read();
            if reply.operation != answer {
                break reply;
            }
            answers += 1;
        };
        assert!((20..40).contains(&answers), "a second forgets one: {answers}");
        assert_eq!(code_of(&last), CloseCode::PROTOCOL_ERROR);
        assert_eq!(client.try_read(), None);
        assert_eq!(count(&gateway, |one| one.faulty_closes.get()), number as u64 + 1);
    }
}

/// Messages to users that are away are refused, too; that is no mistake of the sender.
fn what_is_nobodys_fault_is_not_counted(backend: &BackendChoice) {
    let gateway = limited(backend, 1, RateLimits { faulty_requests: 3, ..RateLimits::NONE });
    let mut client = gateway.login(1, "");
    let message = send_message(Target::Mid(99), b"are you there?", false);
    for sequence in 0..100 {
        assert_eq!(client.ask(Operation::SEND_MESSAGE, sequence, &message).operation, 5);
    }
    assert_eq!(count(&gateway, |one| one.faulty_closes.get()), 0);
}
