//! Two builds side by side: `bench --against OLD`, where OLD is the other build's `bench`, with its
//! `bench-server` next to it.
//!
//! ```text
//!   for each case:  pair 1: the other build, this one   pair 2: this one, the other build   …
//!   a ratio: the median of the ratios within the pairs, this build's over the other's
//! ```
//!
//! Each run is a whole `bench` of its build, one cycle of one row in one case, so both ends of a
//! connection are of one build. Its results are read from its `report.json`, whose fields an older
//! build may lack.

use super::stats::Spread;
use crate::client::Problem;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The comparison to make.
#[derive(Clone, Debug)]
pub struct Against {
    /// The `bench` of the other build, and of this one.
    pub builds: [PathBuf; 2],
    /// Pairs of runs.
    pub pairs: usize,
    /// Further arguments for both.
    pub words: Vec<String>,
}

/// One run of one build.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BuildRun {
    /// Nanoseconds of the server's work per message: processor time, or busy time where it polls
    /// and whatever the build is.
    pub work_ns: f64,
    /// Messages a second.
    pub rate: f64,
    /// 99 of 100 answers came within so many microseconds.
    pub p99_us: f64,
    /// Segments that were sent again, where that build counts them.
    pub retransmits: Option<u64>,
    /// Tail-loss probes.
    pub probes: Option<u64>,
    /// Frames a second that the server took and sent.
    pub frame_rate: Option<f64>,
    /// Share of a processor that other processes used.
    pub foreign: f64,
}

impl BuildRun {
    fn of(run: &Value) -> Option<BuildRun> {
        let number = |name: &str| run.get(name).and_then(Value::as_f64);
        let count = |name: &str| run.get(name).and_then(Value::as_u64);
        Some(BuildRun {
            // A build of before both times had names of their own has the one that is work.
            work_ns: number("busy_ns").or_else(|| number("cpu_ns")).or_else(|| number("server_ns"))?,
            rate: number("rate")?,
            p99_us: number("p99_us")?,
            retransmits: count("retransmits"),
            probes: count("probes"),
            frame_rate: number("frame_rate"),
            foreign: number("foreign").unwrap_or(0.0),
        })
    }
}

/// All pairs of one row in one case: the other build's run, and this one's.
#[derive(Clone, Debug, Serialize)]
pub struct Pairs {
    /// The case.
    pub case: String,
    /// The row.
    pub row: String,
    /// The runs.
    pub runs: Vec<[BuildRun; 2]>,
}

impl Pairs {
    fn ratio(&self, figure: fn(&BuildRun) -> f64) -> Option<Spread> {
        Spread::of(self.runs.iter().map(|[other, this]| figure(this) / figure(other)))
    }

    fn medians(&self, figure: fn(&BuildRun) -> f64) -> [f64; 2] {
        [0, 1].map(|build| {
            Spread::of(self.runs.iter().map(|pair| figure(&pair[build]))).map_or(f64::NAN, |one| one.median)
        })
    }

    /// A count over all runs of this build; `None` where it is not counted.
    fn sum(&self, count: fn(&BuildRun) -> Option<u64>) -> Option<u64> {
        self.runs.iter().map(|pair| count(&pair[1])).sum()
    }

    fn line(&self) -> String {
        let [cpu, rate, p99] = [
            self.medians(|run| run.work_ns),
            self.medians(|run| run.rate / 1e3),
            self.medians(|run| run.p99_us / 1e3),
        ];
        let ratio = |figure| {
            self.ratio(figure).map_or("–".to_owned(), |ratio| {
                format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
            })
        };
        let again = match (self.sum(|run| run.retransmits), self.sum(|run| run.probes)) {
            (Some(again), Some(probes)) => format!("{again} / {probes}"),
            _ => "–".to_owned(),
        };
        format!(
            "| {} | {} | {:.0} → {:.0} | {} | {:.0} → {:.0} | {} | {:.2} → {:.2} | {again} | {} |",
            self.case,
            self.row,
            rate[0],
            rate[1],
            ratio(|run| run.rate),
            cpu[0],
            cpu[1],
            ratio(|run| run.work_ns),
            p99[0],
            p99[1],
            self.runs.len(),
        )
    }
}

/// The table of all pairs.
pub fn table(all: &[Pairs]) -> String {
    let mut out =
        "| case | row | rate, k/s | rate, ratio (IQR) | work a message, ns | work, ratio (IQR) | p99, ms | \
        retransmissions / probes | pairs |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for pairs in all {
        let _ = writeln!(out, "{}", pairs.line());
    }
    out
}

impl Against {
    /// Runs `case` in pairs; calls `report` for each run.
    ///
    /// # Errors
    /// A run that fails, or that has no such row.
    pub fn run(&self, case: &str, mut report: impl FnMut(&str)) -> Result<Vec<Pairs>, Problem> {
        let mut all: Vec<Pairs> = vec![];
        for pair in 0..self.pairs {
            let mut runs = [vec![], vec![]];
            // The machine's drift hits the first of a pair as often as the second.
            for build in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
                runs[build] = self.one(build, case)?;
                for (row, run) in &runs[build] {
                    let name = ["other", "this "][build];
                    report(&format!(
                        "{case} · {} · {name} · {row:16} {:7.0} ns  {:6.0} k/s  p99 {:6.2} ms  foreign {:2.0} %",
                        pair + 1,
                        run.work_ns,
                        run.rate / 1e3,
                        run.p99_us / 1e3,
                        run.foreign * 1e2,
                    ));
                }
            }
            let [others, these] = runs;
            for (row, this) in these {
                let Some((_, other)) = others.iter().find(|(name, _)| *name == row) else { continue };
                let both = [*other, this];
                match all.iter_mut().find(|pairs| pairs.row == row) {
                    Some(pairs) => pairs.runs.push(both),
                    None => all.push(Pairs { case: case.to_owned(), row, runs: vec![both] }),
                }
            }
        }
        if all.is_empty() { Err(Problem(format!("{case}: no row that both builds have"))) } else { Ok(all) }
    }

    /// One cycle of one build.
    fn one(&self, build: usize, case: &str) -> Result<Vec<(String, BuildRun)>, Problem> {
        let folder = std::env::temp_dir().join(format!("bench-against-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder); // the last run's
        let program = &self.builds[build];
        // Bars that it misses do not matter here.
        Command::new(program)
            .args(["--cycles", "1", "--case", case, "--out"])
            .arg(&folder)
            .args(&self.words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| Problem::of(&program.display().to_string(), error))?;
        let report = read(&folder.join("report.json"));
        let _ = std::fs::remove_dir_all(&folder);
        report.map_err(|error| Problem(format!("{} · {case}: {error}", program.display())))
    }
}

fn read(path: &Path) -> Result<Vec<(String, BuildRun)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("no report: {error}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let rows = report["cases"][0]["rows"].as_array().ok_or("a report without rows")?;
    let mut runs = vec![];
    for row in rows {
        if let Some(problem) = row["problem"].as_str() {
            return Err(format!("{}: {problem}", row["name"]));
        }
        let run = BuildRun::of(&row["runs"][0]).ok_or("a row without a run")?;
        runs.push((row["name"].as_str().unwrap_or_default().to_owned(), run));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_of_both_kinds_of_report_compare_by_work() {
        let run = |more: &str| {
            let text = format!(r#"{{"rate": 1.0, "p99_us": 1.0, {more}}}"#);
            BuildRun::of(&serde_json::from_str(&text).unwrap()).unwrap().work_ns
        };
        assert_eq!(run(r#""server_ns": 5.0"#), 5.0);
        assert_eq!(run(r#""cpu_ns": 6.0, "busy_ns": null"#), 6.0);
        assert_eq!(run(r#""cpu_ns": 9.0, "busy_ns": 5.0"#), 5.0);
    }

    #[test]
    fn ratios_are_within_pairs_and_counts_are_of_this_build() {
        let run = |rate: f64, again| BuildRun {
            work_ns: 1e9 / rate,
            rate,
            p99_us: 1000.0,
            retransmits: again,
            probes: again,
            frame_rate: None,
            foreign: 0.0,
        };
        let pairs = Pairs {
            case: "case".into(),
            row: "row".into(),
            runs: vec![
                [run(1e6, None), run(2e6, Some(1))],
                [run(2e6, None), run(6e6, Some(2))],
                [run(9e6, None), run(9e6, Some(0))],
            ],
        };
        assert_eq!(pairs.ratio(|run| run.rate).unwrap().median, 2.0);
        let line = pairs.line();
        assert!(line.contains("2000 → 6000") && line.contains("2.00 (1.50–2.50)"), "{line}");
        assert!(line.contains("| 3 / 3 |"), "{line}");
    }
}
