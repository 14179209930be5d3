//! A receiver that is closed as too slow hears so, also when it reads again only after the time of
//! a last word: the word comes behind what its socket has taken, and no frame is cut. On a
//! simulated network.

mod common;

use common::lone::{Lone, frames, messages};
use common::{frame, send_message, settings};
use gateway_core::message::{KickTarget, Message, MessageClass};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::{LINGER, RateLimits};
use gateway_proto::body::{Closed, Target};
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use gateway_proto::websocket::Opcode;
use netpoll::{Backend, BackendConfig, ConnectionId, PoolSize, Queues};
use std::time::Duration;

const RECEIVER: i64 = 1;
/// Bytes of a push: a number, and the rest.
const PUSH_SIZE: usize = 700;

fn world(seed: u64) -> Lone {
    let mut settings = settings(1, 8);
    settings.reloadable.rate = RateLimits::NONE;
    settings.reloadable.slow_consumer_timeout = Duration::from_millis(100);
    settings.listeners.iter_mut().for_each(|listener| listener.socket.send_buffer = Some(16 << 10));
    let mut sizes = BackendConfig::small(8);
    sizes.send_queue_bytes_max = 256 << 10;
    let pool = |size, count| PoolSize { size, count };
    sizes.pools.blocks = vec![pool(256, 1024), pool(1024, 4096), pool(4096, 512), pool(128 << 10, 16)];
    Lone::new(seed, settings, &sizes)
}

/// Sends numbered messages to the receiver, which does not read, until it is closed.
fn flood_until_closed(world: &mut Lone, receiver: ConnectionId) {
    let sender = world.login(2);
    world.clients.set_receiving(receiver, false);
    for number in 0..100_000_u32 {
        let mut payload = vec![7; PUSH_SIZE];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let body = send_message(Target::Mid(RECEIVER), &payload, false);
        world.ask(sender, &frame(Operation::SEND_MESSAGE, 2, &body));
        if world.metrics.slow_closes_in_all() > 0 {
            return;
        }
    }
    panic!("a receiver that takes nothing stays");
}

/// It reads again, and hears all that is left for it.
fn read_to_the_end(world: &mut Lone, receiver: ConnectionId, after: Duration) -> Vec<u8> {
    world.wait(after);
    assert!(!world.has_ended(receiver));
    world.clients.set_receiving(receiver, true);
    world.until("the end", |world| world.has_ended(receiver));
    world.take(receiver)
}

/// Checks that pushes came from the first one on without a gap; returns how many.
fn check_pushes<'b>(bodies: impl Iterator<Item = &'b [u8]>) -> u64 {
    let mut count = 0;
    for body in bodies {
        assert_eq!(body.len(), PUSH_SIZE);
        assert_eq!(body[..4], (count as u32).to_be_bytes());
        count += 1;
    }
    count
}

fn check_counts(metrics: &WorkerMetrics, pushes: u64) {
    let delivered = metrics.deliveries[MessageClass::User as usize].get();
    let unsent = metrics.unsent_pushes.get();
    assert!(unsent > 100, "{unsent} of {delivered} were dropped");
    assert_eq!(pushes + unsent, delivered, "each one came, or is counted");
}

/// Well within the time of a last word, and long after it.
const LATE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(7)];

#[test]
fn the_last_word_comes_however_late_it_is_read_over_tcp() {
    for (seed, after) in (1..).zip(LATE) {
        let mut world = world(seed);
        let receiver = world.login(RECEIVER);
        flood_until_closed(&mut world, receiver);
        let bytes = read_to_the_end(&mut world, receiver, after);
        let heard = frames(&bytes);
        let ((header, body), pushes) = heard.split_last().unwrap();
        assert_eq!(header.operation, Operation::CLOSED);
        assert_eq!(Closed::parse(body).unwrap().code, CloseCode::SLOW_CONSUMER);
        let count = check_pushes(pushes.iter().map(|(_, body)| &body[..]));
        check_counts(&world.metrics, count);
    }
}

#[test]
fn the_last_word_comes_however_late_it_is_read_over_websocket() {
    for (seed, after) in (1..).zip(LATE) {
        let mut world = world(seed);
        let receiver = world.login_websocket(RECEIVER);
        flood_until_closed(&mut world, receiver);
        let bytes = read_to_the_end(&mut world, receiver, after);
        let heard = messages(&bytes);
        let [pushes @ .., (Opcode::Binary, word), (Opcode::Close, close)] = &heard[..] else {
            panic!("no last word behind {} messages", heard.len());
        };
        assert_eq!(close[..2], CloseCode::SLOW_CONSUMER.get().to_be_bytes());
        assert_eq!(frames(word)[0].0.operation, Operation::CLOSED);
        let bodies: Vec<_> = pushes.iter().flat_map(|(_, message)| frames(message)).collect();
        let count = check_pushes(bodies.iter().map(|(_, body)| &body[..]));
        check_counts(&world.metrics, count);
    }
}

/// One that takes nothing for ever is gone after a while, and leaves nothing behind.
#[test]
fn a_receiver_that_never_reads_again_is_gone() {
    let mut world = world(1);
    let receiver = world.login(RECEIVER);
    flood_until_closed(&mut world, receiver);
    let id = world.worker.backend().waiting()[0].connection;
    let queued = world.worker.backend().queued_bytes(id);
    assert!(queued < 2 * PUSH_SIZE, "{queued} bytes are kept for it");
    world.until("its end", |world| world.worker.shard().lingering.count() == 0);
    assert!(world.network.now().since(netpoll::Timestamp::ZERO) < 10 * LINGER + Duration::from_secs(60));
}

/// A kick drops nothing that was accepted: the deliveries come, then the word.
#[test]
fn a_kick_comes_behind_what_was_accepted() {
    let mut world = world(1);
    let (receiver, sender) = (world.login(RECEIVER), world.login(2));
    world.clients.set_receiving(receiver, false);
    for number in 0..200_u32 {
        let mut payload = vec![7; PUSH_SIZE];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let body = send_message(Target::Mid(RECEIVER), &payload, false);
        world.ask(sender, &frame(Operation::SEND_MESSAGE, 2, &body));
    }
    let target = KickTarget::Connection(world.worker.backend().waiting()[0].connection);
    world.tell(Message::Kick { target, code: CloseCode::KICKED, reason: None, ticket: 0 });
    world.until("the kick", |world| world.worker.shard().lingering.count() == 1);
    let bytes = read_to_the_end(&mut world, receiver, Duration::from_millis(500));
    let heard = frames(&bytes);
    let ((header, body), pushes) = heard.split_last().unwrap();
    assert_eq!(header.operation, Operation::CLOSED);
    assert_eq!(Closed::parse(body).unwrap().code, CloseCode::KICKED);
    assert_eq!(check_pushes(pushes.iter().map(|(_, body)| &body[..])), 200);
}
