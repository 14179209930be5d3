//! What the control thread asks of workers: broadcasts, pushes, kicks, inspections, drains. And
//! slow consumers.

mod common;

use common::{BackendChoice, Client, Gateway, settings};
use gateway_core::address::{Address, WorkerId};
use gateway_core::message::{ControlMessage, EncodedPush, KickTarget, Message, MessageClass, Origin};
use gateway_core::message::{Inspection, Query};
use gateway_core::metrics::SlowReason;
use gateway_core::settings::DevicePolicy;
use gateway_proto::body::{Closed, Reconnect};
use gateway_proto::codes::{CloseCode, ErrorCode};
use gateway_proto::frame::Operation;
use netpoll::{BackendConfig, BufferPools, PoolSize, PoolsConfig};
use std::time::{Duration, Instant};

on_each_backend!(
    a_broadcast_reaches_everyone_who_accepts_it,
    a_rated_broadcast_takes_its_time,
    an_essential_room_message_is_not_filtered,
    a_batch_reaches_tcp_receivers_as_frames,
    kicks_close_users_keys_and_connections,
    a_made_key_finds_its_connection_and_may_be_brought_again,
    inspections_list_connections_and_rooms,
    the_device_policy_closes_the_oldest,
    draining_sends_everyone_away,
    a_slow_consumer_loses_droppable_messages_or_its_connection,
);

fn pools() -> BufferPools {
    BufferPools::new(&PoolsConfig {
        receive: PoolSize { size: 64, count: 1 },
        blocks: vec![PoolSize { size: 8192, count: 64 }],
        huge_pages: false,
    })
    .unwrap()
}

fn push(pools: &mut BufferPools, operation: i32, class: MessageClass, body: &[u8]) -> EncodedPush {
    common::push(pools, class, operation, &[body]).unwrap()
}

/// The control thread's mail, until something is found in it.
fn answer<T>(gateway: &Gateway, mut wanted: impl FnMut(ControlMessage) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        match gateway.control.pop() {
            Some(message) => {
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("no answer in time");
}

fn outcome(gateway: &Gateway, wanted: u64) -> Result<u32, ErrorCode> {
    answer(gateway, |message| match message {
        ControlMessage::Outcome { ticket, result } if ticket == wanted => Some(result),
        _ => None,
    })
}

fn close_code(client: &mut Client) -> CloseCode {
    last_word(client).0
}

fn last_word(client: &mut Client) -> (CloseCode, String) {
    loop {
        let frame = client.read();
        if frame.operation == 111 {
            let closed = Closed::parse(&frame.body).unwrap();
            return (closed.code, closed.reason.as_str().to_owned());
        }
    }
}

fn a_broadcast_reaches_everyone_who_accepts_it(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 600));
    let mut pools = pools();
    let mut clients: Vec<_> = (1..=200).map(|mid| gateway.login(mid, "")).collect();
    for round in 0..3_u8 {
        let unwanted = push(&mut pools, 1003, MessageClass::Broadcast, b"not in the accept sets");
        let wanted = push(&mut pools, 1001, MessageClass::Broadcast, &[round; 600]);
        for push in [&unwanted, &wanted] {
            let origin = Origin::Control { ticket: u64::from(round) };
            gateway.tell_all(|| Message::ToAll { push: push.clone(), rate: 0, origin });
        }
        let receivers: u32 = (0..4).map(|_| outcome(&gateway, u64::from(round)).unwrap()).sum();
        assert_eq!(receivers, 200, "those who take one of the two");
    }
    for client in &mut clients {
        for round in 0..3_u8 {
            let frame = client.read();
            assert_eq!((frame.operation, frame.body), (1001, vec![round; 600]));
        }
    }
    drop((clients, gateway));
    assert!(pools.is_full(), "a payload referenced 600 times came home");
}

fn an_essential_room_message_is_not_filtered(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 64));
    let mut client = gateway.login(1, "r");
    let push = push(&mut pools(), 1009, MessageClass::User, b"not in its accept set");
    let (room, origin) = (gateway.names.room("r"), Origin::Control { ticket: 1 });
    gateway.tell(0, Message::ToRoom { room, push, exclude: Default::default(), origin });
    assert_eq!((outcome(&gateway, 1), client.read().operation), (Ok(1), 1009));
}

/// Two frames in a push, and both are counted. (`websocket.rs` has the other half.)
fn a_batch_reaches_tcp_receivers_as_frames(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 64));
    let mut client = gateway.login(1, "");
    let class = MessageClass::User;
    let push = common::push(&mut pools(), class, 1000, &[b"one", b"two"]).unwrap();
    let (name, origin) = (gateway.names.mid(1), Origin::Control { ticket: 1 });
    gateway.tell(0, Message::ToName { name, push, exclude: Default::default(), origin });
    assert_eq!(outcome(&gateway, 1), Ok(1));
    assert_eq!((client.read().body, client.read().body), (b"one".into(), b"two".into()));
    assert_eq!(gateway.threads.as_ref().unwrap().metrics[0].deliveries[class as usize].get(), 2);
}

fn a_rated_broadcast_takes_its_time(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 64));
    let mut clients: Vec<_> = (1..=20).map(|mid| gateway.login(mid, "")).collect();
    let mut pools = pools();
    let push = push(&mut pools, 1000, MessageClass::Broadcast, b"slowly");
    let start = Instant::now();
    gateway.tell_all(|| Message::ToAll { push: push.clone(), rate: 40, origin: Origin::None });
    assert_eq!(clients[3].ask(Operation(200), 1, b"meanwhile").operation, 200, "others are not held up");
    for client in &mut clients {
        while client.read().operation != 1000 {}
    }
    assert!(start.elapsed() >= Duration::from_millis(400), "20 deliveries at 40 a second");
}

fn kicks_close_users_keys_and_connections(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 64));
    let mut phone = gateway.client();
    phone.login(1, "phone", "");
    let mut desk = gateway.client();
    desk.login(1, "desk", "");
    let mut other = gateway.client();
    other.login(2, "other", "");
    let mut pools = pools();
    let mut kick = |target, ticket| {
        for worker in 0..2 {
            let reason =
                (ticket == 2).then(|| pools.copy("too loud, bitte später".as_bytes()).unwrap().freeze());
            gateway.tell(worker, Message::Kick { target, code: CloseCode::KICKED, reason, ticket });
        }
        outcome(&gateway, ticket).unwrap() + outcome(&gateway, ticket).unwrap()
    };
    assert_eq!(kick(KickTarget::Name(gateway.names.key("phone")), 1), 1);
    assert_eq!(last_word(&mut phone), (CloseCode::KICKED, "kicked".into()));
    assert_eq!(kick(KickTarget::Name(gateway.names.mid(1)), 2), 1);
    assert_eq!(last_word(&mut desk), (CloseCode::KICKED, "too loud, bitte später".into()));
    assert_eq!(kick(KickTarget::Name(gateway.names.mid(77)), 3), 0);
    assert_eq!(other.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
}

/// The connection that a user has at worker `worker`, and its key.
fn connection_and_key(gateway: &Gateway, worker: u8, mid: i64) -> Option<(Address, String)> {
    let query = Query::Connections { from: 0, user: Some(gateway.names.mid(mid)), key: None };
    gateway.tell(usize::from(worker), Message::Inspect(Inspection::new(9, WorkerId(worker), query, 9)));
    let found = answer(gateway, |message| match message {
        ControlMessage::Inspected(inspection) => Some(inspection),
        _ => None,
    });
    found.connections().first().map(|row| (row.address, row.key.as_str().to_owned()))
}

fn a_made_key_finds_its_connection_and_may_be_brought_again(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(2, 64));
    let mut first = gateway.login(1, "");
    let (address, key) = (0..2).find_map(|worker| connection_and_key(&gateway, worker, 1)).unwrap();
    assert_eq!(gateway.names.address_in(&key), Some(address));
    let (name, connection, host) = (gateway.names.key(&key), address.connection(), address.worker().index());
    let mut pools = pools();
    let mut to_key = |body: &[u8]| {
        let (push, origin) =
            (push(&mut pools, 1000, MessageClass::User, body), Origin::Control { ticket: 5 });
        gateway
            .tell(host, Message::ToMadeKey { connection, name, push, exclude: Default::default(), origin });
        outcome(&gateway, 5)
    };
    assert_eq!(to_key(b"made"), Ok(1));
    assert_eq!(first.read().body, b"made");
    // Its owner comes back with the key, as clients do that were told theirs: the earlier
    // connection goes.
    let mut again = gateway.client();
    again.login(2, &key, "");
    assert_eq!(close_code(&mut first), CloseCode::REPLACED);
    drop(first);
    assert_eq!(to_key(b"brought"), Ok(1));
    assert_eq!(again.read().body, b"brought");
    let target = KickTarget::MadeKey(connection, name);
    gateway.tell(host, Message::Kick { target, code: CloseCode::KICKED, reason: None, ticket: 6 });
    assert_eq!(outcome(&gateway, 6), Ok(1));
    assert_eq!(close_code(&mut again), CloseCode::KICKED);
    drop(again);
    assert_eq!(to_key(b"nobody"), Err(ErrorCode::NOT_FOUND));
}

fn inspections_list_connections_and_rooms(backend: &BackendChoice) {
    let gateway = Gateway::start_on(backend, settings(1, 64));
    let clients: Vec<_> = (1..=5).map(|mid| gateway.login(mid, "live://1")).collect();
    let inspect = |query, limit| {
        gateway.tell(0, Message::Inspect(Inspection::new(9, WorkerId(0), query, limit)));
        answer(&gateway, |message| match message {
            ControlMessage::Inspected(inspection) => Some(inspection),
            _ => None,
        })
    };
    let all = inspect(Query::Connections { from: 0, user: None, key: None }, 3);
    assert_eq!(all.connections().len(), 3);
    let from = all.next().expect("there are more");
    let rest = inspect(Query::Connections { from, user: None, key: None }, 100);
    assert_eq!((rest.connections().len(), rest.next()), (2, None));
    let row = rest.connections()[0];
    assert!(row.authenticated && row.rooms == 1 && row.key.as_str().len() == 32 && row.accepts == 3);
    assert!(clients.iter().any(|client| client.stream.local_addr().unwrap() == row.peer));
    let user = Some(gateway.names.mid(2));
    assert_eq!(inspect(Query::Connections { from: 0, user, key: None }, 9).connections()[0].mid, 2);
    let rooms = inspect(Query::Rooms { from: 0 }, 10);
    assert_eq!((rooms.rooms().len(), rooms.rooms()[0].name.as_str()), (1, "live://1"));
    assert_eq!(rooms.rooms()[0].local_members, 5);
    assert_eq!(inspect(Query::Room(gateway.names.room("nowhere")), 1).rooms().len(), 0);
}

fn the_device_policy_closes_the_oldest(backend: &BackendChoice) {
    let mut settings = settings(3, 64);
    settings.reloadable.device_policy = DevicePolicy::Allow(2);
    let gateway = Gateway::start_on(backend, settings);
    let mut devices: Vec<_> = (0..4).map(|_| gateway.login(1, "")).collect();
    for gone in &mut devices[..2] {
        assert_eq!(close_code(gone), CloseCode::DEVICE_LIMIT);
    }
    for kept in &mut devices[2..] {
        assert_eq!(kept.ask(Operation::HEARTBEAT, 1, b"").operation, 3);
    }
}

fn draining_sends_everyone_away(backend: &BackendChoice) {
    let mut settings = settings(2, 64);
    settings.reloadable.reconnect.delay = (Duration::from_millis(10), Duration::from_millis(90));
    settings.reloadable.reconnect.address = "other:3101".into();
    let gateway = Gateway::start_on(backend, settings);
    let mut clients: Vec<_> = (1..=20).map(|mid| gateway.login(mid, "")).collect();
    let mut stranger = gateway.client();
    // Whoever is not accepted by then is reset with the listeners.
    let metrics = &gateway.threads.as_ref().unwrap().metrics;
    let held = || metrics.iter().map(|one| one.connections[0].get()).sum::<u64>();
    while held() < 21 {
        std::thread::sleep(Duration::from_millis(1));
    }
    (0..2).for_each(|worker| gateway.tell(worker, Message::Drain { over: Duration::from_millis(300) }));
    let start = Instant::now();
    for client in &mut clients {
        let notice = client.read();
        assert_eq!(notice.operation, 110);
        let notice = Reconnect::parse(&notice.body).unwrap();
        assert_eq!((notice.delay_min_ms(), notice.delay_max_ms()), (10, 90));
        assert_eq!(notice.address().unwrap().as_str(), "other:3101");
        assert_eq!(close_code(client), CloseCode::SHUTDOWN);
        assert_eq!(client.try_read(), None);
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "departures are spread");
    assert_eq!(close_code(&mut stranger), CloseCode::SHUTDOWN);
}

fn a_slow_consumer_loses_droppable_messages_or_its_connection(backend: &BackendChoice) {
    let mut settings = settings(1, 64);
    settings.reloadable.slow_consumer_timeout = Duration::from_millis(100);
    for listener in &mut settings.listeners {
        listener.socket.send_buffer = Some(8 << 10);
    }
    let backend_config = BackendConfig { send_queue_bytes_max: 16 << 10, ..BackendConfig::small(64) };
    let gateway = Gateway::start_with(settings, backend_config, backend.clone());
    let metrics = &gateway.threads.as_ref().unwrap().metrics[0];
    let mut slow = gateway.login(1, "r");
    let mut quick = gateway.login(2, "r");
    let mut pools = pools();
    let names = &gateway.names;
    // Droppable: the slow one misses some, keeps its connection, and order.
    let rounds = 2000_u32;
    for round in 0..rounds {
        let body = [&round.to_be_bytes()[..], &[0; 1020]].concat();
        let push = push(&mut pools, 1000, MessageClass::Room, &body);
        let (room, origin) = (names.room("r"), Origin::Control { ticket: 1 });
        gateway.tell(0, Message::ToRoom { room, push, exclude: Default::default(), origin });
        assert_eq!(outcome(&gateway, 1), Ok(2));
        assert_eq!(quick.read().body, body);
    }
    let dropped = metrics.drops[MessageClass::Room as usize].get();
    assert!(dropped > 0 && dropped < u64::from(rounds), "{dropped} of {rounds}");
    let mut last = None;
    for _ in 0..u64::from(rounds) - dropped {
        let round = u32::from_be_bytes(slow.read().body[..4].try_into().unwrap());
        assert!(last.is_none_or(|last| last < round));
        last = Some(round);
    }
    assert_eq!(slow.ask(Operation::HEARTBEAT, 3, b"").sequence, 3);
    // Not droppable: refused, until it has taken nothing for a time; then it is closed, and the
    // metrics say why.
    let until = Instant::now() + Duration::from_secs(60);
    while metrics.slow_closes_in_all() == 0 {
        assert!(Instant::now() < until, "a receiver that takes nothing was never closed");
        let push = push(&mut pools, 1000, MessageClass::User, &[0; 1024]);
        let message = Message::ToName {
            name: names.mid(1),
            push,
            exclude: Default::default(),
            origin: Origin::Control { ticket: 2 },
        };
        gateway.tell(0, message);
        let result = outcome(&gateway, 2);
        assert!(
            [Ok(1), Err(ErrorCode::BUSY)].contains(&result),
            "a push that found no room is no push to nobody: {result:?}"
        );
        if result.is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(metrics.slow_closes_for(SlowReason::Stalled).get(), 1);
    let user = MessageClass::User as usize;
    assert_eq!(metrics.losses[user].get(), 1, "lost with its connection");
    assert!(metrics.drops[user].get() > 0, "a full queue alone is no reason to close");
    assert_eq!(quick.ask(Operation::HEARTBEAT, 3, b"").sequence, 3);
}
