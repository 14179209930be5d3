//! What to make of a report: faults of the product, limits of the generator, goals.

use super::super::units::{nanos, number};
use super::super::{Conservation, FlowReport, Generator, Latency, Report, Verdict};
use crate::goals::{Goal, Measure, Outcome};

/// A thread busier than this is the bottleneck itself.
const BUSY_MAX: f64 = 0.9;
/// A schedule that slips further than this at its 99th percentile is not kept, in nanoseconds.
const LAG_MAX: u64 = 1_000_000;
/// A thread that waits longer than this for a processor shares the machine with too much else.
const STARVED_MAX: f64 = 0.1;

/// The product's faults, and beside them the generator's own limits.
pub(super) fn verdict(report: &Report) -> Verdict {
    let mut reasons = Vec::new();
    let mut fault = |count: u64, what: &str| {
        if count > 0 {
            reasons.push(format!("{} {what}", number(count as f64)));
        }
    };
    let sum =
        |of: fn(&Conservation) -> u64| report.flows.iter().map(|flow| of(&flow.conservation)).sum::<u64>();
    let lost = if report.unsettled {
        "deliveries still missing when settling ended (see --settle)"
    } else {
        "deliveries lost"
    };
    fault(sum(|c| c.lost), lost);
    fault(sum(|c| c.duplicated), "delivered twice");
    fault(sum(|c| c.reordered), "out of order");
    fault(sum(|c| c.misdelivered), "misdelivered");
    fault(sum(|c| c.damaged), "damaged");
    fault(sum(|c| c.refused), "operations refused");
    fault(report.violations.values().sum(), "protocol violations");
    fault(report.connect.asked.saturating_sub(report.connect.ready), "connections never ready");
    fault(report.connect.lost.values().sum(), "connections closed by the server");
    let beats = report.heartbeats.as_ref().map_or(0, |beats| beats.missed);
    fault(beats, "heartbeats unanswered");
    let limits = limits(report);
    Verdict {
        passed: reasons.is_empty(),
        reasons,
        generator_bound: !limits.is_empty(),
        generator_reasons: limits,
    }
}

/// What held the generator, or the whole machine, back.
fn limits(report: &Report) -> Vec<String> {
    let mut limits = Vec::new();
    held_back(&report.generator, "", &mut limits);
    for stage in &report.stages {
        held_back(&stage.generator, &format!("{}: ", stage.name), &mut limits);
    }
    for flow in report.flows.iter().filter(|flow| flow.offered.is_some() && flow.lag.p99 > LAG_MAX) {
        let lag = nanos(flow.lag.p99 as f64);
        let waited = if flow.answer.is_some() {
            " (pushes may have waited for room in the HTTP pipeline)"
        } else {
            ""
        };
        limits.push(format!("the schedule of {} slipped, send lag p99 {lag}{waited}", flow.name));
    }
    limits
}

/// Workers over a limit: the one by name, or how many and the worst.
fn held_back(generator: &Generator, stage: &str, limits: &mut Vec<String>) {
    let mut over = |shares: &[f64], max: f64, verb: &str, what: &str| {
        let over: Vec<(usize, f64)> =
            shares.iter().copied().enumerate().filter(|(_, share)| *share > max).collect();
        let Some(worst) = over.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
        let (number, percent) = (worst.0, worst.1 * 100.0);
        limits.push(match over.len() {
            1 => format!("{stage}worker {number} {verb} {percent:.0} % of the time{what}"),
            count => format!(
                "{stage}{count} of {} workers {verb} up to {percent:.0} % of the time{what} (worst: worker {number})",
                shares.len()
            ),
        });
    };
    over(&generator.busy, BUSY_MAX, "was busy", "");
    over(&generator.starved, STARVED_MAX, "waited", " for a processor that others had");
    let sum: f64 = generator.busy.iter().sum();
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    if generator.busy.len() > 1 && sum > BUSY_MAX * cores {
        limits.push(format!("{stage}the workers together kept {sum:.2} of {cores:.0} processors busy"));
    }
}

pub(super) fn judge(goal: &Goal, report: &Report) -> Outcome {
    let worst = |of: &dyn Fn(&FlowReport) -> f64| report.flows.iter().map(of).fold(f64::NAN, f64::max);
    let least = |of: &dyn Fn(&FlowReport) -> f64| report.flows.iter().map(of).fold(f64::NAN, f64::min);
    let others = report.churn.as_ref().or(report.heartbeats.as_ref()).map(|requests| &requests.latency);
    let latency = |of: &dyn Fn(&Latency) -> u64| {
        let flows = worst(&|flow| of(&flow.latency) as f64);
        if flows.is_nan() { of(others.unwrap_or(&report.connect.ready_latency)) as f64 } else { flows }
    };
    let found = match goal.measure {
        Measure::Latency(percentile) => latency(&|latency| latency.at(percentile)),
        Measure::LatencyMax => latency(&|latency| latency.max),
        Measure::Connect(percentile) => report.connect.ready_latency.at(percentile) as f64,
        Measure::Rate => {
            let ratio = least(&|flow| flow.ratio);
            let churn = report.churn.as_ref().map(|churn| churn.answered as f64 / churn.sent.max(1) as f64);
            if ratio.is_nan() { churn.unwrap_or(f64::NAN) } else { ratio }
        }
        Measure::Loss => report.flows.iter().map(|flow| flow.conservation.lost).sum::<u64>() as f64,
        Measure::Violations => violations(report),
        Measure::Ready => report.connect.ready as f64 / report.connect.asked.max(1) as f64,
        Measure::Cpu => report.server.as_ref().map_or(f64::NAN, |server| server.cpu_nanos_per_message),
        Measure::Memory => report.server.as_ref().map_or(f64::NAN, |server| server.rss_bytes_per_connection),
        Measure::Throughput => report.flows.iter().map(|flow| flow.delivered).sum(),
    };
    if found.is_nan() {
        return Outcome { goal: goal.text.clone(), found: "nothing to measure it by".to_owned(), met: false };
    }
    Outcome { goal: goal.text.clone(), found: goal.show(found), met: goal.is_met(found) }
}

fn violations(report: &Report) -> f64 {
    let of = |c: &Conservation| c.duplicated + c.reordered + c.misdelivered + c.damaged;
    let flows: u64 = report.flows.iter().map(|flow| of(&flow.conservation)).sum();
    (flows + report.violations.values().sum::<u64>()) as f64
}
