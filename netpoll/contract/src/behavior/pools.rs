//! Few buffers, small batches: a shortage pauses, and loses nothing.

use crate::{Harness, Mode, Pattern, Setup, Side, World};
use netpoll::{Backend, BackendConfig, Introspect, PoolSize};

/// When the owner holds all buffers receiving pauses; when it drops them every byte arrives.
pub fn an_empty_pool_pauses_and_loses_nothing<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 512, count: 4 };
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(3);
    h.server().mode = Mode::Hold;
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), 20_000, 3000);
    }
    h.until_quiet();
    assert!(h.server().held.len() <= 4, "no buffer from nowhere");
    assert!(h.backend(Side::Server).counters().receive_pauses > 0);
    assert!(h.backend(Side::Server).pools().receive_level().exhausted > 0, "all held, and bytes waited");
    // One buffer at a time keeps it going; then all of them.
    for _ in 0..20 {
        let before: usize = pairs.iter().map(|pair| h.server().received_bytes(pair.server)).sum();
        let mode = std::mem::replace(&mut h.server().mode, Mode::Hold);
        h.server().let_go();
        h.server().mode = mode;
        h.until("bytes after a buffer was returned", |h| {
            pairs.iter().map(|pair| h.server().received_bytes(pair.server)).sum::<usize>() > before
        });
    }
    h.server().let_go();
    for (number, pair) in pairs.iter().enumerate() {
        h.expect_stream(Side::Server, pair.server, Pattern::new(number as u64), 20_000);
    }
    h.end();
}

/// An idle connection owns no buffer: two serve sixteen connections.
pub fn few_buffers_serve_many_connections<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.pools.receive = PoolSize { size: 1024, count: 2 };
    setup.client.pools.receive = PoolSize { size: 1024, count: 2 };
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Echo;
    let pairs = h.pairs(16);
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), 5_000, 700);
    }
    for (number, pair) in pairs.iter().enumerate() {
        h.expect_stream(Side::Client, pair.client, Pattern::new(number as u64), 5_000);
    }
    h.end();
}

/// While others send more than there are buffers for, a connection that brings one byte now and
/// then has a buffer after each of them has had a few.
pub fn those_that_send_much_leave_buffers_to_others<W: World>(seed: u64) {
    const OTHERS: usize = 64;
    let mut setup = Setup::small(OTHERS + 1, seed);
    setup.server.pools.receive = PoolSize { size: 1024, count: 4 };
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(OTHERS + 1);
    let (bystander, others) = pairs.split_last().expect("some");
    for pair in others {
        h.stream(Side::Client, pair.client, Pattern::new(1), 1 << 20, 16 << 10);
    }
    h.until("a flood", |h| h.backend(Side::Server).counters().receives > 4 * OTHERS as u64);
    for round in 0..16 {
        let before = h.backend(Side::Server).counters().receives;
        h.send(Side::Client, bystander.client, b"x").expect("room for a byte");
        h.until("a byte", |h| h.server().received_bytes(bystander.server) > round);
        let receives = h.backend(Side::Server).counters().receives - before;
        assert!(receives <= 6 * OTHERS as u64, "{}: {receives} receives came before one byte", W::NAME);
    }
    h.client().forget();
    h.end();
}

/// A received buffer keeps its bytes after its connection has gone, and returns to its pool when it
/// is dropped.
pub fn buffers_outlive_their_connection<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    h.server().mode = Mode::Hold;
    let pattern = Pattern::new(8);
    h.stream(Side::Client, pair.client, pattern, 10_000, 10_000);
    h.until("everything", |h| h.server().received_bytes(pair.server) == 10_000);
    h.close_pair(Side::Server, pair);
    let other = h.pair();
    h.send(Side::Client, other.client, &[0xff; 4000]).unwrap();
    h.until_quiet();
    assert!(!h.backend(Side::Server).pools().is_full(), "buffers are held");
    h.server().let_go();
    pattern.check(0, h.server().received(pair.server));
    h.end();
}

/// A batch that holds one completion carries everything, one by one.
pub fn a_batch_of_one_works<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.batch_max = 1;
    setup.client.batch_max = 1;
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Echo;
    let clients: Vec<_> = (0..12).map(|_| h.connect()).collect();
    for (number, client) in clients.iter().enumerate() {
        h.stream(Side::Client, *client, Pattern::new(number as u64), 9_000, 1 + 100 * number);
    }
    for (number, client) in clients.iter().enumerate() {
        h.expect_stream(Side::Client, *client, Pattern::new(number as u64), 9_000);
    }
    clients[..6].iter().for_each(|client| h.backend(Side::Client).close(*client));
    h.until("half of them gone", |h| h.server().closed.len() == 6 && h.client().closed.len() == 6);
    h.end();
}

/// A batch with more room than the backend's own bound is filled to the bound, poll by poll, and
/// nothing is lost.
pub fn a_poll_appends_no_more_than_it_is_configured_to<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.server.batch_max = 3;
    let mut h = Harness::<W>::new(&setup);
    h.widen_batch(Side::Server, 64);
    let clients: Vec<_> = (0..12).map(|_| h.connect()).collect();
    for client in &clients {
        h.stream(Side::Client, *client, Pattern::new(7), 9_000, 9_000);
    }
    let mut polls = 0;
    let mut bytes = 0;
    while bytes < 12 * 9_000 {
        for _ in 0..4 {
            assert!(h.poll(Side::Server, std::time::Duration::ZERO) <= 3, "more than the bound in one poll");
        }
        h.step();
        polls += 1;
        bytes = h.server().accepted.clone().iter().map(|one| h.server().received_bytes(one.connection)).sum();
    }
    assert!(polls > 0);
    h.end();
}

/// Every table, pool, queue and batch as small as it can be, at once.
pub fn everything_tiny_works<W: World>(seed: u64) {
    let tiny = |connections_max: usize| {
        let mut config = BackendConfig::small(connections_max);
        config.batch_max = 1;
        config.pools.receive = PoolSize { size: 16, count: 1 };
        config.pools.blocks = vec![PoolSize { size: 16, count: 2 }];
        config.send_pieces_shared = 2;
        config.send_queue_bytes_max = 20;
        config.copy_break = 8;
        config
    };
    let mut h = Harness::<W>::new(&Setup { server: tiny(1), client: tiny(4), seed });
    h.server().mode = Mode::Echo;
    for round in 0..4 {
        let clients = [h.connect(), h.connect(), h.connect()];
        for client in clients {
            h.stream(Side::Client, client, Pattern::new(round), 300, 13);
        }
        for _ in clients {
            // Only one of them fits the server, and which one is the network's choice.
            let served = |h: &mut Harness<W>, id| {
                h.client().received_bytes(id) == 300 && !h.client().closed.contains_key(&id)
            };
            h.until("a stream", |h| clients.iter().any(|id| served(h, *id)));
            let client = *clients.iter().find(|id| served(&mut h, **id)).expect("just seen");
            Pattern::new(round).check(0, h.client().received(client));
            h.backend(Side::Client).close(client);
            h.closed(Side::Client, client);
        }
    }
    h.end();
}
