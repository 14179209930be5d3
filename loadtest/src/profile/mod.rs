//! Where the server spends its processor time: `--profile FILE` records its stacks with perf while
//! traffic flows, and stores them folded, one stack a line, as flame graph tools read them;
//! `loadtest profile-diff A B` compares two such files.

mod diff;
mod folded;
mod recorder;

pub(crate) use diff::Diff;
pub(crate) use folded::Folded;
pub(crate) use recorder::Profiler;
