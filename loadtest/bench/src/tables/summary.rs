//! A whole report as a page: `summary.md`, which a terminal shows as well.

use super::format::{median, micros, nanos, or_dash, rate, table as lines, words};
use super::servers;
use crate::run::{CaseReport, Outcome, Report, RowReport, Spread, verdicts};
use std::fmt::Write;

/// The page.
pub fn text(report: &Report) -> String {
    let part = |name| servers::table(name, report).unwrap_or_default();
    let mut out = format!("# Benchmark\n\n{}\n{KEY}\n## Bars\n\n{}", part("method"), part("bars"));
    for case in &report.cases {
        let _ = write!(out, "\n## {}\n\n{}", case.name, of_case(case));
    }
    if report.codec.is_some() {
        let _ = write!(out, "\n## Codec\n\n{}", part("codec"));
    }
    if !report.dispatch.is_empty() {
        let _ = write!(out, "\n## Dispatch delay at half load\n\n{}", part("dispatch"));
    }
    let met: Vec<Vec<String>> = verdicts(report)
        .into_iter()
        .filter(|verdict| verdict.outcome == Outcome::Met)
        .map(|verdict| vec![verdict.bar, verdict.case, verdict.found, verdict.reason])
        .collect();
    if !met.is_empty() {
        let _ = write!(out, "\n## Bars that are met\n\n{}", words(&["bar", "case", "found", ""], &met));
    }
    out
}

const KEY: &str = "A ratio is the median of all pairs of runs, with their quartiles and, in percent, what others used of a processor meanwhile. \
Processor time is user and system; busy time is what the work of a server that polls took.\n";

fn of_case(case: &CaseReport) -> String {
    let row = |row: &RowReport| {
        let beside_floor = |figure: fn(&crate::run::RunFigures) -> Option<f64>| {
            or_dash(
                row.floor
                    .as_ref()
                    .and_then(|floor| case.ratio(&row.name, floor, figure).map(|ratio| ratio.to_string())),
            )
        };
        vec![
            row.name.clone(),
            median(row.spread(|run| run.server.cpu_ns), nanos),
            median(row.spread(|run| run.server.busy_ns), nanos),
            median(row.spread(|run| Some(run.rate)), rate),
            // Two servers that poll compare by what their work took.
            beside_floor(|run| run.server.work_ns()),
            beside_floor(|run| Some(run.rate)),
            median(row.spread(|run| Some(run.p50_us)), micros),
            median(row.spread(|run| Some(run.p99_us)), micros),
            note(row),
        ]
    };
    let rows: Vec<Vec<String>> = case.rows.iter().map(row).collect();
    let head = [
        "server",
        "processor time a message",
        "busy time a message",
        "rate",
        "time to its floor's",
        "rate to its floor's",
        "p50",
        "p99",
        "note",
    ];
    lines(&head, &rows)
}

fn note(row: &RowReport) -> String {
    let mut notes = vec![];
    if let Some(problem) = &row.problem {
        let ending = if row.could_not_start { "could not run" } else { "FAILED" };
        notes.push(format!("{ending}: {problem}"));
    }
    let frames = Spread::of(row.runs.iter().filter_map(|run| run.frame_rate));
    notes.extend(frames.map(|frames| format!("{:.0} k frames/s", frames.median / 1e3)));
    if row.runs.iter().any(|run| run.retransmits.is_some()) {
        let again: u64 = row.runs.iter().filter_map(|run| run.retransmits).sum();
        let probes: u64 = row.runs.iter().filter_map(|run| run.probes).sum();
        notes.push(format!("{again} retransmissions, {probes} probes"));
    }
    if row.is_generator_bound() {
        notes.push("generator-bound".to_owned());
    }
    let noisy = row.runs.iter().filter(|run| run.noisy).count();
    if noisy > 0 {
        notes.push(format!("{noisy} of {} noisy", row.runs.len()));
    }
    notes.join(", ")
}
