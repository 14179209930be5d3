//! `release` and `adopt`: connections that go on in another backend.

use super::queues::{fill, with_stalled_client};
use crate::{Harness, Mode, Pattern, Setup, Side, SuccessorWorld};
use netpoll::{
    AdoptError, Backend, CloseReason, ConnectionId, Handover, Held, Introspect, ListenerConfig, Phase,
    PoolSize, Queues, ReleaseError, Released, SendError,
};
use std::collections::BTreeSet;
use std::time::Duration;

type Socket<W> = <<W as crate::World>::Backend as Handover>::Socket;

/// Releases a connection; returns it with what was queued for it.
fn release<W: SuccessorWorld>(
    h: &mut Harness<W>,
    side: Side,
    id: ConnectionId,
) -> Result<(Released<Socket<W>>, Vec<u8>), ReleaseError> {
    let mut queued = vec![];
    let released = h.backend(side).release(id, &mut |held, bytes| {
        assert_eq!(held, Held::Queued, "these owners take nothing back");
        queued.extend_from_slice(bytes);
    })?;
    assert_eq!(released.id, id);
    h.party(side).ledger.released(id);
    Ok((released, queued))
}

/// Adopts a connection for which the side's backend has room.
fn adopt<W: SuccessorWorld>(h: &mut Harness<W>, side: Side, released: Released<Socket<W>>, queued: &[u8]) {
    h.party(side).ledger.adopted(released.id);
    h.backend(side).adopt(released, queued).map_err(|(error, _)| error).expect("a backend with room");
}

/// Replaces a side's backend by a fresh one that goes on with its connections, as a restart does.
/// Returns what each of them was when it was released.
fn hand_over<W: SuccessorWorld>(h: &mut Harness<W>, side: Side, setup: &Setup) -> Vec<(Phase, usize)> {
    h.backend(side).set_accepting(false);
    h.poll(side, Duration::ZERO);
    let mut ids: Vec<_> = h.party(side).ledger.live().collect();
    ids.sort_by_key(|id| id.index());
    let released = |id| release(h, side, id).expect("a connection that has not ended");
    let mut moved: Vec<_> = ids.into_iter().map(released).collect();
    assert_eq!(h.backend(side).connection_count(), 0, "nothing is left with the predecessor");
    let bound = h.backend(side).generation_bound();
    let successor = h.world.successor(side, setup);
    drop(h.world.replace(side, successor));
    let found = moved.iter().map(|(released, queued)| (released.phase, queued.len())).collect();
    for (released, queued) in moved.drain(..) {
        let id = released.id;
        adopt(h, side, released, &queued);
        assert_eq!(h.backend(side).queued_bytes(id), queued.len());
    }
    h.backend(side).raise_generations(bound);
    if side == Side::Server {
        let address = h.address;
        h.backend(side).listen(&ListenerConfig::new(address)).expect("the address is free, or shared");
    }
    found
}

/// Streams in both directions go on over several restarts of either side: whole, in order and once.
pub fn streams_go_on_in_a_successor<W: SuccessorWorld>(seed: u64) {
    let setup = Setup::small(16, seed);
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(6);
    let size = 300_000;
    let pattern = |number: usize, side: Side| Pattern::new(2 * number as u64 + side as u64);
    for (number, pair) in pairs.iter().enumerate() {
        h.stream(Side::Client, pair.client, pattern(number, Side::Client), size, 9_000);
        h.stream(Side::Server, pair.server, pattern(number, Side::Server), size, 9_000);
    }
    for side in [Side::Server, Side::Client, Side::Server] {
        (0..h.rng.below(12)).for_each(|_| h.step());
        let moved = hand_over(&mut h, side, &setup);
        assert_eq!(moved.iter().filter(|(phase, _)| *phase == Phase::Open).count(), pairs.len());
    }
    for (number, pair) in pairs.iter().enumerate() {
        h.expect_stream(Side::Server, pair.server, pattern(number, Side::Client), size);
        h.expect_stream(Side::Client, pair.client, pattern(number, Side::Server), size);
    }
    h.end();
}

/// What a peer has not taken yet goes along, and reaches it behind what it had taken.
pub fn a_queue_goes_along<W: SuccessorWorld>(seed: u64) {
    let mut setup = Setup::small(4, seed);
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let pattern = Pattern::new(3);
    let taken = fill(&mut h, pair, pattern);
    let queued = h.backend(Side::Server).queued_bytes(pair.server);
    assert!(queued > 0 && queued < taken);
    assert_eq!(hand_over(&mut h, Side::Server, &setup), [(Phase::Open, queued)]);
    h.client().let_go();
    h.expect_stream(Side::Client, pair.client, pattern, taken);
    h.end();
}

/// An owner that waits for `Sent` has it from the successor, once.
pub fn a_sent_that_is_due_goes_along<W: SuccessorWorld>(seed: u64) {
    let mut setup = Setup::small(4, seed);
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    fill(&mut h, pair, Pattern::new(4));
    h.server().forget();
    hand_over(&mut h, Side::Server, &setup);
    assert!(h.backend(Side::Server).is_waiting(pair.server), "it has to wait there, too");
    h.client().let_go();
    h.until("Sent", |h| h.server().sent.contains_key(&pair.server));
    h.until_quiet();
    assert_eq!(h.server().sent[&pair.server], 1);
    h.end();
}

/// Ids keep their meaning: live ones name the same connections, dead ones none, and new ones are
/// new.
pub fn ids_keep_their_meaning<W: SuccessorWorld>(seed: u64) {
    let setup = Setup::small(8, seed);
    let mut h = Harness::<W>::new(&setup);
    let mut dead = BTreeSet::new();
    for _ in 0..20 {
        let pairs = h.pairs(3);
        for pair in pairs {
            h.close_pair(Side::Client, pair);
            dead.insert(pair.server);
        }
    }
    let kept = h.pairs(3);
    h.close_pair(Side::Server, kept[0]);
    dead.insert(kept[0].server);
    hand_over(&mut h, Side::Server, &setup);
    for id in &dead {
        let buffer = h.buffer(Side::Server, b"for a dead id");
        assert!(matches!(h.backend(Side::Server).send(*id, buffer), Err(SendError::Closed(_))), "{id:?}");
    }
    for _ in 0..3 {
        for pair in h.pairs(4) {
            assert!(!dead.contains(&pair.server), "{:?} is given again", pair.server);
            h.close_pair(Side::Client, pair);
        }
    }
    for pair in &kept[1..] {
        h.send(Side::Client, pair.client, b"to the same connection").unwrap();
        h.expect(Side::Server, pair.server, b"to the same connection");
    }
    h.end();
}

/// Releasing is no event: the id is dead here, nothing is reported, every buffer is back, and the
/// peer notices nothing. A released connection that is dropped is closed.
pub fn releasing_is_no_event<W: SuccessorWorld>(seed: u64) {
    let setup = Setup::small(4, seed);
    let mut h = Harness::<W>::new(&setup);
    let pairs = h.pairs(2);
    let last = h.buffer(Side::Server, b"queued since the last poll");
    h.backend(Side::Server).send(pairs[0].server, last).unwrap();
    let (kept, queued) = release(&mut h, Side::Server, pairs[0].server).unwrap();
    let (dropped, _) = release(&mut h, Side::Server, pairs[1].server).unwrap();
    assert_eq!(queued, b"queued since the last poll");
    h.until_quiet();
    assert_eq!(h.backend(Side::Server).connection_count(), 0);
    assert!(h.backend(Side::Server).pools().is_full() && h.server().closed.is_empty());
    assert!(h.client().closed.is_empty(), "the peers notice nothing");
    let again = h.backend(Side::Server).release(pairs[0].server, &mut |_, _| panic!("it holds nothing"));
    assert!(matches!(again, Err(ReleaseError::Gone)));
    let buffer = h.buffer(Side::Server, b"late");
    assert!(matches!(h.backend(Side::Server).send(pairs[0].server, buffer), Err(SendError::Closed(_))));
    let refused = h.backend(Side::Server).adopt(kept, &queued);
    let Err((AdoptError::Slot, kept)) = refused else { panic!("an id of the past comes back") };
    drop(dropped);
    assert_eq!(h.closed(Side::Client, pairs[1].client), CloseReason::PeerClosed);
    let successor = h.world.successor(Side::Server, &setup);
    drop(h.world.replace(Side::Server, successor));
    adopt(&mut h, Side::Server, kept, &queued);
    h.expect(Side::Client, pairs[0].client, &queued);
    h.close_pair(Side::Client, pairs[0]);
    h.end();
}

/// An end that was begun goes on: what is queued, the last message, FIN, and the reason.
pub fn an_end_goes_on_in_a_successor<W: SuccessorWorld>(seed: u64) {
    let mut setup = Setup::small(4, seed);
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let pattern = Pattern::new(5);
    let taken = fill(&mut h, pair, pattern);
    h.backend(Side::Server).finish(pair.server, None);
    h.until_quiet();
    assert_eq!(hand_over(&mut h, Side::Server, &setup)[0].0, Phase::Finishing);
    h.client().let_go();
    h.expect_stream(Side::Client, pair.client, pattern, taken);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    // FIN has left already, and the peer does not read it yet.
    let pair = h.pair();
    h.backend(Side::Client).set_receiving(pair.client, false);
    h.backend(Side::Server).finish(pair.server, None);
    h.poll_alone(Side::Server);
    assert_eq!(hand_over(&mut h, Side::Server, &setup), [(Phase::Finished, 0)]);
    h.backend(Side::Client).set_receiving(pair.client, true);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::Local);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::PeerClosed);
    h.end();
}

/// A peer's FIN that came before its queue was empty is kept, and so is the reason of the end.
pub fn a_peers_end_goes_along<W: SuccessorWorld>(seed: u64) {
    for finishes in [false, true] {
        let mut setup = Setup::small(4, seed);
        let (mut h, pair) = with_stalled_client::<W>(&mut setup);
        fill(&mut h, pair, Pattern::new(7));
        h.server().forget();
        h.backend(Side::Client).finish(pair.client, None);
        h.poll(Side::Client, Duration::ZERO);
        h.poll_alone(Side::Server);
        if finishes {
            h.backend(Side::Server).finish(pair.server, None);
        }
        let (phase, reason) = match finishes {
            false => (Phase::PeerFinished, CloseReason::PeerClosed),
            true => (Phase::BothFinishing, CloseReason::Local),
        };
        if h.backend(Side::Server).queued_bytes(pair.server) > 0 {
            assert_eq!(hand_over(&mut h, Side::Server, &setup)[0].0, phase);
        }
        assert_eq!(h.closed(Side::Server, pair.server), reason);
        h.end();
    }
}

/// An end that its owner holds back goes along: the successor's owner answers, and lets it end.
pub fn a_held_end_goes_along<W: SuccessorWorld>(seed: u64) {
    let setup = Setup::small(4, seed);
    let mut h = Harness::<W>::new(&setup);
    h.server().ends.are_held = true;
    let pair = h.pair();
    h.backend(Side::Client).finish(pair.client, None);
    h.until("the end", |h| h.server().ends.reported.contains(&pair.server));
    assert_eq!(hand_over(&mut h, Side::Server, &setup), [(Phase::PeerFinished, 0)]);
    h.backend(Side::Server).set_receiving(pair.server, false);
    h.until_quiet();
    assert!(!h.server().closed.contains_key(&pair.server), "its owner holds the end back");
    let before = h.backend(Side::Client).counters().receive_bytes;
    h.send(Side::Server, pair.server, b"an answer").unwrap();
    h.backend(Side::Server).set_receiving(pair.server, true);
    assert_eq!(h.closed(Side::Server, pair.server), CloseReason::PeerClosed);
    assert_eq!(h.closed(Side::Client, pair.client), CloseReason::Local);
    assert_eq!(h.backend(Side::Client).counters().receive_bytes - before, 9);
    h.end();
}

/// A successor without room for a queue refuses the connection, which can go elsewhere.
pub fn a_queue_without_room_is_refused_whole<W: SuccessorWorld>(seed: u64) {
    let mut setup = Setup::small(4, seed);
    let (mut h, pair) = with_stalled_client::<W>(&mut setup);
    let pattern = Pattern::new(9);
    let taken = fill(&mut h, pair, pattern);
    let (released, queued) = release(&mut h, Side::Server, pair.server).unwrap();
    let mut small = setup.clone();
    small.server.pools.blocks = vec![PoolSize { size: 256, count: 4 }];
    let mut tiny = h.world.successor(Side::Server, &small);
    let Err((AdoptError::Memory, released)) = tiny.adopt(released, &queued) else {
        panic!("{} bytes in four blocks of 256", queued.len());
    };
    assert!(tiny.connection_count() == 0 && tiny.pools().is_full());
    let successor = h.world.successor(Side::Server, &setup);
    drop(h.world.replace(Side::Server, successor));
    adopt(&mut h, Side::Server, released, &queued);
    h.client().mode = Mode::Collect;
    h.client().let_go();
    h.expect_stream(Side::Client, pair.client, pattern, taken);
    h.end();
}
