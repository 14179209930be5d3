//! Load generator for goim-compatible gateways.
//!
//! ```text
//!   settings (flags, TOML) ── scenario ──► plan ──► workers ── output ──► report: text, JSON, page
//!                                                     │
//!                        schedule ─ stamp ─ client ─ netpoll::Backend ─ conservation ─ histogram
//! ```
//!
//! Three things set it apart. The schedule is fixed in advance, and latency is counted from the
//! intended time, so a server that stalls cannot hide it. Every message is stamped, and every
//! receiver checks that each one comes once, in order, and to the right place; counts reconcile at
//! the end. And the generator watches itself: when it was the bottleneck, the report says so, apart
//! from the verdict on the server.
//!
//! Workers are clients of the same [`netpoll::Backend`] that the gateway is built on, one backend a
//! thread.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written.

#[macro_use]
#[doc(hidden)]
pub mod output;

mod agents;
mod backend;
mod capacity;
mod cli;
mod client;
mod clock;
mod conservation;
mod error;
mod exporter;
mod goals;
mod histogram;
mod http;
pub mod limits;
mod load;
mod measure;
mod monitor;
mod numbers;
mod outlets;
mod permutation;
mod plan;
mod profile;
mod progress;
pub mod report;
mod run;
mod scenario;
mod schedule;
pub mod settings;
mod stamp;
mod worker;

pub use error::{Exit, RunError};
pub use measure::{Stop, check, measure, stop_on_signal, store};
pub use monitor::kernel;
pub use scenario::Scenario;

use std::ffi::OsString;

/// Runs a command line, the program's name first, and returns its outcome.
pub fn run(words: impl IntoIterator<Item = OsString>) -> Exit {
    cli::main(words.into_iter().collect())
}
