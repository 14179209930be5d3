//! One shard of the gateway: its turn on a thread, its backend, its connections, and its share of the directory.
//!
//! A turn, top to bottom:
//!
//! ```text
//!   wait ─► batch of completions ─► frames ─► handlers ─► router ─► sends queued at the backend
//!           then: messages from other workers, a slice of the fan-outs, due timers, outgoing messages
//!   the next wait begins by handing the queued sends to the kernel, one write a connection
//! ```
//!
//! Everything in a turn is bounded: completions by the batch, messages, deliveries and timers by a number each. Time is
//! read once a turn, from the backend.

mod encoder;
mod inspect;
mod invariants;
mod late;
mod memory;
mod outbox;
mod parting;
mod post;
mod publish;
mod silence;
mod sweep;
mod turn;

pub use encoder::{Encoder, Framed, rewrite_in_place};
pub use memory::{Reservation, SIZES, memory_plan, session_bytes};
pub use post::{Ports, Post};
pub(crate) use sweep::SWEEPS_MAX;

use crate::address::{Address, Fingerprints, WorkerId};
use crate::alloc_guard::thread_allocations;
use crate::handler::{Admissions, EchoConnections, Held, Lingering, Refusals, Reserve};
use crate::memory::Told;
use crate::message::{Message, PendingLogins};
use crate::metrics::WorkerMetrics;
use crate::router::{Directory, FanoutPlaces, Fanouts, Rooms, Sums, rooms};
use crate::session::Sessions;
use crate::session::flow::Allowance;
use crate::session::text::TextStore;
use crate::settings::{Reloadable, TableSizes, WorkerSettings};
use netpoll::{Backend, Completions, ConnectionId, Fifo, Mailbox, SharesThread, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is the same for a worker from start to end, but for what a reload brings.
#[derive(Debug)]
pub struct Context {
    /// Which worker this is.
    pub id: WorkerId,
    /// What it was told.
    pub settings: WorkerSettings,
    /// How names become fingerprints: the same on all workers.
    pub names: Fingerprints,
    /// Milliseconds since 1970 at the zero of the backend's clock.
    pub unix_start_ms: u64,
}

/// The shard's state: who is here, and what of the directory is kept here.
#[derive(Debug)]
pub struct Shard {
    /// Connections.
    pub sessions: Sessions,
    /// Keys, user ids, names of rooms.
    pub texts: TextStore,
    /// Rooms.
    pub rooms: Rooms,
    /// Users and keys whose home this is.
    pub directory: Directory,
    /// Messages on their way to many.
    pub fanouts: Fanouts,
    /// Outcomes that hosts report one by one.
    pub sums: Sums,
    /// Connections kept for a moment after their last word.
    pub lingering: Lingering,
}

impl Shard {
    /// Reserves all tables.
    fn with_capacity<B: Backend>(
        (me, places): (WorkerId, Arc<FanoutPlaces>),
        tables: &TableSizes,
        workers: usize,
        backend: &mut B,
    ) -> Shard {
        // A backend has more indexes than connections where some are for accepts in flight.
        let connections = tables.connections_max;
        let names_max = rooms::hosted_max(tables.rooms_max, workers);
        let texts = TextStore::with_capacity(tables.text_cells_max, 2 * connections, names_max);
        Shard {
            sessions: Sessions::with_capacity(
                backend.index_bound(),
                tables.accept_sets_max,
                backend.pools().block_count(),
            ),
            rooms: Rooms::with_capacity(tables.rooms_max, tables.memberships_max, workers)
                .for_connections(connections, texts.room_names_max()),
            texts,
            directory: Directory::with_capacity(tables.names_max),
            fanouts: Fanouts::with_capacity(tables.fanouts(), me, places),
            sums: Sums::with_capacity(tables.sums_max()),
            lingering: Lingering::with_capacity(tables.connections_max),
        }
    }
}

/// A draining worker's progress.
#[derive(Clone, Copy, Debug)]
struct Drain {
    started: Timestamp,
    over: Duration,
    /// Slots visited so far, and slots to visit.
    cursor: usize,
    slots: usize,
}

/// One worker. Its thread calls [`Worker::turn`] until it returns [`Turn::Stopped`].
pub struct Worker<B: Backend> {
    pub(crate) context: Context,
    addresses: Vec<SocketAddr>,
    pub(crate) backend: B,
    batch: Completions,
    mailbox: Mailbox<Message>,
    pub(crate) post: Post,
    /// Connections left unread while what they post has to wait.
    pub(crate) held: Held,
    pub(crate) shard: Shard,
    pub(crate) encoder: Encoder,
    pub(crate) echo: EchoConnections,
    /// Connections found too slow while something was iterated over; closed right after.
    pub(crate) slow: Vec<ConnectionId>,
    /// What flooded receivers still get of pushes to many.
    pub(crate) reserve: Reserve,
    drain: Option<Drain>,
    /// Kicks of many that are under way.
    sweeps: Fifo<sweep::Sweep>,
    parting: parting::Parting,
    silence: silence::Silence,
    pub(crate) pace: Pace,
    pub(crate) reloadable: Arc<Reloadable>,
    /// What a connection may send that shares its user's rate with none.
    pub(crate) lone_allowance: Allowance,
    /// Tokens that the verifier has, and whose verdicts come to this worker's mailbox.
    pub(crate) verdicts: Arc<PendingLogins>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Heap allocations so far; the thread's own count has those of other workers in it.
    allocations: u64,
}

/// Times and flags that a turn goes by.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) now: Timestamp,
    lateness: late::Lateness,
    /// When the rooms' totals are told next.
    totals_due: Timestamp,
    /// When the metrics are written next.
    publish_due: Timestamp,
    /// When the last turn ended with accepting paused, for the table is full.
    full_at: Option<Timestamp>,
    /// Receives handled in this turn.
    pub(crate) receives: u64,
    /// When frames that have not come whole are looked at next.
    pub(crate) frames_due: Timestamp,
    /// The last slice of the fan-outs made nothing: all of them go at rates of their own.
    pub(crate) fanouts_rest: bool,
    /// How near the end of memory is.
    pub(crate) memory: Told,
    /// The reading for which slow consumers were closed last.
    pub(crate) memory_served: u32,
    /// Connections taken on since the last reading of memory.
    pub(crate) admissions: Admissions,
    /// When relief looks for connections to close next, after it found none.
    pub(crate) relief_due: Timestamp,
    /// When this worker asks for blocks of its own pools next.
    pub(crate) blocks_due: Timestamp,
    /// Since when no receive buffer has been left, and nothing was received.
    pub(crate) dry_since: Option<Timestamp>,
    /// Requests of other owners for their blocks that were served, when the next ones may be, and whether the last were any.
    pub(crate) block_requests: u32,
    pub(crate) requests_due: Timestamp,
    pub(crate) knows_requests: bool,
    /// A connection is being closed for a shortage: its last word makes no others go.
    pub(crate) relieves: bool,
    /// Where in the backend's list of the waiting it goes on.
    pub(crate) relief_cursor: usize,
    /// Entries and pieces that it has looked at in this turn.
    pub(crate) relief_looks: usize,
    /// Connections refused with a reason lately.
    pub(crate) refusals: Refusals,
    /// When a connection that speaks another protocol is reported next.
    pub(crate) foreign_due: Timestamp,
}

impl Pace {
    fn new(now: Timestamp) -> Pace {
        Pace {
            now,
            lateness: late::Lateness::new(now),
            totals_due: now,
            publish_due: now,
            frames_due: now,
            full_at: None,
            receives: 0,
            fanouts_rest: false,
            memory: Told::default(),
            memory_served: 0,
            admissions: Admissions::default(),
            relief_due: now,
            blocks_due: now,
            dry_since: None,
            block_requests: 0,
            requests_due: now,
            knows_requests: false,
            relieves: false,
            relief_cursor: 0,
            relief_looks: 0,
            refusals: Refusals::default(),
            foreign_due: now,
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call again.
    Running,
    /// The worker was told to stop and has no connection left.
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
        mailbox: Mailbox<Message>,
        ports: Ports,
        metrics: Arc<WorkerMetrics>,
    ) -> Result<Worker<B>, ListenError> {
        let allocations_before = thread_allocations();
        let mut addresses = Vec::with_capacity(context.settings.listeners.len());
        for listener in &context.settings.listeners {
            let (_, address) = backend.listen(&listener.socket).map_err(|error| ListenError {
                listener: listener.name.clone(),
                address: listener.socket.address,
                error,
            })?;
            addresses.push(address);
        }
        let tables = context.settings.tables;
        let places = (context.id, Arc::clone(&ports.places));
        let shard = Shard::with_capacity(places, &tables, context.settings.workers, &mut backend);
        let now = backend.now();
        let mut worker = Worker {
            post: Post::new(context.id, ports, tables.mailbox_capacity),
            held: Held::with_capacity(tables.mailbox_capacity),
            batch: Completions::with_capacity(context.settings.completions_per_turn_max),
            encoder: Encoder::default(),
            echo: EchoConnections::default(),
            slow: Vec::with_capacity(context.settings.fanout_slice.max(64)),
            reserve: Reserve::new(),
            drain: None,
            sweeps: Fifo::with_capacity(sweep::SWEEPS_MAX),
            parting: parting::Parting::default(),
            silence: silence::Silence::default(),
            pace: Pace::new(now),
            lone_allowance: Allowance::new(&context.settings.reloadable.rate, 1),
            reloadable: Arc::new(context.settings.reloadable.clone()),
            verdicts: PendingLogins::new(Arc::clone(&context.settings.verifying)),
            context,
            addresses,
            backend,
            mailbox,
            shard,
            metrics,
            allocations: 0,
        };
        worker.allocations = thread_allocations() - allocations_before;
        Ok(worker)
    }

    /// The worker's name for a connection of its own.
    pub(crate) fn address(&self, connection: ConnectionId) -> Address {
        Address::new(self.context.id, connection)
    }

    /// Where it listens, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The backend, for tests and simulations.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The shard's state, for tests and simulations.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Whether nothing waits for a further turn: no message in or out, no fan-out. For tests and simulations.
    pub fn is_settled(&self) -> bool {
        self.mailbox.is_empty()
            && !self.post.has_any()
            && self.held.is_empty()
            && self.shard.fanouts.is_empty()
    }

    /// Begins, between two turns, the wait that a thread would begin in the next one: declares to the mailbox that the
    /// worker sleeps, and returns for how long it would. For simulations, whose backend never waits inside a turn, and for
    /// threads with several workers.
    pub fn doze(&mut self, wait: Duration) -> Duration {
        let wait = self.wait_time(wait);
        let wait = if !wait.is_zero() && self.mailbox.prepare_sleep() { wait } else { Duration::ZERO };
        self.pace.lateness.expect(self.pace.now + wait);
        wait
    }
}

impl<B: SharesThread> Worker<B> {
    /// Ends a time of turns: submits what they queued, declares to the mailbox that the worker sleeps, and returns for how
    /// long it would.
    ///
    /// # Errors
    /// Those of the backend's submission.
    pub fn rest(&mut self, wait: Duration) -> std::io::Result<Duration> {
        let before = thread_allocations();
        let wait = self.doze(wait);
        let settled = self.backend.flush_before_wait(wait);
        self.allocations += thread_allocations() - before;
        settled
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
