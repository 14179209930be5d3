//! The gateway side by side with the floors and with its peers, in one run.
//!
//! ```text
//!   bench (core 1)                                 bench-server (core 0), one at a time
//!   ┌─ run: cycles A B C … A B C … ─┐    spawn     ┌─────────────────────────────────────────────┐
//!   │  client: closed loop          │ ───────────► │ floor-epoll, floor-uring: bare echo, fan-out│
//!   │  dispatch: stamps, half load  │ ◄─ loopback ─► gateway-epoll, gateway-uring                │
//!   │  probe:  CPU of the server    │              │ tungstenite, fastwebsockets, threads        │
//!   └─ report ─► bars, tables ──────┘              └─────────────────────────────────────────────┘
//!   codec: the protocol beside protobuf, in memory
//! ```
//!
//! The figure that counts is the server's processor time a message: on a machine that gets faster
//! and slower from minute to minute it is steadier than a rate, and ratios of runs that lie seconds
//! apart are steadier still. With the feature `dpdk` there are servers past the kernel, too
//! ([`dpdk`]). The tables of the documents are made from stored reports ([`tables`]). See
//! `docs/benchmarks.md`.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written.

pub mod client;
pub mod codec;
pub mod cost;
pub mod cpu;
pub mod dispatch;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(not(feature = "dpdk"))]
#[path = "without_dpdk.rs"]
pub mod dpdk;
pub mod exit;
pub mod floor;
pub mod output;
pub mod run;
pub mod servers;
pub mod tables;
pub mod tally;
