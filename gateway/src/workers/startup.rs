//! A worker's start: its thread and the spawner hand each other what the worker needs, by channels.

use super::Spawn;
use gateway_core::address::WorkerId;
use gateway_core::message::{ControlMessage, ControlSender, Message};
use gateway_core::metrics::WorkerMetrics;
use gateway_core::settings::WorkerSettings;
use gateway_core::worker::{Context, ListenError, Peers, Turn, Worker};
use netpoll::{Backend, Waker};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

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

/// What a worker receives once all backends exist.
pub(super) struct Wiring {
    pub(super) mailbox: netpoll::Mailbox<Message>,
    pub(super) peers: Peers,
    pub(super) settings: WorkerSettings,
}

/// A backend was made: its waker, and what it runs with.
pub(super) type Made = (Waker, String);

pub(super) type Listening = Result<Vec<SocketAddr>, SpawnError>;

/// The spawner's ends of the channels that are used while a worker starts.
pub(super) struct Starting {
    wakers: Receiver<io::Result<Made>>,
    wirings: Sender<Wiring>,
    listening: Receiver<Listening>,
}

impl Starting {
    /// Waits for the waker of the worker's backend, and what that runs with.
    pub(super) fn made(&self) -> Result<Made, SpawnError> {
        self.wakers.recv().map_err(|_| ended_early())?.map_err(SpawnError::System)
    }

    /// Wires the worker to the others, and waits until it listens: where.
    pub(super) fn wire(&self, wiring: Wiring) -> Listening {
        self.wirings.send(wiring).map_err(|_| ended_early())?;
        self.listening.recv().map_err(|_| ended_early())?
    }
}

fn ended_early() -> SpawnError {
    SpawnError::System(io::Error::other("a worker ended while starting; its message is above"))
}

/// A worker before it has a backend: its number, and its thread's ends of the same channels.
pub(super) struct Startup {
    pub(super) id: WorkerId,
    metrics: Arc<WorkerMetrics>,
    /// With descriptors of its own: made for it already.
    pub(super) waker: Option<Waker>,
    wakers: Sender<io::Result<Made>>,
    wirings: Receiver<Wiring>,
    listening: Sender<Listening>,
}

/// Both ends for one worker.
pub(super) fn startup(id: WorkerId, metrics: &Arc<WorkerMetrics>) -> (Starting, Startup) {
    let (waker_sender, wakers) = channel();
    let (wiring_sender, wirings) = channel();
    let (listening_sender, listening) = channel();
    let startup = Startup {
        id,
        metrics: Arc::clone(metrics),
        waker: None,
        wakers: waker_sender,
        wirings,
        listening: listening_sender,
    };
    (Starting { wakers, wirings: wiring_sender, listening }, startup)
}

impl Startup {
    /// Reports the backend to the spawner, or why there is none.
    pub(super) fn report<B: Backend>(
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
                self.fail(error);
                None
            }
        }
    }

    /// Reports to the spawner why there is no backend.
    pub(super) fn fail(&self, error: io::Error) {
        let _ = self.wakers.send(Err(error)); // a spawner that is gone reports its own error
    }

    /// Waits for the other workers' mailboxes, makes the worker and reports where it listens.
    /// `None`: the start failed.
    pub(super) fn wire<B: Backend>(self, spawn: &Spawn, backend: B) -> Option<TurningWorker<B>> {
        let Startup { id, metrics, wirings, listening, .. } = self;
        let Wiring { mailbox, peers, settings } = wirings.recv().ok()?;
        let unix_start_ms = spawn.unix_now_ms.saturating_sub(backend.now().as_millis());
        let context = Context { id, settings, names: spawn.names, unix_start_ms };
        let control = peers.control.clone();
        match Worker::new(context, backend, mailbox, peers, metrics) {
            Ok(worker) => {
                let _ = listening.send(Ok(worker.addresses().to_vec()));
                Some(TurningWorker { id, worker, control })
            }
            Err(error) => {
                let _ = listening.send(Err(SpawnError::Listen(error)));
                None
            }
        }
    }
}

/// A worker that turns.
pub(super) struct TurningWorker<B: Backend> {
    id: WorkerId,
    pub(super) worker: Worker<B>,
    control: ControlSender,
}

impl<B: Backend> TurningWorker<B> {
    /// Whether a further turn follows one that ended like this; if not, the control thread is
    /// notified.
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
        // A full mailbox means that the control thread is gone or very late; it also sees the
        // thread's end.
        let _ = self.control.send(ControlMessage::Stopped(self.id));
        false
    }
}
