//! Workers on threads: the choice of their backend, the start and wiring of their threads, and
//! several workers on one thread.
//!
//! ```text
//!   Config ─► Plan ─► Spawn ─► WorkerHost::start ─► RunningWorkers
//! ```
//!
//! [`WorkerHost`] is the seam: [`KernelWorkers`] in the program, workers without a socket in tests.

#[cfg(feature = "dpdk")]
mod dpdk;
mod host;
mod shared_wait;
mod startup;
mod threads;

pub use host::KernelWorkers;
pub use startup::SpawnError;
pub use threads::{BackendChoice, spawn};

use gateway_config::{BackendKind, IoConfig, MemoryEntry, Plan};
use gateway_control::{CaptureSource, PortSource};
use gateway_core::address::Fingerprints;
use gateway_core::message::{ControlSender, Message, VerifySender};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use gateway_core::settings::{TableSizes, WorkerSettings};
use netpoll::{BackendConfig, MailboxSender};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What makes workers.
pub trait WorkerHost {
    /// The backend to use when `wanted` is asked for (`None`: the best that works), and the reason
    /// in a few words, e.g. `io_uring is forbidden here (EPERM): seccomp or
    /// kernel.io_uring_disabled`.
    ///
    /// # Errors
    /// Why the wanted one does not work here.
    fn choose_backend(&self, wanted: Option<BackendKind>) -> Result<(BackendKind, String), String>;

    /// What one of `workers` workers with a backend of this `kind` reserves besides pools and
    /// mailbox.
    fn memory(
        &self,
        kind: BackendKind,
        tables: &TableSizes,
        workers: usize,
        backend: &BackendConfig,
    ) -> Vec<MemoryEntry>;

    /// Whether the workers' backends can be made, tried without starting anything.
    ///
    /// # Errors
    /// What is short, and how to have more of it.
    fn try_backends(&self, _plan: &Plan) -> Result<(), String> {
        Ok(())
    }

    /// Starts all workers on the backends of `plan`. Their listeners are open when this returns.
    ///
    /// # Errors
    /// What kept one from starting; those that run already are stopped.
    /// [`io::ErrorKind::OutOfMemory`]: a backend of another kind may work.
    fn start(&self, plan: &Plan, spawn: Spawn) -> io::Result<RunningWorkers>;

    /// Opens the port that `plan` wants, closes it again, and says what it is.
    ///
    /// # Errors
    /// Why it can't be opened.
    fn try_port(&self, _plan: &Plan) -> Result<String, String> {
        Err("there is no port to open: io.backend is not \"dpdk\"".into())
    }
}

/// What workers are made from, whatever their backend.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// The same for each; `settings.workers` are started.
    pub settings: WorkerSettings,
    /// Where and how their threads run.
    pub placement: Placement,
    /// How names become fingerprints.
    pub names: Fingerprints,
    /// Milliseconds since 1970, now.
    pub unix_now_ms: u64,
    /// The control thread's mailbox.
    pub control: ControlSender,
    /// The verifier's queue; `None`: tokens are not checked.
    pub verifier: Option<VerifySender>,
}

/// Where and how threads run.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Processors to bind threads to, in turn; empty: none.
    pub processors: Vec<usize>,
    /// Under `SCHED_BATCH`.
    pub batch: bool,
}

impl Placement {
    /// As the configuration says.
    pub fn of(io: &IoConfig) -> Placement {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = if io.pin_workers { (0..processors).collect() } else { vec![] };
        Placement { processors, batch: io.batch_scheduling }
    }
}

/// Workers that run.
#[derive(Debug)]
pub struct RunningWorkers {
    /// Their mailboxes, by number.
    pub senders: Vec<MailboxSender<Message>>,
    /// Their places for fan-outs.
    pub places: Arc<FanoutPlaces>,
    /// Their counts, by number.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// Where they listen, in the order of the settings.
    pub addresses: Vec<SocketAddr>,
    /// What each one's backend runs with, in words; empty where there is nothing to choose.
    pub backends: Vec<String>,
    /// The captured frames, where they keep some.
    pub capture: Option<CaptureSource>,
    /// State of their port, where they have one.
    pub port: Option<PortSource>,
    /// Their threads.
    pub threads: Vec<JoinHandle<()>>,
}

impl RunningWorkers {
    /// What the backends run with, equal ones together; `None` where there is nothing to say.
    pub fn backend_text(&self) -> Option<String> {
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
        let ends = self.threads.into_iter().map(JoinHandle::join);
        match ends.filter(Result::is_err).count() {
            0 => Ok(()),
            count => Err(io::Error::other(format!("{count} workers panicked; their messages are above"))),
        }
    }
}
