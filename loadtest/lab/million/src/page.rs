//! The outcome as one self-contained page: the library's page of the full run, with the thresholds
//! before it and comparisons behind it.

use crate::comparison::Comparison;
use crate::outcome::Outcome;
use crate::thresholds::{Measurement, Verdict};
use crate::{peers, summary};
use loadtest::report::page::{Page, Table};
use loadtest::report::stages;
use loadtest::report::units::number;

/// The page.
pub(crate) fn render(outcome: &Outcome, comparison: &Comparison) -> String {
    let mut page = Page::of(&outcome.full);
    page.title = format!("{} connections", number(outcome.full.connect.ready as f64));
    let title = format!("What it must show: {}", summary::meant(outcome));
    page.before.insert(0, Table::new(&title, words(&summary::HEAD), cells(&outcome.measurements)).of_words());
    if let Some(small) = &outcome.small {
        let title = format!("The same stages with {} connections", number(small.connect.ready as f64));
        page.after.push(Table::new(&title, words(&stages::HEAD), stages::rows(small)));
    }
    let title = "The same stages on other backends: stored runs, each of its own day and noise";
    page.after.push(Table::new(title, comparison.head.clone(), comparison.rows.clone()));
    let rows = peers::ROWS.iter().map(|row| words(row)).collect();
    page.after.push(Table::new("What others publish", words(&peers::HEAD), rows).of_words());
    page.notes = outcome.noise.iter().chain(&outcome.notes).chain(&outcome.budget).cloned().collect();
    let missed = outcome.measurements.iter().filter(|row| row.verdict == Verdict::Missed).count();
    page.missed = match missed {
        0 => String::new(),
        1 => "1 threshold missed".to_owned(),
        many => format!("{many} thresholds missed"),
    };
    page.render()
}

fn words(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn cells(measurements: &[Measurement]) -> Vec<Vec<String>> {
    let row = |row: &Measurement| {
        let mut cells = row.cells();
        cells[4] = match row.verdict {
            Verdict::Missed => "!✗ missed".to_owned(),
            Verdict::TargetMet | Verdict::ThresholdMet => format!("✓ {}", row.verdict.words()),
            other => other.words().to_owned(),
        };
        cells
    };
    measurements.iter().map(row).collect()
}
