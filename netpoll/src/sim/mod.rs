//! A network in one thread, drawn from one seed.
//!
//! ```text
//!   harness ── step() ──► "backend 3"          SimNetwork: virtual clock, events, links, listeners
//!      │                                            ▲  connect, accept, send, receive, close
//!      └── worker 3's turn ── poll, send, close ──► SimBackend ── SendQueue, BufferPools, table
//! ```
//!
//! **Time.** The clock is virtual, is shared by all backends of a network and stands still while
//! code runs. [`SimBackend::poll`](crate::Backend::poll) never moves it: a poll reports what is
//! there *now*, notes until when its owner would have slept (`wait`), and returns at once.
//! [`SimNetwork::step`] is the scheduler. It picks, by the seed, one backend among those that have
//! ready sockets, that have work left or whose wait is over. When there is none, it lets time pass
//! to the next event or the next end of a wait. A harness is therefore this loop:
//!
//! ```text
//!   while let Some(number) = network.step() { workers[number].turn(); check(); }
//! ```
//!
//! `step` returns `None` when nothing will ever happen again: no event is under way and no wait
//! ends. Code that waits in place, as a thread would, calls [`SimNetwork::sleep`].
//!
//! **Wake-ups.** A [`Waker`](crate::Waker) makes its backend due, from any thread. A mailbox wakes
//! only a consumer that has declared its sleep, and to the mailbox a poll that has returned is
//! awake although its backend sleeps on. After each turn the harness therefore
//! [`nudge`](SimNetwork::nudge)s every backend whose mailbox is not empty.
//!
//! **The wire.** A connection is two pipes of limited size. What is written is under way for
//! `latency` plus a drawn jitter, arrives in order, and stays there until it is read. A FIN goes
//! behind the bytes. So does a reset, and what had not arrived then is lost. Closing over unread
//! bytes resets, writing to a socket that is gone is answered by a reset, and a listener's backlog
//! is bounded, as in the kernel.
//!
//! **Faults.** [`FaultConfig`] says how often what goes wrong. All choices come from the network's
//! one seed, in the order in which the harness runs the code: the same program with the same seed
//! does the same, byte for byte, and [`SimNetwork::trace_hash`] proves it. [`SimNetwork::trace`]
//! shows a failing seed's last events.

mod backend;
mod core;
mod faults;
mod handover;
mod link;
mod rng;
mod slot;
mod socket;
#[cfg(test)]
mod tests;
mod trace;

pub use backend::SimBackend;
pub use faults::FaultConfig;
#[doc(hidden)]
pub use faults::Mutation;
pub use handover::SimSocket;
pub use rng::Rng;
pub use trace::TraceEvent;

use self::core::Core;
use crate::{BackendConfig, Timestamp};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A network and its clock. Clones are the same network.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    core: Rc<RefCell<Core>>,
}

impl SimNetwork {
    /// A network without backends, with every choice drawn from `seed`.
    pub fn new(seed: u64, faults: FaultConfig) -> SimNetwork {
        SimNetwork { core: Rc::new(RefCell::new(Core::new(seed, faults))) }
    }

    /// The same with a clock that begins at `start`, however far.
    pub fn starting_at(start: Timestamp, seed: u64, faults: FaultConfig) -> SimNetwork {
        let network = SimNetwork::new(seed, faults);
        network.core.borrow_mut().now = start.as_nanos();
        network
    }

    /// Adds a backend; backends are numbered from 0.
    ///
    /// # Errors
    /// Those of [`crate::BufferPools::new`].
    pub fn backend(&self, config: &BackendConfig) -> io::Result<SimBackend> {
        SimBackend::new(Rc::clone(&self.core), config)
    }

    /// The number of the backend that has the next turn; lets time pass until there is one. `None`
    /// when nothing will ever happen again.
    #[allow(clippy::should_implement_trait)]
    pub fn step(&self) -> Option<usize> {
        self.core.borrow_mut().step()
    }

    /// Lets time pass until the next event, at most `limit`, whichever backend is due.
    pub fn advance(&self, limit: Duration) {
        self.core.borrow_mut().advance(limit);
    }

    /// Lets time pass until `backend` is due: it has ready sockets or work left, or the wait of its
    /// last poll is over.
    pub fn sleep(&self, backend: &SimBackend) {
        self.core.borrow_mut().sleep(backend.number());
    }

    /// Makes the backend of that number due.
    ///
    /// # Panics
    /// If there is none.
    pub fn nudge(&self, number: usize) {
        self.core.borrow_mut().hosts[number].woken = true;
    }

    /// Replaces the wait of the last poll of the backend of that number by `wait`: its owner has
    /// had work since, and would begin another wait now.
    ///
    /// # Panics
    /// If there is none.
    pub fn set_wait(&self, number: usize, wait: Duration) {
        let mut core = self.core.borrow_mut();
        core.hosts[number].deadline = core.now.saturating_add(core::nanos(wait));
    }

    /// Whether nothing is under way and no backend has ready sockets or work left. Waits may still
    /// be running.
    pub fn is_quiet(&self) -> bool {
        self.core.borrow().is_quiet()
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.core.borrow().now)
    }

    /// Connections that exist in the network, those under way to a backlog included.
    pub fn link_count(&self) -> usize {
        self.core.borrow().links.len()
    }

    /// A hash of everything that has happened.
    pub fn trace_hash(&self) -> u64 {
        self.core.borrow().trace.hash()
    }

    /// Keeps the last `count` events for [`SimNetwork::trace`].
    pub fn keep_trace(&self, count: usize) {
        self.core.borrow_mut().trace.keep(count);
    }

    /// The events that were kept, oldest first.
    pub fn trace(&self) -> Vec<TraceEvent> {
        self.core.borrow().trace.events()
    }

    /// Puts a bug in, for tests of checkers.
    #[doc(hidden)]
    pub fn mutate(&self, mutation: Mutation) {
        self.core.borrow_mut().mutation = Some(mutation);
    }
}
