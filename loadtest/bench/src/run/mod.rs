//! A whole comparison: cycles of runs, and their evaluation.
//!
//! ```text
//!   for each case:  cycle 1: row A, row B, row C …   cycle 2: row A, row B, row C …   …
//!   each run:       a fresh server and a fresh fleet: connect, log in, warm up, measure, kill
//!   a figure:       the median over the cycles
//!   a ratio:        the median of the ratios within each cycle, with all cycles' quartiles
//! ```
//!
//! A run during which other processes used much of either processor is made again, a bounded number
//! of times; the quietest try counts, and is marked.

mod against;
mod bars;
mod broadcast;
mod delays;
mod figures;
mod plan;
mod report;
mod runner;
mod server;
mod stats;
pub mod stored;
mod verdict;

pub use against::{Against, BuildRun, Pairs, table as pairs_table};
pub use bars::{codec_ratio, verdicts};
pub use broadcast::{Broadcast, BroadcastFigures, RINGS_MAX, SIZES};
pub use delays::{DISPATCH, dispatch};
pub use figures::{Ratio, RunFigures};
pub use plan::{CASES, Case, Contest, Load, QUICK_CASES, ROWS, Row, Way};
pub(crate) use plan::{
    FLOOR_DPDK, FLOOR_EPOLL, FLOOR_URING, GATEWAY_DPDK, GATEWAY_EPOLL, GATEWAY_EPOLL_WEBSOCKET,
    GATEWAY_URING, GATEWAY_URING_WEBSOCKET, THREADS,
};
pub use report::{CaseReport, DispatchRow, Report, RowReport, SCHEMA};
pub use runner::{Options, Progress, run};
pub use stats::Spread;
pub use verdict::{Outcome, Verdict};
