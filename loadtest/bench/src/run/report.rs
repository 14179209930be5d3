//! The results: figures of runs, medians of rows, ratios, and two files.

use super::plan::{Case, Load, Row};
use super::stats::Spread;
use super::verdict::Verdict;
use crate::client::Measured;
use serde::Serialize;
use std::fmt::Write;
use std::io;
use std::path::Path;

/// A generator's processor counts as full from here on.
const FULL: f64 = 0.95;

/// One run's figures.
#[derive(Clone, Debug, Serialize)]
pub struct RunFigures {
    /// Nanoseconds of the server's CPU per message.
    pub server_ns: f64,
    /// Nanoseconds of the generator's CPU per message.
    pub client_ns: f64,
    /// Messages a second.
    pub rate: f64,
    /// Frames a second that the server took and sent, where it sees them.
    pub frame_rate: Option<f64>,
    /// Segments that both ends sent again, and tail-loss probes, where they count them.
    pub retransmits: Option<u64>,
    /// See `retransmits`.
    pub probes: Option<u64>,
    /// Share of the time that the server ran; where it polls, that it had something to do.
    pub server_busy: f64,
    /// The same of the generator.
    pub client_busy: f64,
    /// Share of a processor that other processes used, of the two the larger.
    pub foreign: f64,
    /// Half of the answers came within so many microseconds.
    pub p50_us: f64,
    /// 99 of 100 answers came within so many microseconds.
    pub p99_us: f64,
    /// Other processes used too much in every try.
    pub noisy: bool,
    /// Tries that it took.
    pub tries: u32,
}

impl RunFigures {
    /// Of a measurement.
    pub fn new(measured: &Measured, noisy: bool, tries: u32) -> RunFigures {
        RunFigures {
            server_ns: measured.server_per_message(),
            client_ns: measured.client_per_message(),
            rate: measured.rate(),
            frame_rate: measured.frame_rate(),
            retransmits: measured.resent.map(|resent| resent.segments),
            probes: measured.resent.map(|resent| resent.probes),
            server_busy: measured.server_busy(),
            client_busy: measured.client_busy(),
            foreign: measured.foreign(),
            p50_us: measured.latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: measured.latency.value_at_quantile(0.99) as f64 / 1e3,
            noisy,
            tries,
        }
    }

    /// Whether the generator could not go faster and the server could have.
    pub fn generator_bound(&self) -> bool {
        self.client_busy + self.foreign >= FULL && self.server_busy < self.client_busy.min(FULL)
    }
}

/// A row of a case.
#[derive(Clone, Debug, Serialize)]
pub struct RowReport {
    /// Name of the row.
    pub name: &'static str,
    /// Name of its floor.
    pub floor: Option<&'static str>,
    /// The problem, where a run failed: a wrong, lost or doubled message above all.
    pub problem: Option<String>,
    /// All runs, by cycle.
    pub runs: Vec<RunFigures>,
    /// Nanoseconds of the server's CPU per message.
    pub server_ns: Option<Spread>,
    /// Messages a second.
    pub rate: Option<Spread>,
    /// CPU per message over the floor's of the same cycle.
    pub cpu_to_floor: Option<Spread>,
    /// Rate over the floor's of the same cycle.
    pub rate_to_floor: Option<Spread>,
}

impl RowReport {
    /// Whether the generator was the bottleneck in most runs.
    pub fn generator_bound(&self) -> bool {
        2 * self.runs.iter().filter(|run| run.generator_bound()).count() > self.runs.len()
    }

    /// Whether most runs were noisy.
    pub fn is_noisy(&self) -> bool {
        2 * self.runs.iter().filter(|run| run.noisy).count() > self.runs.len()
    }

    fn median(&self, figure: impl Fn(&RunFigures) -> f64) -> f64 {
        Spread::of(self.runs.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
    }
}

/// A case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// Name of the case.
    pub name: &'static str,
    /// Messages at once; `None` for a fan-out.
    pub depth: Option<usize>,
    /// Payload of a message, in bytes.
    pub size: usize,
    /// Its rows.
    pub rows: Vec<RowReport>,
}

impl CaseReport {
    /// Without runs yet.
    pub fn new(case: &Case, rows: &[&Row]) -> CaseReport {
        let row = |row: &&Row| RowReport {
            name: row.name,
            floor: row.floor,
            problem: None,
            runs: vec![],
            server_ns: None,
            rate: None,
            cpu_to_floor: None,
            rate_to_floor: None,
        };
        let depth = match case.load {
            Load::Echo { depth } => Some(depth),
            Load::FanOut => None,
        };
        CaseReport { name: case.name, depth, size: case.size, rows: rows.iter().map(row).collect() }
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Option<&RowReport> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// `figure` of one row over that of another, in each cycle.
    pub fn ratio(&self, row: &str, to: &str, figure: impl Fn(&RunFigures) -> f64) -> Option<Spread> {
        let pairs = self.row(row)?.runs.iter().zip(&self.row(to)?.runs);
        Spread::of(pairs.map(|(one, other)| figure(one) / figure(other)))
    }

    /// Computes the medians and ratios.
    pub fn summarise(&mut self) {
        for position in 0..self.rows.len() {
            let RowReport { name, floor, .. } = self.rows[position];
            let ratio =
                |figure: fn(&RunFigures) -> f64| floor.and_then(|floor| self.ratio(name, floor, figure));
            let (cpu, rate) = (ratio(|run| run.server_ns), ratio(|run| run.rate));
            let row = &mut self.rows[position];
            row.server_ns = Spread::of(row.runs.iter().map(|run| run.server_ns));
            row.rate = Spread::of(row.runs.iter().map(|run| run.rate));
            (row.cpu_to_floor, row.rate_to_floor) = (cpu, rate);
        }
    }

    /// The case as a table.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n\n", self.name);
        let columns =
            "| server | CPU/message | rate | CPU to floor (IQR) | rate to floor | p50 / p99 | note |";
        let _ = writeln!(out, "{columns}\n|---|---:|---:|---:|---:|---:|---|");
        for row in &self.rows {
            if row.runs.is_empty() {
                let _ = writeln!(out, "| {} | – | – | – | – | – | {} |", row.name, row.note());
                continue;
            }
            let _ = writeln!(
                out,
                "| {} | {:.0} ns | {:.0} k/s | {} | {} | {} / {} | {} |",
                row.name,
                row.median(|run| run.server_ns),
                row.median(|run| run.rate) / 1e3,
                row.cpu_to_floor.map_or("–".into(), |ratio| ratio_text(&ratio)),
                row.rate_to_floor.map_or("–".into(), |ratio| format!("{:.2}", ratio.median)),
                time(row.median(|run| run.p50_us)),
                time(row.median(|run| run.p99_us)),
                row.note(),
            );
        }
        out
    }
}

impl RowReport {
    fn note(&self) -> String {
        let noisy = self.runs.iter().filter(|run| run.noisy).count();
        let mut notes = vec![];
        if let Some(problem) = &self.problem {
            notes.push(format!("FAILED: {problem}"));
        }
        let frames = Spread::of(self.runs.iter().filter_map(|run| run.frame_rate));
        notes.extend(frames.map(|frames| format!("{:.0} k frames/s", frames.median / 1e3)));
        let sum = |count: fn(&RunFigures) -> Option<u64>| self.runs.iter().filter_map(count).sum::<u64>();
        if self.runs.iter().any(|run| run.retransmits.is_some()) {
            let (again, probes) = (sum(|run| run.retransmits), sum(|run| run.probes));
            notes.push(format!("{again} retransmissions, {probes} probes"));
        }
        if self.generator_bound() {
            notes.push("generator-bound".to_owned());
        }
        if noisy > 0 {
            notes.push(format!("{noisy} of {} noisy", self.runs.len()));
        }
        notes.join(", ")
    }
}

/// A ratio with its spread.
pub(super) fn ratio_text(ratio: &Spread) -> String {
    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
}

fn time(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1e3) }
}

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The machine of the measurement.
    pub machine: String,
    /// The method: cycles, windows, processors.
    pub method: String,
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// The verdicts on the targets.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Whether a run failed.
    pub fn has_problem(&self) -> bool {
        self.cases.iter().flat_map(|case| &case.rows).any(|row| row.problem.is_some())
    }

    /// The report as Markdown, which a terminal shows as well.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n{}\n", self.machine, self.method);
        for case in &self.cases {
            let _ = write!(out, "\n## {}", case.table());
        }
        if !self.verdicts.is_empty() {
            out.push_str("\n## Targets\n\n| target | case | found | |\n|---|---|---:|---|\n");
        }
        for verdict in &self.verdicts {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                verdict.target,
                verdict.case,
                verdict.found,
                verdict.word()
            );
        }
        out
    }
}

/// Writes `report.json` and `summary.md` into `folder`.
///
/// # Errors
/// Those of the file system.
pub fn write_files(report: &Report, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(folder.join("summary.md"), format!("# Benchmark\n\n{}", report.text()))
}
