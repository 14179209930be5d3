//! The verdict on a report: faults of the product, limits of the generator, goals.

use super::super::stages;
use super::super::units::{nanos, number};
use super::super::{Conservation, Generator, Report, Verdict};
use super::validity::{self, LAG_MAX};
use crate::report::CLOSED_HERE;

/// A busier thread is a bottleneck itself.
const BUSY_MAX: f64 = 0.9;
/// A thread that waits longer than this for a processor shares the machine with too much else.
const STARVED_MAX: f64 = 0.1;

/// What established connections must keep of their rate under a flood.
const KEPT_MIN: f64 = 0.8;

/// The product's faults and, separately, the generator's own limits.
pub(super) fn verdict(report: &Report) -> Verdict {
    let mut reasons = Vec::new();
    if report.server_gone {
        reasons.push(format!(
            "server gone: nothing listens at {} any more, so the run ended early; see the server's log",
            report.target
        ));
    }
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
    fault(sum(|c| c.answers.unanswered), "answers to operations never given");
    fault(sum(|c| c.answers.duplicated), "answers to operations given twice");
    fault(report.violations.values().sum(), "protocol violations");
    fault(report.connect.asked.saturating_sub(report.connect.ready), "connections never ready");
    let own = report.connect.lost.get(CLOSED_HERE).copied().unwrap_or(0);
    fault(report.connect.lost.values().sum::<u64>() - own, "connections closed by the server");
    fault(own, "connections closed by the generator, after a violation or for want of memory");
    let beats = report.heartbeats.clone().unwrap_or_default();
    fault(beats.missed, "heartbeats unanswered");
    fault(beats.duplicated, "heartbeats answered twice");
    let churn = report.churn.iter().chain(report.stages.iter().filter_map(|stage| stage.churn.as_ref()));
    fault(churn.map(|churn| churn.missed).sum(), "reconnects not over at the end of their stage");
    fault(beats.reordered, "heartbeats answered out of order");
    reasons.extend(stages::kept(report).filter(|kept| kept.share < KEPT_MIN).map(|kept| kept.words()));
    let limits = limits(report);
    Verdict {
        reasons,
        invalid: validity::invalid(report),
        unjudged: validity::unmeasured(report),
        stalled: validity::stalled(report),
        generator_bound: !limits.is_empty(),
        generator_reasons: limits,
        ..Verdict::default()
    }
}

/// What limited the generator, or the whole machine.
fn limits(report: &Report) -> Vec<String> {
    let mut limits = Vec::new();
    let stages: Vec<(&str, &Generator)> = match report.stages.len() {
        0 => vec![("", &report.generator)],
        _ => report.stages.iter().map(|stage| (stage.name.as_str(), &stage.generator)).collect(),
    };
    let busy = stages.iter().map(|(name, generator)| (*name, &generator.busy[..]));
    limits.extend(over(busy, BUSY_MAX, "busy", ""));
    let starved = stages.iter().map(|(name, generator)| (*name, &generator.starved[..]));
    limits.extend(over(starved, STARVED_MAX, "waiting", " for a processor that others had"));
    limits.extend(stages.iter().filter_map(|(name, generator)| full(name, generator)));
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

/// Workers over a limit: the worst of each stage by name, all stages in one line.
fn over<'a>(
    stages: impl Iterator<Item = (&'a str, &'a [f64])>,
    max: f64,
    what: &str,
    why: &str,
) -> Option<String> {
    let worst = |(name, shares): (&str, &[f64])| {
        let over = shares.iter().filter(|share| **share > max).count();
        let (number, share) = shares.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let percent = share * 100.0;
        let text = match name {
            "" => format!(
                "worker {number} {percent:.0} % of the time, {over} of {} over the limit",
                shares.len()
            ),
            name => format!("{name} {percent:.0} %"),
        };
        (over > 0).then_some(text)
    };
    let found: Vec<String> = stages.filter_map(worst).collect();
    let whose = if found.len() > 1 { ", the worst worker of each stage" } else { "" };
    (!found.is_empty()).then(|| format!("{what}{why}{whose}: {}", found.join(", ")))
}

/// Workers that share all of the machine's processors between them.
fn full(stage: &str, generator: &Generator) -> Option<String> {
    let sum: f64 = generator.busy.iter().sum();
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let all = generator.busy.len() > 1 && sum > BUSY_MAX * cores;
    all.then(|| format!("{stage}: the workers together kept {sum:.2} of {cores:.0} processors busy"))
}
