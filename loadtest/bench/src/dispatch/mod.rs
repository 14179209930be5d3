//! How long a message waits for its handler, at half load.
//!
//! ```text
//!   generator (core 1)                             gateway (core 0), backend wrapped
//!   due ─► t0 = clock, into the payload
//!          write() ─ kernel: the server's socket is readable ─► wake, poll returns,
//!          t1 = clock                                earlier messages of the batch, the handler
//!                                                    queues the answer: t2 = clock
//!   delay = t2 − t0
//! ```
//!
//! The clock is `CLOCK_MONOTONIC`, which all processes of a machine share. The socket becomes ready
//! between t0 and t1, so a delay is an upper bound: the peer's way through the kernel is in it, and
//! so is the handler itself. t1 − t0 is reported beside it.
//!
//! Messages come one by one, at random times (exponential gaps, a fixed seed) from connections in
//! turn, at the rate at which the server's processor is half busy.

mod delays;
mod load;

pub use delays::{DelayClient, Delays};
pub use load::{Load, LoadFigures, SIZE};

pub(crate) use delays::DelayServer;
pub(crate) use load::Watched;

use rustix::time::ClockId;

/// Nanoseconds on `CLOCK_MONOTONIC`.
pub(crate) fn monotonic_nanos() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
