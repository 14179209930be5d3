//! Many connections, at once and one after the other.

use crate::{Harness, Mode, Pattern, Setup, Side, World};
use netpoll::{Backend, Introspect, PoolSize};

/// Connections at once.
const CROWD: usize = 500;
/// Connections one after the other.
const CHURN: usize = 2000;

fn crowd<W: World>(seed: u64) -> Harness<W> {
    let mut setup = Setup::small(CROWD, seed);
    setup.server.pools.receive = PoolSize { size: 1024, count: 128 };
    setup.client.pools.receive = PoolSize { size: 1024, count: 128 };
    Harness::new(&setup)
}

/// Five hundred at once, each with a stream of its own that starts at a random moment.
pub fn five_hundred_connections_echo<W: World>(seed: u64) {
    let mut h = crowd::<W>(seed);
    h.server().mode = Mode::Echo;
    let mut clients = Vec::new();
    let mut silent: Vec<usize> = Vec::new();
    for number in 0..CROWD {
        let size = 1 + h.rng.below(3000);
        clients.push((h.connect(), Pattern::new(number as u64), size));
        silent.push(number);
        if h.rng.below(2) == 0 {
            let position = h.rng.below(silent.len());
            let (client, pattern, size) = clients[silent.swap_remove(position)];
            let piece_max = 1 + h.rng.below(size);
            h.stream(Side::Client, client, pattern, size, piece_max);
        }
        for _ in 0..h.rng.below(3) {
            h.step();
        }
    }
    h.until("all connections", |h| h.server().accepted.len() == CROWD && h.client().connected.len() == CROWD);
    assert_eq!(h.backend(Side::Server).connection_count(), CROWD);
    for number in silent {
        let (client, pattern, size) = clients[number];
        h.stream(Side::Client, client, pattern, size, 1000);
    }
    for (client, pattern, size) in &clients {
        h.expect_stream(Side::Client, *client, *pattern, *size);
    }
    h.end();
}

/// Two thousand connections come, send a word and go, sixteen at a time; either side may close.
pub fn two_thousand_connections_come_and_go<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.server().mode = Mode::Echo;
    let mut live = Vec::new();
    let mut opened = 0;
    while opened < CHURN || !live.is_empty() {
        if opened < CHURN && live.len() < 16 && h.backend(Side::Client).connection_count() < 16 {
            let client = h.connect();
            h.send(Side::Client, client, b"hi").unwrap();
            live.push(client);
            opened += 1;
        }
        if h.rng.below(2) == 0 {
            h.step();
        }
        for position in (0..live.len()).rev() {
            let client = live[position];
            if h.client().received(client) == b"hi" {
                match h.rng.below(3) {
                    0 => h.backend(Side::Client).finish(client, None),
                    _ => h.backend(Side::Client).close(client),
                }
                live.swap_remove(position);
            }
        }
        if live.len() == 16 {
            h.until("an answer", |h| live.iter().any(|client| h.client().received(*client) == b"hi"));
        }
        if opened == CHURN {
            h.step();
        }
    }
    h.until("the last to go", |h| h.client().closed.len() == CHURN && h.server().closed.len() == CHURN);
    assert_eq!(h.server().ledger.opened(), CHURN as u64);
    h.end();
}

/// All connections go at once, with answers under way.
pub fn a_crowd_disappears<W: World>(seed: u64) {
    let mut h = crowd::<W>(seed);
    h.server().mode = Mode::Echo;
    let clients: Vec<_> = (0..CROWD / 2).map(|_| h.connect()).collect();
    h.until("all connections", |h| h.server().accepted.len() == clients.len());
    for client in &clients {
        let _ = h.send(Side::Client, *client, &[7; 200]);
    }
    for _ in 0..h.rng.below(5) {
        h.step();
    }
    clients.iter().for_each(|client| h.backend(Side::Client).close(*client));
    h.until("no connection", |h| {
        h.server().closed.len() == clients.len() && h.client().closed.len() == clients.len()
    });
    h.end();
}
