//! `drop_unsent`: what waits and has not begun to leave goes, whole sends only.

use super::queues::{fill, with_stalled_client};
use crate::{Harness, Pair, Pattern, Setup, Side, World};
use netpoll::{Backend, CloseReason, ConnectionId, Queues, SendError};

/// Bytes of each send of [`fill`].
const PIECE: usize = 4096;

/// A peer that reads nothing, a queue full of sends of [`PIECE`] bytes of `pattern`, and how many
/// bytes they are.
fn stalled<W: World>(seed: u64, pattern: Pattern) -> (Harness<W>, Pair, usize) {
    let mut setup = Setup::small(16, seed);
    setup.server.send_queue_bytes_max = 256 << 10;
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let size = fill(&mut h, pair, pattern);
    (h, pair, size)
}

fn drop_unsent<W: World>(h: &mut Harness<W>, id: ConnectionId) -> Vec<u8> {
    let mut dropped = vec![];
    h.backend(Side::Server).drop_unsent(id, &mut |bytes| {
        assert!(!bytes.is_empty() && bytes.len().is_multiple_of(PIECE), "{} bytes are no sends", bytes.len());
        dropped.extend_from_slice(bytes);
    });
    dropped
}

/// Checks that the peer got whole sends of the stream, as many as were not dropped, then `last`.
fn check<W: World>(
    h: &mut Harness<W>,
    pair: Pair,
    (pattern, size): (Pattern, usize),
    dropped: &[u8],
    last: &[u8],
) {
    let received = h.client().received(pair.client);
    let kept = received.len() - last.len();
    assert!(kept.is_multiple_of(PIECE), "a send is cut: {kept} bytes");
    assert_eq!(kept + dropped.len(), size, "what was not dropped arrives");
    pattern.check(0, &received[..kept]);
    pattern.check(kept, dropped);
    assert_eq!(&received[kept..], last);
}

/// The last message comes behind what has begun to leave, and in front of nothing else.
pub fn a_last_message_comes_behind_what_has_begun<W: World>(seed: u64) {
    let pattern = Pattern::new(seed + 1);
    let (mut h, pair, size) = stalled::<W>(seed, pattern);
    let dropped = drop_unsent(&mut h, pair.server);
    assert!(dropped.len() > 64 << 10, "only {} of {size} bytes were dropped", dropped.len());
    assert!(drop_unsent(&mut h, pair.server).is_empty(), "the rest has begun, or may have");
    let last = h.buffer(Side::Server, b"last one");
    h.backend(Side::Server).finish(pair.server, Some(last));
    assert!(drop_unsent(&mut h, pair.server).is_empty(), "a last message stays");
    h.client().let_go();
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    check(&mut h, pair, (pattern, size), &dropped, b"last one");
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    h.end();
}

/// The connection goes on: what is sent next leaves, and `Sent` is reported, once.
pub fn a_connection_goes_on_behind_what_was_dropped<W: World>(seed: u64) {
    let pattern = Pattern::new(seed + 2);
    let (mut h, pair, size) = stalled::<W>(seed, pattern);
    let dropped = drop_unsent(&mut h, pair.server);
    h.send(Side::Server, pair.server, b"and on").unwrap();
    h.client().let_go();
    h.until("the next send", |h| h.client().received(pair.client).ends_with(b"and on"));
    h.until("Sent", |h| h.server().sent.contains_key(&pair.server));
    h.until_quiet();
    check(&mut h, pair, (pattern, size), &dropped, b"and on");
    assert_eq!(h.server().sent[&pair.server], 1);
    assert_eq!(h.backend(Side::Server).queued_bytes(pair.server), 0);
    h.end();
}

/// An empty queue, and an id of the past, have nothing to drop.
pub fn nothing_is_dropped_of_nothing<W: World>(seed: u64) {
    let mut h = Harness::<W>::small(seed);
    let pair = h.pair();
    assert!(drop_unsent(&mut h, pair.server).is_empty());
    h.send(Side::Server, pair.server, b"hello").unwrap();
    assert!(drop_unsent(&mut h, pair.server).is_empty(), "it is what leaves next");
    h.expect(Side::Client, pair.client, b"hello");
    h.close_pair(Side::Server, pair);
    assert!(drop_unsent(&mut h, pair.server).is_empty());
    assert!(matches!(h.send(Side::Server, pair.server, b"more"), Err(SendError::Closed(_))));
    h.end();
}
