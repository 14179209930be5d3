//! Sessions over real sockets: login, heartbeat, messages between users and rooms, limits.

mod common;

use common::{BackendChoice, Client, Gateway, auth_body, encoded, frame, send_message, settings};
use gateway_proto::body::{
    Closed, Deliver, HeartbeatReply, Join, JoinReply, MessageId, Name, Publish, PushOperation, RoomKey,
    SendMessage, SendMessageReply, Target, Traceparent,
};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use std::time::{Duration, Instant};

on_each_backend!(
    a_heartbeat_reports_the_rooms_size,
    application_operations_are_echoed_however_they_are_cut,
    a_frame_of_the_largest_size_passes_and_a_larger_one_does_not,
    users_write_to_one_another,
    rooms_reach_all_members_in_order,
    publish_is_delivered_with_sender_and_time,
    the_same_key_replaces_and_says_so,
    silence_before_and_after_login_is_bounded,
    what_comes_before_login_is_refused_and_what_comes_with_it_waits,
    bad_lengths_and_bad_logins_end_with_a_code,
    a_full_worker_says_so_and_for_how_long,
    a_login_that_finds_the_verifiers_queue_full_is_counted,
    receivers_are_those_who_accept_the_message,
    a_quiet_message_is_answered_only_if_it_reached_nobody,
    a_traceparent_of_send_message_is_checked_and_left_behind,
    workers_say_what_their_backends_run_with,
    idle_workers_sleep,
);

fn room(key: &str) -> Target<'_> {
    Target::Room(RoomKey::parse(key.as_bytes()).unwrap())
}

fn join(client: &mut Client, key: &str) -> u32 {
    let join = Join { room: RoomKey::parse(key.as_bytes()).unwrap(), since: None };
    let mut out = [0; 300];
    let size = join.emit(&mut out).unwrap();
    let reply = client.ask(Operation::JOIN, 5, &out[..size]);
    let reply = JoinReply::parse(&reply.body).unwrap();
    assert_eq!((reply.result, reply.recovered), (Ok(()), false));
    reply.members
}

fn a_heartbeat_reports_the_rooms_size(backend: &BackendChoice) {
    for workers in [1, 3] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut clients: Vec<_> = (1..=5).map(|mid| gateway.login(mid, "live://1")).collect();
        let online = |client: &mut Client| {
            let reply = client.ask(Operation::HEARTBEAT, 9, b"");
            assert_eq!((reply.operation, reply.sequence), (3, 9));
            HeartbeatReply::parse(&reply.body).unwrap().online
        };
        let mut counted = 0;
        for _ in 0..100 {
            counted = online(&mut clients[0]);
            if counted == 5 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(counted, 5);
        assert_eq!(online(&mut gateway.login(6, "")), 0);
    }
}

fn application_operations_are_echoed_however_they_are_cut(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = gateway.login(1, "");
    let all: Vec<u8> =
        (0..40).flat_map(|seq| frame(Operation(200), seq, &vec![seq as u8; seq as usize * 7])).collect();
    for cut in [1, 3, 16, 17, 100, 1000, all.len()] {
        let mut copy = client.stream.try_clone().unwrap();
        let chunks: Vec<_> = all.chunks(cut).map(<[u8]>::to_vec).collect();
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            chunks.iter().for_each(|chunk| copy.write_all(chunk).unwrap());
        });
        for seq in 0..40 {
            let reply = client.read();
            assert_eq!((reply.operation, reply.sequence), (200, seq), "cut {cut}");
            assert_eq!(reply.body, vec![seq as u8; seq as usize * 7]);
        }
        writer.join().unwrap();
    }
}

fn a_frame_of_the_largest_size_passes_and_a_larger_one_does_not(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = gateway.login(1, "");
    let body = vec![7; 65_536];
    assert_eq!(client.ask(Operation(200), 3, &body).body, body);
    client.write(&(65_537_u32 + 16).to_be_bytes());
    let closed = client.read();
    assert_eq!(Closed::parse(&closed.body).unwrap().code, CloseCode::FRAME_TOO_LARGE);
    assert_eq!(client.try_read(), None);
}

fn users_write_to_one_another(backend: &BackendChoice) {
    for workers in [1, 2, 4] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut alice = gateway.login(1, "");
        let mut bob: Vec<_> = (0..3).map(|_| gateway.login(2, "")).collect();
        let reply = alice.ask(Operation::SEND_MESSAGE, 77, &send_message(Target::Mid(2), b"hello", false));
        assert_eq!((reply.operation, reply.sequence), (5, 77));
        let reply = SendMessageReply::parse(&reply.body).unwrap();
        assert_eq!((reply.result, reply.receivers), (Ok(()), 3));
        for device in &mut bob {
            let push = device.read();
            assert_eq!((push.operation, push.sequence, &push.body[..]), (1000, 0, &b"hello"[..]));
        }
        let reply = alice.ask(Operation::SEND_MESSAGE, 78, &send_message(Target::Mid(3), b"hello", false));
        assert_eq!(SendMessageReply::parse(&reply.body).unwrap().result, Err(ErrorCode::NOT_FOUND));
    }
}

fn rooms_reach_all_members_in_order(backend: &BackendChoice) {
    for workers in [1, 3] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut members: Vec<_> = (1..=12).map(|mid| gateway.login(mid, "chat://a")).collect();
        let mut outsider = gateway.login(99, "");
        let body = send_message(room("chat://a"), b"x", false);
        let refused = outsider.ask(Operation::SEND_MESSAGE, 1, &body);
        assert_eq!(SendMessageReply::parse(&refused.body).unwrap().result, Err(ErrorCode::FORBIDDEN));
        for sequence in 0..50_i32 {
            let body = send_message(room("chat://a"), &sequence.to_be_bytes(), true);
            let reply = members[0].ask(Operation::SEND_MESSAGE, sequence, &body);
            let reply = SendMessageReply::parse(&reply.body).unwrap();
            assert_eq!((reply.result, reply.receivers), (Ok(()), 11));
        }
        for member in &mut members[1..] {
            for sequence in 0..50_i32 {
                let push = member.read();
                assert_eq!((push.operation, push.body), (1000, sequence.to_be_bytes().to_vec()));
            }
        }
    }
}

fn publish_is_delivered_with_sender_and_time(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 64));
    let mut alice = gateway.login(41, "chat://a");
    let mut bob = gateway.login(42, "");
    assert!(join(&mut bob, "chat://a") >= 1);
    let publish = Publish {
        target: room("chat://a"),
        message_id: MessageId::parse(b"m1").unwrap(),
        not_to_self: true,
        traceparent: None,
        payload: b"text",
    };
    let mut body = vec![0; publish.encoded_size()];
    publish.emit(&mut body).unwrap();
    let reply = alice.ask(Operation::PUBLISH, 6, &body);
    assert_eq!((reply.operation, reply.sequence), (101, 6));
    let push = bob.read();
    assert_eq!(push.operation, 102);
    let deliver = Deliver::parse(&push.body).unwrap();
    assert_eq!(deliver.payload, b"text");
    assert_eq!(deliver.prefix.sender, Some(Name::parse(b"41").unwrap()));
    assert!(deliver.prefix.server_time_ms >= 1_700_000_000_000);
}

fn the_same_key_replaces_and_says_so(backend: &BackendChoice) {
    for workers in [1, 4] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut first = gateway.client();
        first.login(1, "phone", "");
        let mut second = gateway.client();
        second.login(1, "phone", "");
        let closed = first.read();
        assert_eq!(closed.operation, 111);
        assert_eq!(Closed::parse(&closed.body).unwrap().code, CloseCode::REPLACED);
        assert_eq!(first.try_read(), None);
        assert_eq!(second.ask(Operation(200), 2, b"here").body, b"here");
    }
}

fn silence_before_and_after_login_is_bounded(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    settings.reloadable.auth_timeout = Duration::from_millis(2000);
    settings.reloadable.idle_timeout = Duration::from_millis(2000);
    let gateway = Gateway::start_on(backend, settings);
    let code = |client: &mut Client| Closed::parse(&client.read().body).unwrap().code;
    let came = Instant::now();
    assert_eq!(code(&mut gateway.client()), CloseCode::AUTH_TIMEOUT);
    assert!(came.elapsed() >= Duration::from_millis(2000), "a login's time was over early");
    let mut client = gateway.login(1, "");
    let mut spoke = Instant::now();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(300));
        spoke = Instant::now();
        client.ask(Operation(200), 1, b"any frame counts");
    }
    assert_eq!(code(&mut client), CloseCode::IDLE_TIMEOUT);
    assert!(spoke.elapsed() >= Duration::from_millis(2000), "idle before its time");
}

fn what_comes_before_login_is_refused_and_what_comes_with_it_waits(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 8));
    let mut client = gateway.client();
    let early = client.ask(Operation::HEARTBEAT, 4, b"");
    assert_eq!((early.operation, early.sequence), (112, 4));
    let both =
        [frame(Operation::AUTH, 1, &auth_body(5, "", "r")), frame(Operation(200), 2, b"pipelined")].concat();
    client.write(&both);
    assert_eq!(client.read().operation, 8);
    assert_eq!(client.read().body, b"pipelined");
}

fn bad_lengths_and_bad_logins_end_with_a_code(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let cases: [(&[u8], CloseCode, &str); 6] = [
        (&[0, 0, 0, 15], CloseCode::PROTOCOL_ERROR, "below the 16 bytes"),
        (&[255, 255, 255, 255], CloseCode::FRAME_TOO_LARGE, "over the limit"),
        (&[0, 0, 0, 16, 0, 17, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0], CloseCode::PROTOCOL_ERROR, "header length"),
        (b"GET / HTTP/1.1\r\n\r\n", CloseCode::FRAME_TOO_LARGE, "not HTTP"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            CloseCode::FRAME_TOO_LARGE,
            "the PROXY protocol is not spoken",
        ),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 252], CloseCode::FRAME_TOO_LARGE, "terminate it in front"),
    ];
    for (bytes, code, reason) in cases {
        let mut client = gateway.client();
        client.write(bytes);
        let closed = client.read();
        let closed = Closed::parse(&closed.body).unwrap();
        assert_eq!(closed.code, code, "{bytes:?}");
        assert!(closed.reason.as_str().contains(reason), "{}", closed.reason.as_str());
    }
    // Cut within its first bytes, and behind a login, where a length that large is only too large.
    let mut cut = gateway.client();
    cut.write(b"PR");
    std::thread::sleep(Duration::from_millis(20));
    cut.write(b"OXY ");
    assert!(Closed::parse(&cut.read().body).unwrap().reason.as_str().contains("PROXY"));
    let mut late = gateway.login(1, "");
    late.write(b"GET / HTTP/1.1\r\n\r\n");
    assert!(Closed::parse(&late.read().body).unwrap().reason.as_str().contains("over the limit"));
    let mut client = gateway.client();
    client.send(Operation::AUTH, 1, b"{\"mid\":");
    assert_eq!(Closed::parse(&client.read().body).unwrap().code, CloseCode::PROTOCOL_ERROR);
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain for {what}");
}

fn a_full_worker_says_so_and_for_how_long(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 3));
    let metrics = &gateway.threads.as_ref().unwrap().metrics[0];
    let mut clients: Vec<_> = (1..=3).map(|mid| gateway.login(mid, "")).collect();
    until("the pause", || metrics.accept_paused.get() == 1);
    let mut waiting = gateway.client();
    waiting.send(Operation::AUTH, 1, &auth_body(4, "", ""));
    std::thread::sleep(Duration::from_millis(300));
    clients.pop();
    assert_eq!(waiting.read().operation, 8, "it waited in the backlog");
    drop((waiting, clients));
    until("the end of the pause", || metrics.accept_paused.get() == 0);
    assert!(metrics.accept_pauses.get() >= 1);
    assert!(metrics.accept_paused_nanos.get() >= 250_000_000, "{}", metrics.accept_paused_nanos.get());
}

fn a_login_that_finds_the_verifiers_queue_full_is_counted(backend: &BackendChoice) {
    let mut settings = settings(1, 8);
    // Without a verifier, its queue has room for nothing.
    settings.auth = gateway_core::settings::AuthMode::Jwt;
    let gateway = Gateway::start_on(backend, settings);
    let mut client = gateway.client();
    client.send(Operation::AUTH, 1, &auth_body(4, "", ""));
    assert_eq!(Closed::parse(&client.read().body).unwrap().code, CloseCode::OVERLOAD);
    let metrics = &gateway.threads.as_ref().unwrap().metrics[0];
    assert_eq!((metrics.verifier_overloads.get(), metrics.auth_failures.get()), (1, 1));
}

/// With three devices on different workers, some of which do not take the operation, and one that
/// left.
fn receivers_are_those_who_accept_the_message(backend: &BackendChoice) {
    for workers in [1, 3] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut sender = gateway.login(1, "");
        let mut devices: Vec<_> = (0..6).map(|_| gateway.login(2, "")).collect();
        let push_operation = PushOperation::new(Operation(1002));
        let message = SendMessage {
            target: Target::Mid(2),
            not_to_self: true,
            quiet: false,
            push_operation,
            traceparent: None,
            payload: b"x",
        };
        let body = encoded(&message);
        let mut receivers = |body: &[u8]| {
            let reply = SendMessageReply::parse(&sender.ask(Operation::SEND_MESSAGE, 5, body).body).unwrap();
            assert_eq!(reply.result, Ok(()));
            reply.receivers
        };
        assert_eq!(receivers(&body), 6);
        for deaf in &mut devices[..4] {
            assert_eq!(deaf.read().operation, 1002);
            assert_eq!(deaf.ask(Operation::UNSUBSCRIBE, 3, b"1002").operation, 17);
        }
        assert_eq!(receivers(&body), 2);
        drop(devices.split_off(1));
        until("only a deaf one to be left", || receivers(&body) == 0);
        let nobody = send_message(Target::Mid(3), b"x", false);
        let reply = sender.ask(Operation::SEND_MESSAGE, 6, &nobody);
        assert_eq!(SendMessageReply::parse(&reply.body).unwrap().result, Err(ErrorCode::NOT_FOUND));
    }
}

/// To a user, a user with several devices, a room; then to nobody, in each way there is.
fn a_quiet_message_is_answered_only_if_it_reached_nobody(backend: &BackendChoice) {
    let quiet = |target, operation| {
        let push_operation = PushOperation::new(Operation(operation));
        let payload = &b"x"[..];
        let message = SendMessage {
            target,
            not_to_self: true,
            quiet: true,
            push_operation,
            traceparent: None,
            payload,
        };
        encoded(&message)
    };
    for workers in [1, 3] {
        let gateway = Gateway::start_on(backend, settings(workers, 64));
        let mut sender = gateway.login(1, "live://1");
        let mut receivers: Vec<_> = [2, 3, 3, 3].map(|mid| gateway.login(mid, "live://1")).into();
        for target in [Target::Mid(2), Target::Mid(3), room("live://1")] {
            sender.send(Operation::SEND_MESSAGE, 5, &quiet(target, 1001));
        }
        for (position, receiver) in receivers.iter_mut().enumerate() {
            let pushes = [receiver.read(), receiver.read()];
            assert!(pushes.iter().all(|push| push.operation == 1001), "receiver {position}: {pushes:?}");
        }
        // An answer would have come before this one.
        assert_eq!(sender.ask(Operation::HEARTBEAT, 9, b"").sequence, 9);
        let mut answer = |target, operation| {
            let reply = sender.ask(Operation::SEND_MESSAGE, 6, &quiet(target, operation));
            assert_eq!((reply.operation, reply.sequence), (5, 6));
            let reply = SendMessageReply::parse(&reply.body).unwrap();
            (reply.result, reply.receivers)
        };
        assert_eq!(answer(Target::Mid(4), 1001), (Err(ErrorCode::NOT_FOUND), 0));
        assert_eq!(answer(room("live://2"), 1001), (Err(ErrorCode::FORBIDDEN), 0));
        assert_eq!(answer(Target::Mid(3), 1999), (Ok(()), 0), "none of them takes the operation");
    }
}

/// A push has no place for it; who wants it carried uses Publish.
fn a_traceparent_of_send_message_is_checked_and_left_behind(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 8));
    let mut client = gateway.login(1, "");
    let trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traceparent = Some(Traceparent::parse(trace).unwrap());
    let message = SendMessage {
        target: Target::Mid(1),
        not_to_self: false,
        quiet: false,
        push_operation: None,
        traceparent,
        payload: b"x",
    };
    let mut body = encoded(&message);
    let push = client.ask(Operation::SEND_MESSAGE, 5, &body);
    assert_eq!((push.operation, &push.body[..]), (1000, &b"x"[..]));
    assert_eq!(client.read().operation, 5);
    let at = body.windows(4).position(|window| window == b"4bf9").unwrap();
    body[at] = b'Z';
    let reply = client.ask(Operation::SEND_MESSAGE, 6, &body);
    assert_eq!(SendMessageReply::parse(&reply.body).unwrap().result, Err(ErrorCode::MALFORMED));
}

/// Nobody is there: a worker turns when it is due, and otherwise sleeps.
fn idle_workers_sleep(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(3, 8));
    drop(gateway.login(7, "live://1")); // it has begun, and once had something to do
    std::thread::sleep(Duration::from_millis(100));
    let turns = || gateway.threads.as_ref().unwrap().metrics.iter().map(|one| one.turns.get());
    let (before, start) = (turns().collect::<Vec<u64>>(), Instant::now());
    std::thread::sleep(Duration::from_millis(1500));
    until("turns that are due", || turns().zip(&before).all(|(after, before)| after >= before + 3));
    let turned: Vec<u64> = turns().zip(&before).map(|(after, before)| after - before).collect();
    let most = start.elapsed().as_millis() as u64 / 25;
    assert!(turned.iter().all(|turned| *turned < most), "{turned:?} turns, {most} at most");
}

fn workers_say_what_their_backends_run_with(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 8));
    let said = &gateway.threads.as_ref().unwrap().backends;
    let sizes = "1024 submissions, 8192 completions";
    match backend {
        BackendChoice::Uring(..) => {
            assert!(said.len() == 2 && said.iter().all(|text| text.contains(sizes)), "{said:?}")
        }
        BackendChoice::Epoll => assert_eq!(said[..], ["", ""]),
        #[cfg(feature = "dpdk")]
        BackendChoice::Dpdk => assert!(said.iter().all(|text| text.contains("net_tap")), "{said:?}"),
    }
}
