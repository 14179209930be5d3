//! The outcome as text: the thresholds on the terminal, and summary.md.

use super::comparison::Comparison;
use super::outcome::{FULL_SIZE, Outcome};
use super::peers;
use super::thresholds::{Measurement, cores, slab};
use crate::report::units::{bytes, number};
use crate::report::{Report, stages, terminal};
use crate::settings::GatewayBackend;
use std::fmt::Write;

/// The thresholds as a table for the terminal.
pub(super) fn thresholds(outcome: &Outcome) -> String {
    let row = |row: &Measurement| {
        vec![
            row.measure.clone(),
            row.threshold.clone(),
            row.target.clone(),
            row.found.clone(),
            row.verdict.words().to_owned(),
        ]
    };
    let mut out = format!("\n{}\n", meant(outcome));
    terminal::table(
        &mut out,
        &["measure", "threshold", "target", "found", ""],
        &outcome.measurements.iter().map(row).collect::<Vec<_>>(),
    );
    for line in &outcome.noise {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// Whether the thresholds apply to this run.
pub(super) fn meant(outcome: &Outcome) -> String {
    let count = outcome.full.connect.ready;
    if outcome.full.connect.asked >= FULL_SIZE {
        format!("{} connections, gateway on {}", number(count as f64), outcome.backend)
    } else {
        format!(
            "{} connections, gateway on {}: the thresholds are for a million, and shown for comparison",
            number(count as f64),
            outcome.backend
        )
    }
}

/// How busy the machine was with other work, and what limited the generator.
pub(super) fn noise(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut others: Vec<f64> = report.samples.iter().map(|sample| sample.other_cpu).collect();
    others.sort_unstable_by(f64::total_cmp);
    if let (Some(middle), Some(high)) = (others.get(others.len() / 2), others.get(others.len() * 9 / 10)) {
        let cores = report.machine.get("cores").cloned().unwrap_or_default();
        lines.push(format!(
            "Everything else on the machine's {cores} processors, the kernel's own threads included, used {middle:.2} of \
             them at the median and {high:.2} at the 90th percentile of all samples."
        ));
    }
    let mut waits = Vec::new();
    for stage in &report.stages {
        let Some(server) = &stage.server else { continue };
        let share = server.starved_seconds / stage.watched_seconds();
        if share > 0.05 && share > 0.2 * cores(stage).unwrap_or(0.0) {
            waits.push(format!(
                "{} {:.1} of {:.1} s",
                stage.name,
                server.starved_seconds,
                stage.watched_seconds()
            ));
        }
    }
    if !waits.is_empty() {
        lines.push(format!(
            "The gateway's threads, all together, waited for processors that others (the generator among them) had: {}. \
             Latencies of these stages are upper bounds.",
            waits.join(", ")
        ));
    }
    if report.server.as_ref().is_some_and(|server| server.is_busy_time) {
        lines.push(
            "The gateway polls: its workers use their processors whether or not there is something to do. CPU here is the time that \
             they had something to do, by their own count and the clock (what other threads took of it meanwhile is in it), and all \
             that its other threads used."
                .to_owned(),
        );
    }
    let held = &report.verdict.generator_reasons;
    lines.extend(held.iter().map(|reason| format!("Generator: {reason}.")));
    lines
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "/")).collect::<Vec<_>>().join(" | "))
}

fn table(head: &[impl ToString], rows: &[Vec<String>]) -> String {
    let mut out = row(&head.iter().map(ToString::to_string).collect::<Vec<_>>());
    out += &format!("|{}\n", "---|".repeat(head.len()));
    rows.iter().for_each(|cells| out += &row(cells));
    out + "\n"
}

/// The text of summary.md.
pub(super) fn markdown(outcome: &Outcome, comparison: &Comparison) -> String {
    let full = &outcome.full;
    let machine: Vec<String> = full.machine.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut out = format!(
        "# {} connections on one machine\n\n{}. {}.\n\nGateway and generator share the machine: {}. Command:\n\n    {}\n\n",
        number(full.connect.ready as f64),
        meant(outcome),
        full.protocol,
        machine.join(", "),
        full.command
    );
    let cells = |row: &Measurement| {
        let Measurement { measure, threshold, target, found, verdict, note } = row;
        vec![
            measure.clone(),
            threshold.clone(),
            target.clone(),
            found.clone(),
            verdict.words().to_owned(),
            note.clone(),
        ]
    };
    out += &table(
        &["measure", "threshold", "target", "measured", "verdict", "notes"],
        &outcome.measurements.iter().map(cells).collect::<Vec<_>>(),
    );
    out += "## Stages\n\nLatencies: deliveries from the intended time of an open-loop schedule; reconnects from the intended \
            close to ready again; closes to their confirmation. CPU is the gateway's; a piece is a delivery, reconnect, \
            connect, close or heartbeat, with everything else that the gateway did meanwhile.\n\n";
    out += &table(&stages::HEAD, &stages::rows(full));
    if let Some(small) = &outcome.small {
        let count = number(small.connect.ready as f64);
        let _ = writeln!(out, "The same gateway with {count} connections:\n");
        out += &table(&stages::HEAD, &stages::rows(small));
    }
    let own = outcome.backend == super::outcome::name(GatewayBackend::Dpdk);
    if let Some((each, parts)) = slab(full).filter(|_| !own) {
        let _ = writeln!(
            out,
            "## Kernel memory\n\n{each:.0} B a connection for both sides together, at the end of the idle stage:\n"
        );
        let rows: Vec<Vec<String>> =
            parts.iter().map(|(name, each)| vec![name.clone(), format!("{each:.0}")]).collect();
        out += &table(&["cache", "B a connection, both sides"], &rows);
    }
    let left = full.samples.iter().map(|sample| sample.memory_available).min().unwrap_or(0);
    let _ = writeln!(out, "MemAvailable was {} at the lowest.\n", bytes(left as f64));
    out += "## Noise, and what else touched the figures\n\n";
    for line in outcome.noise.iter().chain(&outcome.notes).chain(&outcome.budget) {
        let _ = writeln!(out, "- {line}");
    }
    if !comparison.rows.is_empty() {
        out += "\n## The same stages on other backends\n\nStored runs, each of its own day and noise.\n\n";
        out += table(&comparison.head, &comparison.rows).trim_end();
        out += "\n";
    }
    out += "\n## What others publish\n\nSelf-reported, on other machines, with other software around them: for a sense of scale, not a race.\n\n";
    let rows: Vec<Vec<String>> = peers::ROWS.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    out + table(&peers::HEAD, &rows).trim_end() + "\n"
}
