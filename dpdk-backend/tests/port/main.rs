//! The port, on `net_tap`: a TAP device whose other end is the kernel of a network namespace that
//! the test makes.
//!
//! Needs root (a namespace, TAP devices) and no huge pages. Without the feature `dpdk` there is
//! nothing here.
#![cfg(feature = "dpdk")]

mod claims;
mod contract;
mod ends;
mod host;
mod kernel;
mod namespace;
