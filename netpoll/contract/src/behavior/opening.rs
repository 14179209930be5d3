//! How connections begin.

use crate::{Harness, Mode, Setup, Side, World};
use netpoll::{Backend, CloseReason, ConnectError, Introspect, ListenerConfig, ListenerId};

/// `Accepted` carries the listener that the peer connected to and the peer's address.
pub fn accepted_names_the_listener_and_the_peer<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let config = ListenerConfig::new(h.world.server_address());
    let (second, address) = h.backend(Side::Server).listen(&config).unwrap();
    assert_eq!(second, ListenerId(1));
    assert_ne!(address, h.address);
    let local = h.world.client_address();
    for (listener, address) in [(ListenerId(0), h.address), (second, address), (ListenerId(0), h.address)] {
        let before = h.server().accepted.len();
        h.connect_to(Some(local), address);
        h.until("Accepted", |h| h.server().accepted.len() > before);
        let arrival = h.server().accepted[before];
        assert_eq!(arrival.listener, listener);
        assert_eq!(arrival.peer.ip(), local.ip());
        assert_ne!(arrival.peer.port(), 0);
    }
    let mut ports: Vec<u16> = h.server().accepted.iter().map(|arrival| arrival.peer.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "three peers, three ports");
    h.end();
}

/// Connecting to an address without a listener ends in `Closed { Refused }`.
pub fn an_address_without_a_listener_refuses<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let vacant = h.world.vacant_address();
    let id = h.connect_to(None, vacant);
    assert_eq!(h.closed(Side::Client, id), CloseReason::Refused);
    assert!(h.client().connected.is_empty());
    h.pair();
    h.end();
}

/// A full table refuses to connect at once, and works again when there is room.
pub fn a_full_table_refuses_to_connect<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.connections_max = 2;
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(2);
    let address = h.address;
    let refused = h.backend(Side::Client).connect(None, address);
    assert!(matches!(refused, Err(ConnectError::TableFull)), "{refused:?}");
    h.close_pair(Side::Client, pairs[0]);
    h.pair();
    h.end();
}

/// A server without room leaves further peers in the backlog, with their bytes, until it has room.
pub fn peers_wait_while_the_table_is_full<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.connections_max = 2;
    let mut h = Harness::<W>::new(&setup);
    let clients: Vec<_> = (0..6).map(|_| h.connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        h.send(Side::Client, *client, &[number as u8; 10]).unwrap();
    }
    for served in 0..6 {
        h.until("the next peer", |h| h.server().accepted.len() > served);
        h.until_quiet();
        assert_eq!(h.server().accepted.len(), (served + 2).min(6), "no more than there is room for");
        assert_eq!(h.backend(Side::Server).is_full(), served < 5, "full while there is no room");
        let server = h.server().accepted[served].connection;
        h.until("its bytes", |h| h.server().received(server).len() == 10);
        let first = h.server().received(server)[0];
        assert_eq!(h.server().received(server), [first; 10]);
        h.backend(Side::Server).close(server);
        assert_eq!(h.closed(Side::Server, server), CloseReason::Local);
    }
    h.end();
}

/// While accepting is off peers wait and nothing that is open closes; afterwards they are accepted.
pub fn accepting_stops_and_resumes<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let open = h.pair();
    h.backend(Side::Server).set_accepting(false);
    h.until_quiet(); // an accept that was under way may still end
    let before = h.server().accepted.len();
    let waiting = [h.connect(), h.connect()];
    for client in waiting {
        h.send(Side::Client, client, b"let me in").unwrap();
    }
    h.send(Side::Client, open.client, b"still here").unwrap();
    h.expect(Side::Server, open.server, b"still here");
    h.until_quiet();
    assert_eq!(h.server().accepted.len(), before, "no peer is accepted");
    h.backend(Side::Server).set_accepting(true);
    h.until("the peers that waited", |h| h.server().accepted.len() == before + 2);
    for position in [before, before + 1] {
        let server = h.server().accepted[position].connection;
        h.expect(Side::Server, server, b"let me in");
    }
    h.end();
}

/// Closed listeners refuse new peers, and what was accepted goes on.
pub fn closed_listeners_refuse_and_keep_what_is_open<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let open = h.pair();
    h.backend(Side::Server).close_listeners();
    h.until_quiet();
    let late = h.connect();
    assert_eq!(h.closed(Side::Client, late), CloseReason::Refused);
    h.send(Side::Client, open.client, b"still here").unwrap();
    h.expect(Side::Server, open.server, b"still here");
    h.backend(Side::Server).set_accepting(true);
    h.until_quiet();
    let later = h.connect();
    assert_eq!(h.closed(Side::Client, later), CloseReason::Refused, "for good");
    h.end();
}

/// What is sent before `Connected` waits for it, and leaves in order.
pub fn sends_may_precede_connected<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let client = h.connect();
    for part in [b"one,", b"two,"] {
        h.send(Side::Client, client, part).unwrap();
    }
    h.until("Connected", |h| h.client().connected.contains(&client));
    h.send(Side::Client, client, b"three").unwrap();
    h.until("Accepted", |h| h.server().accepted.len() == 1);
    let server = h.server().accepted[0].connection;
    h.expect(Side::Server, server, b"one,two,three");
    h.end();
}

/// A peer's bytes and FIN may be there before the connection is accepted.
pub fn a_peer_that_spoke_and_left_before_accept_is_heard<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.backend(Side::Server).set_accepting(false);
    h.until_quiet();
    let client = h.connect();
    h.until("Connected", |h| h.client().connected.contains(&client));
    h.send(Side::Client, client, b"hello").unwrap();
    h.backend(Side::Client).finish(client, None);
    h.until_quiet();
    h.backend(Side::Server).set_accepting(true);
    h.until("Accepted", |h| h.server().accepted.len() == 1);
    let server = h.server().accepted[0].connection;
    assert_eq!(h.closed(Side::Server, server), CloseReason::PeerClosed);
    assert_eq!(h.server().received(server), b"hello");
    assert_eq!(h.closed(Side::Client, client), CloseReason::Local);
    h.end();
}

/// A server's bytes and FIN may be there before the client has seen that it is connected.
pub fn a_server_that_leaves_at_once_is_heard<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let client = h.connect();
    // Some backends begin the handshake only in a poll; the first poll without events may be too
    // early to be alone.
    while h.server().accepted.is_empty() {
        if h.poll(Side::Server, W::IDLE_WAIT) == 0 {
            h.step();
        }
    }
    let server = h.server().accepted[0].connection;
    let last = h.buffer(Side::Server, b"go away");
    h.backend(Side::Server).finish(server, Some(last));
    for _ in 0..3 {
        h.poll(Side::Server, W::IDLE_WAIT);
    }
    assert_eq!(h.closed(Side::Client, client), CloseReason::PeerClosed);
    assert_eq!(h.client().received(client), b"go away");
    assert_eq!(h.closed(Side::Server, server), CloseReason::Local);
    h.end();
}

/// `connection_count` follows what was opened and closed.
pub fn counts_are_right<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    for side in Side::BOTH {
        assert_eq!(h.backend(side).connection_count(), 0);
    }
    let pairs = h.pairs(3);
    for side in Side::BOTH {
        assert_eq!(h.backend(side).connection_count(), 3);
    }
    h.backend(Side::Server).close(pairs[1].server);
    assert_eq!(h.backend(Side::Server).connection_count(), 3, "a closing connection counts");
    h.closed(Side::Client, pairs[1].client);
    h.closed(Side::Server, pairs[1].server);
    for side in Side::BOTH {
        assert_eq!(h.backend(side).connection_count(), 2);
    }
    h.connect();
    assert_eq!(h.backend(Side::Client).connection_count(), 3, "a connecting one counts");
    // An owner that holds one buffer of many is no shortage, wherever the others are.
    h.server().mode = Mode::Hold;
    h.send(Side::Client, pairs[0].client, b"held").unwrap();
    h.until("bytes", |h| h.server().received_bytes(pairs[0].server) == 4);
    h.until_quiet();
    assert_eq!(h.backend(Side::Server).pools().receive_level().exhausted, 0);
    h.server().let_go();
    h.end();
}
