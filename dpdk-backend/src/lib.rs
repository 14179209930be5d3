//! A user-space TCP/IP engine in poll mode, and the [`netpoll::Backend`] over it.
//!
//! ```text
//!   device ── receive_burst ──► Stack::handle_frame ──► iface (ARP, NDP, ICMP)
//!     ▲                                                 tcp (flow table → control block)
//!     │                                                  │ payload in place
//!     └─── transmit ◄── Stack::poll (timers, output) ◄───┤
//!                                                        ▼
//!                               Stack::next_event ──► completions of the backend
//! ```
//!
//! * [`wire`] reads and writes headers. [`device`] moves frames. [`iface`] resolves neighbors and
//!   answers ICMP. [`tcp`] is the engine. [`Stack`] combines them. [`backend`] implements netpoll's
//!   trait over a stack.
//! * Sans-IO: frames, time and randomness are arguments. The same code runs on a port, over an
//!   in-memory link with faults, under packet scripts with a virtual clock, and under a fuzzer.
//! * [`claim`] prevents two processes from using one interface. With the feature `dpdk`, `ffi`
//!   contains the port (a queue of a card as a device), and `host` opens a port from a program's
//!   settings and makes a backend for each worker. Everything else builds and runs its tests
//!   without DPDK.
//! * One stack belongs to one worker. Nothing is shared or locked, and nothing is allocated after
//!   start. Every table has a size in the configuration and a counter in [`Counters`].

pub mod backend;
pub mod claim;
mod clock;
mod counters;
pub mod device;
#[cfg(feature = "dpdk")]
pub mod ffi;
pub mod fuzzing;
#[cfg(feature = "dpdk")]
pub mod host;
pub mod iface;
mod keys;
mod stack;
pub mod tcp;
mod time;
mod waiting;
pub mod wire;

pub use counters::Counters;
pub use stack::{Event, ListenLimits, Stack, StackConfig};
