//! Everything at once, in sizes and at moments drawn from the seed.

use crate::{Harness, Mode, Pattern, Rng, Setup, Side, World};
use netpoll::{Backend, BackendConfig, ConnectError, ConnectionId, PoolSize, SendError};

/// Actions of owners in one run.
const ACTIONS: usize = 300;
/// At most so many bytes per stream.
const STREAM_MAX: usize = 20_000;

fn drawn(rng: &mut Rng, connections_max: usize) -> BackendConfig {
    let mut config = BackendConfig::small(connections_max);
    let batch_bits = rng.below(7);
    config.batch_max = 1 + rng.below(1 << batch_bits);
    config.pools.receive = PoolSize { size: 1 << (4 + rng.below(8)), count: 1 + rng.below(20) as u32 };
    config.pools.blocks = vec![
        PoolSize { size: 128, count: 8 + rng.below(64) as u32 },
        PoolSize { size: 1024, count: 8 + rng.below(64) as u32 },
    ];
    config.send_pieces_shared = 4 + rng.below(200);
    config.send_queue_bytes_max = 1 + rng.below(20_000);
    config.copy_break = rng.below(1024);
    config
}

/// Connects, streams, holds, closes and finishes on both sides. Any connection may end for any
/// reason; what each received is the beginning of what was sent to it, and nothing is left behind.
pub fn anything_may_happen<W: World>(seed: u64) {
    let mut rng = Rng::new(seed);
    let (room, clients) = (1 + rng.below(12), 1 + rng.below(16));
    let setup = Setup { server: drawn(&mut rng, room), client: drawn(&mut rng, clients), seed };
    let mut h = Harness::<W>::new(&setup);
    h.server().mode = Mode::Echo;
    let mut streams: Vec<(ConnectionId, Pattern)> = Vec::new();
    for _ in 0..ACTIONS {
        act(&mut h, &mut streams);
        for _ in 0..h.rng.below(4) {
            h.step();
        }
    }
    h.client().let_go();
    Side::BOTH.into_iter().for_each(|side| resume_all(&mut h, side));
    for _ in 0..h.rng.below(200) {
        h.step();
    }
    for (client, pattern) in streams {
        pattern.check(0, h.client().received(client));
    }
    h.end();
}

fn act<W: World>(h: &mut Harness<W>, streams: &mut Vec<(ConnectionId, Pattern)>) {
    let side = Side::BOTH[h.rng.below(2)];
    match h.rng.below(20) {
        0..=5 => connect(h, streams),
        6 => any_live(h, side).into_iter().for_each(|id| h.backend(side).close(id)),
        7 => any_live(h, side).into_iter().for_each(|id| h.backend(side).finish(id, None)),
        8 => h.client().mode = Mode::Hold,
        9..=11 => h.client().let_go(),
        12 => h.backend(Side::Server).set_accepting(false),
        13 | 14 => h.backend(Side::Server).set_accepting(true),
        15 | 16 => any_live(h, side).into_iter().for_each(|id| h.backend(side).set_receiving(id, false)),
        17 | 18 => resume_all(h, side),
        _ => stray(h, side),
    }
}

fn connect<W: World>(h: &mut Harness<W>, streams: &mut Vec<(ConnectionId, Pattern)>) {
    let address = h.address;
    match h.backend(Side::Client).connect(None, address) {
        Ok(id) => {
            h.client().ledger.connecting(id);
            let pattern = Pattern::new(streams.len() as u64);
            let (size, piece_max) = (1 + h.rng.below(STREAM_MAX), 1 + h.rng.below(1500));
            h.stream(Side::Client, id, pattern, size, piece_max);
            streams.push((id, pattern));
        }
        Err(ConnectError::TableFull) => {}
        Err(error) => panic!("connecting failed: {error:?}"),
    }
}

fn resume_all<W: World>(h: &mut Harness<W>, side: Side) {
    let live: Vec<ConnectionId> = h.party(side).ledger.live().collect();
    live.into_iter().for_each(|id| h.backend(side).set_receiving(id, true));
}

fn any_live<W: World>(h: &mut Harness<W>, side: Side) -> Option<ConnectionId> {
    let live: Vec<ConnectionId> = h.party(side).ledger.live().collect();
    (!live.is_empty()).then(|| live[h.rng.below(live.len())])
}

/// Touches an id that is dead.
fn stray<W: World>(h: &mut Harness<W>, side: Side) {
    let Some(id) = h.party(side).closed.keys().next_back().copied() else { return };
    let backend = h.backend(side);
    backend.close(id);
    backend.finish(id, None);
    backend.set_receiving(id, false);
    if let Some(buffer) = backend.pools().take(1) {
        let refused = backend.send(id, buffer.freeze());
        assert!(matches!(refused, Err(SendError::Closed(_))), "{id:?} is dead");
    }
}
