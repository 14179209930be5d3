//! Workers as threads: each makes its own backend (a ring belongs to the thread that made it), then
//! they are wired to one another.
//!
//! ```text
//!   main:   spawn ───────────► wakers ◄── collect ── mailboxes ──► ports, listeners ──► wait until all listen
//!   worker:  └─ make backend ────┘                                   └─ listen ─ report ─ turn, turn, turn …
//! ```
//!
//! The first worker opens the listeners before the others, so that a port of 0 becomes the same
//! port for all.
//!
//! A thread runs one worker, which waits in its backend, or several, which share a wait
//! (`shared_wait`): thread t of T has the workers t, t + T, … .

use super::startup::{SpawnError, Startup, Wiring, startup};
use super::{Placement, RunningWorkers, Spawn, shared_wait};
use gateway_core::address::WorkerId;
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::worker::Peers;
use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, UringBackend, UringConfig, WAIT_SLOTS_MAX, Waker, batch_current_thread, mailbox,
    pin_current_thread, shorten_current_slice,
};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a worker wants a processor at a time, where others want it, too: the shortest that
/// sched(7) has, for what a worker does when it is woken takes less.
const SLICE: Duration = Duration::from_micros(100);

/// Which backend the workers use.
#[derive(Clone, Debug)]
pub enum BackendChoice {
    /// Readiness: epoll, a thread each: workers beyond the processors are there for the
    /// descriptors, and it is threads that can have some of their own.
    Epoll {
        /// Each has; otherwise all share those of the process.
        own_descriptors: bool,
    },
    /// Completion: io_uring, with sizes of each ring, and on how many threads; 0: each worker on
    /// its own.
    Uring(UringConfig, usize),
    /// Poll mode: a queue of a card each.
    #[cfg(feature = "dpdk")]
    Dpdk(Arc<dpdk_backend::host::Host>),
}

/// Starts `spawn.settings.workers` workers and returns when all listen. The caller has made sure
/// that no other process has their ports ([`gateway_control::ports::Claims`]): `SO_REUSEPORT` would
/// share them unnoticed.
///
/// # Errors
/// [`SpawnError`]; the threads that were started have ended then.
pub fn spawn(
    spawn: &Spawn,
    backend: &BackendChoice,
    sizes: &BackendConfig,
) -> Result<RunningWorkers, SpawnError> {
    let count = spawn.settings.workers;
    let metrics: Vec<_> = (0..count).map(|_| Arc::new(WorkerMetrics::default())).collect();
    let startups = metrics.iter().enumerate().map(|(index, metrics)| startup(WorkerId(index as u8), metrics));
    let (starting, mut startups): (Vec<_>, Vec<_>) = startups.unzip();
    if matches!(backend, BackendChoice::Epoll { own_descriptors: true }) {
        // Before the first thread leaves the process's table, so that every thread's has them all.
        for startup in &mut startups {
            startup.waker = Some(Waker::event_fd().map_err(SpawnError::System)?);
        }
    }
    let plan = ThreadPlan { spawn: spawn.clone(), backend: backend.clone(), sizes: sizes.clone() };
    let threads = start_threads(&plan, startups)?;
    let mut wakers = Vec::with_capacity(count);
    let mut backends = Vec::with_capacity(count);
    for worker in &starting {
        let (waker, description) = worker.made()?;
        wakers.push(waker);
        backends.push(description);
    }
    let tables = &spawn.settings.tables;
    let places = Arc::new(FanoutPlaces::new(count, tables.fanouts()));
    let (senders, mailboxes): (Vec<_>, Vec<_>) =
        wakers.into_iter().map(|waker| mailbox(tables.mailbox_capacity, waker)).unzip();
    let mut addresses = vec![];
    for (worker, mailbox) in starting.iter().zip(mailboxes) {
        let mut settings = spawn.settings.clone();
        for (listener, address) in settings.listeners.iter_mut().zip(&addresses) {
            listener.socket.address = *address;
        }
        let peers = Peers {
            workers: senders.clone(),
            control: spawn.control.clone(),
            places: Arc::clone(&places),
            verifier: spawn.verifier.clone(),
        };
        addresses = worker.wire(Wiring { mailbox, peers, settings })?;
    }
    Ok(RunningWorkers { senders, places, metrics, addresses, backends, capture: None, port: None, threads })
}

/// What every thread knows.
#[derive(Clone)]
struct ThreadPlan {
    spawn: Spawn,
    backend: BackendChoice,
    sizes: BackendConfig,
}

/// Deals the workers to threads, in turn.
fn start_threads(plan: &ThreadPlan, startups: Vec<Startup>) -> Result<Vec<JoinHandle<()>>, SpawnError> {
    let all = startups.len();
    let count = match plan.backend {
        BackendChoice::Uring(_, threads) if threads > 0 => threads.clamp(all.div_ceil(WAIT_SLOTS_MAX), all),
        _ => all,
    };
    let mut by_thread: Vec<Vec<Startup>> = (0..count).map(|_| Vec::new()).collect();
    for (index, startup) in startups.into_iter().enumerate() {
        by_thread[index % count].push(startup);
    }
    let threads = by_thread.into_iter().enumerate();
    threads.map(|(number, startups)| start_thread(plan, number, startups)).collect()
}

fn start_thread(
    plan: &ThreadPlan,
    number: usize,
    startups: Vec<Startup>,
) -> Result<JoinHandle<()>, SpawnError> {
    let plan = plan.clone();
    let body = move || {
        let Placement { processors, batch } = &plan.spawn.placement;
        if let Some(processor) = processors.get(number % processors.len().max(1)) {
            let _ = pin_current_thread(*processor); // a processor that is gone only costs locality
        }
        if *batch {
            // The control thread, under the same policy, reports where it is refused.
            let _ = batch_current_thread();
        } else {
            // Where it is refused, messages are as late as a slice of another thread is long.
            let _ = shorten_current_slice(SLICE);
        }
        run_all(&plan, startups);
    };
    netpoll::spawn_thread(format!("worker-{number}"), body).map_err(SpawnError::System)
}

/// The workers of this thread, from start to end.
fn run_all(plan: &ThreadPlan, startups: Vec<Startup>) {
    let sizes = &plan.sizes;
    match &plan.backend {
        BackendChoice::Epoll { .. } => startups.into_iter().for_each(|startup| {
            let backend = match &startup.waker {
                Some(waker) => own_descriptors(sizes, waker.clone()),
                None => EpollBackend::new(sizes),
            };
            run(&plan.spawn, startup, backend, |_| String::new());
        }),
        BackendChoice::Uring(uring, _) if startups.len() > 1 => {
            let backend = || UringBackend::new(sizes, uring);
            shared_wait::run(&plan.spawn, startups, backend, UringBackend::description);
        }
        BackendChoice::Uring(uring, _) => startups.into_iter().for_each(|startup| {
            let backend = UringBackend::new(sizes, uring);
            run(&plan.spawn, startup, backend, UringBackend::description);
        }),
        #[cfg(feature = "dpdk")]
        BackendChoice::Dpdk(port) => startups.into_iter().for_each(|startup| match port.enter() {
            Ok(_known_to_dpdk) => {
                let engine = dpdk_backend::backend::PollConfig::engine(sizes);
                let backend = port.backend(startup.id.index(), sizes, engine);
                run(&plan.spawn, startup, backend, |_| port.describe());
            }
            Err(error) => startup.fail(error),
        }),
    }
}

/// Makes a backend with descriptors of this thread alone.
#[allow(unsafe_code)]
fn own_descriptors(config: &BackendConfig, waker: Waker) -> io::Result<EpollBackend> {
    // SAFETY: a worker's thread opens sockets only, in its backend, which never leaves it; messages
    // between workers and the control thread carry no descriptors. Wakers were made before, and the
    // spawner holds them for longer than the threads live.
    unsafe { EpollBackend::with_own_descriptors(config, waker) }
}

/// A worker alone on its thread, from start to end.
fn run<B: Backend>(
    spawn: &Spawn,
    startup: Startup,
    backend: io::Result<B>,
    describe: impl FnOnce(&B) -> String,
) {
    let Some(backend) = startup.report(backend, describe) else { return };
    let Some(mut turning) = startup.wire(spawn, backend) else { return };
    loop {
        let turned = turning.worker.turn(Duration::from_secs(1));
        if !turning.goes_on(turned) {
            return;
        }
    }
}
