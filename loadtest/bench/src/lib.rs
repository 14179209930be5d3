//! The gateway side by side with the floors and with its peers, in one run.
//!
//! ```text
//!   bench (core 1)                                 bench-server (core 0), one at a time
//!   ┌─ run: cycles A B C … A B C … ─┐    spawn     ┌─────────────────────────────────────────────┐
//!   │  client: closed loop          │ ───────────► │ floor-epoll, floor-uring: bare echo, fan-out│
//!   │  probe:  CPU of the server    │ ◄─ loopback ─► gateway-epoll, gateway-uring                │
//!   │  report: ratios, verdicts     │              │ tungstenite, fastwebsockets                 │
//!   └───────────────────────────────┘              └─────────────────────────────────────────────┘
//! ```
//!
//! The figure that counts is the server's CPU time per message: on a machine whose speed changes
//! from minute to minute it is steadier than a rate, and ratios of runs that lie seconds apart are
//! steadier still. With the feature `dpdk` there are servers past the kernel, too ([`dpdk`]). See
//! `docs/benchmarks.md`.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written.

pub mod client;
pub mod cpu;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(not(feature = "dpdk"))]
#[path = "without_dpdk.rs"]
pub mod dpdk;
pub mod floor;
pub mod output;
pub mod run;
pub mod servers;
pub mod tally;
