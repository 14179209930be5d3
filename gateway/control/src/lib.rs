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
//! It never touches a client socket, and workers never wait for it: when its mailbox is full, they
//! drop and count the message.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

mod api;
mod capture;
mod clock;
mod control;
mod encoder;
pub mod exposition;
mod gate;
mod goim;
mod health;
mod heartbeats;
mod http;
mod http_metrics;
mod inspect;
mod journal;
mod kick;
mod lifecycle;
mod lists;
mod memory;
mod memory_plan;
mod memory_watch;
mod metrics;
pub mod notify;
pub mod output;
mod paths;
mod port;
mod port_watch;
pub mod ports;
mod publish;
mod pushes;
mod refusals;
mod reload;
mod reply;
mod routes;
mod seldom;
mod sources;
mod store_watch;
mod thread;
mod tickets;
mod wakes;
mod workers;

pub use clock::rfc3339;
pub use control::Facts;
pub use http::End as HttpEnd;
pub use http_metrics::HttpMetrics;
pub use journal::{Claim, ClaimError, Journal, JournalMetrics};
pub use lifecycle::{Lifecycle, Stage};
pub use memory_plan::{MAILBOX_CAPACITY, memory_plan};
pub use memory_watch::MemoryState;
pub use paths::routes;
pub use reload::{LogHandle, ReloadSource};
pub use routes::OPENAPI;
pub use sources::{CaptureSource, PortSource, PortState};
pub use thread::{Command, ControlThread, Exit, OwnParts, Parts, control_waker};
pub use tickets::{TICKET_TIMEOUT, TicketError};
pub use workers::{MailboxFull, Workers};
