//! A report: the figures of all runs, by case and row, and two files.

use super::figures::{Ratio, RunFigures};
use super::plan::{Case, Load, Row};
use super::stats::Spread;
use super::verdict::Verdict;
use crate::codec::CodecReport;
use crate::dispatch::LoadFigures;
use crate::exit::Exit;
use serde::{Deserialize, Serialize};

/// What a report's `schema` says. Reports without one are of before, see [`super::stored`].
pub const SCHEMA: &str = "bench/2";

/// A row of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowReport {
    /// Name of the row.
    pub name: String,
    /// Name of its floor.
    pub floor: Option<String>,
    /// The problem, where a run failed: a wrong, lost or doubled message above all.
    pub problem: Option<String>,
    /// The problem is of a run that could not begin, and says nothing about the server.
    #[serde(default)]
    pub could_not_start: bool,
    /// All runs, by cycle.
    pub runs: Vec<RunFigures>,
}

impl RowReport {
    /// Whether the generator was the bottleneck in most runs.
    pub fn is_generator_bound(&self) -> bool {
        2 * self.runs.iter().filter(|run| run.is_generator_bound()).count() > self.runs.len()
    }

    /// Whether most runs were noisy.
    pub fn is_noisy(&self) -> bool {
        2 * self.runs.iter().filter(|run| run.noisy).count() > self.runs.len()
    }

    /// The median of a figure, and its quartiles; `None` without a run that has it.
    pub fn spread(&self, figure: impl Fn(&RunFigures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure))
    }
}

/// A case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// Name of the case.
    pub name: String,
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
            name: row.name.to_owned(),
            floor: row.floor.map(str::to_owned),
            problem: None,
            could_not_start: false,
            runs: vec![],
        };
        let depth = match case.load {
            Load::Echo { depth } => Some(depth),
            Load::FanOut => None,
        };
        CaseReport {
            name: case.name.to_owned(),
            depth,
            size: case.size,
            rows: rows.iter().map(row).collect(),
        }
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Option<&RowReport> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// `figure` of one row over that of another, in all cycles that have both.
    pub fn ratio(&self, row: &str, to: &str, figure: impl Fn(&RunFigures) -> Option<f64>) -> Option<Ratio> {
        Ratio::of(self.row(row)?.runs.iter().zip(&self.row(to)?.runs), figure)
    }
}

/// Delays from readiness to handler of one row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DispatchRow {
    /// Name of the row.
    pub name: String,
    /// The problem, where a window failed.
    pub problem: Option<String>,
    /// The problem is of a window that could not begin.
    #[serde(default)]
    pub could_not_start: bool,
    /// All windows, by cycle.
    pub windows: Vec<LoadFigures>,
}

/// Everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The day of the measurement, such as 2026-12-01; empty in a report of before.
    #[serde(default)]
    pub day: String,
    /// The machine of the measurement.
    pub machine: String,
    /// The method: cycles, windows, processors.
    pub method: String,
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// The codec beside a protobuf codec, where it was measured.
    #[serde(default)]
    pub codec: Option<CodecReport>,
    /// Delays from readiness to handler, where they were measured.
    #[serde(default)]
    pub dispatch: Vec<DispatchRow>,
    /// The verdicts on the bars.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// The problems of runs: a wrong answer, or what could not start.
    pub fn problems(&self) -> impl Iterator<Item = (Exit, String)> {
        let exit = |could_not_start| if could_not_start { Exit::CouldNotRun } else { Exit::Missed };
        let rows = self.cases.iter().flat_map(|case| case.rows.iter().map(move |row| (case, row)));
        let of_rows = rows.filter_map(move |(case, row)| {
            let text = format!("{} · {}: {}", case.name, row.name, row.problem.as_ref()?);
            Some((exit(row.could_not_start), text))
        });
        let of_delays = self.dispatch.iter().filter_map(move |row| {
            let text = format!("dispatch delay · {}: {}", row.name, row.problem.as_ref()?);
            Some((exit(row.could_not_start), text))
        });
        of_rows.chain(of_delays)
    }

    /// Whether anything was measured.
    fn has_samples(&self) -> bool {
        let ran = self.cases.iter().flat_map(|case| &case.rows).any(|row| !row.runs.is_empty());
        ran || self.codec.is_some() || self.dispatch.iter().any(|row| !row.windows.is_empty())
    }

    /// How the run ended. Without a single run it is no verdict; with runs of rows that no bar
    /// compares, all went well.
    pub fn exit(&self) -> Exit {
        let bars = self.verdicts.iter().map(|verdict| verdict.outcome.exit());
        let all = bars.chain(self.problems().map(|(exit, _)| exit));
        all.min().unwrap_or(if self.has_samples() { Exit::Met } else { Exit::CouldNotRun })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::figures::tests::run_of;

    #[test]
    fn nothing_measured_is_no_verdict_and_rows_without_a_bar_are_no_failure() {
        assert_eq!(Report::default().exit(), Exit::CouldNotRun);
        let row = |problem: Option<&str>| RowReport {
            name: "gateway, dpdk".to_owned(),
            floor: None,
            problem: problem.map(str::to_owned),
            could_not_start: false,
            runs: vec![run_of(Some(1.0), None, 1.0)],
        };
        let report = |row| Report {
            cases: vec![CaseReport { name: "case".to_owned(), depth: None, size: 64, rows: vec![row] }],
            ..Report::default()
        };
        assert_eq!(report(row(None)).exit(), Exit::Met);
        assert_eq!(report(row(Some("byte 7"))).exit(), Exit::Missed);
    }
}
