//! What a worker does: sessions, the router, the handlers of what comes in, and the turn that
//! drives them.
//!
//! ```text
//!   worker ─► handler ─► router, session ─► message ─► settings, address
//! ```
//!
//! [`message`] is what workers, the control thread and the verifier send each other. Everything
//! here runs on workers' threads and allocates nothing after their start. There is no runtime, no
//! HTTP, no serializer and no log below this crate: its dependencies are `netpoll`, `gateway-proto`
//! and a hash.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

pub mod access;
pub mod address;
pub mod alloc_guard;
mod coarse_instant;
mod context;
pub mod handler;
mod inline_text;
mod io;
mod lateness;
pub mod listener;
pub mod memory;
pub mod message;
pub mod metrics;
mod outbox;
pub mod router;
pub mod session;
pub mod settings;
mod shard;
pub mod sources;
pub mod wall_clock;
pub mod worker;

pub use coarse_instant::CoarseInstant;
pub use inline_text::InlineText;
