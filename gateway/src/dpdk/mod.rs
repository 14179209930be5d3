//! Commands around `io.backend = "dpdk"`: what is missing before a start, and what the stack has
//! counted since.
//!
//! Neither needs a binary with the feature: the first says so where that is what is missing.

mod capture;
mod check;
mod stats;
mod trial;

pub use capture::write as write_capture;
pub use check::{Finding, Machine, State, check, report};
use check::{good, missing};
pub use stats::{read, table};
pub use trial::{TRIED, try_in_child};
