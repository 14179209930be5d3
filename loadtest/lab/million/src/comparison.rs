//! A comparison with stored runs of the same stages over other backends and transports, shown in
//! each report.

use crate::outcome::Outcome;
use crate::thresholds::Measurement;
use loadtest::report::units::date;
use loadtest::report::units::number;
use std::path::{Path, PathBuf};

/// A table: the measures of one run, and the values of it and of others.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Comparison {
    /// The comparison of `own` with `others`, in their order and with the names of their folders.
    /// Empty without others.
    pub(crate) fn of(own: &Outcome, others: &[(String, &Outcome)]) -> Comparison {
        if others.is_empty() {
            return Comparison::default();
        }
        let all = || [own].into_iter().chain(others.iter().map(|(_, outcome)| *outcome));
        // Two runs of a day may differ in what no column says: the folder's name does.
        let named = others.iter().map(|(folder, outcome)| format!("{} ({folder})", name(outcome)));
        let mut measures: Vec<&str> = Vec::new();
        for row in all().flat_map(|outcome| &outcome.measurements) {
            if !measures.contains(&row.measure.as_str()) {
                measures.push(&row.measure);
            }
        }
        let found = |outcome: &Outcome, measure: &str| {
            let row = outcome.measurements.iter().find(|row: &&Measurement| row.measure == measure);
            row.map_or_else(|| "–".to_owned(), |row| row.found.clone())
        };
        let row = |measure: &&str| {
            [(*measure).to_owned()].into_iter().chain(all().map(|outcome| found(outcome, measure))).collect()
        };
        Comparison {
            head: ["measure".to_owned(), name(own)].into_iter().chain(named).collect(),
            rows: measures.iter().map(row).collect(),
        }
    }
}

/// A run's name, with its day: machines change.
fn name(outcome: &Outcome) -> String {
    let transport = if outcome.full.protocol.contains("WebSocket") { "WebSocket" } else { "TCP" };
    let (count, since) = (number(outcome.full.connect.ready as f64), date(outcome.full.started_at));
    let day = since.split(' ').next().unwrap_or_default();
    format!("{}, {transport}, {count}, {day}", outcome.backend)
}

/// The stored runs next to `folder`, by name: folders that have a report of this kind.
fn next_to(folder: &Path) -> Vec<(PathBuf, Outcome)> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let same = |one: &Path| one.file_name() == folder.file_name();
    let stored = |path: PathBuf| Outcome::load(&path).ok().map(|outcome| (path, outcome));
    folders.into_iter().filter(|path| !same(path)).filter_map(stored).collect()
}

/// The comparison of `own` with the runs that are stored next to `folder`.
pub(crate) fn stored_next_to(folder: &str, own: &Outcome) -> Comparison {
    let others = next_to(Path::new(folder));
    let folder = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Comparison::of(own, &others.iter().map(|(path, outcome)| (folder(path), outcome)).collect::<Vec<_>>())
}
