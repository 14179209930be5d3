//! The port, on `net_tap`: a TAP device with the kernel of a network namespace at its other end.
//!
//! Needs root (a namespace, TAP devices) and no huge pages. Empty without the feature `dpdk`.
#![cfg(feature = "dpdk")]

mod claims;
mod contract;
mod ends;
mod host;
mod kernel;
mod namespace;
