//! Several generator processes, on one machine or many, as one generator.
//!
//! ```text
//!   loadtest push --agents a,b            loadtest agent (at a, at b)
//!     plan ── job: scenario, settings ──►   the same plan, and a part of its workers
//!     clock ◄── round trips ──►             the same clock, as well as it can be compared
//!     stages, end ─────────────────────►    workers
//!     gauges, seconds, results ◄────────    workers
//!     one report
//! ```
//!
//! Every agent makes the same plan and takes its share of the workers, so the schedule stays the
//! one that is fixed in advance: an agent knows when each of its operations is due and waits for no
//! other. Results come back whole, histograms value by value, so the report is the one that a
//! single process would have made. An agent that is lost makes the measurement invalid.
//!
//! An agent sends traffic on command: it obeys only a coordinator that proves to know a secret.

mod channel;
mod clocks;
mod message;
mod proxy;
mod serve;

pub(crate) use channel::Secret;
pub(crate) use proxy::{AgentState, Connected, connect};
pub(crate) use serve::{AgentArgs, serve};
