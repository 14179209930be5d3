//! A whole comparison: cycles of runs, and their evaluation.
//!
//! ```text
//!   for each case:  cycle 1: row A, row B, row C …   cycle 2: row A, row B, row C …   …
//!   each run:       a fresh server and a fresh fleet: connect, log in, warm up, measure, kill
//!   a figure:       the median over the cycles
//!   a ratio:        the median of the ratios within each cycle
//! ```
//!
//! A run during which other processes used much of either processor is made again, a bounded number
//! of times; the quietest try counts, and is marked.

mod against;
mod broadcast;
mod plan;
mod report;
mod runner;
mod server;
mod stats;
mod verdict;

pub use against::{Against, BuildRun, Pairs, table as pairs_table};
pub use broadcast::{Broadcast, BroadcastFigures, RINGS_MAX, SIZES};
pub use plan::{CASES, Case, Load, QUICK_CASES, ROWS, Row, Way};
pub use report::{Report, write_files};
pub use runner::{Options, Progress, run};
pub use stats::Spread;
pub use verdict::{Verdict, verdicts};
