//! A worker: one thread's turns over its backend, its connections, and its part of the directory.
//!
//! A turn, top to bottom:
//!
//! ```text
//!   wait ─► batch of completions ─► frames ─► handlers ─► router ─► sends queued at the backend
//!           then: messages of other workers, a slice of the fan-outs, due timers, messages out
//!   the next wait begins by handing the queued sends to the kernel, one write a connection
//! ```
//!
//! Everything in a turn is bounded: completions by the batch, messages, deliveries and timers by a
//! number each. Time is read once a turn, from the backend.
//!
//! `Handler` has what frames and messages may touch; the worker adds what belongs to the turn
//! itself.

mod drain;
mod idle_trim;
mod invariants;
mod lifecycle;
mod memory;
mod publication;
mod publish;
mod shutdown;
mod sweep;
mod turn;

pub use crate::context::Context;
pub use crate::outbox::{Outbox, Peers};
pub use crate::shard::Shard;
pub use memory::{Reservation, SIZES, memory_plan, session_bytes};
pub use sweep::SWEEPS_MAX;

use crate::alloc_guard::thread_allocations;
use crate::handler::Handler;
use crate::io::Io;
use crate::message::Message;
use crate::metrics::WorkerMetrics;
use lifecycle::Lifecycle;
use netpoll::{Backend, Completions, Mailbox, SharesThread};
use publication::Publication;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One worker. Its thread calls [`Worker::turn`] until it returns [`Turn::Stopped`].
pub struct Worker<B: Backend> {
    handler: Handler<B>,
    inbox: Mailbox<Message>,
    batch: Completions,
    lifecycle: Lifecycle,
    publication: Publication,
    addresses: Vec<SocketAddr>,
    /// Heap allocations so far; the thread's own count has those of other workers in it.
    allocations: u64,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call again.
    Running,
    /// The worker was asked to stop and has no connection left.
    Stopped,
}

impl<B: Backend> Worker<B> {
    /// Opens the listeners on `backend` and reserves all tables.
    ///
    /// # Errors
    /// What the system says to a listener, with the listener's name.
    pub fn new(
        context: Context,
        mut backend: B,
        inbox: Mailbox<Message>,
        peers: Peers,
        metrics: Arc<WorkerMetrics>,
    ) -> Result<Worker<B>, ListenError> {
        let allocations_before = thread_allocations();
        let addresses = listen(&context, &mut backend)?;
        let tables = context.settings.tables;
        let places = (context.id, Arc::clone(&peers.places));
        let shard = Shard::with_capacity(places, &tables, context.settings.workers, &mut backend);
        let outbox = Outbox::new(context.id, peers, tables.mailbox_capacity);
        let batch = Completions::with_capacity(context.settings.completions_per_turn_max);
        let now = backend.now();
        let io = Io::new(backend, metrics);
        let mut worker = Worker {
            handler: Handler::new(context, io, outbox, shard),
            inbox,
            batch,
            lifecycle: Lifecycle::new(),
            publication: Publication::new(now),
            addresses,
            allocations: 0,
        };
        worker.allocations = thread_allocations() - allocations_before;
        Ok(worker)
    }

    /// Where it listens, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The backend, for tests and simulations.
    pub fn backend(&mut self) -> &mut B {
        self.handler.io.backend_mut()
    }

    /// The shard's state, for tests and simulations.
    pub fn shard(&self) -> &Shard {
        &self.handler.shard
    }

    /// Whether nothing waits for a further turn: no message in or out, no fan-out. For tests and
    /// simulations.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty()
            && !self.handler.outbox.has_any()
            && self.handler.held.is_empty()
            && self.handler.turn.backlog.is_empty()
            && self.handler.shard.fanouts.is_empty()
    }

    /// Begins, between two turns, the wait that a thread would begin in the next one: declares to
    /// the mailbox that the worker sleeps, and returns for how long it would. For simulations,
    /// where no backend waits inside a turn, and for threads with several workers.
    pub fn begin_wait(&mut self, wait: Duration) -> Duration {
        let wait = self.wait_time(wait);
        let wait = if !wait.is_zero() && self.inbox.prepare_sleep() { wait } else { Duration::ZERO };
        self.handler.turn.lateness.expect(self.handler.turn.now + wait);
        wait
    }
}

/// Opens the listeners of the settings, in their order.
fn listen<B: Backend>(context: &Context, backend: &mut B) -> Result<Vec<SocketAddr>, ListenError> {
    let listeners = context.settings.listeners.iter();
    let opened = listeners.map(|listener| {
        let (_, address) = backend.listen(&listener.socket).map_err(|error| ListenError {
            listener: listener.name.clone(),
            address: listener.socket.address,
            error,
        })?;
        Ok(address)
    });
    opened.collect()
}

impl<B: SharesThread> Worker<B> {
    /// Ends a time of turns: submits what they queued, declares to the mailbox that the worker
    /// sleeps, and returns for how long it would.
    ///
    /// # Errors
    /// Those of the backend's submission.
    pub fn flush_and_wait(&mut self, wait: Duration) -> std::io::Result<Duration> {
        let before = thread_allocations();
        let wait = self.begin_wait(wait);
        let flushed = self.handler.io.flush_before_wait(wait);
        self.allocations += thread_allocations() - before;
        flushed
    }
}

/// A listener could not be opened.
#[derive(Debug)]
pub struct ListenError {
    /// Its name in the configuration.
    pub listener: String,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the system said.
    pub error: std::io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "listener '{}' cannot listen on {}: {}", self.listener, self.address, self.error)?;
        match self.error.kind() {
            std::io::ErrorKind::AddrInUse => {
                f.write_str("; another process has the port (`ss -ltnp` names it)")
            }
            std::io::ErrorKind::PermissionDenied => {
                f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                f.write_str("; no interface of this machine has the address")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}
