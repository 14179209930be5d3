//! No connection pays for another's queue: receivers that never read fill what all share, and
//! bystanders do not notice.

mod common;

use common::{BackendChoice, Client, Frame, Gateway, encoded, settings};
use gateway_core::memory::Signal;
use gateway_core::message::{EncodedPush, Message, MessageClass, Origin};
use gateway_core::metrics::{SlowReason, Store, StoreLevel, WorkerMetrics};
use gateway_core::settings::{RateLimits, SlowConsumer};
use gateway_proto::body::{Closed, RoomKey, SendMessage, Target};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::handshake::client_request;
use gateway_proto::websocket::{Opcode, emit_masked_header};
use netpoll::{BackendConfig, BufferPools, PoolSet, PoolSize, PoolsConfig};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

on_each_backend!(
    receivers_that_never_read_cost_bystanders_nothing,
    receivers_that_take_nothing_are_closed_where_messages_may_not_be_lost,
    a_receiver_that_reads_survives_a_burst,
    a_flood_of_users_costs_a_receiver_that_keeps_up_none_of_its_rooms,
    requests_whose_answers_are_not_read_cost_bystanders_nothing,
    blocks_that_wait_for_some_are_there_for_logins,
    blocks_of_other_owners_come_back_from_receivers_that_take_nothing,
    blocks_of_one_owner_cost_receivers_of_anothers_nothing,
    pushes_that_wait_for_a_fan_out_keep_few_blocks_of_their_owner,
    blocks_that_are_asked_for_are_not_kept_and_close_no_receiver,
    a_frame_that_has_not_come_whole_survives_receivers_that_take_nothing,
    a_receiver_that_has_not_stalled_survives_a_flood_of_many,
    echoes_that_gather_large_messages_are_bounded_in_all,
);

/// Pieces that connections share: as many as a few hundred messages to the hogs use up.
const PIECES: usize = 2000;
const HOGS: i64 = 20;

fn start(backend: &BackendChoice, room: SlowConsumer, adjust: impl FnOnce(&mut BackendConfig)) -> Gateway {
    start_patient(backend, (room, Duration::from_millis(500)), adjust)
}

/// The same with the time in which a receiver that takes nothing is not slow yet.
fn start_patient(
    backend: &BackendChoice,
    (room, timeout): (SlowConsumer, Duration),
    adjust: impl FnOnce(&mut BackendConfig),
) -> Gateway {
    let mut settings = settings(1, 128);
    settings.reloadable.slow_consumer[MessageClass::Room as usize] = room;
    settings.reloadable.slow_consumer_timeout = timeout;
    // What the stores do under a flood is shown by a sender that nothing slows.
    settings.reloadable.rate = RateLimits::NONE;
    for listener in &mut settings.listeners {
        listener.socket.send_buffer = Some(8 << 10);
    }
    let mut config = BackendConfig { send_pieces_shared: PIECES, ..BackendConfig::small(128) };
    config.pools.receive = PoolSize { size: 4096, count: 512 };
    adjust(&mut config);
    Gateway::start_with(settings, config, backend.clone())
}

fn metrics(gateway: &Gateway) -> &WorkerMetrics {
    &gateway.threads.as_ref().unwrap().metrics[0]
}

fn pieces(gateway: &Gateway) -> StoreLevel {
    metrics(gateway).stores.level(Store::SendPieces)
}

/// A message to the room "hot", which is answered only when it reached no receiver.
fn to_room(payload: &[u8]) -> Vec<u8> {
    let target = Target::Room(RoomKey::parse(b"hot").unwrap());
    encoded(&SendMessage { quiet: true, ..message(target, payload) })
}

/// A message that is answered.
fn to(target: Target<'_>, payload: &[u8]) -> Vec<u8> {
    encoded(&message(target, payload))
}

fn message<'m>(target: Target<'m>, payload: &'m [u8]) -> SendMessage<'m> {
    SendMessage { target, not_to_self: true, quiet: false, push_operation: None, traceparent: None, payload }
}

/// A member of the room "hot" that reads nothing more, and whose system takes little for it.
fn hog(gateway: &Gateway, number: i64) -> Client {
    let client = gateway.login(1 + number, "hot");
    rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
    client
}

/// The next frame of an operation.
fn next(client: &mut Client, operation: i32) -> Frame {
    std::iter::repeat_with(|| client.read()).find(|frame| frame.operation == operation).unwrap()
}

/// A hog begins to read, as fast as others.
fn reads(hog: &Client) {
    rustix::net::sockopt::set_socket_recv_buffer_size(&hog.stream, 1 << 20).unwrap();
}

/// The answer to a heartbeat, behind whatever else there is to read.
fn beat(client: &mut Client, sequence: i32) {
    client.send(Operation::HEARTBEAT, sequence, b"");
    loop {
        let frame = client.read();
        if (frame.operation, frame.sequence) == (3, sequence) {
            return;
        }
        // Messages, errors, and answers to messages that found no receiver or no room.
        assert!(matches!(frame.operation, 5 | 112 | 1000), "{frame:?}");
    }
}

/// Publishes to the room until the receivers' sockets take no more, then `count` small messages;
/// after each hundred of them the bystanders' heartbeats are answered and a newcomer logs in.
fn flood(gateway: &Gateway, publisher: &mut Client, bystanders: &mut [Client], count: usize) {
    let large = to_room(&[7; 2000]);
    let until = Instant::now() + Duration::from_secs(60);
    while metrics(gateway).backend.send_waits.get() < HOGS as u64 {
        assert!(Instant::now() < until, "the hogs' sockets take everything");
        (0..20).for_each(|_| publisher.send(Operation::SEND_MESSAGE, 1, &large));
        beat(publisher, 1);
        std::thread::sleep(Duration::from_millis(5));
    }
    let small = to_room(&[8; 32]);
    for round in 0..count.div_ceil(100) {
        (0..100).for_each(|_| publisher.send(Operation::SEND_MESSAGE, 2, &small));
        beat(publisher, 2);
        let sequence = 100 + round as i32;
        bystanders.iter_mut().for_each(|one| beat(one, sequence));
        let mut newcomer = gateway.login(1000 + i64::from(sequence), "");
        beat(&mut newcomer, 1);
    }
}

fn receivers_that_never_read_cost_bystanders_nothing(backend: &BackendChoice) {
    let gateway = start(backend, SlowConsumer::Drop, |_| {});
    let hogs: Vec<_> = (0..HOGS).map(|mid| hog(&gateway, mid)).collect();
    let mut bystanders: Vec<_> = (0..10).map(|mid| gateway.login(100 + mid, "")).collect();
    let mut reader = gateway.login(200, "hot");
    let mut publisher = gateway.login(300, "hot");
    flood(&gateway, &mut publisher, &mut bystanders, 1000);
    beat(&mut reader, 1);
    let level = pieces(&gateway);
    assert!(level.used < level.max, "replies have a part of their own: {level:?}");
    assert!(
        metrics(&gateway).drops[MessageClass::Room as usize].get() > 0,
        "the hogs lost what found no room"
    );
    for end in &metrics(&gateway).end_codes {
        assert!([0, 3008].contains(&end.get()), "only slow consumers may go: {}", end.get());
    }
    bystanders.iter_mut().for_each(|one| beat(one, 9999));
    drop(hogs);
}

fn receivers_that_take_nothing_are_closed_where_messages_may_not_be_lost(backend: &BackendChoice) {
    let gateway = start(backend, SlowConsumer::Close, |_| {});
    let hogs: Vec<_> = (0..HOGS).map(|mid| hog(&gateway, mid)).collect();
    let mut bystanders: Vec<_> = (0..10).map(|mid| gateway.login(100 + mid, "")).collect();
    let mut publisher = gateway.login(300, "hot");
    let closed = || metrics(&gateway).slow_closes_in_all();
    let until = Instant::now() + Duration::from_secs(60);
    while closed() < HOGS as u64 {
        assert!(Instant::now() < until, "{} of {HOGS} were closed", closed());
        flood(&gateway, &mut publisher, &mut bystanders, 100);
    }
    let stalled = metrics(&gateway).slow_closes_for(SlowReason::Stalled).get();
    let pressure = metrics(&gateway).slow_closes_for(SlowReason::Pressure).get();
    assert_eq!(stalled + pressure, HOGS as u64, "with their reason: {stalled} and {pressure}");
    bystanders.iter_mut().for_each(|one| beat(one, 9999));
    drop(hogs);
}

/// A receiver that reads as fast as it can is not slow, however full a burst makes its queue for a
/// moment.
fn a_receiver_that_reads_survives_a_burst(backend: &BackendChoice) {
    let gateway = start(backend, SlowConsumer::Close, |config| config.send_queue_bytes_max = 128 << 10);
    let mut victim = gateway.login(1, "hot");
    let mut publisher = gateway.login(2, "hot");
    let reading = std::thread::spawn(move || {
        let mut count = 0_u64;
        loop {
            match victim.read() {
                frame if frame.operation == 1000 && frame.body == b"the end" => return (victim, count),
                frame if frame.operation == 1000 => count += 1,
                frame => panic!("closed after {count}: {:?}", Closed::parse(&frame.body)),
            }
        }
    });
    let small = to_room(&[9; 64]);
    for _ in 0..200 {
        (0..100).for_each(|_| publisher.send(Operation::SEND_MESSAGE, 1, &small));
        beat(&mut publisher, 1);
    }
    let end = to_room(b"the end");
    let until = Instant::now() + Duration::from_secs(60);
    while !reading.is_finished() {
        assert!(Instant::now() < until, "the victim hears nothing any more");
        publisher.send(Operation::SEND_MESSAGE, 2, &end);
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut victim, count) = reading.join().unwrap();
    let lost = metrics(&gateway).drops[MessageClass::Room as usize].get();
    // On a busy machine fan-outs wait until the room has its share of places: its sender gets 503.
    let refused = metrics(&gateway).fanout_refusals.get();
    let known = count + lost + refused;
    assert!(
        count <= 20_000 && known >= 20_000,
        "{count} of 20000 came, {lost} were counted as lost, {refused} refused"
    );
    assert!(count > 5000, "{count}: one that reads gets most");
    beat(&mut victim, 5);
    assert_eq!(metrics(&gateway).slow_closes_in_all(), 0);
}

/// Messages of users fill the queue of a receiver that has not had the time to be slow. Their
/// senders are told; the sender of a message to its room is not, so that one has to arrive.
fn a_flood_of_users_costs_a_receiver_that_keeps_up_none_of_its_rooms(backend: &BackendChoice) {
    let gateway = start_patient(backend, (SlowConsumer::Drop, Duration::from_secs(3600)), |config| {
        config.send_queue_bytes_max = 128 << 10;
    });
    let mut victim = hog(&gateway, 0);
    let (mut flooder, mut member) = (gateway.login(50, ""), gateway.login(60, "hot"));
    let until = Instant::now() + Duration::from_secs(60);
    let to_victim = |size: usize| to(Target::Mid(1), &vec![7; size]);
    for size in [2000, 200] {
        let mut refused = 0;
        // What the socket still takes makes room: full is a queue that refuses all of a hundred.
        while refused < 100 {
            assert!(Instant::now() < until, "the victim's queue takes everything");
            flooder.send(Operation::SEND_MESSAGE, 3, &to_victim(size));
            let code = next(&mut flooder, 5).body[..4].to_vec();
            refused = if code == 503_i32.to_be_bytes() { refused + 1 } else { 0 };
        }
    }
    let before = metrics(&gateway).deliveries[MessageClass::Room as usize].get();
    for _ in 0..20 {
        member.send(Operation::SEND_MESSAGE, 4, &to_room(b"to the room"));
        beat(&mut member, 4);
    }
    let dropped = || metrics(&gateway).drops[MessageClass::Room as usize].get();
    let delivered = || metrics(&gateway).deliveries[MessageClass::Room as usize].get() - before;
    while delivered() + dropped() < 20 {
        assert!(Instant::now() < until, "{} delivered, {} dropped", delivered(), dropped());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((delivered(), dropped()), (20, 0));
    reads(&victim);
    (0..20).for_each(|_| while next(&mut victim, 1000).body != b"to the room" {});
}

/// Clients that ask and do not read the answers are closed for it; who only asks now and then is
/// answered.
fn requests_whose_answers_are_not_read_cost_bystanders_nothing(backend: &BackendChoice) {
    let gateway = start(backend, SlowConsumer::Drop, |config| {
        config.send_pieces_shared = 300;
        config.send_queue_bytes_max = 256 << 10;
    });
    let mut bystanders: Vec<_> = (0..10).map(|mid| gateway.login(100 + mid, "")).collect();
    let mut hogs: Vec<_> = (0..6).map(|mid| gateway.login(1 + mid, "")).collect();
    let until = Instant::now() + Duration::from_secs(60);
    let body = vec![5; 3000];
    let mut sequence = 0;
    while metrics(&gateway).slow_closes_in_all() == 0 {
        assert!(Instant::now() < until, "clients that read no answer are never closed");
        sequence += 1;
        for hog in &mut hogs {
            // One that has been closed is none of our business; one that is not read from any more
            // waits.
            hog.stream.set_nonblocking(true).unwrap();
            let frames: Vec<u8> =
                (0..20).flat_map(|_| common::frame(Operation(200), sequence, &body)).collect();
            let _ = hog.stream.write(&frames);
        }
        bystanders.iter_mut().for_each(|one| beat(one, sequence));
    }
    let codes: Vec<u64> = metrics(&gateway).end_codes.iter().map(|code| code.get()).collect();
    let slow = u64::from(CloseCode::SLOW_CONSUMER.get());
    assert!(codes.iter().all(|code| *code == 0 || *code == slow), "{codes:?}");
    bystanders.iter_mut().for_each(|one| beat(one, 9999));
}

/// Blocks of the smallest size are few, and what waits for hogs is copied to such blocks: a login's
/// answer still finds one.
fn blocks_that_wait_for_some_are_there_for_logins(backend: &BackendChoice) {
    let gateway = start(backend, SlowConsumer::Drop, |config| {
        let pool = |size, count| PoolSize { size, count };
        config.pools.blocks = vec![pool(256, 64), pool(4096, 32), pool(72 << 10, 8)];
    });
    let hogs: Vec<_> = (0..HOGS).map(|mid| hog(&gateway, mid)).collect();
    let mut bystanders: Vec<_> = (0..4).map(|mid| gateway.login(100 + mid, "")).collect();
    let mut publisher = gateway.login(300, "hot");
    flood(&gateway, &mut publisher, &mut bystanders, 500);
    let slow = u64::from(CloseCode::SLOW_CONSUMER.get());
    for end in &metrics(&gateway).end_codes {
        assert!(end.get() == 0 || end.get() == slow, "only slow consumers may go: {}", end.get());
    }
    drop(hogs);
}

/// Pools of an owner that is no worker here.
fn blocks(count: u32) -> BufferPools {
    let receive = PoolSize { size: 64, count: 1 };
    let blocks = vec![PoolSize { size: 8192, count }];
    BufferPools::new(&PoolsConfig { receive, blocks, huge_pages: false }).unwrap()
}

/// A push that fills one of the `blocks`; `None` while none is free.
fn encode(pools: &mut BufferPools) -> Option<EncodedPush> {
    common::push(pools, MessageClass::User, 1000, &[&[6; 6000]])
}

/// Pushes to a user.
fn push(gateway: &Gateway, mid: i64, push: EncodedPush) {
    let (name, origin) = (gateway.names.mid(mid), Origin::None);
    gateway.tell(0, Message::ToName { name, push, exclude: Default::default(), origin });
}

/// Blocks of the control thread, or of another worker, that a receiver holds which takes nothing:
/// their owner asks for them.
fn blocks_of_other_owners_come_back_from_receivers_that_take_nothing(backend: &BackendChoice) {
    let mut settings = settings(1, 128);
    settings.reloadable.slow_consumer[MessageClass::User as usize] = SlowConsumer::Drop;
    settings.reloadable.slow_consumer_timeout = Duration::from_millis(300);
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(8 << 10));
    let signal = std::sync::Arc::clone(&settings.shared.memory);
    let gateway = Gateway::start_with(settings, BackendConfig::small(128), backend.clone());
    let _hog = hog(&gateway, 0);
    let mut bystander = gateway.login(2, "");
    let mut pools = blocks(32);
    let until = Instant::now() + Duration::from_secs(60);
    // Until all blocks of this owner are held.
    while let Some(encoded) = encode(&mut pools) {
        push(&gateway, 1, encoded);
        beat(&mut bystander, 1);
        assert!(Instant::now() < until, "the receiver takes everything");
    }
    while encode(&mut pools).is_none() {
        assert!(Instant::now() < until, "the blocks never came back");
        signal.request_blocks(pools.ids(PoolSet::ALL), true);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(metrics(&gateway).slow_closes_for(SlowReason::Pressure).get(), 1);
    beat(&mut bystander, 2);
}

/// Broadcasts that are slow by their rate wait for one another: small ones in blocks of their size.
fn pushes_that_wait_for_a_fan_out_keep_few_blocks_of_their_owner(backend: &BackendChoice) {
    const COUNT: usize = 64;
    let gateway = Gateway::start_with(settings(1, 128), BackendConfig::small(128), backend.clone());
    let mut bystander = gateway.login(9, "");
    let mut pools = blocks(COUNT as u32);
    for _ in 0..COUNT {
        let push = common::push(&mut pools, MessageClass::User, 1000, &[&[6; 100]]).expect("a block");
        gateway.tell_all(|| Message::ToAll { push: push.clone(), rate: 1, origin: Origin::None });
    }
    // What was sent to it before the first answer has been handled when the second one is there.
    (1..=2).for_each(|sequence| beat(&mut bystander, sequence));
    let free = std::iter::from_fn(|| pools.take(1)).collect::<Vec<_>>().len();
    assert!(free >= COUNT - 16, "{free} of {COUNT} are free");
    assert_eq!(metrics(&gateway).waiting_copies.get() as usize, free);
}

/// Blocks of the control thread's or another worker's that receivers hold: settings for a gateway
/// whose hogs' sockets take little.
fn foreign(timeout: Duration, backend: &BackendChoice) -> (Gateway, Arc<Signal>) {
    let mut settings = settings(1, 128);
    settings.reloadable.slow_consumer[MessageClass::User as usize] = SlowConsumer::Drop;
    settings.reloadable.slow_consumer_timeout = timeout;
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(8 << 10));
    let signal = Arc::clone(&settings.shared.memory);
    let mut config = BackendConfig::small(128);
    config.send_queue_bytes_max = 64 << 20;
    // What waits may be a quarter of what is free.
    config.pools.blocks = vec![PoolSize { size: 8192, count: 2048 }];
    config.copy_break = 0;
    (Gateway::start_with(settings, config, backend.clone()), signal)
}

/// Two owners, and receivers that take nothing and hold many blocks, one of each: the owner that is
/// short gets its blocks back, and the receiver that holds more of the other's stays.
fn blocks_of_one_owner_cost_receivers_of_anothers_nothing(backend: &BackendChoice) {
    let (gateway, signal) = foreign(Duration::from_millis(300), backend);
    let (_hog, mut healthy) = (hog(&gateway, 0), hog(&gateway, 1));
    let mut bystander = gateway.login(9, "");
    let (mut short, mut other) = (blocks(200), blocks(300));
    let mut sent = [0_u64; 2];
    for (number, pools) in [&mut short, &mut other].into_iter().enumerate() {
        while let Some(encoded) = encode(pools) {
            push(&gateway, 1 + number as i64, encoded);
            beat(&mut bystander, 1);
            sent[number] += 1;
            assert!(sent[number] < 10_000, "the receiver takes everything");
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    while encode(&mut short).is_none() {
        assert!(Instant::now() < until, "the blocks never came back");
        signal.request_blocks(short.ids(PoolSet::ALL), true);
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..10 {
        signal.request_blocks(short.ids(PoolSet::ALL), true);
        std::thread::sleep(Duration::from_millis(20));
    }
    beat(&mut bystander, 2);
    assert_eq!(metrics(&gateway).slow_closes_in_all(), 1);
    reads(&healthy);
    for number in 0..sent[1] {
        assert_eq!(healthy.read().operation, 1000, "{number} of {sent:?}");
    }
    beat(&mut healthy, 3);
}

/// An owner asks for its blocks, of which a receiver holds many that has not stalled: it goes on
/// and loses nothing that was queued, and further blocks are not queued for it. Another owner's
/// are.
fn blocks_that_are_asked_for_are_not_kept_and_close_no_receiver(backend: &BackendChoice) {
    let (gateway, signal) = foreign(Duration::from_secs(3600), backend);
    let mut slow = hog(&gateway, 0);
    let mut bystander = gateway.login(9, "");
    let (mut short, mut other) = (blocks(400), blocks(400));
    let counts = || {
        let lost = metrics(&gateway).drops[MessageClass::User as usize].get();
        let queued = metrics(&gateway).deliveries[MessageClass::User as usize].get();
        (queued, lost)
    };
    let mut pushed = 0;
    let mut push_one = |pools: &mut BufferPools, bystander: &mut Client| {
        push(&gateway, 1, encode(pools).expect("a block"));
        pushed += 1;
        beat(bystander, 1);
        let (queued, lost) = counts();
        assert_eq!(queued + lost, pushed, "each push has its outcome");
        lost
    };
    let until = Instant::now() + Duration::from_secs(60);
    while metrics(&gateway).backend.send_waits.get() == 0 {
        assert_eq!(push_one(&mut short, &mut bystander), 0);
        // Figures are published now and then.
        std::thread::sleep(Duration::from_millis(20));
        assert!(Instant::now() < until, "the receiver takes everything");
    }
    while push_one(&mut short, &mut bystander) == 0 {
        signal.request_blocks(short.ids(PoolSet::ALL), true);
        assert!(Instant::now() < until, "blocks of an owner that asks are queued");
    }
    let (queued, lost) = counts();
    assert_eq!(push_one(&mut other, &mut bystander), lost, "no one asks for these");
    reads(&slow);
    for number in 0..=queued {
        assert_eq!(slow.read().operation, 1000, "{number} of {queued}");
    }
    beat(&mut slow, 3);
    assert_eq!(metrics(&gateway).slow_closes_in_all(), 0);
}

/// The large blocks of a worker are used up by what waits for receivers that read nothing, while a
/// client has sent a part of a frame: the frame comes whole and is answered.
fn a_frame_that_has_not_come_whole_survives_receivers_that_take_nothing(backend: &BackendChoice) {
    let mut settings = settings(1, 128);
    settings.reloadable.slow_consumer[MessageClass::User as usize] = SlowConsumer::Drop;
    settings.reloadable.slow_consumer_timeout = Duration::from_millis(500);
    settings.reloadable.rate = RateLimits::NONE;
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(8 << 10));
    let mut config = BackendConfig::small(128);
    let pool = |size, count| PoolSize { size, count };
    config.pools.blocks = vec![pool(256, 1024), pool(4096, 256), pool(72 << 10, 24)];
    let gateway = Gateway::start_with(settings, config, backend.clone());
    let _hogs: Vec<_> = (0..HOGS).map(|mid| hog(&gateway, mid)).collect();
    let mut honest = gateway.login(100, "");
    let frame = common::frame(Operation(200), 7, &[3; 50_000]);
    honest.write(&frame[..40_000]);
    let mut publishers: Vec<_> = (200..204).map(|mid| gateway.login(mid, "")).collect();
    // Longer than a frame has without question.
    std::thread::sleep(Duration::from_millis(1500));
    let until = Instant::now() + Duration::from_secs(60);
    let refused = || metrics(&gateway).drops[MessageClass::User as usize].get();
    for mid in (1..=HOGS).cycle() {
        if refused() + metrics(&gateway).slow_closes_in_all() > 0 {
            break;
        }
        assert!(Instant::now() < until, "the hogs' sockets take everything");
        // A block for each of them.
        let large = common::send_message(Target::Mid(mid), &[7; 60_000], false);
        publishers.iter_mut().for_each(|one| one.send(Operation::SEND_MESSAGE, 1, &large));
        publishers.iter_mut().for_each(|one| beat(one, 1));
    }
    // Every hog has its message, or as much as there is room for.
    for mid in 1..=HOGS {
        let large = common::send_message(Target::Mid(mid), &[7; 60_000], false);
        publishers.iter_mut().for_each(|one| one.send(Operation::SEND_MESSAGE, 2, &large));
        publishers.iter_mut().for_each(|one| beat(one, 2));
    }
    honest.write(&frame[40_000..]);
    let reply = honest.read();
    assert_eq!((reply.operation, reply.sequence, reply.body.len()), (200, 7, 50_000));
    assert_eq!(metrics(&gateway).shed_frames.get(), 0);
}

/// Many send to one receiver whose socket takes no more for now, while receive buffers are few:
/// others are heard, it stays, and it hears all that was not refused.
fn a_receiver_that_has_not_stalled_survives_a_flood_of_many(backend: &BackendChoice) {
    const SENDERS: i64 = 24;
    const EACH: u64 = 100;
    let gateway = start_patient(backend, (SlowConsumer::Drop, Duration::from_secs(3600)), |config| {
        config.pools.receive = PoolSize { size: 4096, count: 32 };
        config.send_queue_bytes_max = 4 << 20;
        // Nothing is copied.
        config.pools.blocks = vec![PoolSize { size: 256, count: 1024 }, PoolSize { size: 4096, count: 256 }];
    });
    let mut victim = hog(&gateway, 0);
    let mut first = gateway.login(99, "");
    let message = common::send_message(Target::Mid(1), &[9; 1500], false);
    let class = MessageClass::User as usize;
    let delivered = || metrics(&gateway).deliveries[class].get();
    let refused = || metrics(&gateway).drops[class].get();
    let until = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while metrics(&gateway).backend.send_waits.get() == 0 {
        assert!(Instant::now() < until, "the receiver takes everything");
        first.send(Operation::SEND_MESSAGE, 1, &message);
        beat(&mut first, 2);
        sent += 1;
    }
    let senders: Vec<_> = (0..SENDERS).map(|mid| gateway.login(100 + mid, "")).collect();
    let flood = |mut sender: Client| {
        let message = message.clone();
        std::thread::spawn(move || {
            (0..EACH).for_each(|_| sender.send(Operation::SEND_MESSAGE, 1, &message));
            beat(&mut sender, 2);
        })
    };
    let floods: Vec<_> = senders.into_iter().map(flood).collect();
    floods.into_iter().for_each(|flood| flood.join().expect("every sender is heard, and stays"));
    sent += SENDERS as u64 * EACH;
    assert_eq!(delivered() + refused(), sent, "each message has its outcome");
    assert!(refused() > 0 && metrics(&gateway).slow_closes_in_all() == 0);
    reads(&victim);
    for number in 0..delivered() {
        let frame = victim.read();
        assert_eq!(frame.operation, 1000, "closed after {number}: {:?}", Closed::parse(&frame.body));
    }
    beat(&mut victim, 4);
}

/// A WebSocket to the echo listener.
fn echo(gateway: &Gateway) -> Client {
    let mut client = Client::connect(gateway.addresses[2]);
    let mut out = [0; 512];
    let (size, _) = client_request("/sub", "localhost", [7; 16], None, &mut out).unwrap();
    client.write(&out[..size]);
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    client
}

fn echoes_that_gather_large_messages_are_bounded_in_all(backend: &BackendChoice) {
    let mut settings = settings(1, 128);
    settings.listeners[2].message_size_max = 256 << 10;
    let gateway = Gateway::start_on(backend, settings);
    let mut small = echo(&gateway);
    let mut large: Vec<_> = (0..20).map(|_| echo(&gateway)).collect();
    let mut header = [0; 14];
    let size = emit_masked_header(Opcode::Binary, true, 256 << 10, [0; 4], &mut header).unwrap();
    for client in &mut large {
        // Most of a message, and never the rest. A connection that was closed is none of our
        // business.
        let _ = client.stream.write_all(&header[..size]);
        let _ = client.stream.write_all(&vec![1; 200 << 10]);
    }
    let until = Instant::now() + Duration::from_secs(60);
    let overload = u64::from(CloseCode::OVERLOAD.get());
    let closed = || {
        let codes = metrics(&gateway).end_codes.iter().zip(&metrics(&gateway).ends_code);
        codes.filter(|(code, _)| code.get() == overload).map(|(_, count)| count.get()).sum::<u64>()
    };
    // Four messages of 256 KiB are what all echoes hold.
    while closed() < 14 {
        assert!(Instant::now() < until, "{} of 20 were closed", closed());
        let size = emit_masked_header(Opcode::Binary, true, 2, [0; 4], &mut header).unwrap();
        small.write(&header[..size]);
        small.write(b"hi");
        let mut answer = [0; 4];
        small.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x82, 2, b'h', b'i'], "who holds little goes on");
    }
}
