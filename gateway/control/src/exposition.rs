//! All counters as text for Prometheus (exposition format 0.0.4), made at each scrape.
//!
//! Counters are summed over workers. Only levels that matter per worker carry a `worker` label, so
//! that sixty workers make some hundred series and not some thousand. All labels come from closed
//! sets. Names, kinds, labels and helps are in one table ([`metrics`]); docs/metrics.md has the
//! same.

mod control;
mod families;
mod process;
mod stack;
mod table;
#[cfg(test)]
mod tests;
mod workers;

pub use control::{ControlSnapshot, HttpSnapshot, ReloadSnapshot, StartSnapshot};
pub use table::all as metrics;

use families::Families;
use gateway_auth::VerifierMetrics;
use gateway_core::metrics::WorkerMetrics;
use std::sync::Arc;

/// The text of one scrape.
pub fn exposition(
    workers: &[Arc<WorkerMetrics>],
    verifiers: &[Arc<VerifierMetrics>],
    control: &ControlSnapshot,
) -> String {
    collect(workers, verifiers, control).encode()
}

fn collect(
    workers: &[Arc<WorkerMetrics>],
    verifiers: &[Arc<VerifierMetrics>],
    control: &ControlSnapshot,
) -> Families {
    let mut families = Families::default();
    control::build(&mut families, control, workers.len());
    workers::collect(&mut families, workers, &control.start.listeners);
    stack::collect(&mut families, workers);
    let overloads = workers.iter().map(|one| one.verifier_overloads.get()).sum();
    control::verifiers(&mut families, verifiers, overloads);
    control::http(&mut families, control);
    process::collect(&mut families);
    families
}
