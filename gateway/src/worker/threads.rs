//! Workers as threads: each makes its own backend (a ring belongs to the thread that made it), then they are introduced
//! to one another.
//!
//! ```text
//!   main:   spawn ───────────► wakers ◄── collect ── mailboxes ──► ports, listeners ──► wait until all listen
//!   worker:  └─ make backend ────┘                                   └─ listen ─ report ─ turn, turn, turn …
//! ```
//!
//! The first worker opens the listeners before the others, so that a port of 0 becomes the same port for all.

use super::message::{ControlMessage, Message};
use super::{Context, ListenError, Ports, Turn, Worker};
use crate::address::{Fingerprints, WorkerId};
use crate::auth::VerifySender;
use crate::control::ControlSender;
use crate::metrics::WorkerMetrics;
use crate::settings::WorkerSettings;
use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, MailboxSender, UringBackend, UringConfig, Waker, mailbox, pin_current_thread,
};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which backend the workers use.
#[derive(Clone, Debug)]
pub enum BackendChoice {
    /// Readiness: epoll.
    Epoll,
    /// Completion: io_uring, with sizes of each ring.
    Uring(UringConfig),
    /// Poll mode: a queue of a card each.
    #[cfg(feature = "dpdk")]
    Dpdk(Arc<super::dpdk::DpdkPort>),
}

impl BackendChoice {
    /// Whether connections are the kernel's sockets.
    fn is_kernel(&self) -> bool {
        matches!(self, BackendChoice::Epoll | BackendChoice::Uring(_))
    }
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
    /// Processors to bind workers to, in turn; empty: none.
    pub processors: Vec<usize>,
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
        let Threads { senders, metrics, addresses, handles, .. } = self;
        crate::start::StartedWorkers { senders, metrics, addresses, backend, threads: handles }
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

/// What a worker's thread is given once all backends exist.
struct Introduction {
    mailbox: netpoll::Mailbox<Message>,
    ports: Ports,
    settings: WorkerSettings,
}

/// A backend was made: its waker, and what it runs with.
type Made = (Waker, String);

type Listening = Result<Vec<SocketAddr>, SpawnError>;

/// Starts `plan.settings.workers` workers and returns when all listen.
///
/// # Errors
/// [`SpawnError`]; the threads that were started have ended then.
pub fn spawn(plan: &Plan) -> Result<Threads, SpawnError> {
    let Some(first) = plan.settings.first() else { return Err(ended_early()) };
    if plan.backend.is_kernel() {
        check_addresses(first)?;
    }
    let count = plan.settings.len();
    let metrics: Vec<_> = (0..count).map(|_| Arc::new(WorkerMetrics::default())).collect();
    let mut starting = Vec::with_capacity(count);
    for (index, metrics) in metrics.iter().enumerate() {
        starting.push(start_thread(plan, WorkerId(index as u8), metrics)?);
    }
    let mut wakers = Vec::with_capacity(count);
    let mut backends = Vec::with_capacity(count);
    for thread in &starting {
        let (waker, description) =
            thread.wakers.recv().map_err(|_| ended_early())?.map_err(SpawnError::System)?;
        wakers.push(waker);
        backends.push(description);
    }
    let capacity = first.tables.mailbox_capacity;
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        wakers.into_iter().map(|waker| mailbox(capacity, waker)).unzip();
    let mut addresses = vec![];
    for ((thread, mailbox), settings) in starting.iter().zip(mailboxes).zip(&plan.settings) {
        let mut settings = settings.clone();
        for (listener, address) in settings.listeners.iter_mut().zip(&addresses) {
            listener.socket.address = *address;
        }
        let ports = Ports {
            workers: senders.clone(),
            control: plan.control.clone(),
            verifier: plan.verifier.clone(),
        };
        let introduction = Introduction { mailbox, ports, settings };
        thread.introductions.send(introduction).map_err(|_| ended_early())?;
        addresses = thread.listening.recv().map_err(|_| ended_early())??;
    }
    let handles = starting.into_iter().map(|thread| thread.handle).collect();
    Ok(Threads { senders, metrics, addresses, backends, handles })
}

fn ended_early() -> SpawnError {
    SpawnError::System(io::Error::other("a worker ended while starting; its message is above"))
}

/// `SO_REUSEPORT` lets a second process of the same user share a port unnoticed; a bind without it does not.
fn check_addresses(settings: &WorkerSettings) -> Result<(), SpawnError> {
    for listener in settings.listeners.iter().filter(|listener| listener.socket.address.port() != 0) {
        let address = listener.socket.address;
        TcpListener::bind(address).map_err(|error| {
            SpawnError::Listen(ListenError { listener: listener.name.clone(), address, error })
        })?;
    }
    Ok(())
}

struct Starting {
    wakers: Receiver<io::Result<Made>>,
    introductions: Sender<Introduction>,
    listening: Receiver<Listening>,
    handle: JoinHandle<()>,
}

fn start_thread(plan: &Plan, id: WorkerId, metrics: &Arc<WorkerMetrics>) -> Result<Starting, SpawnError> {
    let (waker_sender, wakers) = channel();
    let (introductions, introduction_receiver) = channel();
    let (listening_sender, listening) = channel();
    let plan = plan.clone();
    let metrics = Arc::clone(metrics);
    let body = move || {
        if let Some(processor) = plan.processors.get(id.index() % plan.processors.len().max(1)) {
            let _ = pin_current_thread(*processor); // a processor that is gone only costs locality
        }
        let threads = ThreadEnds {
            wakers: waker_sender,
            introductions: introduction_receiver,
            listening: listening_sender,
        };
        match &plan.backend {
            BackendChoice::Epoll => {
                run(&plan, id, metrics, &threads, EpollBackend::new(&plan.backend_config), |_| String::new())
            }
            BackendChoice::Uring(uring) => {
                let backend = UringBackend::new(&plan.backend_config, uring);
                run(&plan, id, metrics, &threads, backend, UringBackend::description)
            }
            #[cfg(feature = "dpdk")]
            BackendChoice::Dpdk(port) => match port.enter() {
                Ok(_known_to_dpdk) => {
                    let backend = port.backend(id.index(), &plan.backend_config);
                    run(&plan, id, metrics, &threads, backend, |_| port.describe())
                }
                Err(error) => drop(threads.wakers.send(Err(error))), // the spawner reports it
            },
        }
    };
    let handle = std::thread::Builder::new()
        .name(format!("worker-{}", id.0))
        .spawn(body)
        .map_err(SpawnError::System)?;
    Ok(Starting { wakers, introductions, listening, handle })
}

/// The thread's ends of the channels that are used while starting.
struct ThreadEnds {
    wakers: Sender<io::Result<Made>>,
    introductions: Receiver<Introduction>,
    listening: Sender<Listening>,
}

fn run<B: Backend>(
    plan: &Plan,
    id: WorkerId,
    metrics: Arc<WorkerMetrics>,
    ends: &ThreadEnds,
    backend: io::Result<B>,
    describe: impl FnOnce(&B) -> String,
) {
    let backend = match backend {
        Ok(backend) => backend,
        Err(error) => {
            let _ = ends.wakers.send(Err(error));
            return; // the spawner reports it
        }
    };
    let _ = ends.wakers.send(Ok((backend.waker(), describe(&backend))));
    let Ok(Introduction { mailbox, ports, settings }) = ends.introductions.recv() else { return };
    let unix_start_ms = plan.unix_now_ms.saturating_sub(backend.now().as_millis());
    let context = Context { id, settings, names: plan.names, unix_start_ms };
    let control = ports.control.clone();
    let mut worker = match Worker::new(context, backend, mailbox, ports, metrics) {
        Ok(worker) => worker,
        Err(error) => {
            let _ = ends.listening.send(Err(SpawnError::Listen(error)));
            return;
        }
    };
    let _ = ends.listening.send(Ok(worker.addresses().to_vec()));
    loop {
        match worker.turn(Duration::from_secs(1)) {
            Ok(Turn::Running) => {}
            Ok(Turn::Stopped) => {
                if cfg!(debug_assertions) {
                    worker.invariants();
                }
                break;
            }
            Err(error) => {
                tracing::error!("worker {} ends, its backend is unusable: {error}", id.0);
                break;
            }
        }
    }
    // A full mailbox means that the control thread is gone or very late; it also sees the thread's end.
    let _ = control.send(ControlMessage::Stopped(id));
}
