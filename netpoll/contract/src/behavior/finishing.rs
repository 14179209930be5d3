//! `finish`: an end in order, with a last message that arrives.

use crate::{Harness, Mode, Pattern, Setup, Side, World};
use netpoll::{Backend, CloseReason, Introspect, PoolSize, Queues, SendError};
use std::time::Duration;

/// The queue leaves, then the last piece, then FIN; what was sent before is read before the end is
/// seen.
pub fn finish_sends_queue_and_last_then_fin<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    let pattern = Pattern::new(4);
    h.stream(Side::Server, pair.server, pattern, 200_000, 60_000);
    let last = h.buffer(Side::Server, b"last one");
    h.backend(Side::Server).finish(pair.server, Some(last));
    assert!(matches!(h.send(Side::Server, pair.server, b"more"), Err(SendError::Closed(_))));
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    let received = h.client().received(pair.client);
    assert_eq!(received.len(), 200_008);
    pattern.check(0, &received[..200_000]);
    assert_eq!(&received[200_000..], b"last one");
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    h.until_quiet();
    h.end();
}

/// The last message is taken even when the queue is at its bound of bytes.
pub fn finish_takes_last_over_the_bound<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 100;
    let mut h = Harness::<W>::new(&setup);
    let pair = h.pair();
    h.send(Side::Server, pair.server, &[b'x'; 100]).unwrap();
    assert!(h.send(Side::Server, pair.server, b"y").is_err());
    let last = h.buffer(Side::Server, b"kicked");
    h.backend(Side::Server).finish(pair.server, Some(last));
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    assert!(h.client().received(pair.client).ends_with(b"xkicked"));
    assert_eq!(h.client().received(pair.client).len(), 106);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    h.end();
}

/// With nothing queued `finish` is a FIN, or a last piece and a FIN.
pub fn finish_on_an_empty_queue<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for last in [None, Some(&b"bye"[..])] {
        let pair = h.pair();
        let buffer = last.map(|text| h.buffer(Side::Client, text));
        h.backend(Side::Client).finish(pair.client, buffer);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
        assert_eq!(h.server().received(pair.server), last.unwrap_or_default());
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    }
    h.end();
}

/// After `finish` the peer may go on sending: its bytes are neither reported nor answered by a
/// reset, and they leave its queue.
pub fn finish_discards_what_the_peer_sends<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 1024, count: 2 };
    let mut h = Harness::<W>::new(&setup);
    let pair = h.pair();
    h.stream(Side::Server, pair.server, Pattern::new(1), 2 << 20, 60_000);
    h.until("some bytes", |h| h.client().received_bytes(pair.client) > 0);
    h.backend(Side::Client).finish(pair.client, None);
    let reported = h.client().received_bytes(pair.client);
    // The server sees the FIN only behind its own queue; how far its stream got by then does not
    // matter.
    let reason = h.closed(Side::Server, pair.server);
    assert_eq!(reason, CloseReason::PeerClosed, "the stream was discarded, not reset");
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    assert_eq!(h.client().received_bytes(pair.client), reported, "what came after finish is not reported");
    h.end();
}

/// `finish` before `Connected` ends the connection one way or another, once.
pub fn finish_while_connecting<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let client = h.connect();
    let last = h.buffer(Side::Client, b"hasty");
    h.backend(Side::Client).finish(client, Some(last));
    assert_eq!(h.closed(Side::Client, client), CloseReason::Local);
    h.pair();
    h.end();
}

/// Last messages that cross both arrive.
pub fn both_finish_at_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pairs = h.pairs(8);
    for pair in &pairs {
        for (side, id) in [(Side::Client, pair.client), (Side::Server, pair.server)] {
            let last = h.buffer(side, b"after you");
            h.backend(side).finish(id, Some(last));
        }
    }
    for pair in &pairs {
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    }
    h.end();
}

/// The owner's `close` ends a `finish` that takes too long, over a queue that does not move.
pub fn close_ends_a_finish<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 1024, count: 2 };
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(8 << 10));
    h.client().mode = Mode::Hold;
    let (queued, idle) = (h.pair(), h.pair());
    h.stream(Side::Server, queued.server, Pattern::new(1), 4 << 20, 32 << 10);
    h.until_quiet();
    assert!(h.backend(Side::Server).queued_bytes(queued.server) > 0);
    for pair in [queued, idle] {
        h.backend(Side::Server).finish(pair.server, None);
        h.until_quiet();
        h.backend(Side::Server).close(pair.server);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    }
    h.end();
}

/// A peer that ends its side only still gets what is queued for it; then it is `PeerClosed`, once.
pub fn a_peers_finish_leaves_our_queue<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 2048, count: 2 };
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(16 << 10));
    h.client().mode = Mode::Hold;
    let pair = h.pair();
    h.stream(Side::Server, pair.server, Pattern::new(6), 700_000, 60_000);
    h.until_quiet();
    // What does not fit the queue is not part of this: only accepted pieces must arrive.
    h.server().forget();
    let queued = h.backend(Side::Server).queued_bytes(pair.server);
    assert!(queued > 0, "the peer reads nothing");
    h.backend(Side::Client).finish(pair.client, None);
    h.poll(Side::Client, Duration::ZERO); // says FIN, and discards a little
    h.poll_alone(Side::Server);
    assert!(!h.server().closed.contains_key(&pair.server), "its queue comes first");
    let counted = h.backend(Side::Client).counters().receive_bytes;
    h.client().let_go();
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    let sent = h.backend(Side::Server).counters().send_bytes;
    let received = h.backend(Side::Client).counters().receive_bytes;
    assert_eq!(sent, received, "what was queued has arrived (it was {counted} B before)");
    h.end();
}

/// An owner that finishes, over a queue for which the peer's FIN has come already, gets `Local`: it
/// ended the connection too.
pub fn finish_behind_a_peers_finish_is_local<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 2048, count: 2 };
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(16 << 10));
    h.client().mode = Mode::Hold;
    let pair = h.pair();
    h.stream(Side::Server, pair.server, Pattern::new(6), 4 << 20, 60_000);
    h.until_quiet();
    h.server().forget();
    h.backend(Side::Client).finish(pair.client, None);
    h.poll(Side::Client, Duration::ZERO); // says FIN, and discards a little
    h.poll_alone(Side::Server);
    h.backend(Side::Server).finish(pair.server, None);
    h.client().let_go();
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    h.end();
}

/// A FIN that cannot be sent any more, because the peer has reset, is no error of this side.
pub fn finish_after_a_reset_ends<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 256, count: 1 };
    let mut h = Harness::<W>::new(&setup);
    for last in [None, Some(&b"too late"[..])] {
        h.client().mode = Mode::Hold;
        let pair = h.pair();
        h.stream(Side::Server, pair.server, Pattern::new(1), 20_000, 20_000);
        h.until_quiet();
        h.backend(Side::Client).close(pair.client);
        while !h.client().closed.contains_key(&pair.client) {
            h.poll(Side::Client, W::IDLE_WAIT);
        }
        let last = last.map(|text| h.backend(Side::Server).pools().copy(text).expect("a block").freeze());
        h.backend(Side::Server).finish(pair.server, last);
        let reason = h.closed(Side::Server, pair.server);
        assert!(matches!(reason, CloseReason::PeerReset | CloseReason::Local), "{reason:?}");
        h.client().let_go();
    }
    h.end();
}

/// A last message to a peer that goes on sending, more than the buffers hold, arrives whole: no
/// unread byte makes the system reset the connection over it, although no buffer is free to receive
/// into.
pub fn a_farewell_survives_what_the_peer_still_sends<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 256, count: 2 };
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Hold;
    let pair = h.pair();
    h.stream(Side::Client, pair.client, Pattern::new(1), 400_000, 60_000);
    h.until_quiet();
    assert_eq!(h.server().held.len(), 2, "the rest lies unread");
    let last = h.buffer(Side::Server, b"last one");
    h.backend(Side::Server).finish(pair.server, Some(last));
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    assert_eq!(h.client().received(pair.client), b"last one");
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    h.server().let_go();
    h.end();
}

/// Peers that send on without a pause after their connections' `finish` take no more of the backend
/// than time pays for; all that they send is discarded in the end, and nothing is reset.
pub fn what_is_discarded_is_paid_for_by_time<W: World>(seed: u64) {
    const SIZE: usize = 6 << 20;
    let mut h = Harness::<W>::small(seed);
    let pairs = h.pairs(4);
    let (began, before) = (h.backend(Side::Server).now(), h.backend(Side::Server).counters().receive_bytes);
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), SIZE, 60_000);
        // It sends on, whatever it is sent.
        h.backend(Side::Client).set_receiving(pair.client, false);
        h.backend(Side::Server).finish(pair.server, None);
    }
    for pair in &pairs {
        h.until("all to leave", |h| {
            !h.client().is_streaming(pair.client) && h.backend(Side::Client).queued_bytes(pair.client) == 0
        });
        h.backend(Side::Client).set_receiving(pair.client, true);
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed, "discarded, not reset");
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    }
    let discarded = h.backend(Side::Server).counters().receive_bytes - before;
    let elapsed = h.backend(Side::Server).now().since(began).as_millis() as u64 + 1;
    assert!(W::DISCARDS_BY_WINDOW || discarded == (pairs.len() * SIZE) as u64);
    // A burst, what each began with, and what time has paid for.
    let paid = (4 << 20) + pairs.len() as u64 * (64 << 10) + elapsed * (64 << 10);
    let is_bounded = W::DISCARDS_BY_WINDOW || discarded <= paid;
    assert!(is_bounded, "{}: discarded {discarded} B in {elapsed} ms, where {paid} B are paid for", W::NAME);
    h.end();
}
