//! Bytes arrive in order and once, however they are cut.

use crate::{Harness, Mode, Pattern, Setup, Side, World};
use netpoll::Backend;
use netpoll::Queues;

/// An echo of 1 B … 4 MiB, cut into pieces of random sizes, comes back as it was.
pub fn streams_of_all_sizes_come_back<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.server().mode = Mode::Echo;
    for size in [1, 2, 255, 4095, 4096, 4097, 65_536, 1 << 20, 4 << 20] {
        let pair = h.pair();
        let pattern = Pattern::new(size as u64);
        let piece_max = 1 + h.rng.below(size.min(128 << 10)) + size / 512;
        h.stream(Side::Client, pair.client, pattern, size, piece_max);
        h.expect_stream(Side::Client, pair.client, pattern, size);
        assert_eq!(h.server().received_bytes(pair.server), size);
        h.close_pair(Side::Client, pair);
    }
    h.end();
}

/// Two streams that cross do not disturb one another.
pub fn both_directions_flow_at_once<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    let (up, down) = (Pattern::new(1), Pattern::new(2));
    let size = 600_000;
    h.stream(Side::Client, pair.client, up, size, 10_000);
    h.stream(Side::Server, pair.server, down, size, 7_777);
    h.expect_stream(Side::Server, pair.server, up, size);
    h.expect_stream(Side::Client, pair.client, down, size);
    h.end();
}

/// Pieces queued in one turn leave together, as one stream.
pub fn pieces_of_one_turn_arrive_as_one_stream<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    let pattern = Pattern::new(seed);
    let mut size = 0;
    for _ in 0..200 {
        let piece_size = 1 + h.rng.below(300);
        let mut piece = vec![0; piece_size];
        pattern.fill(size, &mut piece);
        let buffer = h.backend(Side::Client).pools().copy(&piece).expect("a block").freeze();
        h.backend(Side::Client).send(pair.client, buffer).unwrap();
        size += piece_size;
    }
    h.expect_stream(Side::Server, pair.server, pattern, size);
    h.until_quiet();
    assert_eq!(h.server().received(pair.server).len(), size);
    h.end();
}

/// Ranges that follow each other in one block count as one piece, and others do not.
pub fn neighbors_join<W: World>(seed: u64) {
    let mut setup = Setup::small(16, seed);
    setup.client.send_pieces_shared = 0;
    let mut h = Harness::<W>::new(&setup);
    let pair = h.pair();
    let pattern = Pattern::new(3);
    let mut whole = h.backend(Side::Client).pools().copy(&pattern.bytes(4000)).expect("a block");
    for _ in 0..8 {
        let part = whole.split_to(500).freeze();
        h.backend(Side::Client).send(pair.client, part).expect("neighbors are one piece");
    }
    drop(whole);
    assert!(h.send(Side::Client, pair.client, b"stranger").is_err(), "the store holds one piece");
    h.expect_stream(Side::Server, pair.server, pattern, 4000);
    h.end();
}

/// A buffer without bytes is accepted and has no effect.
pub fn an_empty_buffer_is_no_piece<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    h.send(Side::Client, pair.client, b"").unwrap();
    assert_eq!(h.backend(Side::Client).queued_bytes(pair.client), 0);
    h.until_quiet();
    h.send(Side::Client, pair.client, b"a").unwrap();
    h.send(Side::Client, pair.client, b"").unwrap();
    h.send(Side::Client, pair.client, b"b").unwrap();
    h.expect(Side::Server, pair.server, b"ab");
    h.end();
}

/// One block may be on its way to many peers; it returns to its pool when the last has it.
pub fn one_buffer_goes_to_many<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pairs = h.pairs(10);
    let pattern = Pattern::new(11);
    let block = h.buffer(Side::Server, &pattern.bytes(100_000));
    for pair in &pairs {
        h.backend(Side::Server).send(pair.server, block.clone()).unwrap();
        h.backend(Side::Server).send(pair.server, block.slice(0, 10)).unwrap();
    }
    drop(block);
    for pair in &pairs {
        h.until("the broadcast", |h| h.client().received(pair.client).len() >= 100_010);
        let received = h.client().received(pair.client);
        pattern.check(0, &received[..100_000]);
        pattern.check(0, &received[100_000..]);
    }
    h.end();
}

/// Sixteen streams at once, each of its own bytes, at random times.
pub fn connections_do_not_mix<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    h.server().mode = Mode::Echo;
    let pairs = h.pairs(16);
    let size = 50_000;
    for (number, pair) in pairs.iter().enumerate() {
        let piece_max = 1 + h.rng.below(5000) + 100;
        h.stream(Side::Client, pair.client, Pattern::new(number as u64), size, piece_max);
        for _ in 0..h.rng.below(4) {
            h.step();
        }
    }
    for (number, pair) in pairs.iter().enumerate() {
        h.expect_stream(Side::Client, pair.client, Pattern::new(number as u64), size);
    }
    h.end();
}
