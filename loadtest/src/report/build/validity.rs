//! Whether times say something about the server: what the generator did itself.

use super::super::units::nanos;
use super::super::{Latency, Report};

/// A schedule that slips further than this at its 99th percentile is not kept, in nanoseconds.
pub(super) const LAG_MAX: u64 = 1_000_000;
/// A generator that stood still for a larger share of the time moves the 99th percentile itself.
const BLIND_MAX: f64 = 0.01;
/// The part of a latency that the generator's own send lag may be.
const LAG_SHARE_MAX: f64 = 0.1;
/// A latency from which on a stall is looked for, in ns, and how many medians it is at least.
const STALL_MIN: u64 = 100_000_000;
const STALL_MEDIANS: u64 = 10;

/// The share of the measured time in which the generator's loop stood still.
pub(super) fn blind_share(report: &Report) -> f64 {
    report.generator.gaps.total as f64 / 1e9 / report.measured_seconds.max(1e-9)
}

/// Why times say nothing about the server.
pub(super) fn invalid(report: &Report) -> Vec<String> {
    let mut reasons = Vec::new();
    let gaps = report.generator.gaps;
    if gaps.count > 0 && blind_share(report) > BLIND_MAX {
        reasons.push(format!(
            "the generator stood still {} times, for {} of {:.1} s, at most {}",
            gaps.count,
            nanos(gaps.total as f64),
            report.measured_seconds,
            nanos(gaps.longest as f64)
        ));
    }
    for flow in report.flows.iter().filter(|flow| flow.offered.is_some()) {
        let share = flow.lag.p99 as f64 / flow.latency.p99.max(1) as f64;
        if flow.lag.p99 > LAG_MAX && share > LAG_SHARE_MAX {
            let (lag, latency) = (nanos(flow.lag.p99 as f64), nanos(flow.latency.p99 as f64));
            let name = &flow.name;
            reasons.push(format!(
                "the generator sent {name} late: send lag p99 {lag} of a latency of {latency}"
            ));
        }
    }
    reasons
}

/// What a run with traffic, or with reconnects, has no sample of.
pub(super) fn unmeasured(report: &Report) -> Vec<String> {
    let mut latencies = report.flows.iter().map(|flow| &flow.latency);
    let churn = report.churn.as_ref().filter(|_| report.flows.is_empty()).map(|churn| &churn.latency);
    let nothing = |latency: &Latency| latency.count == 0;
    let is_empty = match churn {
        Some(latency) => nothing(latency),
        None => !report.flows.is_empty() && latencies.all(nothing),
    };
    if is_empty { vec!["nothing was measured".to_owned()] } else { Vec::new() }
}

/// Which side stood still, if one did.
pub(super) fn stalled(report: &Report) -> String {
    let requests = report.churn.iter().chain(&report.heartbeats).map(|requests| &requests.latency);
    let all = report.flows.iter().map(|flow| &flow.latency).chain(requests);
    let long = |latency: &&Latency| latency.max >= STALL_MIN.max(STALL_MEDIANS * latency.p50);
    let longest = all.filter(long).map(|latency| latency.max).max().unwrap_or(0);
    let gap = report.generator.gaps.longest;
    let (latency, own) = (nanos(longest as f64), nanos(gap as f64));
    match longest {
        0 => String::new(),
        _ if gap >= longest / 2 => format!("the generator, for {own}; the slowest answer took {latency}"),
        _ if gap == 0 => format!(
            "the server, or the way to it: the slowest answer took {latency}, and the generator had no gap"
        ),
        _ => format!(
            "the server, or the way to it: the slowest answer took {latency}, and the generator's longest gap {own}"
        ),
    }
}
