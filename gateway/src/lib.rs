//! The gateway's program as a library: command line, start, and workers on threads. What they start
//! is in `gateway-core`, `gateway-auth`, `gateway-config` and `gateway-control`.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written: `output` does not.

mod ask;
pub mod cli;
pub mod dpdk;
pub mod preflight;
pub mod start;
pub mod start_screen;
pub mod workers;
