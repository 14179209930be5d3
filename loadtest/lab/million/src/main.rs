//! `million`: the gateway under as many connections as the machine can hold, in one command.
//!
//! ```text
//!   cli ─► run: namespace ─ budget ─ gateway ─► loadtest::measure (a few, then all) ─► floor
//!           └─► outcome: thresholds ─► report.json, summary.md; a page on demand
//! ```
//!
//! The load itself is the library's scenario `million`; here is what is made around it: a network
//! namespace, memory, the gateway's process, and the table of what must hold.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic when the output can't be written.

mod budget;
mod cli;
mod comparison;
mod figures;
mod floor;
mod gateway;
mod memory;
mod namespace;
mod noise;
mod orders;
mod outcome;
mod page;
mod peers;
mod run;
mod summary;
mod thresholds;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os().collect()).code())
}
