//! `set_receiving`: an owner that stops a connection slows its peer, loses nothing, and harms no
//! other.

use crate::{Harness, Mode, Pair, Pattern, Setup, Side, World};
use netpoll::{Backend, CloseReason, PoolSize, Queues};

/// More bytes than sockets and windows hold.
const MUCH: usize = 16 << 20;
/// Fewer bytes than they hold.
const LITTLE: usize = 3_000;

/// A pair whose server has stopped receiving, with nothing under way.
fn stopped<W: World>(h: &mut Harness<W>) -> Pair {
    let pair = h.pair();
    h.backend(Side::Server).set_receiving(pair.server, false);
    h.until_quiet();
    pair
}

/// Nothing is taken from a stopped connection and no buffer is held for it; its neighbor is served.
/// After the resume every byte arrives.
pub fn a_stopped_connection_is_left_unread<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.send_queue_bytes_max = 100_000; // the client's blocks are for both
    let mut h = Harness::<W>::new(&setup);
    let pair = stopped(&mut h);
    let neighbor = h.pair();
    h.stream(Side::Client, pair.client, Pattern::new(1), MUCH, 4_000);
    h.stream(Side::Client, neighbor.client, Pattern::new(2), 400_000, 4_000);
    h.expect_stream(Side::Server, neighbor.server, Pattern::new(2), 400_000);
    h.until_quiet();
    assert_eq!(h.server().received_bytes(pair.server), 0, "it is left unread");
    assert!(h.backend(Side::Server).pools().is_full(), "it holds no buffer");
    let queued = h.backend(Side::Client).queued_bytes(pair.client);
    assert!(queued > 0 || h.client().is_streaming(pair.client), "its peer has to wait");
    h.backend(Side::Server).set_receiving(pair.server, true);
    h.expect_stream(Side::Server, pair.server, Pattern::new(1), MUCH);
    h.end();
}

/// What arrived before the stop and was unread is reported after the resume, although nothing more
/// arrives.
pub fn what_lay_there_is_reported_after_the_resume<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = stopped(&mut h);
    for round in 0..3 {
        h.send(Side::Client, pair.client, b"waiting").unwrap();
        h.until_quiet();
        assert_eq!(h.server().received_bytes(pair.server), 7 * round);
        h.backend(Side::Server).set_receiving(pair.server, true);
        h.until("what lay there", |h| h.server().received_bytes(pair.server) == 7 * (round + 1));
        h.backend(Side::Server).set_receiving(pair.server, false);
        h.until_quiet();
    }
    h.end();
}

/// Stopped and resumed at any moment, also twice in one turn, a stream arrives whole, in order and
/// once.
pub fn stopping_in_the_middle_loses_nothing<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 1024, count: 8 };
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(4);
    let size = 200_000;
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), size, 3_000);
    }
    for _ in 0..300 {
        for pair in &pairs {
            for _ in 0..h.rng.below(3) {
                let receiving = h.rng.chance(0.5);
                h.backend(Side::Server).set_receiving(pair.server, receiving);
            }
        }
        for side in Side::BOTH {
            h.poll(side, std::time::Duration::ZERO);
        }
    }
    for pair in &pairs {
        h.backend(Side::Server).set_receiving(pair.server, true);
    }
    for (number, pair) in pairs.iter().enumerate() {
        h.expect_stream(Side::Server, pair.server, Pattern::new(number as u64), size);
    }
    h.end();
}

/// Receiving is one direction: what is sent to a stopped connection arrives.
pub fn a_stopped_connection_is_sent_to<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = stopped(&mut h);
    h.stream(Side::Client, pair.client, Pattern::new(3), MUCH, 50_000);
    h.until_quiet();
    h.stream(Side::Server, pair.server, Pattern::new(4), 300_000, 20_000);
    h.expect_stream(Side::Client, pair.client, Pattern::new(4), 300_000);
    assert_eq!(h.server().received_bytes(pair.server), 0);
    h.end();
}

/// An empty pool and a stop together: neither loses the connection.
pub fn stopping_while_no_buffer_is_free<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 512, count: 4 };
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(3);
    h.server().mode = Mode::Hold;
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), 20_000, 3_000);
    }
    h.until_quiet();
    h.backend(Side::Server).set_receiving(pairs[0].server, false);
    h.backend(Side::Server).set_receiving(pairs[1].server, false);
    h.until_quiet();
    h.backend(Side::Server).set_receiving(pairs[1].server, true);
    h.server().let_go();
    for number in [1, 2] {
        h.expect_stream(Side::Server, pairs[number].server, Pattern::new(number as u64), 20_000);
    }
    h.backend(Side::Server).set_receiving(pairs[0].server, true);
    h.expect_stream(Side::Server, pairs[0].server, Pattern::new(0), 20_000);
    h.end();
}

/// The peer's end is reported behind unread bytes: at the latest after the resume, once.
pub fn a_peer_that_leaves_a_stopped_connection_is_heard<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for with_bytes in [false, true] {
        let pair = stopped(&mut h);
        let size = if with_bytes { LITTLE } else { 0 };
        if with_bytes {
            h.stream(Side::Client, pair.client, Pattern::new(5), size, size);
            h.until_quiet();
        }
        h.backend(Side::Client).finish(pair.client, None);
        h.until_quiet();
        h.backend(Side::Server).set_receiving(pair.server, true);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
        assert_eq!(h.server().received_bytes(pair.server), size);
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    }
    h.end();
}

/// The end of a stopped connection that its peer resets is reported at the latest after the resume,
/// once.
pub fn a_peer_that_resets_a_stopped_connection_is_heard<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 256, count: 1 };
    let mut h = Harness::<W>::new(&setup);
    h.client().mode = Mode::Hold;
    let pair = stopped(&mut h);
    h.stream(Side::Server, pair.server, Pattern::new(1), 20_000, 20_000);
    h.until_quiet();
    h.backend(Side::Client).close(pair.client);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    h.until_quiet();
    h.backend(Side::Server).set_receiving(pair.server, true);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerReset);
    h.end();
}

/// Closing a stopped connection closes over unread bytes: the peer is reset.
pub fn close_while_stopped<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = stopped(&mut h);
    h.stream(Side::Client, pair.client, Pattern::new(6), MUCH, 50_000);
    h.until_quiet();
    assert_eq!(h.close_pair(Side::Server, pair), CloseReason::PeerReset);
    let quiet = stopped(&mut h);
    assert_eq!(h.close_pair(Side::Server, quiet), CloseReason::PeerClosed, "nothing was unread");
    h.end();
}

/// The last message of a stopped connection arrives: what the peer still sends is received and
/// discarded.
pub fn finish_while_stopped_discards_what_lies_unread<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for resumes in [false, true] {
        let pair = stopped(&mut h);
        h.stream(Side::Client, pair.client, Pattern::new(7), MUCH, 50_000);
        h.until_quiet();
        let last = h.buffer(Side::Server, b"too fast");
        h.backend(Side::Server).finish(pair.server, Some(last));
        h.backend(Side::Server).set_receiving(pair.server, resumes);
        h.expect(Side::Client, pair.client, b"too fast");
        h.until("the stream to leave", |h| {
            !h.client().is_streaming(pair.client) && h.backend(Side::Client).queued_bytes(pair.client) == 0
        });
        h.backend(Side::Client).finish(pair.client, None);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
        h.closed(Side::Client, pair.client);
        assert_eq!(h.server().received_bytes(pair.server), 0, "received into nowhere");
    }
    h.end();
}

/// A dead id names no connection, and the next connection in the slot of a stopped one receives.
pub fn a_stop_ends_with_its_connection<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.connections_max = 1;
    let mut h = Harness::<W>::new(&setup);
    for round in 0..4 {
        let old = stopped(&mut h);
        h.close_pair(Side::Server, old);
        h.backend(Side::Server).set_receiving(old.server, false);
        let new = h.pair();
        h.backend(Side::Server).set_receiving(old.server, round % 2 == 0);
        h.send(Side::Client, new.client, b"heard").unwrap();
        h.expect(Side::Server, new.server, b"heard");
        h.close_pair(Side::Client, new);
    }
    h.end();
}
