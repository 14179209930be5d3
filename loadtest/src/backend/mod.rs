//! The choice of the backend that drives the workers: the one place that names them.

#[cfg(feature = "dpdk")]
mod dpdk;
#[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "tested in every build, used with the feature"))]
mod with_kernel;

use crate::client::Protocol;
use crate::error::RunError;
use crate::limits;
use crate::plan::{BackendKind, RunPlan};
use crate::worker::{Assignment, Worker, WorkerResult, backend_config, run_together};
use netpoll::epoll::EpollBackend;
use netpoll::{
    Backend, BackendConfig, SharedWait, SharesThread, UringBackend, UringConfig, WAIT_SLOTS_MAX, Waker,
};
use std::io;
#[cfg(feature = "dpdk")]
use std::sync::Arc;

/// The backend that `auto` stands for.
pub(crate) fn best() -> BackendKind {
    if netpoll::uring::probe().is_ok() { BackendKind::IoUring } else { BackendKind::Epoll }
}

/// Checks that the backend can be used at all.
///
/// # Errors
/// The reason why not.
pub(crate) fn check(kind: BackendKind) -> Result<(), RunError> {
    match kind {
        BackendKind::Epoll => Ok(()),
        BackendKind::IoUring => netpoll::uring::probe().map(drop).map_err(|error| {
            RunError::new(format!("io_uring is not to be had: {error}"), "use --backend epoll, or auto")
        }),
        BackendKind::Dpdk if cfg!(feature = "dpdk") => Ok(()),
        BackendKind::Dpdk => Err(RunError::new(
            "this loadtest was built without DPDK",
            "build one with cargo build --release -p loadtest --features loadtest/dpdk (docs/dpdk.md says what that needs), or use \
             --backend epoll or io_uring",
        )),
    }
}

/// What the workers of a run share of their backend. Made once, before any worker.
#[derive(Clone, Default)]
pub(crate) struct BackendContext {
    #[cfg(feature = "dpdk")]
    host: Option<Arc<dpdk_backend::host::Host>>,
    #[cfg(feature = "dpdk")]
    flood: Arc<dpdk_backend::device::FloodSwitch>,
}

impl BackendContext {
    /// The context of `plan`. On DPDK: starts it and opens the port, before other threads exist.
    ///
    /// # Errors
    /// DPDK's error, with advice.
    #[cfg(feature = "dpdk")]
    pub(crate) fn open(plan: &RunPlan) -> Result<BackendContext, RunError> {
        Ok(BackendContext { host: dpdk::open(plan)?.map(Arc::new), flood: Arc::default() })
    }

    /// Sends so many connection requests a second from unused addresses, from now on; 0: none.
    /// Returns how many were sent so far.
    #[cfg(feature = "dpdk")]
    pub(crate) fn flood(&self, per_second: u32) -> u64 {
        self.flood.set(per_second);
        self.flood.sent()
    }

    /// Does nothing: the kernel sends from its own addresses only.
    #[cfg(not(feature = "dpdk"))]
    pub(crate) fn flood(&self, _: u32) -> u64 {
        0
    }

    /// The context of `plan`: the kernel's backends share nothing.
    ///
    /// # Errors
    /// Those of [`check`].
    #[cfg(not(feature = "dpdk"))]
    pub(crate) fn open(plan: &RunPlan) -> Result<BackendContext, RunError> {
        check(plan.machinery.backend).map(|()| BackendContext::default())
    }
}

/// The number of threads for `workers` workers, which may share `threads`.
pub(crate) fn threads(kind: BackendKind, threads: u32, workers: usize) -> usize {
    match kind {
        BackendKind::IoUring => (threads as usize).clamp(workers.div_ceil(WAIT_SLOTS_MAX), workers.max(1)),
        BackendKind::Epoll | BackendKind::Dpdk => workers,
    }
}

/// Makes the backends for the assignments of the calling thread, and works on them until the end.
///
/// # Errors
/// The system's errors from making or using them.
pub(crate) fn work<P: Protocol>(
    kind: BackendKind,
    protocol: &P,
    assigned: Vec<Assignment>,
) -> Result<Vec<WorkerResult>, RunError> {
    // The generator accepts nothing; one slot is the least that is reserved for accepts.
    let uring = UringConfig { accepts_in_flight: 1, ..UringConfig::default() };
    let ring = |config: &BackendConfig| UringBackend::new(config, &uring);
    if kind == BackendKind::IoUring && assigned.len() > 1 {
        let shared = SharedWait::new().map_err(|error| {
            RunError::new(format!("no descriptor for a thread: {error}"), "raise the limit (ulimit -n)")
        })?;
        let with_slot = |(number, to): (usize, Assignment)| {
            let join_wait = |config: &BackendConfig| {
                let mut backend = ring(config)?;
                backend.join_wait(shared.slot(number)).map(|()| backend)
            };
            worker(join_wait, protocol, to)
        };
        let workers = assigned.into_iter().enumerate().map(with_slot).collect::<Result<Vec<_>, _>>()?;
        return run_together(&shared, workers).map_err(|error| broken(&error));
    }
    let epoll = |to: Assignment| {
        let apart = limits::one_table_is_too_small(&to.plan, limits::raise_descriptors());
        let make = |config: &BackendConfig| match apart {
            true => own_descriptors(config),
            false => EpollBackend::new(config),
        };
        run(worker(make, protocol, to)?)
    };
    let alone = |to| match kind {
        BackendKind::Epoll => epoll(to),
        BackendKind::IoUring => run(worker(ring, protocol, to)?),
        #[cfg(feature = "dpdk")]
        BackendKind::Dpdk => dpdk::work(protocol.clone(), to),
        #[cfg(not(feature = "dpdk"))]
        BackendKind::Dpdk => check(kind).and(epoll(to)),
    };
    assigned.into_iter().map(alone).collect()
}

fn run<B: Backend, P: Protocol>(worker: Worker<B, P>) -> Result<WorkerResult, RunError> {
    worker.run().map(|(result, _)| result).map_err(|error| broken(&error))
}

fn broken(error: &io::Error) -> RunError {
    RunError::new(format!("a worker's backend failed: {error}"), "see dmesg; try again")
}

fn worker<B: Backend, P: Protocol>(
    make: impl FnOnce(&BackendConfig) -> io::Result<B>,
    protocol: &P,
    to: Assignment,
) -> Result<Worker<B, P>, RunError> {
    let config = backend_config(&to.plan, &to.duty);
    let memory = config.pools.bytes() >> 20;
    let backend = make(&config).map_err(|error| {
        RunError::new(
            format!("cannot make a backend with {memory} MiB of buffers: {error}"),
            "lower --workers or --connections, or free memory",
        )
    })?;
    Ok(Worker::new(backend, protocol.clone(), to))
}

/// A backend whose descriptors are this thread's alone.
#[allow(unsafe_code)]
fn own_descriptors(config: &BackendConfig) -> std::io::Result<EpollBackend> {
    // SAFETY: a worker's thread opens sockets only, in its backend, which never leaves it; its
    // reports carry no descriptors.
    unsafe { EpollBackend::with_own_descriptors(config, Waker::event_fd()?) }
}
