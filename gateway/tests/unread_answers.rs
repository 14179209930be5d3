//! Clients that ask for more than they read are left unread, not closed, as long as they read; what
//! waits for those that do not keeps no receive buffer from others. Over real sockets.

mod common;

use common::{BackendChoice, Client, Gateway, settings};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::RateLimits;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use netpoll::{BackendConfig, PoolSize};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

on_each_backend!(
    a_burst_whose_answers_exceed_the_queue_comes_back_whole,
    a_sender_that_reads_no_answer_is_left_unread_and_closed,
    senders_that_never_read_leave_receive_buffers_to_others,
);

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that echoes, for which a socket that takes nothing is slow after `timeout`.
fn start(backend: &BackendChoice, timeout: Duration) -> Gateway {
    let mut settings = settings(1, 64);
    settings.reloadable.rate = RateLimits::NONE;
    settings.reloadable.slow_consumer_timeout = timeout;
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(8 << 10));
    let mut config = BackendConfig::small(64);
    config.pools.receive = PoolSize { size: 16 << 10, count: 64 };
    let pool = |size, count| PoolSize { size, count };
    config.pools.blocks =
        vec![pool(256, 1024), pool(1024, 512), pool(4096, 512), pool(16 << 10, 128), pool(68 << 10, 32)];
    config.send_queue_bytes_max = 512 << 10;
    Gateway::start_with(settings, config, backend.clone())
}

fn metrics(gateway: &Gateway) -> &WorkerMetrics {
    &gateway.threads.as_ref().unwrap().metrics[0]
}

/// Numbered application frames, each of as many bytes as `size` says.
fn frames(count: i32, size: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|number| common::frame(Operation(200), number, &vec![number as u8; size - 16]))
        .collect()
}

/// Writes as much of `bytes` as the socket takes until `done`, or until the connection is reset:
/// where all blocks are taken one of those that take nothing goes. Returns what is left.
fn write_until<'b>(client: &mut Client, mut bytes: &'b [u8], done: impl Fn() -> bool) -> &'b [u8] {
    client.stream.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "{} bytes are left", bytes.len());
        match client.stream.write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("closed with {} bytes left: {error}", bytes.len()),
        }
    }
    client.stream.set_nonblocking(false).unwrap();
    bytes
}

/// A client sends until it is left unread, then reads: every frame comes back, in order.
fn a_burst_whose_answers_exceed_the_queue_comes_back_whole(backend: &BackendChoice) {
    const FRAMES: i32 = 40_000;
    let gateway = start(backend, Duration::from_secs(3600));
    let all = frames(FRAMES, 1000);
    let mut client = gateway.login(1, "");
    let rest = write_until(&mut client, &all, || metrics(&gateway).answer_stops.get() > 0).to_vec();
    let mut writer = client.stream.try_clone().unwrap();
    let written = std::thread::spawn(move || writer.write_all(&rest).unwrap());
    for number in 0..FRAMES {
        let frame = client.read();
        assert_eq!((frame.operation, frame.sequence, frame.body.len()), (200, number, 984));
        assert!(frame.body.iter().all(|byte| *byte == number as u8));
    }
    written.join().unwrap();
    client.send(Operation::HEARTBEAT, 7, b"");
    assert_eq!(client.read().sequence, 7);
    assert_eq!(metrics(&gateway).slow_closes_in_all(), 0);
}

/// One that goes on without reading is left unread, then closed with 3008.
fn a_sender_that_reads_no_answer_is_left_unread_and_closed(backend: &BackendChoice) {
    let gateway = start(backend, Duration::from_millis(300));
    let mut bystander = gateway.login(2, "");
    let mut silent = gateway.login(1, "");
    let all = frames(100_000, 1000);
    write_until(&mut silent, &all, || metrics(&gateway).answer_stops.get() > 0);
    let until = Instant::now() + PATIENCE;
    while metrics(&gateway).slow_closes_in_all() == 0 {
        assert!(Instant::now() < until, "a connection that takes nothing stays");
        bystander.send(Operation::HEARTBEAT, 7, b"");
        assert_eq!(bystander.read().sequence, 7);
    }
    // It hears why, behind what waits for it.
    let last = std::iter::from_fn(|| silent.try_read()).last().expect("frames");
    let code = u16::from_be_bytes([last.body[0], last.body[1]]);
    assert_eq!((last.operation, code), (111, CloseCode::SLOW_CONSUMER.get()));
    assert_eq!(metrics(&gateway).answer_stopped.get(), 0);
}

/// Silent senders, more than the receive buffers have room for: others are answered, also between
/// them.
fn senders_that_never_read_leave_receive_buffers_to_others(backend: &BackendChoice) {
    const SENDERS: i64 = 4;
    let gateway = start(backend, Duration::from_secs(3600));
    let (mut bystander, mut held) = (gateway.login(100, ""), vec![]);
    for size in [216, 1000, 16 << 10] {
        let all = frames((64 << 20) / size as i32 / 16, size);
        for mid in 1..=SENDERS {
            let stops = metrics(&gateway).answer_stops.get();
            let mut silent = gateway.login(mid, "");
            set_socket_recv_buffer_size(&silent.stream, 4096).unwrap();
            write_until(&mut silent, &all, || metrics(&gateway).answer_stops.get() > stops);
            bystander.send(Operation::HEARTBEAT, 7, b"");
            assert_eq!(bystander.read().sequence, 7);
            held.push(silent);
        }
    }
}
