//! A hostile suite: named abuses of a gateway, each beside well-behaved connections that must not
//! notice.
//!
//! ```text
//!   cli ─► suite ─┬─ gateway      the program under test, with a configuration written here
//!                 ├─ bystanders   well-behaved clients, new logins, callers of the control port
//!                 ├─ attacker     a process of its own, nice 19, that runs abuses (`abuse::ALL`)
//!                 ├─ levels       /metrics and /proc before and after: what an abuse leaves behind
//!                 └─ report       one row per abuse, on the terminal and as JSON
//! ```
//!
//! An abuse holds when no bystander is closed, refused, or loses, gets twice or out of order a
//! message, when the gateway's own answer to the abuse is the right one, and when descriptors,
//! connections, tables and pools return to where they were. Abuses end by themselves: in time by
//! their budget, in number by constants in their functions, and at the latest when their process is
//! ended. All traffic is on loopback.

mod abuse;
mod answer_word;
mod attacker;
mod bystanders;
mod cli;
mod client;
mod error;
mod gateway;
mod levels;
mod outcome;
mod profile;
mod report;
mod suite;
mod target;
mod tokens;
mod wire;

pub use error::Exit;

use std::ffi::OsString;

/// Runs a command line, the program's name first, and returns its outcome.
pub fn run(words: impl IntoIterator<Item = OsString>) -> Exit {
    cli::main(words.into_iter().collect())
}

/// Names of all abuses, in the order in which they run.
pub fn names() -> Vec<&'static str> {
    abuse::ALL.iter().map(|abuse| abuse.name).collect()
}
