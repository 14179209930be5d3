//! The state that handlers share. Its parts do not depend on it, and it does not depend on
//! handlers.

use super::encoder::PushEncoder;
use super::heartbeats::Heartbeats;
use super::http::{Admission, Budget};
use super::http_metrics::{HttpMetrics, Scrapes};
use super::journal::Journal;
use super::lifecycle::Lifecycle;
use super::lists::Lists;
use super::memory_watch::MemoryWatch;
use super::port_watch::PortWatch;
use super::refusals::Refusals;
use super::sources::CaptureSource;
use super::store_watch::StoreWatch;
use super::tickets::Tickets;
use super::wakes::WakeCoalescer;
use super::workers::Workers;
use gateway_auth::Verifier;
use gateway_config::{Config, Plan};
use gateway_core::memory::Level;
use gateway_core::settings::{ListenerSettings, Shared};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};
use tokio::sync::Semaphore;

/// What is fixed at the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Workers and sizes.
    pub plan: Plan,
    /// Listeners by number, with the addresses that they got.
    pub listeners: Vec<(ListenerSettings, SocketAddr)>,
    /// When the process started.
    pub started: Instant,
    /// The same, on the wall clock.
    pub started_at: SystemTime,
    /// What workers and the control thread share.
    pub shared: Shared,
}

/// Everything that handlers share.
pub(super) struct Control {
    pub(super) config: RwLock<Arc<Config>>,
    pub(super) facts: Facts,
    pub(super) workers: Workers,
    pub(super) wakes: WakeCoalescer,
    /// Bytes of large requests.
    pub(super) input_budget: Arc<Budget>,
    /// Bytes of large answers that wait for their readers.
    pub(super) answer_budget: Arc<Budget>,
    /// Places of HTTP connections.
    pub(super) admission: Arc<Admission>,
    pub(super) refusals: Refusals,
    pub(super) lists: Lists,
    /// Kicks of many connections under way.
    pub(super) sweeps: Arc<Semaphore>,
    /// One file of captured frames at a time: the plan has room for one copy.
    pub(super) captures: Arc<Semaphore>,
    /// The last exposition of metrics.
    pub(super) scrapes: Scrapes,
    pub(super) tickets: Tickets,
    /// Places for tickets of lists.
    pub(super) list_tickets: Semaphore,
    pub(super) encoder: Mutex<PushEncoder>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) heartbeats: Heartbeats,
    pub(super) stores: StoreWatch,
    pub(super) memory: MemoryWatch,
    pub(super) port: PortWatch,
    pub(super) journal: Journal,
    pub(super) verifier: Option<Verifier>,
    pub(super) metrics: HttpMetrics,
    /// The last frames, where some are kept.
    pub(super) capture: Option<CaptureSource>,
    /// Whether files go through io_uring.
    pub(super) io_uring: bool,
}

impl Control {
    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the process is not ready; `None` when it is.
    pub(super) fn unready_reason(&self) -> Option<&'static str> {
        let short = self.memory.state().level >= Level::Refuse;
        let short = short.then_some("memory is short: new connections are refused");
        let store = || self.stores.shortage().map(|store| store.unready_reason());
        let port = || self.port.unready_reason();
        self.lifecycle.unready_reason().or_else(port).or(short).or_else(store)
    }

    /// Puts another configuration in force.
    pub(super) fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
