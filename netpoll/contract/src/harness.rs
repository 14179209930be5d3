//! Steps a world, and detects when it is stuck.

use crate::{Mode, Party, Pattern, Rng, Setup, Side, World};
use netpoll::{
    Backend, CloseReason, Completions, ConnectionId, Introspect, ListenerConfig, ListenerId, SendError,
    SharedBuffer,
};
use std::net::SocketAddr;
use std::time::Duration;

/// Steps without events that make a world quiet, unless it knows that more is under way.
const QUIET_STEPS: u32 = 5;

/// At most so many rounds close what is open at the end of a behavior: peers that waited in a
/// backlog come one table at a time.
const END_ROUNDS_MAX: u32 = 100;

/// Polls of a side that is polled alone.
const ALONE_POLLS: u32 = 50;

/// The two ids of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// On the client's backend.
    pub client: ConnectionId,
    /// On the server's backend.
    pub server: ConnectionId,
}

/// A world, its two owners, and a listener of the server.
pub struct Harness<W: World> {
    /// Both backends.
    pub world: W,
    /// Choices of the behavior.
    pub rng: Rng,
    /// The address that the server listens at.
    pub address: SocketAddr,
    parties: [Party; 2],
    batches: [Completions; 2],
    idle_steps: u32,
    /// Bytes sent and received by both sides, at the end of the last step.
    bytes_moved: u64,
    /// The world's last answer: more is under way.
    in_flight: bool,
}

impl<W: World> Harness<W> {
    /// Small backends for 16 connections each.
    pub fn small(seed: u64) -> Harness<W> {
        Harness::new(&Setup::small(16, seed))
    }

    /// A world of the sizes in `setup`, with its server listening.
    pub fn new(setup: &Setup) -> Harness<W> {
        Harness::listening(setup, |_| {})
    }

    /// The same, with the listener's settings changed by `adjust`.
    pub fn listening(setup: &Setup, adjust: impl FnOnce(&mut ListenerConfig)) -> Harness<W> {
        let mut world = W::new(setup);
        let mut config = ListenerConfig::new(world.server_address());
        adjust(&mut config);
        let (id, address) = world.backend(Side::Server).listen(&config).expect("listening");
        assert_eq!(id, ListenerId(0), "listeners are numbered from 0");
        let batch = |size: usize| Completions::with_capacity(size);
        Harness {
            world,
            rng: Rng::new(setup.seed),
            address,
            parties: [Party::default(), Party::default()],
            batches: [batch(setup.server.batch_max), batch(setup.client.batch_max)],
            idle_steps: 0,
            bytes_moved: 0,
            in_flight: false,
        }
    }

    // --- parties ---

    /// The owner of one side.
    pub fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    /// The server's owner.
    pub fn server(&mut self) -> &mut Party {
        self.party(Side::Server)
    }

    /// The client's owner.
    pub fn client(&mut self) -> &mut Party {
        self.party(Side::Client)
    }

    /// One side's backend.
    pub fn backend(&mut self, side: Side) -> &mut W::Backend {
        self.world.backend(side)
    }

    /// Gives a side's polls a batch of `capacity`, whatever its backend is configured for.
    pub fn widen_batch(&mut self, side: Side, capacity: usize) {
        self.batches[side as usize] = Completions::with_capacity(capacity);
    }

    // --- stepping ---

    /// Polls one side, waiting at most `wait`, and passes the batch to its owner. Returns how many
    /// completions there were.
    pub fn poll(&mut self, side: Side, wait: Duration) -> usize {
        let batch = &mut self.batches[side as usize];
        self.world.poll(side, wait, batch).expect("a backend that works");
        let count = batch.len();
        self.parties[side as usize].take(self.world.backend(side), batch);
        count
    }

    /// One turn of both sides, in an order drawn from the seed.
    ///
    /// # Panics
    /// If nothing has happened for far too many steps: this ends a behavior's own loops, too.
    pub fn step(&mut self) {
        let wait = if self.idle_steps > 0 { W::IDLE_WAIT } else { Duration::ZERO };
        let mut order = Side::BOTH;
        order.rotate_left(self.rng.below(2));
        let happened: usize = order.into_iter().map(|side| self.poll(side, wait)).sum();
        // Bytes that leave, or come in to be discarded, are progress without a completion.
        let moved = Side::BOTH.map(|side| self.world.backend(side).counters());
        let moved = moved.iter().map(|counters| counters.send_bytes + counters.receive_bytes).sum();
        if happened > 0 || std::mem::replace(&mut self.bytes_moved, moved) != moved {
            self.idle_steps = 0;
            return;
        }
        self.idle_steps += 1;
        assert!(self.idle_steps < 2 * W::IDLE_STEPS_MAX, "{}: waited in vain", W::NAME);
        self.in_flight = self.world.idle();
    }

    /// Steps until `done`.
    ///
    /// # Panics
    /// If nothing happens for too long; `what` names what was waited for.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Harness<W>) -> bool) {
        self.idle_steps = 0;
        while !done(self) {
            self.step();
            assert!(self.idle_steps < W::IDLE_STEPS_MAX, "{}: waited in vain for {what}", W::NAME);
        }
    }

    /// Steps until nothing more happens.
    pub fn until_quiet(&mut self) {
        self.idle_steps = 0;
        let mut idle_steps = 0;
        while idle_steps < QUIET_STEPS || self.in_flight {
            self.step();
            idle_steps = self.idle_steps;
            assert!(idle_steps < W::IDLE_STEPS_MAX, "{}: never quiet", W::NAME);
        }
    }

    /// Polls only one side, long enough for what is under way to it to arrive. The other does
    /// nothing, as a slow peer would.
    pub fn poll_alone(&mut self, side: Side) {
        for _ in 0..ALONE_POLLS {
            self.poll(side, W::IDLE_WAIT);
            self.world.idle();
        }
    }

    // --- connections ---

    /// Starts to connect to the server.
    pub fn connect(&mut self) -> ConnectionId {
        let address = self.address;
        self.connect_to(None, address)
    }

    /// Starts to connect from `local` to `remote`.
    pub fn connect_to(&mut self, local: Option<SocketAddr>, remote: SocketAddr) -> ConnectionId {
        let id = self.backend(Side::Client).connect(local, remote).expect("connecting starts");
        self.client().ledger.connecting(id);
        id
    }

    /// Connects and waits until both ends are open. Nothing else may be arriving.
    pub fn pair(&mut self) -> Pair {
        let (accepted, connected) = (self.server().accepted.len(), self.client().connected.len());
        let client = self.connect();
        self.until("a connection", |h| {
            h.server().accepted.len() > accepted && h.client().connected.len() > connected
        });
        Pair { client, server: self.server().accepted[accepted].connection }
    }

    /// `count` pairs, one after the other.
    pub fn pairs(&mut self, count: usize) -> Vec<Pair> {
        (0..count).map(|_| self.pair()).collect()
    }

    /// A frozen copy of `bytes` from the side's own pools, waiting for a block if need be.
    pub fn buffer(&mut self, side: Side, bytes: &[u8]) -> SharedBuffer {
        self.until("a free block", |h| h.backend(side).pools().take(bytes.len()).is_some());
        self.backend(side).pools().copy(bytes).expect("a block was free just now").freeze()
    }

    /// Sends `bytes` as one piece.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn send(&mut self, side: Side, id: ConnectionId, bytes: &[u8]) -> Result<(), SendError> {
        let buffer = self.buffer(side, bytes);
        self.backend(side).send(id, buffer)
    }

    /// Sends `size` bytes of `pattern` in pieces of up to `piece_max`, as the queue takes them.
    pub fn stream(&mut self, side: Side, id: ConnectionId, pattern: Pattern, size: usize, piece_max: usize) {
        self.party(side).stream(id, pattern, size, piece_max);
        let party = &mut self.parties[side as usize];
        party.flush(self.world.backend(side));
    }

    /// Waits until `side` has collected `bytes` and nothing else.
    pub fn expect(&mut self, side: Side, id: ConnectionId, bytes: &[u8]) {
        self.until("bytes", |h| h.party(side).received(id).len() >= bytes.len());
        assert!(self.party(side).received(id) == bytes, "{id:?} received what was sent");
    }

    /// Waits until `side` has collected `size` bytes of `pattern` and nothing else.
    pub fn expect_stream(&mut self, side: Side, id: ConnectionId, pattern: Pattern, size: usize) {
        self.until("a stream", |h| h.party(side).received_bytes(id) >= size);
        let received = self.party(side).received(id);
        assert_eq!(received.len(), size, "{id:?} received as much as was sent");
        pattern.check(0, received);
    }

    /// Waits for the id's `Closed` and returns its reason.
    pub fn closed(&mut self, side: Side, id: ConnectionId) -> CloseReason {
        self.until("Closed", |h| h.party(side).closed.contains_key(&id));
        self.party(side).closed[&id]
    }

    /// Closes from `side`, waits for `Closed` at both ends, and returns the reason at the other
    /// end.
    pub fn close_pair(&mut self, side: Side, pair: Pair) -> CloseReason {
        let (own, other, other_side) = match side {
            Side::Server => (pair.server, pair.client, Side::Client),
            Side::Client => (pair.client, pair.server, Side::Server),
        };
        self.backend(side).close(own);
        assert_eq!(self.closed(side, own), CloseReason::Local);
        self.closed(other_side, other)
    }

    // --- the end ---

    /// Closes every open connection and checks that nothing is left behind.
    ///
    /// # Panics
    /// If a connection is left, or a buffer is not back in its pool.
    pub fn end(mut self) {
        for side in Side::BOTH {
            self.party(side).forget();
        }
        self.backend(Side::Server).set_accepting(true);
        for _ in 0..END_ROUNDS_MAX {
            for side in Side::BOTH {
                let live: Vec<ConnectionId> = self.party(side).ledger.live().collect();
                live.into_iter().for_each(|id| self.backend(side).close(id));
            }
            self.until_quiet();
            if Side::BOTH.iter().all(|side| self.party(*side).ledger.live_count() == 0) {
                break;
            }
        }
        for side in Side::BOTH {
            let live: Vec<ConnectionId> = self.party(side).ledger.live().collect();
            assert!(live.is_empty(), "{side:?}: {live:?} never had their Closed");
        }
        for side in Side::BOTH {
            assert_eq!(self.party(side).mode, Mode::Collect);
            assert_eq!(self.backend(side).connection_count(), 0, "{side:?}: connections are left");
            let pools = self.backend(side).pools();
            assert!(pools.is_full(), "{side:?}: a buffer is missing: {:?}", pools.receive_level());
        }
    }
}
