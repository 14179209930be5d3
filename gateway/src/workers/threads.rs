//! Workers as threads: each makes its own backend (a ring belongs to the thread that made it), then they are introduced
//! to one another.
//!
//! ```text
//!   main:   spawn ───────────► wakers ◄── collect ── mailboxes ──► ports, listeners ──► wait until all listen
//!   worker:  └─ make backend ────┘                                   └─ listen ─ report ─ turn, turn, turn …
//! ```
//!
//! The first worker opens the listeners before the others, so that a port of 0 becomes the same port for all.
//!
//! A thread runs one worker, which waits in its backend, or several, which share a sleep (`gang`): thread t of T has the
//! workers t, t + T, … .

use super::gang;
use gateway_core::address::{Fingerprints, WorkerId};
use gateway_core::message::{ControlMessage, ControlSender, Message, VerifySender};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::WorkerSettings;
use gateway_core::worker::{Context, ListenError, Peers, Turn, Worker};
use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, MailboxSender, UringBackend, UringConfig, WAIT_SLOTS_MAX, Waker,
    batch_current_thread, mailbox, pin_current_thread,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which backend the workers use.
#[derive(Clone, Debug)]
pub enum BackendChoice {
    /// Readiness: epoll, a thread each: workers beyond the processors are there for the descriptors, and it is threads that can
    /// have some of their own.
    Epoll {
        /// Each has; otherwise all share those of the process.
        own_descriptors: bool,
    },
    /// Completion: io_uring, with sizes of each ring, and on how many threads; 0: each worker on its own.
    Uring(UringConfig, usize),
    /// Poll mode: a queue of a card each.
    #[cfg(feature = "dpdk")]
    Dpdk(Arc<dpdk_backend::host::Host>),
}

/// What the workers are made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One for each worker.
    pub settings: Vec<WorkerSettings>,
    /// Which backend.
    pub backend: BackendChoice,
    /// Sizes of each backend.
    pub backend_config: BackendConfig,
    /// Processors to bind threads to, in turn; empty: none.
    pub processors: Vec<usize>,
    /// Threads run under `SCHED_BATCH`.
    pub batch_scheduling: bool,
    /// How names become fingerprints.
    pub names: Fingerprints,
    /// Milliseconds since 1970, now.
    pub unix_now_ms: u64,
    /// The control thread's mailbox.
    pub control: ControlSender,
    /// The verifier's.
    pub verifier: Option<VerifySender>,
}

/// The running workers.
#[derive(Debug)]
pub struct Threads {
    /// Their mailboxes.
    pub senders: Vec<MailboxSender<Message>>,
    /// Their places for fan-outs.
    pub places: Arc<FanoutPlaces>,
    /// Their counts.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// Where they listen, in the order of the settings.
    pub addresses: Vec<SocketAddr>,
    /// What each one's backend runs with, in words; empty where there is nothing to choose.
    pub backends: Vec<String>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// As a started gateway keeps them.
    pub(super) fn into_started(self) -> crate::start::StartedWorkers {
        let backend = self.backend_text();
        let Threads { senders, places, metrics, addresses, handles, .. } = self;
        crate::start::StartedWorkers {
            senders,
            places,
            metrics,
            addresses,
            backend,
            capture: None,
            port: None,
            threads: handles,
        }
    }

    /// What the backends run with, equal ones together; `None` where there is nothing to say.
    fn backend_text(&self) -> Option<String> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for text in self.backends.iter().filter(|text| !text.is_empty()) {
            match counts.iter_mut().find(|(other, _)| other == text) {
                Some((_, count)) => *count += 1,
                None => counts.push((text, 1)),
            }
        }
        let parts: Vec<String> = counts.iter().map(|(text, count)| format!("{count} × {text}")).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Waits until all workers have ended.
    ///
    /// # Errors
    /// When one of them panicked.
    pub fn join(self) -> io::Result<()> {
        let ends = self.handles.into_iter().map(JoinHandle::join);
        match ends.filter(Result::is_err).count() {
            0 => Ok(()),
            count => Err(io::Error::other(format!("{count} workers panicked; their messages are above"))),
        }
    }
}

/// Why the workers could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// A listener could not be opened.
    Listen(ListenError),
    /// A backend or a thread could not be made.
    System(io::Error),
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpawnError::Listen(error) => error.fmt(f),
            SpawnError::System(error) => write!(f, "a worker cannot be made: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {}

/// What a worker is given once all backends exist.
struct Introduction {
    mailbox: netpoll::Mailbox<Message>,
    peers: Peers,
    settings: WorkerSettings,
}

/// A backend was made: its waker, and what it runs with.
type Made = (Waker, String);

type Listening = Result<Vec<SocketAddr>, SpawnError>;

/// Starts `plan.settings.workers` workers and returns when all listen. Whoever calls it has made sure that no other process
/// has their ports ([`gateway_control::ports::Claims`]): `SO_REUSEPORT` would share them unnoticed.
///
/// # Errors
/// [`SpawnError`]; the threads that were started have ended then.
pub fn spawn(plan: &Plan) -> Result<Threads, SpawnError> {
    let Some(first) = plan.settings.first() else { return Err(ended_early()) };
    let count = plan.settings.len();
    let metrics: Vec<_> = (0..count).map(|_| Arc::new(WorkerMetrics::default())).collect();
    let seats = metrics.iter().enumerate().map(|(index, metrics)| seat(WorkerId(index as u8), metrics));
    let (starting, mut seats): (Vec<_>, Vec<_>) = seats.unzip();
    if matches!(plan.backend, BackendChoice::Epoll { own_descriptors: true }) {
        // Before the first thread leaves the process's table, so that every thread's has them all.
        for seat in &mut seats {
            seat.waker = Some(Waker::event_fd().map_err(SpawnError::System)?);
        }
    }
    let handles = start_threads(plan, seats)?;
    let mut wakers = Vec::with_capacity(count);
    let mut backends = Vec::with_capacity(count);
    for worker in &starting {
        let (waker, description) =
            worker.wakers.recv().map_err(|_| ended_early())?.map_err(SpawnError::System)?;
        wakers.push(waker);
        backends.push(description);
    }
    let capacity = first.tables.mailbox_capacity;
    let places = Arc::new(FanoutPlaces::new(count, first.tables.fanouts()));
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        wakers.into_iter().map(|waker| mailbox(capacity, waker)).unzip();
    let mut addresses = vec![];
    for ((worker, mailbox), settings) in starting.iter().zip(mailboxes).zip(&plan.settings) {
        let mut settings = settings.clone();
        for (listener, address) in settings.listeners.iter_mut().zip(&addresses) {
            listener.socket.address = *address;
        }
        let peers = Peers {
            workers: senders.clone(),
            control: plan.control.clone(),
            places: Arc::clone(&places),
            verifier: plan.verifier.clone(),
        };
        let introduction = Introduction { mailbox, peers, settings };
        worker.introductions.send(introduction).map_err(|_| ended_early())?;
        addresses = worker.listening.recv().map_err(|_| ended_early())??;
    }
    Ok(Threads { senders, places, metrics, addresses, backends, handles })
}

fn ended_early() -> SpawnError {
    SpawnError::System(io::Error::other("a worker ended while starting; its message is above"))
}

/// The spawner's ends of the channels that are used while a worker starts.
struct Starting {
    wakers: Receiver<io::Result<Made>>,
    introductions: Sender<Introduction>,
    listening: Receiver<Listening>,
}

/// A worker before it has a backend: its number, and its thread's ends of the same channels.
pub(super) struct Seat {
    id: WorkerId,
    metrics: Arc<WorkerMetrics>,
    /// With descriptors of its own: made for it already.
    waker: Option<Waker>,
    wakers: Sender<io::Result<Made>>,
    introductions: Receiver<Introduction>,
    listening: Sender<Listening>,
}

fn seat(id: WorkerId, metrics: &Arc<WorkerMetrics>) -> (Starting, Seat) {
    let (waker_sender, wakers) = channel();
    let (introduction_sender, introductions) = channel();
    let (listening_sender, listening) = channel();
    let seat = Seat {
        id,
        metrics: Arc::clone(metrics),
        waker: None,
        wakers: waker_sender,
        introductions,
        listening: listening_sender,
    };
    (Starting { wakers, introductions: introduction_sender, listening }, seat)
}

/// Deals the seats to threads, in turn.
fn start_threads(plan: &Plan, seats: Vec<Seat>) -> Result<Vec<JoinHandle<()>>, SpawnError> {
    let count = match plan.backend {
        BackendChoice::Uring(_, threads) if threads > 0 => {
            threads.clamp(seats.len().div_ceil(WAIT_SLOTS_MAX), seats.len())
        }
        _ => seats.len(),
    };
    let mut hands: Vec<Vec<Seat>> = (0..count).map(|_| Vec::new()).collect();
    for (index, seat) in seats.into_iter().enumerate() {
        hands[index % count].push(seat);
    }
    let threads = hands.into_iter().enumerate();
    threads.map(|(number, seats)| start_thread(plan, number, seats)).collect()
}

fn start_thread(plan: &Plan, number: usize, seats: Vec<Seat>) -> Result<JoinHandle<()>, SpawnError> {
    let plan = plan.clone();
    let body = move || {
        if let Some(processor) = plan.processors.get(number % plan.processors.len().max(1)) {
            let _ = pin_current_thread(*processor); // a processor that is gone only costs locality
        }
        if plan.batch_scheduling {
            let _ = batch_current_thread(); // the control thread, under the same policy, says so where it is refused
        }
        match &plan.backend {
            BackendChoice::Epoll { .. } => seats.into_iter().for_each(|seat| {
                let backend = match &seat.waker {
                    Some(waker) => own_descriptors(&plan.backend_config, waker.clone()),
                    None => EpollBackend::new(&plan.backend_config),
                };
                run(&plan, seat, backend, |_| String::new());
            }),
            BackendChoice::Uring(uring, _) if seats.len() > 1 => {
                let backend = || UringBackend::new(&plan.backend_config, uring);
                gang::run(&plan, seats, backend, UringBackend::description);
            }
            BackendChoice::Uring(uring, _) => seats.into_iter().for_each(|seat| {
                let backend = UringBackend::new(&plan.backend_config, uring);
                run(&plan, seat, backend, UringBackend::description);
            }),
            #[cfg(feature = "dpdk")]
            BackendChoice::Dpdk(port) => seats.into_iter().for_each(|seat| match port.enter() {
                Ok(_known_to_dpdk) => {
                    let engine = dpdk_backend::backend::PollConfig::engine(&plan.backend_config);
                    let backend = port.backend(seat.id.index(), &plan.backend_config, engine);
                    run(&plan, seat, backend, |_| port.describe());
                }
                Err(error) => drop(seat.wakers.send(Err(error))), // the spawner reports it
            }),
        }
    };
    netpoll::spawn_thread(format!("worker-{number}"), body).map_err(SpawnError::System)
}

/// A backend whose descriptors are this thread's alone.
#[allow(unsafe_code)]
fn own_descriptors(config: &BackendConfig, waker: Waker) -> io::Result<EpollBackend> {
    // SAFETY: a worker's thread opens sockets only, in its backend, which never leaves it; messages between workers and the
    // control thread carry no descriptors. Wakers were made before, and the spawner holds them for longer than the threads live.
    unsafe { EpollBackend::with_own_descriptors(config, waker) }
}

/// A worker alone on its thread, from start to end.
fn run<B: Backend>(plan: &Plan, seat: Seat, backend: io::Result<B>, describe: impl FnOnce(&B) -> String) {
    let Some(backend) = seat.show(backend, describe) else { return };
    let Some(mut employed) = seat.employ(plan, backend) else { return };
    loop {
        let turned = employed.worker.turn(Duration::from_secs(1));
        if !employed.goes_on(turned) {
            return;
        }
    }
}

impl Seat {
    /// Tells the spawner of the backend, or why there is none.
    pub(super) fn show<B: Backend>(
        &self,
        backend: io::Result<B>,
        describe: impl FnOnce(&B) -> String,
    ) -> Option<B> {
        match backend {
            Ok(backend) => {
                let _ = self.wakers.send(Ok((backend.waker(), describe(&backend))));
                Some(backend)
            }
            Err(error) => {
                let _ = self.wakers.send(Err(error)); // the spawner reports it
                None
            }
        }
    }

    /// Waits to be introduced to the other workers, makes the worker and says where it listens. `None`: the start failed.
    pub(super) fn employ<B: Backend>(self, plan: &Plan, backend: B) -> Option<Employed<B>> {
        let Seat { id, metrics, introductions, listening, .. } = self;
        let Introduction { mailbox, peers, settings } = introductions.recv().ok()?;
        let unix_start_ms = plan.unix_now_ms.saturating_sub(backend.now().as_millis());
        let context = Context { id, settings, names: plan.names, unix_start_ms };
        let control = peers.control.clone();
        match Worker::new(context, backend, mailbox, peers, metrics) {
            Ok(worker) => {
                let _ = listening.send(Ok(worker.addresses().to_vec()));
                Some(Employed { id, worker, control })
            }
            Err(error) => {
                let _ = listening.send(Err(SpawnError::Listen(error)));
                None
            }
        }
    }
}

/// A worker that turns.
pub(super) struct Employed<B: Backend> {
    id: WorkerId,
    pub(super) worker: Worker<B>,
    control: ControlSender,
}

impl<B: Backend> Employed<B> {
    /// Whether there is a further turn after one that ended like this; if not, the control thread is told.
    pub(super) fn goes_on(&self, turned: io::Result<Turn>) -> bool {
        match turned {
            Ok(Turn::Running) => return true,
            Ok(Turn::Stopped) => {
                if cfg!(debug_assertions) {
                    self.worker.invariants();
                }
            }
            Err(error) => tracing::error!("worker {} ends, its backend is unusable: {error}", self.id.0),
        }
        // A full mailbox means that the control thread is gone or very late; it also sees the thread's end.
        let _ = self.control.send(ControlMessage::Stopped(self.id));
        false
    }
}
