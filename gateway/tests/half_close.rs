//! A client may end its side behind its last requests and read on (RFC 9293, 3.6), as `nc -N` does:
//! all that came before the end is answered, then the connection ends.

mod common;

use common::websocket::{Said, WebSocket, masked};
use common::{BackendChoice, Client, Frame, Gateway, auth_body, frame, send_message, settings};
use gateway_core::metrics::SlowReason;
use gateway_proto::body::{Join, RoomKey, Target};
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use std::net::Shutdown;
use std::time::Duration;

on_each_backend!(
    a_thousand_heartbeats_are_answered,
    a_thousand_websocket_messages_are_answered,
    a_login_and_all_behind_it_are_answered,
    what_other_workers_answer_is_answered,
    a_half_frame_at_the_end_takes_no_answer,
    an_echo_is_said_whole,
    a_client_that_reads_nothing_is_ended,
);

const COUNT: i32 = 1000;
/// Ends come with their requests or behind them, as it happens.
const ROUNDS: i64 = 8;

fn heartbeats() -> impl Iterator<Item = Vec<u8>> {
    (0..COUNT).map(|sequence| frame(Operation::HEARTBEAT, sequence, b""))
}

/// What a client reads that has ended its side.
fn rest(client: &mut Client) -> Vec<Frame> {
    client.stream.shutdown(Shutdown::Write).unwrap();
    std::iter::from_fn(|| client.try_read()).collect()
}

fn sequences(frames: &[Frame]) -> Vec<i32> {
    frames.iter().map(|frame| frame.sequence).collect()
}

fn a_thousand_heartbeats_are_answered(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 32));
    for mid in 1..=ROUNDS {
        let mut client = gateway.login(mid, "");
        client.write(&heartbeats().collect::<Vec<_>>().concat());
        assert!(sequences(&rest(&mut client)).into_iter().eq(0..COUNT), "each once, in order");
        // And a few, which are handled in one turn.
        let mut client = gateway.login(mid, "");
        client.write(&heartbeats().take(3).collect::<Vec<_>>().concat());
        assert_eq!(sequences(&rest(&mut client)), [0, 1, 2]);
    }
}

fn a_thousand_websocket_messages_are_answered(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 32));
    for mid in 1..=ROUNDS {
        let mut client = WebSocket::login(gateway.addresses[1], mid, "");
        let messages: Vec<u8> = heartbeats().flat_map(|frame| masked(Opcode::Binary, true, &frame)).collect();
        client.write(&messages);
        client.stream.shutdown(Shutdown::Write).unwrap();
        for sequence in 0..COUNT {
            assert_eq!(client.frame().sequence, sequence);
        }
        assert_eq!(client.read(), Said::End);
    }
}

fn a_login_and_all_behind_it_are_answered(backend: &BackendChoice) {
    for workers in [1, 3] {
        let gateway = Gateway::start_on(backend, settings(workers, 32));
        for mid in 1..=ROUNDS {
            let mut client = gateway.client();
            let auth = frame(Operation::AUTH, -1, &auth_body(mid, "", "live://1"));
            client.write(&[auth, heartbeats().collect::<Vec<_>>().concat()].concat());
            let read = sequences(&rest(&mut client));
            assert!(read.iter().copied().eq(-1..COUNT), "{} answers with {workers} workers", read.len());
        }
    }
}

/// Replies to messages and joins come from the homes of users and rooms.
fn what_other_workers_answer_is_answered(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(4, 32));
    let mut receivers: Vec<_> = (1..=4).map(|mid| gateway.login(mid, "")).collect();
    for mid in 0..ROUNDS {
        let mut client = gateway.login(100 + mid, "");
        let mut requests = vec![];
        for sequence in 0..200 {
            let to = Target::Mid(1 + i64::from(sequence % 5)); // one of them is not there
            requests.extend(frame(Operation::SEND_MESSAGE, sequence, &send_message(to, b"one", false)));
        }
        for sequence in 200..204 {
            let key = format!("live://{mid}/{sequence}");
            let join = Join { room: RoomKey::parse(key.as_bytes()).unwrap(), since: None };
            let mut body = [0; 300];
            let size = join.emit(&mut body).unwrap();
            requests.extend(frame(Operation::JOIN, sequence, &body[..size]));
        }
        client.write(&requests);
        let mut read = sequences(&rest(&mut client));
        read.sort_unstable();
        assert!(read.iter().copied().eq(0..204), "{} answers", read.len());
        for receiver in &mut receivers {
            (0..40).for_each(|_| assert_eq!(receiver.read().body, b"one"));
        }
    }
}

fn a_half_frame_at_the_end_takes_no_answer(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = gateway.login(1, "");
    let bytes = [frame(Operation::HEARTBEAT, 1, b""), frame(Operation(200), 2, &[7; 5000])].concat();
    client.write(&bytes[..3000]);
    assert_eq!(sequences(&rest(&mut client)), [1]);
    let mut silent = gateway.client();
    assert_eq!(rest(&mut silent).len(), 0);
}

fn an_echo_is_said_whole(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = WebSocket::open(gateway.addresses[2]);
    let message: Vec<u8> = (0..2_000_000).map(|byte: u32| byte as u8).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let bytes = masked(Opcode::Binary, true, &message);
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.read() == Said::Message(message), "all of it");
    assert_eq!(client.read(), Said::End);
    writing.join().unwrap();
}

/// Its answers would wait for it until the idle time-out.
fn a_client_that_reads_nothing_is_ended(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    settings.listeners[0].socket.send_buffer = Some(16 << 10);
    settings.reloadable.slow_consumer_timeout = Duration::from_millis(200);
    let gateway = Gateway::start_on(backend, settings);
    let mut client = gateway.login(1, "");
    for sequence in 0..15 {
        client.send(Operation(200), sequence, &[9; 60_000]);
    }
    client.stream.shutdown(Shutdown::Write).unwrap();
    let metrics = &gateway.threads.as_ref().unwrap().metrics[0];
    let has_ended = || metrics.connections.iter().all(|count| count.get() == 0);
    let ended = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        has_ended()
    });
    assert!(ended, "the connection is held by its client");
    assert_eq!(metrics.slow_closes_for(SlowReason::Stalled).get(), 1);
}
