//! The outcome as text: the thresholds on the terminal, and summary.md.

use crate::comparison::{self, Comparison};
use crate::figures::slab;
use crate::orders::GatewayBackend;
use crate::outcome::{FULL_SIZE, Outcome};
use crate::peers;
use loadtest::RunError;
use loadtest::report::units::{bytes, number};
use loadtest::report::{json, stages, terminal};
use std::fmt::Write;
use std::path::Path;

/// The head of a table of thresholds.
pub(crate) const HEAD: [&str; 6] = ["measure", "threshold", "target", "measured", "verdict", "notes"];

/// The thresholds as a table for the terminal.
pub(crate) fn thresholds(outcome: &Outcome) -> String {
    let mut out = format!("\n{}\n", meant(outcome));
    terminal::table(
        &mut out,
        &HEAD[..5],
        &outcome.measurements.iter().map(|row| row.cells()[..5].to_vec()).collect::<Vec<_>>(),
    );
    for line in &outcome.noise {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// Whether the thresholds apply to this run.
pub(crate) fn meant(outcome: &Outcome) -> String {
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
fn markdown(outcome: &Outcome, comparison: &Comparison) -> String {
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
    let rows: Vec<Vec<String>> = outcome.measurements.iter().map(|row| row.cells()).collect();
    out += &table(&HEAD, &rows);
    out += "## Stages\n\nLatencies: deliveries from the intended time of an open-loop schedule; reconnects from the intended \
            close to ready again; closes to their confirmation. CPU is the gateway's; a piece is a delivery, reconnect, \
            connect, close or heartbeat, with everything else that the gateway did meanwhile.\n\n";
    out += &table(&stages::HEAD, &stages::rows(full));
    if let Some(small) = &outcome.small {
        let count = number(small.connect.ready as f64);
        let _ = writeln!(out, "The same gateway with {count} connections:\n");
        out += &table(&stages::HEAD, &stages::rows(small));
    }
    let own = outcome.backend == GatewayBackend::Dpdk.name();
    let idle = full.stages.iter().find(|stage| stage.flows.is_empty() && stage.kind == "hold");
    if let Some((each, parts)) = idle.and_then(|idle| slab(full, idle)).filter(|_| !own) {
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

/// Writes report.json and summary.md, which has a comparison with the runs that are stored next to
/// `folder`.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn store(outcome: &Outcome, folder: &str) -> Result<(), RunError> {
    outcome.store(folder)?;
    write(outcome, folder)
}

fn write(outcome: &Outcome, folder: &str) -> Result<(), RunError> {
    let comparison = comparison::stored_next_to(folder, outcome);
    json::write(&Path::new(folder).join("summary.md").to_string_lossy(), &markdown(outcome, &comparison))
}

/// Writes the summaries of the stored reports in `folders` anew, each with those next to it.
///
/// # Errors
/// A folder without a report, or one that cannot be written.
pub(crate) fn render(folders: &[String]) -> Result<(), RunError> {
    folders.iter().try_for_each(|folder| write(&Outcome::load(Path::new(folder))?, folder))
}
