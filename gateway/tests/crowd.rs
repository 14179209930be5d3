//! What connections share, and nobody keeps from others: slots, text, rooms, memberships, accept
//! sets, fan-outs.

mod common;

use common::{BackendChoice, Client, Gateway, auth_body, send_message, settings};
use gateway_core::router::rooms::{entries_for, records_for};
use gateway_core::settings::Reloadable;
use gateway_core::sources::Sources;
use gateway_proto::body::{Closed, Join, JoinReply, RoomKey, SendMessageReply, Target};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use netpoll::BackendConfig;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_backend!(
    who_says_nothing_keeps_nobody_out,
    as_many_slots_are_freed_as_are_short,
    a_slow_client_keeps_its_slot_beside_an_address_that_takes_all,
    an_address_has_as_many_connections_as_it_may,
    rooms_with_long_names_keep_nobody_from_logging_in,
    memberships_of_some_leave_others_a_room,
    rooms_of_some_leave_each_connection_two,
    accept_sets_of_some_leave_others_theirs,
    accept_sets_of_an_address_leave_others_theirs,
    a_flood_to_a_room_keeps_nobody_from_logging_in_and_talking,
    a_flood_to_one_room_costs_another_none_of_its_messages,
);

fn metric(gateway: &Gateway, value: impl Fn(&gateway_core::metrics::WorkerMetrics) -> u64) -> u64 {
    gateway.threads.as_ref().unwrap().metrics.iter().map(|metrics| value(metrics)).sum()
}

fn join(client: &mut Client, room: &str) -> Result<(), ErrorCode> {
    let join = Join { room: RoomKey::parse(room.as_bytes()).unwrap(), since: None };
    let mut body = [0; 300];
    let size = join.emit(&mut body).unwrap();
    let reply = client.ask(Operation::JOIN, 9, &body[..size]);
    JoinReply::parse(&reply.body).unwrap().result
}

fn lives(client: &mut Client) {
    assert_eq!(client.ask(Operation::HEARTBEAT, 77, b"").operation, 3);
}

fn who_says_nothing_keeps_nobody_out(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.reloadable = Reloadable { auth_timeout: Duration::from_secs(600), ..settings.reloadable };
    let gateway = Gateway::start_on(backend, settings);
    let mut bystander = gateway.login(1, "");
    let silent: Vec<Client> = (0..100).map(|_| gateway.client()).collect();
    let mut clients: Vec<Client> = (2..42).map(|mid| gateway.login(mid, "")).collect();
    clients.iter_mut().for_each(lives);
    lives(&mut bystander);
    assert!(metric(&gateway, |one| one.unauthenticated_evictions.get()) >= 77);
    drop(silent);
}

/// Connections that are closed already, and whose end the backend has not reported yet, are not
/// closed for again.
fn as_many_slots_are_freed_as_are_short(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.reloadable = Reloadable { auth_timeout: Duration::from_secs(600), ..settings.reloadable };
    let gateway = Gateway::start_on(backend, settings);
    let silent: Vec<Client> = (0..64).map(|_| gateway.client()).collect();
    let until = Instant::now() + Duration::from_secs(60);
    while metric(&gateway, |one| one.unauthenticated_evictions.get()) == 0 {
        assert!(Instant::now() < until, "no slot is freed");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Some turns later one slot is free, as it should be.
    let mut client = gateway.login(1, "");
    lives(&mut client);
    while metric(&gateway, |one| one.unauthenticated_evictions.get()) < 2 {
        assert!(Instant::now() < until, "no slot is freed for the next one");
        lives(&mut client);
    }
    (0..100).for_each(|_| lives(&mut client));
    assert_eq!(metric(&gateway, |one| one.unauthenticated_evictions.get()), 2);
    drop(silent);
}

/// Its first frame comes long after the second that each connection has: a satellite, a slow proxy.
fn a_slow_client_keeps_its_slot_beside_an_address_that_takes_all(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.reloadable = Reloadable { auth_timeout: Duration::from_secs(600), ..settings.reloadable };
    let gateway = Gateway::start_on(backend, settings);
    let address = gateway.addresses[0];
    if !address.ip().is_loopback() {
        return; // the port has one peer
    }
    let mut slow = Client::connect_from(9, address);
    let silent: Vec<Client> = (0..100).map(|_| gateway.client()).collect();
    let until = Instant::now() + Duration::from_secs(60);
    // Newcomers come in on and on.
    let mut clients = vec![];
    while metric(&gateway, |one| one.unauthenticated_evictions.get()) < 40 {
        assert!(Instant::now() < until, "slots are not freed");
        clients.push(gateway.client());
        std::thread::sleep(Duration::from_millis(20));
    }
    slow.login(1, "", "");
    lives(&mut slow);
    drop(silent);
}

fn an_address_has_as_many_connections_as_it_may(backend: &BackendChoice) {
    let mut settings = settings(2, 64);
    settings.shared.sources = Some((Arc::new(Sources::new(64)), 5));
    let gateway = Gateway::start_on(backend, settings);
    let mut clients: Vec<Client> = (1..=5).map(|mid| gateway.login(mid, "")).collect();
    let mut refused = gateway.client();
    let closed = refused.read();
    assert_eq!(closed.operation, 111);
    let closed = Closed::parse(&closed.body).unwrap();
    assert_eq!(closed.code, CloseCode::OVERLOAD);
    assert!(closed.reason.as_str().contains("this address"), "{:?}", closed.reason);
    assert_eq!(metric(&gateway, |one| one.address_refusals.get()), 1);
    drop(refused);
    let mut refused = Client::connect(gateway.addresses[1]);
    refused.write(b"GET /sub HTTP/1.1\r\n");
    let mut answer = String::new();
    let _ = refused.stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    drop(refused);
    drop(clients.pop());
    // The ends of both are heard of a little later.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut client = gateway.client();
        client.send(Operation::AUTH, 1, &auth_body(6, "", ""));
        if client.try_read().is_some_and(|reply| reply.operation == 8) {
            clients.push(client);
            break;
        }
        assert!(Instant::now() < until, "the places of those that have left are never given to others");
        std::thread::sleep(Duration::from_millis(20));
    }
    clients.iter_mut().for_each(lives);
}

fn rooms_with_long_names_keep_nobody_from_logging_in(backend: &BackendChoice) {
    for workers in [1, 2] {
        let gateway = Gateway::start_on(backend, settings(workers, 256));
        let mut bystander = gateway.login(1, "live://1");
        let mut refused = 0;
        let mut greedy: Vec<Client> = (100..160).map(|mid| gateway.login(mid, "")).collect();
        for (number, client) in greedy.iter_mut().enumerate() {
            for room in 0..32 {
                let name = format!("{number:>3}/{room:>2}/{}", "x".repeat(248));
                refused += u32::from(join(client, &name) == Err(ErrorCode::BUSY));
            }
        }
        assert!(refused > 60 * 16, "{refused} of {}", 60 * 32);
        assert!(metric(&gateway, |one| one.table_refusals.get()) >= u64::from(refused));
        let key = |mid: i64| format!("{mid:0>36}");
        let mut honest: Vec<Client> = Vec::new();
        for mid in 1000..1060 {
            let mut client = gateway.client();
            client.send(Operation::AUTH, 1, &auth_body(mid, &key(mid), &format!("live://{mid}")));
            assert_eq!(client.read().operation, 8, "{mid} of 1000 to 1059");
            lives(&mut client); // an Error for its room would have come before
            assert_eq!(join(&mut client, "live://1"), Ok(()), "a room that is there costs no text");
            honest.push(client);
        }
        lives(&mut bystander);
        drop(greedy);
    }
}

fn memberships_of_some_leave_others_a_room(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.tables.memberships_max = 128;
    let gateway = Gateway::start_on(backend, settings);
    let mut popular: Vec<Client> = (1..=4).map(|mid| gateway.login(mid, "")).collect();
    let mut refused = 0;
    let rooms: Vec<String> = (0..31).map(|room| format!("live://{room}")).collect();
    for client in &mut popular {
        refused += rooms.iter().filter(|room| join(client, room) == Err(ErrorCode::BUSY)).count();
    }
    let mut others: Vec<Client> = (10..60).map(|mid| gateway.login(mid, "live://1")).collect();
    for client in &mut others {
        lives(client); // and in its room: an Error would have come before
    }
    assert!(refused > 40, "{refused} of 124: those who are in many were refused");
}

/// Tables as small as the guarantee allows, and connections that take what they get: rooms of their
/// own, rooms in pairs, long names. Each newcomer enters a room at its login and another one, both
/// of which no other connection is in.
fn rooms_of_some_leave_each_connection_two(backend: &BackendChoice) {
    for workers in [1, 2] {
        let connections = 64;
        let mut settings = settings(workers, connections);
        let hosted = entries_for(connections);
        settings.tables.rooms_max = records_for(hosted, workers);
        settings.tables.memberships_max = hosted;
        settings.tables.text_cells_max = 2 * connections + hosted * 4 / 3 + 1;
        let gateway = Gateway::start_on(backend, settings);
        let mut refused = 0;
        let mut greedy: Vec<Client> = (100..124).map(|mid| gateway.login(mid, "")).collect();
        for (number, client) in greedy.iter_mut().enumerate() {
            for room in 0..32 {
                let name = match number % 3 {
                    0 => format!("own://{number}/{room}"),
                    1 => format!("pair://{}/{room}", number % 6),
                    _ => format!("{number:>3}/{room:>2}/{}", "x".repeat(248)),
                };
                refused += u32::from(join(client, &name) == Err(ErrorCode::BUSY));
            }
        }
        assert!(refused > 24 * 16, "{refused} of {}: the shared part is used up", 24 * 32);
        let mut newcomers: Vec<Client> = Vec::new();
        for mid in 1000..1040 {
            let mut client = gateway.login(mid, &format!("live://first/{mid}"));
            lives(&mut client); // an Error for its room would have come before
            assert_eq!(join(&mut client, &format!("live://second/{mid}")), Ok(()), "newcomer {mid}");
            newcomers.push(client);
        }
        newcomers.iter_mut().for_each(lives);
    }
}

fn accept_sets_of_some_leave_others_theirs(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.tables.accept_sets_max = 8;
    let gateway = Gateway::start_on(backend, settings);
    let mut cycling = gateway.login(1, "");
    for operation in 2000..2200 {
        let text = operation.to_string();
        assert_eq!(cycling.ask(Operation::SUBSCRIBE, 3, text.as_bytes()).operation, 15);
        assert_eq!(cycling.ask(Operation::UNSUBSCRIBE, 4, text.as_bytes()).operation, 17);
    }
    let mut greedy: Vec<Client> = (10..20).map(|mid| gateway.login(mid, "")).collect();
    let refused = greedy.iter_mut().zip(3000..).filter_map(|(client, operation): (_, i32)| {
        let reply = client.ask(Operation::SUBSCRIBE, 3, operation.to_string().as_bytes());
        (reply.operation == 112).then_some(())
    });
    assert!(refused.count() >= 4, "a part of the places is for logins");
    let mut clients: Vec<Client> = (30..40).map(|mid| gateway.login(mid, "")).collect();
    clients.iter_mut().for_each(lives);
}

/// Sets of operations that no other connection has, brought at the login.
fn accept_sets_of_an_address_leave_others_theirs(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.tables.accept_sets_max = 16;
    let gateway = Gateway::start_on(backend, settings);
    let address = gateway.addresses[0];
    if !address.ip().is_loopback() {
        return; // the port has one peer
    }
    let login = |client: &mut Client, operation: i32| {
        let body = format!(r#"{{"mid":{operation},"accepts":[{operation}]}}"#);
        client.ask(Operation::AUTH, 1, body.as_bytes()).operation
    };
    let mut greedy: Vec<Client> = (0..30).map(|_| gateway.client()).collect();
    let refused =
        greedy.iter_mut().zip(2000..).filter_map(|(client, set)| (login(client, set) == 111).then_some(()));
    assert_eq!(refused.count(), 22, "an address has as many places as it leaves");
    for last in 3..8 {
        let mut honest = Client::connect_from(last, address);
        assert_eq!(login(&mut honest, 3000 + i32::from(last)), 8, "127.0.0.{last}");
        lives(&mut honest);
    }
}

/// More pushes to one room than there are fan-outs, in slices of one delivery: whatever else comes
/// must not wait for them.
fn a_flood_to_a_room_keeps_nobody_from_logging_in_and_talking(backend: &BackendChoice) {
    let mut settings = settings(2, 64);
    settings.tables.fanouts_max = 64;
    settings.fanout_slice = 1;
    let mut config = BackendConfig::small(64);
    config.send_queue_bytes_max = 16 << 20;
    let gateway = Gateway::start_with(settings, config, backend.clone());
    let room = "live://crowd";
    let mut members: Vec<Client> = (1..=30).map(|mid| gateway.login(mid, room)).collect();
    let mut bystander = gateway.login(100, "");
    let target = || Target::Room(RoomKey::parse(room.as_bytes()).unwrap());
    let burst: Vec<u8> = (0..400_i32)
        .flat_map(|number| {
            let body = send_message(target(), &number.to_be_bytes(), false);
            common::frame(Operation::SEND_MESSAGE, 1000 + number, &body)
        })
        .collect();
    members[0].write(&burst);
    for mid in 200..220 {
        let mut newcomer = gateway.login(mid, "");
        let reply =
            newcomer.ask(Operation::SEND_MESSAGE, 5, &send_message(Target::Mid(100), b"hello", false));
        let reply = SendMessageReply::parse(&reply.body).unwrap();
        assert_eq!((reply.result, reply.receivers), (Ok(()), 1), "a message to a user is not a room's");
        assert_eq!(bystander.read().operation, 1000);
    }
    // All that was accepted arrives, in the order of its acceptance.
    let (mut accepted, mut arrived, mut answered) = (vec![], vec![], 0);
    while answered < 400 || arrived.len() < accepted.len() {
        let frame = members[0].read();
        match frame.operation {
            1000 => arrived.push(i32::from_be_bytes(frame.body.try_into().unwrap())),
            5 => {
                answered += 1;
                let reply = SendMessageReply::parse(&frame.body).unwrap();
                accepted.extend(reply.result.is_ok().then_some(frame.sequence - 1000));
            }
            other => panic!("operation {other}"),
        }
    }
    assert!(accepted.len() >= 8, "{} were accepted", accepted.len());
    assert_eq!(arrived, accepted);
}

/// One room takes all the fan-outs that it gets, on both workers. Another, to which little is said,
/// is refused nothing, and what was accepted arrives at every member, in its order.
fn a_flood_to_one_room_costs_another_none_of_its_messages(backend: &BackendChoice) {
    let mut settings = settings(2, 64);
    settings.tables.fanouts_max = 64;
    settings.fanout_slice = 1;
    let mut config = BackendConfig::small(64);
    config.send_queue_bytes_max = 16 << 20;
    let gateway = Gateway::start_with(settings, config, backend.clone());
    let (loud, quiet) = ("live://loud", "live://quiet");
    let mut crowd: Vec<Client> = (1..=30).map(|mid| gateway.login(mid, loud)).collect();
    let mut friends: Vec<Client> = (100..106).map(|mid| gateway.login(mid, quiet)).collect();
    let to = |room, payload: &[u8]| {
        send_message(Target::Room(RoomKey::parse(str::as_bytes(room)).unwrap()), payload, false)
    };
    let burst = |sequence: i32| -> Vec<u8> {
        let frame = |number| common::frame(Operation::SEND_MESSAGE, sequence + number, &to(loud, b"x"));
        (0..100).flat_map(frame).collect()
    };
    for round in 0..8 {
        crowd[0].write(&burst(1000 * (round + 1)));
        // Two at a time, while the burst is under way.
        let numbers = [2 * round, 2 * round + 1];
        for number in numbers {
            friends[0].send(Operation::SEND_MESSAGE, 10 + number, &to(quiet, &[number as u8]));
        }
        let mut replies = 0;
        let mut heard = vec![];
        while replies < 2 || heard.len() < 2 {
            let frame = friends[0].read();
            match frame.operation {
                5 => {
                    let reply = SendMessageReply::parse(&frame.body).unwrap();
                    assert_eq!((reply.result, reply.receivers), (Ok(()), 6), "round {round}");
                    replies += 1;
                }
                _ => heard.push(i32::from(frame.body[0])),
            }
        }
        assert_eq!(heard, numbers);
        for friend in &mut friends[1..] {
            assert_eq!(numbers.map(|_| i32::from(friend.read().body[0])), numbers);
        }
    }
    assert!(metric(&gateway, |one| one.fanout_refusals.get()) > 0, "the loud room has met its share");
}
