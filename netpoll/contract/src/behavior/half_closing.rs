//! Peers that end their side behind their last requests and still read (RFC 9293, 3.6): an end
//! overtakes neither the bytes before it nor their answers.

use crate::{Harness, Mode, Pair, Pattern, Setup, Side, World};
use netpoll::{Backend, CloseReason, Introspect, PoolSize, Queues};
use std::time::Duration;

/// Fewer bytes than sockets and windows hold.
const SIZE: usize = 3_000;

/// The client sends `size` bytes and ends its side; all of that has left before the server is
/// polled again.
fn request_and_finish<W: World>(h: &mut Harness<W>, pair: Pair, size: usize) {
    h.stream(Side::Client, pair.client, Pattern::new(1), size, 500);
    h.backend(Side::Client).finish(pair.client, None);
}

/// Bytes that came to the client, which discards them since its `finish`.
fn answered<W: World>(h: &mut Harness<W>) -> u64 {
    h.backend(Side::Client).counters().receive_bytes
}

/// Polls both sides until all is answered and the server's connection has ended.
fn expect_answers<W: World>(h: &mut Harness<W>, pair: Pair, before: u64, size: usize) {
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local, "nothing was reset");
    assert_eq!(answered(h) - before, size as u64, "every byte was answered");
    let finished = h.server().ends.reported.iter().filter(|id| **id == pair.server).count();
    assert_eq!(finished, 1, "the end was reported once, behind the bytes");
}

/// Requests and the end that comes with them: the owner answers while it handles the batch, and all
/// answers arrive.
pub fn requests_before_a_half_close_are_all_answered<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.server().mode = Mode::Echo;
    for _ in 0..10 {
        let pair = h.pair();
        let before = answered(&mut h);
        request_and_finish(&mut h, pair, SIZE);
        h.poll_alone(Side::Client);
        expect_answers(&mut h, pair, before, SIZE);
    }
    h.server().mode = Mode::Collect;
    h.end();
}

/// The same where the batch has room for one or two completions, and buffers are small: bytes and
/// end come in different polls, or in the same.
pub fn requests_are_answered_in_batches_of_any_size<W: World>(seed: u64) {
    for batch_max in 1..=4 {
        let mut setup = Setup::small(4, seed);
        setup.server.batch_max = batch_max;
        setup.server.pools.receive = PoolSize { size: 1024, count: 3 };
        let mut h = Harness::<W>::new(&setup);
        h.server().mode = Mode::Echo;
        for size in [1, 700, 1024, SIZE] {
            let pair = h.pair();
            let before = answered(&mut h);
            request_and_finish(&mut h, pair, size);
            h.poll_alone(Side::Client);
            expect_answers(&mut h, pair, before, size);
        }
        h.server().mode = Mode::Collect;
        h.end();
    }
}

/// An owner that handles later has stopped the connection: whether the end was reported by then or
/// lies unread, it waits for the answers and the resume.
pub fn an_end_waits_for_an_owner_that_answers_later<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for stops_first in [false, true] {
        h.server().mode = Mode::Hold;
        h.server().ends.are_held = true;
        let pair = h.pair();
        let before = answered(&mut h);
        request_and_finish(&mut h, pair, SIZE);
        h.poll_alone(Side::Client);
        if stops_first {
            h.until("the first bytes", |h| h.server().received_bytes(pair.server) > 0);
            h.backend(Side::Server).set_receiving(pair.server, false);
        } else {
            h.until("the end", |h| h.server().ends.reported.contains(&pair.server));
        }
        h.until_quiet();
        assert!(!h.server().closed.contains_key(&pair.server), "its answers are due");
        h.server().ends.are_held = false;
        for _ in 0..2 {
            // What lay unread comes after the first resume, and is answered later, too.
            for (id, buffer) in std::mem::take(&mut h.server().held) {
                h.backend(Side::Server).send(id, buffer.freeze()).unwrap();
                h.until_quiet();
            }
            h.server().mode = Mode::Echo;
            h.backend(Side::Server).set_receiving(pair.server, true);
        }
        expect_answers(&mut h, pair, before, SIZE);
        h.server().let_go();
    }
    h.end();
}

/// With nothing to answer the connection ends, in both kinds of owner.
pub fn a_peer_that_has_sent_nothing_ends<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for holds in [false, true] {
        h.server().ends.are_held = holds;
        let pair = h.pair();
        h.backend(Side::Client).finish(pair.client, None);
        h.until("the end", |h| h.server().ends.reported.contains(&pair.server));
        if holds {
            h.until_quiet();
            assert!(!h.server().closed.contains_key(&pair.server), "the owner holds the end back");
            h.backend(Side::Server).set_receiving(pair.server, true);
        }
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    }
    h.end();
}

/// A queue that had to wait and is empty again is no end while the owner holds it back: the owner
/// has `Sent`, sends on, and resumes.
pub fn a_held_connection_is_told_that_its_queue_is_empty<W: World>(seed: u64) {
    let mut setup = Setup::small(4, seed);
    setup.client.pools.receive = PoolSize { size: 2048, count: 2 };
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(16 << 10));
    h.client().mode = Mode::Hold;
    h.server().ends.are_held = true;
    let pair = h.pair();
    h.stream(Side::Server, pair.server, Pattern::new(6), 700_000, 60_000);
    h.until_quiet();
    h.server().forget();
    assert!(h.backend(Side::Server).queued_bytes(pair.server) > 0, "the peer reads nothing");
    h.backend(Side::Client).finish(pair.client, None);
    h.client().let_go();
    h.until("an empty queue", |h| h.server().sent.contains_key(&pair.server));
    h.until_quiet();
    assert!(!h.backend(Side::Server).is_waiting(pair.server));
    assert!(!h.server().closed.contains_key(&pair.server), "the owner holds the end back");
    let before = answered(&mut h);
    h.send(Side::Server, pair.server, b"and one more").unwrap();
    h.backend(Side::Server).set_receiving(pair.server, true);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    assert_eq!(answered(&mut h) - before, 12);
    h.end();
}

/// A pair: the client has ended its side, and the server holds that back.
fn held<W: World>(h: &mut Harness<W>) -> Pair {
    h.server().ends.are_held = true;
    let pair = h.pair();
    h.backend(Side::Client).finish(pair.client, None);
    h.until("the end", |h| h.server().ends.reported.contains(&pair.server));
    h.until_quiet();
    pair
}

/// The owner may finish, too: its last message arrives, and the end is its own.
pub fn finish_behind_a_held_end<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for last in [None, Some(&b"last one"[..])] {
        let pair = held(&mut h);
        let before = answered(&mut h);
        let buffer = last.map(|text| h.buffer(Side::Server, text));
        h.backend(Side::Server).finish(pair.server, buffer);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
        assert_eq!(answered(&mut h) - before, last.unwrap_or_default().len() as u64);
    }
    h.end();
}

/// Closing ends it at once, with one `Closed`.
pub fn close_behind_a_held_end<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for resumes in [false, true] {
        let pair = held(&mut h);
        h.backend(Side::Server).set_receiving(pair.server, resumes);
        h.backend(Side::Server).close(pair.server);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    }
    h.until_quiet();
    h.end();
}

/// A peer that goes for good behind its end is heard at the latest after the resume, once.
pub fn a_reset_behind_a_held_end_is_heard<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for answers in [false, true] {
        let pair = held(&mut h);
        h.backend(Side::Client).close(pair.client);
        h.closed(Side::Client, pair.client);
        if answers {
            let _ = h.send(Side::Server, pair.server, b"to a peer that is gone");
        }
        h.until_quiet();
        h.backend(Side::Server).set_receiving(pair.server, true);
        let reason = h.closed(Side::Server, pair.server);
        assert!(matches!(reason, CloseReason::PeerClosed | CloseReason::PeerReset), "{reason:?}");
    }
    h.end();
}

/// Many at once, polled in any order, with ends among the bytes of others.
pub fn crowds_of_half_closing_peers_are_answered<W: World>(seed: u64) {
    let mut setup = Setup::small(64, seed);
    setup.server.batch_max = 24;
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Echo;
    for _ in 0..4 {
        let pairs = h.pairs(48);
        let before = answered(&mut h);
        let mut sent = 0;
        for pair in &pairs {
            let size = 1 + h.rng.below(SIZE);
            sent += size as u64;
            request_and_finish(&mut h, *pair, size);
        }
        for _ in 0..h.rng.below(4) {
            h.poll(Side::Client, Duration::ZERO);
        }
        for pair in &pairs {
            assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
            assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
        }
        assert_eq!(answered(&mut h) - before, sent, "every byte was answered");
    }
    h.server().mode = Mode::Collect;
    h.end();
}
