//! Send queues: their bounds, their order, and when `Sent` is reported.

use crate::{Harness, Mode, Pair, Pattern, Setup, Side, World};
use netpoll::{
    ASKED_MAX, Backend, BufferPools, ConnectionId, Introspect, PoolId, PoolSet, PoolSize, Priority, Queues,
    SendError,
};
use std::time::Duration;

/// A world whose client reads nothing once its few receive buffers are held.
pub(crate) fn with_stalled_client<W: World>(setup: &mut Setup) -> (Harness<W>, Pair) {
    setup.client.pools.receive = PoolSize { size: 1024, count: 4 };
    let mut h = Harness::<W>::listening(setup, |listener| listener.send_buffer = Some(16 << 10));
    h.client().mode = Mode::Hold;
    let pair = h.pair();
    (h, pair)
}

/// Sends until the queue is full and nothing moves any more; returns how many bytes were taken.
pub(crate) fn fill<W: World>(h: &mut Harness<W>, pair: Pair, pattern: Pattern) -> usize {
    let mut taken = 0;
    loop {
        let mut piece = [0; 4096];
        pattern.fill(taken, &mut piece);
        // A pool without a block has the effect of a full queue: nothing leaves any more.
        let Some(buffer) = h.backend(Side::Server).pools().copy(&piece) else {
            h.until_quiet();
            if h.backend(Side::Server).pools().take(4096).is_none() {
                return taken;
            }
            continue;
        };
        match h.backend(Side::Server).send(pair.server, buffer.freeze()) {
            Ok(()) => taken += piece.len(),
            Err(SendError::Full(back) | SendError::Exhausted(back)) => {
                assert!(*back == piece, "the buffer comes back as it was");
                let queued = h.backend(Side::Server).queued_bytes(pair.server);
                h.until_quiet();
                if h.backend(Side::Server).queued_bytes(pair.server) == queued {
                    return taken;
                }
            }
            Err(SendError::Closed(_)) => panic!("the connection is open"),
        }
    }
}

/// A slow reader makes the queue wait. All of it arrives, once and in order, and then `Sent` is
/// reported, once.
pub fn a_slow_reader_gets_everything_once<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 256 << 10;
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let pattern = Pattern::new(seed);
    let size = fill(&mut h, pair, pattern);
    assert!(h.backend(Side::Server).queued_bytes(pair.server) > 0, "the peer reads nothing");
    assert!(!h.server().sent.contains_key(&pair.server), "not sent yet");
    assert!(h.backend(Side::Server).counters().send_waits > 0);
    h.client().let_go();
    h.expect_stream(Side::Client, pair.client, pattern, size);
    h.until("Sent", |h| h.server().sent.contains_key(&pair.server));
    h.until_quiet();
    assert_eq!(h.server().sent[&pair.server], 1);
    assert_eq!(h.backend(Side::Server).queued_bytes(pair.server), 0);
    assert_eq!(h.client().received(pair.client).len(), size);
    h.end();
}

/// The bound on bytes does not stop a single piece that is larger than it.
pub fn an_empty_queue_takes_a_piece_of_any_size<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.send_queue_bytes_max = 1000;
    let mut h = Harness::<W>::new(&setup);
    let pair = h.pair();
    let pattern = Pattern::new(5);
    h.send(Side::Client, pair.client, &pattern.bytes(100_000)).unwrap();
    assert!(matches!(h.send(Side::Client, pair.client, b"x"), Err(SendError::Full(back)) if *back == *b"x"));
    h.expect_stream(Side::Server, pair.server, pattern, 100_000);
    h.end();
}

/// A queue at its bound of bytes returns further pieces, and takes them again after it has drained.
pub fn a_queue_full_of_bytes_hands_back<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 64 << 10;
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let pattern = Pattern::new(seed + 1);
    let size = fill(&mut h, pair, pattern);
    assert!(h.backend(Side::Server).queued_bytes(pair.server) <= 64 << 10);
    let other = h.pair();
    h.send(Side::Server, other.server, b"others are not held up").unwrap();
    h.client().let_go();
    h.expect_stream(Side::Client, pair.client, pattern, size);
    h.expect(Side::Client, other.client, b"others are not held up");
    h.send(Side::Server, pair.server, b"again").unwrap();
    h.until("the next piece", |h| h.client().received(pair.client).ends_with(b"again"));
    h.end();
}

/// A backend whose store of pieces is used up returns further pieces, for every connection that has
/// something queued, until some have left. The error says that the connection is not at fault.
pub fn a_store_full_of_pieces_hands_back<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.send_pieces_shared = 2;
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(3);
    for (pair, text) in [(0, b"a"), (1, b"b"), (0, b"c"), (1, b"d")] {
        h.send(Side::Client, pairs[pair].client, text).unwrap();
    }
    for pair in &pairs[..2] {
        let refused = h.send(Side::Client, pair.client, b"over");
        assert!(matches!(refused, Err(SendError::Exhausted(back)) if *back == *b"over"));
    }
    h.send(Side::Client, pairs[2].client, b"an empty queue is sure of a piece").unwrap();
    let store = h.backend(Side::Client).send_store();
    assert_eq!((store.used, store.max), (2, 2));
    h.expect(Side::Server, pairs[0].server, b"ac");
    h.expect(Side::Server, pairs[1].server, b"bd");
    h.until_quiet();
    h.send(Side::Client, pairs[0].client, b"!").unwrap();
    h.expect(Side::Server, pairs[0].server, b"ac!");
    h.expect(Side::Server, pairs[2].server, b"an empty queue is sure of a piece");
    h.end();
}

/// Pushes to connections whose peers do not read use up no more of the store than their shares, the
/// same for each. All other connections are sent to as before, and replies even to a connection
/// that has its share.
pub fn peers_that_do_not_read_leave_the_store_to_others<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_pieces_shared = 800;
    setup.server.send_queue_bytes_max = 8 << 20;
    // Moving a piece from a small block to another frees nothing, so pieces stay where they are.
    setup.server.copy_break = 0;
    let (mut h, first) = with_stalled_client::<W>(&mut setup);
    let hogs = [first, h.pair(), h.pair(), h.pair()];
    for hog in &hogs {
        fill_socket(&mut h, hog.server);
    }
    let text = h.buffer(Side::Server, b"xy");
    for round in 0..800 {
        // In turns, as a broadcast does.
        let hog = hogs[round % hogs.len()].server;
        if let Err(error) = h.backend(Side::Server).send_as(hog, text.slice(0, 1), Priority::Push) {
            assert!(matches!(error, SendError::Full(_) | SendError::Exhausted(_)), "{error:?}");
        }
    }
    let held: Vec<usize> = hogs.iter().map(|hog| h.backend(Side::Server).queued_pieces(hog.server)).collect();
    let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    assert!(*least > 40 && most - least < 40, "their shares are the same: {held:?}");
    let store = h.backend(Side::Server).send_store();
    assert!(store.used * 4 < store.max * 3, "four leave a part to others: {store:?}");
    h.send(Side::Server, hogs[0].server, b"a reply goes on").unwrap();
    for _ in 0..8 {
        let other = h.pair();
        for text in [&b"one"[..], b"two", b"three"] {
            let copy = h.buffer(Side::Server, text);
            h.backend(Side::Server).send_as(other.server, copy, Priority::Droppable).unwrap();
        }
    }
    drop(text);
    h.client().let_go();
    h.until("the hogs have caught up", |h| {
        hogs.iter().all(|hog| h.backend(Side::Server).queued_bytes(hog.server) == 0)
    });
    h.until_quiet();
    assert_eq!(h.backend(Side::Server).send_store().used, 0);
    let flight = h.backend(Side::Server).flight_store();
    assert_eq!(flight.used, 0, "all has arrived");
    h.end();
}

/// Sends large pieces until the peer's socket takes no more and something waits.
fn fill_socket<W: World>(h: &mut Harness<W>, server: ConnectionId) {
    let filler = [7; 16 << 10];
    while !h.backend(Side::Server).is_waiting(server) {
        let Some(buffer) = h.backend(Side::Server).pools().copy(&filler) else {
            h.until_quiet();
            continue;
        };
        let _ = h.backend(Side::Server).send(server, buffer.freeze());
        h.poll(Side::Server, Duration::ZERO);
        h.world.idle();
    }
}

/// A push leaves a quarter of the queue to replies, and a droppable one a half.
pub fn pushes_leave_a_part_of_the_queue_to_replies<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.send_queue_bytes_max = 4000;
    let mut h = Harness::<W>::new(&setup);
    let pair = h.pair();
    for (priority, most) in [(Priority::Droppable, 2000), (Priority::Push, 3000), (Priority::Reply, 4000)] {
        loop {
            let piece = h.backend(Side::Client).pools().copy(&[1; 100]).expect("a block").freeze();
            match h.backend(Side::Client).send_as(pair.client, piece, priority) {
                Ok(()) => {}
                Err(SendError::Full(_)) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(h.backend(Side::Client).queued_bytes(pair.client), most, "{priority:?}");
    }
    h.until("all of it", |h| h.server().received_bytes(pair.server) == 4000);
    h.end();
}

/// `queued_bytes` is what was sent and has not left; a send leaves at a poll, not before.
pub fn queued_bytes_are_counted<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    for (text, queued) in [("", 0), ("four", 4), ("seven..", 11)] {
        h.send(Side::Client, pair.client, text.as_bytes()).unwrap();
        assert_eq!(h.backend(Side::Client).queued_bytes(pair.client), queued);
    }
    h.expect(Side::Server, pair.server, b"fourseven..");
    h.until_quiet();
    assert_eq!(h.backend(Side::Client).queued_bytes(pair.client), 0);
    assert_eq!(h.backend(Side::Server).queued_bytes(pair.server), 0);
    h.end();
}

/// Connections whose peers do not take what they are sent are listed as waiting, each once, until
/// the peers have taken it or the connections have ended. A queue alone makes no connection slow.
pub fn slow_connections_are_listed_until_they_catch_up_or_end<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 8 << 20;
    let (mut h, first) = with_stalled_client::<W>(&mut setup);
    let pairs = [first, h.pair(), h.pair(), h.pair()];
    let waiting = |h: &mut Harness<W>| {
        let mut ids: Vec<_> =
            h.backend(Side::Server).waiting().iter().map(|waiting| waiting.connection).collect();
        ids.sort_unstable();
        for pair in &pairs {
            let (id, backend) = (pair.server, h.backend(Side::Server));
            assert_eq!(backend.is_waiting(id), ids.contains(&id), "{id:?} of {ids:?}");
            let (minute, now) = (Duration::from_secs(60), backend.now());
            let stalled = backend.stalled_for(id, now + minute);
            assert_eq!(stalled >= minute, ids.contains(&id), "{id:?}: {stalled:?}");
        }
        ids
    };
    let sizes = [300 << 10, 300 << 10, 300 << 10, 1];
    for (pair, size) in pairs.iter().zip(sizes) {
        h.stream(Side::Server, pair.server, Pattern::new(3), size, 60 << 10);
    }
    h.server().forget();
    assert_eq!(waiting(&mut h), [], "nothing has been offered yet");
    h.until("three slow ones", |h| waiting(h).len() == 3);
    h.until_quiet();
    let mut slow: Vec<_> = pairs[..3].iter().map(|pair| pair.server).collect();
    slow.sort_unstable();
    assert_eq!(waiting(&mut h), slow);
    h.backend(Side::Server).close(pairs[1].server);
    assert_eq!(waiting(&mut h).len(), 2, "gone at once, with its buffers");
    h.client().let_go();
    h.until("both have caught up", |h| waiting(h).is_empty());
    assert_eq!(h.backend(Side::Server).queued_bytes(pairs[0].server), 0);
    h.end();
}

/// Small messages that wait for a peer which does not read keep at most half of the receive buffers
/// that they arrived in, and a few that arrived in one turn: other peers are still received from.
pub fn small_messages_for_a_slow_peer_leave_receive_buffers_to_others<W: World>(seed: u64) {
    const MESSAGES: usize = 200;
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 4096, count: 64 };
    setup.server.send_queue_bytes_max = 8 << 20;
    let (mut h, slow) = with_stalled_client::<W>(&mut setup);
    let sender = h.pair();
    fill_socket(&mut h, slow.server);
    h.server().mode = Mode::Hold;
    for number in 1..=MESSAGES {
        h.send(Side::Client, sender.client, &[number as u8; 32]).unwrap();
        h.until("a message of another", |h| h.server().received_bytes(sender.server) == number * 32);
        for (_, message) in std::mem::take(&mut h.server().held) {
            h.backend(Side::Server).send(slow.server, message.freeze()).expect("room in the queue");
        }
    }
    h.poll(Side::Server, Duration::ZERO);
    let level = h.backend(Side::Server).pools().receive_level();
    assert!(level.free * 4 >= level.count, "{level:?}");
    assert!(h.backend(Side::Server).counters().send_copies > 0);
    h.server().forget();
    h.client().let_go();
    h.until("the slow one has it all", |h| h.backend(Side::Server).queued_bytes(slow.server) == 0);
    h.end();
}

/// Answers of any size that wait for a peer which does not read keep at most half of the receive
/// buffers that they arrived in, and a few that arrived in one turn, also where they fill them.
pub fn answers_for_a_slow_peer_leave_receive_buffers_to_others<W: World>(seed: u64) {
    const MESSAGES: usize = 100;
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 4096, count: 64 };
    // A message may come in several segments, of which each waits in a block.
    setup.server.pools.blocks[1].count = 1024;
    setup.server.send_queue_bytes_max = 8 << 20;
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(16 << 10));
    if h.backend(Side::Server).pools().receive_level().count > 2 * MESSAGES as u32 {
        // A device of its own needs so many buffers that these messages make none of them scarce.
        return h.end();
    }
    // The sender is of the same client: its buffers must go on receiving acknowledgments.
    let (slow, sender) = (h.pair(), h.pair());
    h.backend(Side::Client).set_receiving(slow.client, false);
    fill_socket(&mut h, slow.server);
    h.server().mode = Mode::Hold;
    for number in 1..=MESSAGES {
        h.send(Side::Client, sender.client, &[number as u8; 4096]).unwrap();
        h.until("a message of another", |h| h.server().received_bytes(sender.server) == number * 4096);
        for (_, message) in std::mem::take(&mut h.server().held) {
            h.backend(Side::Server).send(slow.server, message.freeze()).expect("room in the queue");
        }
    }
    h.poll(Side::Server, Duration::ZERO);
    let level = h.backend(Side::Server).pools().receive_level();
    // One or two may be on their way back to a backend that lends them to the kernel.
    assert!((level.free + 2) * 2 >= level.count, "{level:?}");
    h.server().forget();
    h.backend(Side::Client).set_receiving(slow.client, true);
    h.until("the slow one has it all", |h| h.backend(Side::Server).queued_bytes(slow.server) == 0);
    h.end();
}

/// What others send to a peer that does not read leaves half of the receive buffers that it arrived
/// in: it is copied to blocks as far as they go, and what goes beyond is refused. The peer's own
/// replies are not.
pub fn pushes_for_a_slow_peer_leave_receive_buffers_to_others<W: World>(seed: u64) {
    const SIZE: usize = 3000;
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 4096, count: 64 };
    setup.server.pools.blocks[1].count = 64;
    setup.server.send_queue_bytes_max = 8 << 20;
    let (mut h, slow) = with_stalled_client::<W>(&mut setup);
    let sender = h.pair();
    fill_socket(&mut h, slow.server);
    h.server().mode = Mode::Hold;
    let mut refused = 0;
    for number in 1..=200 {
        h.send(Side::Client, sender.client, &[number as u8; SIZE]).unwrap();
        h.until("a message of another", |h| h.server().received_bytes(sender.server) == number * SIZE);
        for (_, message) in std::mem::take(&mut h.server().held) {
            let push = message.freeze();
            match h.backend(Side::Server).send_as(slow.server, push, Priority::Droppable) {
                Ok(()) => {}
                Err(SendError::Full(back)) => refused += usize::from(!back.is_empty()),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    let level = h.backend(Side::Server).pools().receive_level();
    // One or two may be on their way back to a backend that lends them to the kernel.
    assert!((level.free + 2) * 2 >= level.count, "{level:?}");
    assert!(refused > 0, "{level:?}");
    h.send(Side::Server, slow.server, b"a reply").expect("a reply has its place");
    h.server().forget();
    h.client().let_go();
    h.until("the slow one has it all", |h| h.backend(Side::Server).queued_bytes(slow.server) == 0);
    h.end();
}

/// Blocks of another owner that asks for them are not queued for a peer that does not read, as long
/// as it asks. They are queued for a peer that reads.
pub fn pushes_for_a_slow_peer_leave_blocks_to_an_owner_that_asks<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 8 << 20;
    setup.server.copy_break = 0;
    let (mut h, slow) = with_stalled_client::<W>(&mut setup);
    let healthy = h.pair();
    fill_socket(&mut h, slow.server);
    let mut others = BufferPools::new(&setup.server.pools).unwrap();
    let bytes = others.copy(&[1; 100]).unwrap().freeze();
    let push = |h: &mut Harness<W>, to: Pair, priority| {
        // A part of the block, so that it joins none before it.
        h.backend(Side::Server).send_as(to.server, bytes.slice(0, 10), priority).is_ok()
    };
    assert!(push(&mut h, slow, Priority::Push) && push(&mut h, slow, Priority::Droppable));
    let mut asked = [None; ASKED_MAX];
    asked[0] = others.ids(others.fitting(100)).next();
    h.backend(Side::Server).pools().set_asked(asked);
    assert!(!push(&mut h, slow, Priority::Push) && !push(&mut h, slow, Priority::Droppable));
    assert!(push(&mut h, slow, Priority::Reply) && push(&mut h, healthy, Priority::Push));
    h.backend(Side::Server).pools().set_asked([None; ASKED_MAX]);
    assert!(push(&mut h, slow, Priority::Push));
    // The block is counted once, and no accepted byte of a push is lost.
    let pool = bytes.pool();
    assert_eq!(h.backend(Side::Server).queued_blocks_of(slow.server, pool), bytes.block_size());
    h.client().let_go();
    h.until("the slow one has it all", |h| h.backend(Side::Server).queued_bytes(slow.server) == 0);
    h.end();
}

/// What a connection's queue holds is counted in blocks, and for the given pools.
pub fn blocks_that_wait_are_counted_by_pool<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 8 << 20;
    let (mut h, slow) = with_stalled_client::<W>(&mut setup);
    fill_socket(&mut h, slow.server);
    h.until_quiet();
    let backend = h.backend(Side::Server);
    let queued = backend.queued_bytes(slow.server);
    let large = backend.pools().fitting(16 << 10);
    let held = backend.queued_blocks(slow.server, large);
    assert!(held >= queued && held.is_multiple_of(128 << 10), "{held} for {queued}");
    assert_eq!(backend.queued_blocks(slow.server, PoolSet::ALL), held);
    // The same by ids, as another thread asks, and for another owner's pools of the same sizes.
    let ids: Vec<PoolId> = backend.pools().ids(large).collect();
    let by_id: usize = ids.into_iter().map(|pool| backend.queued_blocks_of(slow.server, pool)).sum();
    assert_eq!(by_id, held);
    let others = BufferPools::new(&setup.server.pools).unwrap();
    assert!(others.ids(PoolSet::ALL).all(|pool| backend.queued_blocks_of(slow.server, pool) == 0));
    h.client().let_go();
    h.until("the slow one has it all", |h| h.backend(Side::Server).queued_bytes(slow.server) == 0);
    assert_eq!(h.backend(Side::Server).queued_blocks(slow.server, PoolSet::ALL), 0);
    h.end();
}
