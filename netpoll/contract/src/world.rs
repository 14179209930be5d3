//! What a backend brings to be tested.

use netpoll::{Backend, BackendConfig, Completions, Handover};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// One of the two backends of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The side that listens.
    Server,
    /// The side that connects.
    Client,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Side; 2] = [Side::Server, Side::Client];
}

/// Sizes of both backends, and the seed of all choices.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The server's sizes.
    pub server: BackendConfig,
    /// The client's sizes.
    pub client: BackendConfig,
    /// Seed of all choices: the order of polls, the sizes of pieces, a simulated network's faults.
    pub seed: u64,
}

impl Setup {
    /// Small backends for `connections_max` connections each.
    pub fn small(connections_max: usize, seed: u64) -> Setup {
        let config = BackendConfig::small(connections_max);
        Setup { server: config.clone(), client: config, seed }
    }
}

/// Two backends of one kind that can reach each other.
pub trait World: Sized {
    /// The kind of backend.
    type Backend: Backend;

    /// The backend's name in messages.
    const NAME: &'static str;
    /// Each behavior runs once per seed.
    const SEEDS: &'static [u64] = &[1];
    /// Behaviors that this world is known not to keep yet. Each must fail: a change that mends it
    /// removes it from the list.
    const GAPS: &'static [&'static str] = &[];
    /// How long a step after a step without events waits in each backend. Zero where
    /// [`World::idle`] lets time pass instead.
    const IDLE_WAIT: Duration = Duration::from_millis(1);
    /// Steps in a row without events after which a behavior has failed.
    const IDLE_STEPS_MAX: u32 = 3_000;
    /// Whether a wait takes real time, so that another thread can end it.
    const REAL_TIME: bool = true;

    /// Whether a window bounds how fast bytes come that are discarded, and time does not.
    const DISCARDS_BY_WINDOW: bool = false;

    /// Makes both backends.
    fn new(setup: &Setup) -> Self;

    /// One of the backends.
    fn backend(&mut self, side: Side) -> &mut Self::Backend;

    /// Polls one of the backends. A world with a clock of its own lets the time of the wait pass
    /// here.
    ///
    /// # Errors
    /// Those of [`Backend::poll`]; the suite expects none.
    fn poll(&mut self, side: Side, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        self.backend(side).poll(wait, batch)
    }

    /// Called when neither side had events. A world without a kernel lets its network move on; true
    /// means that more is under way.
    fn idle(&mut self) -> bool {
        false
    }

    /// The address that the server listens at; port 0 lets the backend choose.
    fn server_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// An address that clients may connect from, different from the server's; port 0.
    fn client_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 2], 0))
    }

    /// An address of the server's without a listener.
    fn vacant_address(&mut self) -> SocketAddr {
        let probe = std::net::TcpListener::bind(self.server_address()).expect("a free port");
        probe.local_addr().expect("a bound socket has an address")
    }
}

/// A world with backends that can pass their connections to a successor.
pub trait SuccessorWorld: World<Backend: Handover> {
    /// A fresh backend for a side, of the sizes in `setup`, which can reach the other side.
    fn successor(&mut self, side: Side, setup: &Setup) -> Self::Backend;

    /// Puts `backend` in place of a side's, and returns the old one.
    fn replace(&mut self, side: Side, backend: Self::Backend) -> Self::Backend {
        std::mem::replace(self.backend(side), backend)
    }
}
