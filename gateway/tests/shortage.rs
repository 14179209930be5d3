//! Blocks run short: half frames go first, strangers before clients, and nobody goes for what would
//! not help.

mod common;

use common::{BackendChoice, Client, Gateway, settings};
use gateway_proto::body::{Closed, Error};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::{Header, Operation};
use netpoll::{BackendConfig, PoolSize};
use std::time::{Duration, Instant};

on_each_backend!(
    strangers_with_half_frames_make_room_for_clients,
    half_frames_of_clients_make_room_for_others,
    a_stranger_costs_no_client_its_connection,
    a_frame_that_is_not_completed_ends_its_connection,
    an_auth_frame_has_a_bound_of_its_own,
    full_tables_cost_the_room_and_not_the_login,
    a_refused_change_of_rooms_leaves_everything_as_it_was,
);

/// Eight blocks of 72 KiB are the pool that runs short.
fn backend_config() -> BackendConfig {
    let mut config = BackendConfig::small(256);
    let pool = |size, count| PoolSize { size, count };
    config.pools.blocks = vec![pool(256, 1024), pool(4096, 256), pool(72 << 10, 8)];
    config
}

/// As many as that pool has. In poll mode it has some more, for what is in flight.
fn pool_count(backend: &BackendChoice) -> usize {
    match backend {
        BackendChoice::Epoll | BackendChoice::Uring(..) => 8,
        #[cfg(feature = "dpdk")]
        BackendChoice::Dpdk => 24,
    }
}

fn start(backend: &BackendChoice) -> Gateway {
    let mut settings = settings(1, 256);
    settings.auth_body_size_max = 24 << 10;
    Gateway::start_with(settings, backend_config(), backend.clone())
}

/// The head of a frame whose body is announced and never comes whole.
fn half_frame(client: &mut Client, operation: Operation, claimed: u32, sent: usize) {
    client.write(&Header::new(operation, 1, claimed).to_bytes());
    client.write(&vec![b'x'; sent]);
}

fn pause() {
    std::thread::sleep(Duration::from_millis(300));
}

fn ended_with(client: &mut Client) -> CloseCode {
    let closed = client.read();
    assert_eq!(closed.operation, 111, "{closed:?}");
    Closed::parse(&closed.body).unwrap().code
}

fn strangers_with_half_frames_make_room_for_clients(backend: &BackendChoice) {
    let gateway = start(backend);
    let mut strangers: Vec<_> = (0..pool_count(backend) + 12).map(|_| gateway.client()).collect();
    strangers.iter_mut().for_each(|one| half_frame(one, Operation::AUTH, 24_000, 17_000));
    pause();
    let mut client = gateway.login(1, "");
    for sequence in 0..4 {
        let body = vec![7; 30_000];
        assert_eq!(client.ask(Operation(200), sequence, &body).body, body);
    }
    assert_eq!(ended_with(&mut strangers[0]), CloseCode::OVERLOAD, "the oldest went first");
    let metrics = &gateway.threads.as_ref().unwrap().metrics[0];
    assert!(metrics.shed_frames.get() >= 12, "strangers hold half of a pool at most");
    assert_eq!(metrics.slow_closes_in_all(), 0);
}

fn half_frames_of_clients_make_room_for_others(backend: &BackendChoice) {
    let gateway = start(backend);
    let mut halves: Vec<_> = (1..=pool_count(backend) as i64).map(|mid| gateway.login(mid, "")).collect();
    let mut witness = gateway.login(99, "");
    for half in &mut halves {
        half_frame(half, Operation(200), 60_000, 40_000);
        witness.ask(Operation::HEARTBEAT, 0, b""); // read, however busy the machine is
        std::thread::sleep(Duration::from_millis(100)); // the order is known to a sixteenth of a second
    }
    let mut client = gateway.login(100, "");
    let body = vec![7; 30_000];
    assert_eq!(client.ask(Operation(200), 1, &body).body, body);
    assert_eq!(ended_with(&mut halves[0]), CloseCode::OVERLOAD, "the oldest went first");
}

fn a_stranger_costs_no_client_its_connection(backend: &BackendChoice) {
    let gateway = start(backend);
    let mut halves: Vec<_> = (1..pool_count(backend) as i64).map(|mid| gateway.login(mid, "")).collect();
    halves.iter_mut().for_each(|one| half_frame(one, Operation(200), 60_000, 40_000));
    pause();
    let before = gateway.threads.as_ref().unwrap().metrics[0].shed_frames.get();
    let mut strangers: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    strangers.iter_mut().for_each(|one| half_frame(one, Operation::AUTH, 24_000, 17_000));
    assert_eq!(ended_with(&mut strangers[0]), CloseCode::OVERLOAD);
    let after = gateway.threads.as_ref().unwrap().metrics[0].shed_frames.get();
    assert!(after - before <= 4, "strangers gave way to strangers");
}

fn a_frame_that_is_not_completed_ends_its_connection(backend: &BackendChoice) {
    let mut settings = settings(1, 16);
    settings.reloadable.frame_timeout = Duration::from_millis(1000);
    let gateway = Gateway::start_on(backend, settings);
    let mut whole = gateway.login(1, "");
    let mut half = gateway.login(2, "");
    half.write(&[0, 0, 0, 20, 0, 16, 0]);
    assert_eq!(ended_with(&mut half), CloseCode::IDLE_TIMEOUT);
    assert_eq!(whole.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
    assert_eq!(gateway.threads.as_ref().unwrap().metrics[0].late_frames.get(), 1);
}

fn an_auth_frame_has_a_bound_of_its_own(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 16));
    let mut client = gateway.client();
    half_frame(&mut client, Operation::AUTH, 8193, 0);
    assert_eq!(ended_with(&mut client), CloseCode::FRAME_TOO_LARGE);
}

fn full_tables_cost_the_room_and_not_the_login(backend: &BackendChoice) {
    for workers in [1, 2] {
        let mut settings = settings(workers, 64);
        settings.tables.rooms_max = 2;
        let gateway = Gateway::start_on(backend, settings);
        let mut refused = 0;
        let mut clients = vec![];
        for mid in 1..=12 {
            let mut client = gateway.login(mid, &format!("live://{mid}"));
            let reply = client.ask(Operation::HEARTBEAT, 2, b"");
            if reply.operation == 112 {
                let error = Error::parse(&reply.body).unwrap();
                assert_eq!(
                    (error.code, error.operation, reply.sequence),
                    (ErrorCode::BUSY, Operation::AUTH, 1)
                );
                assert_eq!(client.read().operation, 3);
                refused += 1;
            }
            clients.push(client);
        }
        assert!(refused >= 8, "{refused} of 12 with {workers} workers");
    }
}

fn a_refused_change_of_rooms_leaves_everything_as_it_was(backend: &BackendChoice) {
    for workers in [1, 3] {
        let mut settings = settings(workers, 64);
        settings.tables.rooms_max = 4;
        let gateway = Gateway::start_on(backend, settings);
        let mut client = gateway.login(1, "start");
        let mut last = "start".to_owned();
        for number in 0..50 {
            client.send(Operation::CHANGE_ROOM, number, format!("room-{number}").as_bytes());
        }
        for _ in 0..50 {
            let reply = client.read();
            match reply.operation {
                13 => last = String::from_utf8(reply.body).unwrap(),
                112 => {}
                other => panic!("operation {other}"),
            }
        }
        pause();
        // The room that the last success named is the one that it is in: 1 member by its heartbeat,
        // and no other has one. The gauge is published ten times a second, as far as the machine
        // lets the worker run.
        let metrics = &gateway.threads.as_ref().unwrap().metrics;
        let count = || metrics.iter().map(|one| one.memberships.get()).sum::<u64>();
        let bound = Instant::now() + Duration::from_secs(60);
        while count() != 1 && Instant::now() < bound {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(count(), 1, "in one room, {last}");
        let online = client.ask(Operation::HEARTBEAT, 99, b"").body;
        assert_eq!(online, 1_i32.to_be_bytes());
    }
}
