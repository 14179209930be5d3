//! `close`, from either side and at any moment.

use crate::{Harness, Mode, Pattern, Setup, Side, World};
use netpoll::{Backend, CloseReason, Introspect, PoolSize, Queues, SendError};

/// `close` ends in one `Closed { Local }`; the peer sees the end.
pub fn close_is_reported_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for side in [Side::Server, Side::Client] {
        let pair = h.pair();
        let reason = h.close_pair(side, pair);
        assert_eq!(reason, CloseReason::PeerClosed, "nothing was unread");
    }
    h.until_quiet(); // the ledger would see a second Closed, or anything after the first
    h.end();
}

/// An id whose `Closed` was reported names nothing: sends come back, the rest does nothing.
pub fn a_dead_id_names_nothing<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    h.backend(Side::Server).close(pair.server);
    let early = h.send(Side::Server, pair.server, b"closing");
    assert!(matches!(early, Err(SendError::Closed(back)) if *back == *b"closing"));
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    let late = h.send(Side::Server, pair.server, b"closed");
    assert!(matches!(late, Err(SendError::Closed(back)) if *back == *b"closed"));
    let last = h.buffer(Side::Server, b"last");
    h.backend(Side::Server).finish(pair.server, Some(last));
    h.backend(Side::Server).close(pair.server);
    assert_eq!(h.backend(Side::Server).queued_bytes(pair.server), 0);
    h.closed(Side::Client, pair.client);
    assert!(h.client().received(pair.client).is_empty());
    h.end();
}

/// The next connection in a slot has another id, and the old one does not reach it.
pub fn a_reused_slot_has_a_new_generation<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.connections_max = 1;
    setup.client.connections_max = 1;
    let mut h = Harness::<W>::new(&setup);
    let old = h.pair();
    h.close_pair(Side::Client, old);
    let mut new = h.pair();
    // A backend may have reserved other slots for connections to come.
    for _ in 0..300 {
        if new.server.index() == old.server.index() {
            break;
        }
        h.close_pair(Side::Client, new);
        new = h.pair();
    }
    for (old, new) in [(old.client, new.client), (old.server, new.server)] {
        assert_eq!(old.index(), new.index());
        assert_ne!(old.generation(), new.generation());
    }
    h.backend(Side::Server).close(old.server);
    h.backend(Side::Client).finish(old.client, None);
    assert!(matches!(h.send(Side::Client, old.client, b"stray"), Err(SendError::Closed(_))));
    h.send(Side::Client, new.client, b"alive").unwrap();
    h.expect(Side::Server, new.server, b"alive");
    h.until_quiet();
    assert_eq!(h.backend(Side::Server).connection_count(), 1);
    h.end();
}

/// Memory may be trimmed at any time: what is in use stays, ids of the past stay dead, and a
/// connection that arrives at that moment is served.
pub fn trimming_disturbs_no_connection<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.server().mode = Mode::Echo;
    let trim = |h: &mut Harness<W>| [Side::Server, Side::Client].map(|side| h.backend(side).trim());
    let mut past = vec![];
    for round in 0..4 {
        let pairs = h.pairs(6);
        for (number, pair) in pairs.iter().enumerate() {
            h.stream(Side::Client, pair.client, Pattern::new(number as u64), 20_000, 3000);
        }
        for (number, pair) in pairs.iter().enumerate() {
            trim(&mut h);
            h.expect_stream(Side::Client, pair.client, Pattern::new(number as u64), 20_000);
        }
        for pair in pairs {
            h.close_pair(Side::Client, pair);
            past.push(pair);
        }
        trim(&mut h);
        for _ in 0..round {
            h.step();
        }
        let comer = h.connect();
        trim(&mut h);
        h.send(Side::Client, comer, b"new").unwrap();
        for old in &past {
            assert!(matches!(h.send(Side::Server, old.server, b"stray"), Err(SendError::Closed(_))));
            h.backend(Side::Server).close(old.server);
            h.backend(Side::Client).finish(old.client, None);
            assert_eq!(h.backend(Side::Server).queued_bytes(old.server), 0);
        }
        h.expect(Side::Client, comer, b"new");
        h.backend(Side::Client).close(comer);
        h.closed(Side::Client, comer);
        h.until("an empty backend", |h| h.backend(Side::Server).connection_count() == 0);
    }
    h.end();
}

/// What waits in the queue of a closed connection is dropped, and its buffers return to their
/// pools.
pub fn close_drops_what_is_queued<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.pools.receive = PoolSize { size: 1024, count: 2 };
    let mut h = Harness::<W>::listening(&setup, |listener| listener.send_buffer = Some(8 << 10));
    h.client().mode = Mode::Hold;
    let (waiting, fresh) = (h.pair(), h.pair());
    h.stream(Side::Server, waiting.server, Pattern::new(1), 4 << 20, 32 << 10);
    h.until_quiet();
    assert!(h.backend(Side::Server).queued_bytes(waiting.server) > 0);
    h.backend(Side::Server).close(waiting.server);
    let _ = h.send(Side::Server, fresh.server, &[1; 200]); // queued and never offered to the socket
    h.backend(Side::Server).close(fresh.server);
    for pair in [waiting, fresh] {
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    }
    h.client().let_go();
    h.closed(Side::Client, waiting.client);
    h.closed(Side::Client, fresh.client);
    let received = h.client().received(waiting.client).len();
    Pattern::new(1).check(0, &h.client().received(waiting.client)[..received]);
    h.end();
}

/// Closing in the middle of an arriving stream.
pub fn close_while_receiving<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for closer in Side::BOTH {
        let pair = h.pair();
        let before = h.server().received_bytes(pair.server);
        h.stream(Side::Client, pair.client, Pattern::new(7), 4 << 20, 50_000);
        h.until("some bytes", |h| h.server().received_bytes(pair.server) > before);
        let reason = h.close_pair(closer, pair);
        assert!(matches!(reason, CloseReason::PeerClosed | CloseReason::PeerReset), "{reason:?}");
        let received = h.server().received(pair.server).to_vec();
        Pattern::new(7).check(0, &received);
    }
    h.end();
}

/// A connect that is closed, at once or a little later.
pub fn close_while_connecting<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for polls in 0..4 {
        let client = h.connect();
        for _ in 0..polls {
            h.poll(Side::Client, std::time::Duration::ZERO);
        }
        h.backend(Side::Client).close(client);
        assert_eq!(h.closed(Side::Client, client), CloseReason::Local);
    }
    h.until_quiet(); // an accepted connection sees its peer go
    let accepted: Vec<_> = h.server().accepted.iter().map(|arrival| arrival.connection).collect();
    for server in accepted {
        let reason = h.closed(Side::Server, server);
        assert!(matches!(reason, CloseReason::PeerClosed | CloseReason::PeerReset), "{reason:?}");
    }
    h.pair();
    h.end();
}

/// Closing in the very turn that reports `Accepted`, before anything else was polled.
pub fn close_in_the_turn_of_accept<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let clients = [h.connect(), h.connect()];
    for client in clients {
        h.send(Side::Client, client, b"hello?").unwrap();
    }
    let mut done = 0;
    while done < 2 {
        h.until("Accepted", |h| h.server().accepted.len() > done);
        while done < h.server().accepted.len() {
            let server = h.server().accepted[done].connection;
            h.backend(Side::Server).close(server);
            done += 1;
        }
    }
    for position in 0..2 {
        let server = h.server().accepted[position].connection;
        h.closed(Side::Server, server);
    }
    for client in clients {
        h.closed(Side::Client, client);
    }
    h.end();
}

/// A second `close` adds nothing.
pub fn closing_twice_is_closing_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    for _ in 0..2 {
        h.backend(Side::Client).close(pair.client);
    }
    h.poll(Side::Client, std::time::Duration::ZERO);
    h.backend(Side::Client).close(pair.client);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    h.closed(Side::Server, pair.server);
    h.until_quiet();
    h.end();
}

/// Both owners close in the same turn: each gets `Closed` for its own.
pub fn both_close_at_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pairs = h.pairs(8);
    for pair in &pairs {
        h.send(Side::Client, pair.client, b"crossing").unwrap();
        h.backend(Side::Client).close(pair.client);
        h.backend(Side::Server).close(pair.server);
    }
    for pair in &pairs {
        assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
        assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    }
    h.end();
}

/// The peer's close is reported behind its bytes, once; closing an id that is already gone adds
/// nothing.
pub fn peer_close_is_reported_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    let pattern = Pattern::new(2);
    h.stream(Side::Client, pair.client, pattern, 30_000, 30_000);
    h.until("the queue to leave", |h| h.backend(Side::Client).queued_bytes(pair.client) == 0);
    assert_eq!(h.close_pair(Side::Client, pair), CloseReason::PeerClosed);
    pattern.check(0, h.server().received(pair.server));
    assert_eq!(h.server().received(pair.server).len(), 30_000);
    h.backend(Side::Server).close(pair.server);
    h.until_quiet();
    h.end();
}

/// Closing over bytes that were never read resets the connection, and the peer sees a reset.
pub fn closing_over_unread_bytes_resets<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 256, count: 1 };
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Hold;
    let pair = h.pair();
    h.stream(Side::Client, pair.client, Pattern::new(1), 20_000, 20_000);
    h.until_quiet();
    assert_eq!(h.server().held.len(), 1, "the rest is unread");
    assert_eq!(h.close_pair(Side::Server, pair), CloseReason::PeerReset);
    assert!(matches!(h.send(Side::Client, pair.client, b"late"), Err(SendError::Closed(_))));
    h.end();
}
