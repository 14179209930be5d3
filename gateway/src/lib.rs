//! The gateway as a library: what `main.rs` puts together, and tests take apart.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written: `output` does not.

pub mod access;
pub mod address;
pub mod alloc_guard;
mod ask;
pub mod auth;
pub mod cli;
pub mod config;
mod context;
pub mod control;
pub mod dpdk;
mod files;
pub mod handler;
mod inline_text;
mod io;
mod lateness;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod notify;
mod outbox;
pub mod output;
pub mod ports;
pub mod preflight;
pub mod router;
pub mod session;
pub mod settings;
mod shard;
pub mod sources;
pub mod start;
pub mod start_screen;
mod threads;
pub mod wall_clock;
pub mod worker;
pub mod workers;

pub use inline_text::InlineText;
