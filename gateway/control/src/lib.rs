//! The control thread: everything that is not a client connection.
//!
//! ```text
//!                     ┌──────────────── control thread (tokio-uring or tokio) ────────────────┐
//!   operators ──HTTP──►  http ► routes ► goim, api, inspect, health, /metrics                  │
//!   signals ──────────►  thread: drain, stop, reload                                           │
//!                     │        │ Workers::send          ▲ outcomes, lists, audit events        │
//!                     │        ▼                        │                                      │
//!                     │   worker mailboxes        ControlSender (bounded, lock-free)           │
//!                     └────────┼────────────────────────┼──────────────────────────────────────┘
//!                              ▼                        │
//!                           workers ────────────────────┘
//! ```
//!
//! It never touches a client socket, and workers never wait for it: when its mailbox is full, they drop what they had to
//! say and count it.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

mod api;
mod bell;
mod capture;
mod clock;
mod encoder;
pub mod exposition;
mod gate;
mod goim;
mod health;
mod http;
mod inspect;
mod journal;
mod kick;
mod lifecycle;
mod memory;
mod metrics;
pub mod notify;
pub mod output;
mod port;
pub mod ports;
mod publish;
mod pushes;
mod reload;
mod reply;
mod routes;
mod seldom;
mod thread;
mod tickets;
mod workers;

pub use capture::CaptureSource;
pub use clock::rfc3339;
pub use http::End as HttpEnd;
pub use journal::{Claim, ClaimError, Journal, JournalMetrics};
pub use lifecycle::{Lifecycle, Stage};
pub use memory::MemoryState;
pub use metrics::HttpMetrics;
pub use port::{PortSource, PortState};
pub use reload::{LogHandle, ReloadSource};
pub use routes::{OPENAPI, routes};
pub use thread::{Command, ControlThread, Exit, Parts, control_waker};
pub use tickets::{TICKET_TIMEOUT, TicketError};
pub use workers::{MailboxFull, Workers};

use bell::Bell;
use encoder::Encoder;
use gateway_auth::Verifier;
use gateway_config::{Config, MemoryEntry, Plan};
use gateway_core::memory::Level;
use gateway_core::message::ControlMessage;
use health::{Heartbeats, StoreWatch};
use http::Budget;
use memory::MemoryWatch;
use port::PortWatch;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};
use tickets::Tickets;

/// Messages from workers that may wait for the control thread.
pub const MAILBOX_CAPACITY: usize = 16 << 10;

/// What a body becomes when it is read: its text, and the values in it.
const BODY_COPIES: usize = 2;
/// Bytes of large requests that are held at a time, all connections together, unless one may be larger.
const INPUTS_MAX: usize = 4 << 20;

fn inputs_max(frame_body_size_max: u32) -> usize {
    let largest = http::HEAD_SIZE_MAX + api::body_size_max(frame_body_size_max) + http::STEP_MAX;
    largest.max(INPUTS_MAX)
}

/// What the control thread, HTTP, the journal and the verifier reserve with this configuration.
pub fn memory_plan(config: &Config) -> Vec<MemoryEntry> {
    let frame_body_size_max = config.limits.frame_body_size_max;
    let http = http_bytes(config.control.connections_max, frame_body_size_max);
    let mut entries = vec![
        MemoryEntry::new("control thread", reserved_bytes(frame_body_size_max)),
        MemoryEntry::new("HTTP", http),
    ];
    if config.journal.is_some() {
        entries.push(MemoryEntry::new("journal", journal::RESERVED));
    }
    if let Some(policy) = &config.auth {
        let verifiers = gateway_auth::reserved_bytes(policy.threads, policy.queue_requests_max);
        entries.push(MemoryEntry::new("verifiers", verifiers));
    }
    entries
}

/// Pools for pushes, and the mailbox.
fn reserved_bytes(frame_body_size_max: u32) -> usize {
    encoder::pools_config(frame_body_size_max).bytes()
        + MAILBOX_CAPACITY * netpoll::mailbox_bytes::<ControlMessage>()
        + crate::output::RESERVED
}

/// What HTTP takes at most: connections, large requests and large answers.
fn http_bytes(connections_max: usize, frame_body_size_max: u32) -> usize {
    (connections_max + http::SPARE_PLACES) * http::CONNECTION_SIZE
        + BODY_COPIES * inputs_max(frame_body_size_max)
        + http::ANSWERS_MAX
}

/// What is settled at the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Workers and sizes.
    pub plan: Plan,
    /// Listeners by number, with the addresses that they got.
    pub listeners: Vec<(gateway_core::settings::ListenerSettings, SocketAddr)>,
    /// When the process started.
    pub started: Instant,
    /// The same, on the wall clock.
    pub started_at: SystemTime,
    /// What workers and the control thread share.
    pub shared: gateway_core::settings::Shared,
}

/// Everything that handlers share.
pub(crate) struct Control {
    config: RwLock<Arc<Config>>,
    facts: Facts,
    workers: Workers,
    bell: Bell,
    /// Bytes of large requests.
    input_budget: Arc<Budget>,
    /// Bytes of large answers that wait for their readers.
    answer_budget: Arc<Budget>,
    /// Places of HTTP connections.
    admission: Arc<http::Admission>,
    refusals: gate::Refusals,
    lists: inspect::Lists,
    /// Kicks of many connections under way.
    sweeps: Arc<tokio::sync::Semaphore>,
    /// One file of captured frames at a time: the plan has room for one copy.
    captures: Arc<tokio::sync::Semaphore>,
    /// The last exposition of metrics.
    scrapes: metrics::Scrapes,
    tickets: Tickets,
    /// Places for tickets of lists.
    list_tickets: tokio::sync::Semaphore,
    encoder: Mutex<Encoder>,
    lifecycle: Arc<Lifecycle>,
    heartbeats: Heartbeats,
    stores: StoreWatch,
    memory: MemoryWatch,
    port: PortWatch,
    journal: Journal,
    verifier: Option<Verifier>,
    metrics: HttpMetrics,
    /// The last frames, where some are kept.
    capture: Option<CaptureSource>,
    /// Whether files go through io_uring.
    io_uring: bool,
}

impl Control {
    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why no clients should be sent here; `None` when they should.
    fn unready_reason(&self) -> Option<&'static str> {
        let short = self.memory.state().level >= Level::Refuse;
        let short = short.then_some("memory is short: new connections are refused");
        let store = || self.stores.shortage().map(|store| store.unready_reason());
        let port = || self.port.unready_reason();
        self.lifecycle.unready_reason().or_else(port).or(short).or_else(store)
    }

    fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
