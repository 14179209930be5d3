//! A user-space TCP/IP engine in poll mode, and the [`netpoll::Backend`] over it.
//!
//! ```text
//!   device ── receive_burst ──► Stack::handle_frame ──► iface (ARP, NDP, ICMP) │ tcp (flow table → control block)
//!     ▲                                                                        │ payload in place
//!     └─── transmit ◄── Stack::poll (timers, what became due, headers made anew) ▼
//!                                                      poll_event ──► completions of the backend
//! ```
//!
//! * [`wire`] reads and writes headers; [`device`] moves frames; [`iface`] finds neighbours and
//!   answers ICMP; [`tcp`] is the engine; [`Stack`] puts them together; [`backend`] fills netpoll's
//!   seam.
//! * Sans-IO: frames, time and randomness are arguments. The same code runs on a port, over an
//!   in-memory link with faults, under packet scripts with a virtual clock, and under a fuzzer.
//! * [`claim`] keeps two processes off one interface. With the feature `dpdk`, `ffi` has the port:
//!   a card's queue as a device, and `host` a program's way from its settings to a backend for each
//!   worker. Everything else builds and tests without DPDK.
//! * One stack belongs to one worker. Nothing is shared, nothing is locked, and nothing is
//!   allocated after it is made; every table has its size in the configuration and its counter in
//!   [`Counters`].

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
