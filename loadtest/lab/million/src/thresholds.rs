//! What the run must achieve: `thresholds.toml`, and what was found for each of its rows.

use crate::figures::{Figures, is_known};
use loadtest::RunError;
use serde::{Deserialize, Serialize};

/// The rows of a run unless others are named.
const BUILT_IN: &str = include_str!("../thresholds.toml");

/// One measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) measure: String,
    #[serde(rename = "bar")]
    pub(crate) threshold: String,
    #[serde(rename = "aim")]
    pub(crate) target: String,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
    pub(crate) note: String,
}

impl Measurement {
    /// Measure, threshold, target, found, verdict, note.
    pub(crate) fn cells(&self) -> Vec<String> {
        let Measurement { measure, threshold, target, found, verdict, note } = self;
        [measure, threshold, target, found, verdict.words(), note].map(str::to_owned).to_vec()
    }
}

/// The verdict on a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    #[serde(rename = "aim")]
    TargetMet,
    #[serde(rename = "bar")]
    ThresholdMet,
    Missed,
    Reported,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Verdict::TargetMet => "target met",
            Verdict::ThresholdMet => "threshold met",
            Verdict::Missed => "missed",
            Verdict::Reported => "reported",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// The runs that a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Only {
    /// With a kernel between gateway and clients.
    Kernel,
    /// Without one.
    Past,
}

/// A row of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    measure: String,
    value: String,
    only: Option<Only>,
    #[serde(default)]
    more: bool,
    bar: Option<String>,
    aim: Option<String>,
    #[serde(default)]
    note: String,
}

/// The rows of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thresholds {
    threshold: Vec<Row>,
}

impl Thresholds {
    /// Those of a file; without one, the program's own.
    ///
    /// # Errors
    /// It cannot be read, or names a figure or a bound that does not exist.
    pub(crate) fn load(path: Option<&str>) -> Result<Thresholds, RunError> {
        let Some(path) = path else { return parse("thresholds.toml", BUILT_IN) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            RunError::new(
                format!("cannot read {path}: {error}"),
                "name a file such as loadtest/lab/million/thresholds.toml",
            )
        })?;
        parse(path, &text)
    }

    /// What was found. `past`: there was no kernel between the gateway and its clients.
    pub(crate) fn judge(&self, figures: &Figures<'_>, past: bool) -> Vec<Measurement> {
        let here = if past { Only::Past } else { Only::Kernel };
        let rows = self.threshold.iter().filter(|row| row.only.is_none_or(|only| only == here));
        rows.map(|row| row.judge(figures)).collect()
    }
}

fn parse(path: &str, text: &str) -> Result<Thresholds, RunError> {
    let advice = "loadtest/lab/million/thresholds.toml says how they are written";
    let thresholds: Thresholds =
        toml::from_str(text).map_err(|error| RunError::new(format!("{path}: {error}"), advice))?;
    for row in &thresholds.threshold {
        let wrong = |what: String| RunError::new(format!("{path}, {}: {what}", row.measure), advice);
        let named = row.value.split(" / ").chain(placeholders(&row.note));
        if let Some(unknown) = named.into_iter().find(|name| !is_known(name)) {
            return Err(wrong(format!("no figure `{unknown}`")));
        }
        if let Some(bound) = row.bar.iter().chain(&row.aim).find(|bound| bound_of(bound).is_none()) {
            return Err(wrong(format!("`{bound}` is no bound")));
        }
    }
    Ok(thresholds)
}

/// The names in braces.
fn placeholders(note: &str) -> impl Iterator<Item = &str> {
    note.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// The number of a bound such as `20 000/s`, `1.5 ms`, `15 %`.
fn bound_of(text: &str) -> Option<f64> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let number: f64 = text[..end].replace([' ', '\u{202f}'], "").parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "×" | "/s" | "ns" | "B" => 1.0,
        "µs" | "KB" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "%" => 0.01,
        _ => return None,
    };
    Some(number * factor)
}

impl Row {
    fn judge(&self, figures: &Figures<'_>) -> Measurement {
        let found = match self.value.split_once(" / ") {
            Some((one, other)) => {
                figures.of(one).zip(figures.of(other)).and_then(|(one, other)| one.over(&other))
            }
            None => figures.of(&self.value),
        };
        let value = found.as_ref().and_then(|found| found.value);
        let met = |bound: &Option<String>| {
            let bound = bound.as_deref().and_then(bound_of);
            value
                .zip(bound)
                .is_some_and(|(value, bound)| if self.more { value >= bound } else { value <= bound })
        };
        let verdict = match value {
            None => Verdict::NotMeasured,
            Some(_) if met(&self.aim) => Verdict::TargetMet,
            Some(_) if met(&self.bar) => Verdict::ThresholdMet,
            Some(_) if self.bar.is_none() => Verdict::Reported,
            Some(_) => Verdict::Missed,
        };
        let sign = if self.more { "≥" } else { "≤" };
        let words = |bound: &Option<String>| match bound.as_deref() {
            None => "–".to_owned(),
            Some("0") => "0".to_owned(),
            Some(bound) => format!("{sign} {bound}"),
        };
        Measurement {
            measure: self.measure.clone(),
            threshold: words(&self.bar),
            target: words(&self.aim),
            found: found.map_or_else(|| "–".to_owned(), |found| found.text),
            verdict,
            note: self.filled(figures),
        }
    }

    /// The note with its figures.
    fn filled(&self, figures: &Figures<'_>) -> String {
        let mut note = self.note.clone();
        for name in placeholders(&self.note) {
            let text = figures.of(name).map_or_else(|| "–".to_owned(), |figure| figure.text);
            note = note.replace(&format!("{{{name}}}"), &text);
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use loadtest::report::{Report, Server, StageReport};
    use std::path::Path;

    fn report(cores: f64, messages: u64) -> Report {
        let server = |cpu_seconds, messages| {
            Some(Server { cpu_seconds, messages, rss_after: 600 << 20, ..Server::default() })
        };
        let stage = |name: &str, cpu, messages| StageReport {
            name: name.to_owned(),
            to: 10.0,
            server: server(cpu, messages),
            ..StageReport::default()
        };
        Report {
            stages: vec![stage("idle", 1.0, 5), stage("push", cores * 10.0, messages)],
            ..Report::default()
        }
    }

    fn judged(text: &str, full: &Report, small: Option<&Report>) -> Measurement {
        let thresholds = parse("x.toml", &format!("[[threshold]]\nmeasure = \"m\"\n{text}")).unwrap();
        thresholds.judge(&Figures { full, small, floor: None }, false).remove(0)
    }

    #[test]
    fn a_row_is_judged_by_its_bar_and_its_aim() {
        let full = report(0.3, 1000);
        let verdict = |text: &str| judged(text, &full, None).verdict;
        assert_eq!(verdict("value = \"idle.cores\"\nbar = \"15 %\"\naim = \"5 %\""), Verdict::ThresholdMet);
        assert_eq!(verdict("value = \"idle.cores\"\nbar = \"15 %\"\naim = \"10 %\""), Verdict::TargetMet);
        assert_eq!(verdict("value = \"idle.rss\"\nbar = \"512 MiB\""), Verdict::Missed);
        assert_eq!(verdict("value = \"idle.rss\"\nmore = true\nbar = \"512 MiB\""), Verdict::ThresholdMet);
        assert_eq!(verdict("value = \"idle.rss\"\naim = \"512 MiB\""), Verdict::Reported);
        assert_eq!(verdict("value = \"storm.rss\"\nbar = \"512 MiB\""), Verdict::NotMeasured);
        assert_eq!(verdict("value = \"push.mean\"\nbar = \"1 ms\""), Verdict::NotMeasured, "no samples");
    }

    #[test]
    fn a_gateway_that_polls_is_judged_by_its_processor_time() {
        let mut full = report(0.3, 1000);
        for server in full.stages.iter_mut().filter_map(|stage| stage.server.as_mut()) {
            (server.is_busy_time, server.user_seconds, server.system_seconds) = (true, 9.0, 0.5);
        }
        let found = judged("value = \"idle.cores\"\nbar = \"15 %\"", &full, None);
        assert_eq!((found.found.as_str(), found.verdict), ("95.0 % (10.0 % busy)", Verdict::Missed));
        assert!(judged("value = \"push.net_cost\"", &full, None).found.ends_with(" of busy time"));
    }

    #[test]
    fn a_broadcast_without_a_floor_of_its_run_is_not_measured() {
        let full = report(0.3, 1000);
        let found = judged("value = \"push.cost / floor\"\nbar = \"1.3 ×\"", &full, None);
        assert_eq!((found.found.as_str(), found.verdict), ("–", Verdict::NotMeasured));
    }

    #[test]
    fn ratios_and_notes_have_figures_of_both_runs() {
        let (full, small) = (report(0.3, 1000), report(0.2, 1000));
        let row = "value = \"push.net_cost / small.push.net_cost\"\nbar = \"1.5 ×\"\nnote = \"{push.net_cost}, {storm.rss}\"";
        let found = judged(row, &full, Some(&small));
        assert_eq!((found.found.as_str(), found.verdict), ("2.00 ×", Verdict::Missed));
        assert_eq!((found.note.as_str(), found.threshold.as_str()), ("2.00 ms, –", "≤ 1.5 ×"));
        assert_eq!(judged(row, &full, None).verdict, Verdict::NotMeasured);
    }

    #[test]
    fn what_is_misspelled_is_refused() {
        let error = |text: &str| parse("x.toml", text).unwrap_err().to_string();
        let row = |text: &str| format!("[[threshold]]\nmeasure = \"m\"\n{text}");
        assert!(error(&row("value = \"idle.rsss\"")).contains("no figure `idle.rsss`"));
        assert!(error(&row("value = \"held\"\nnote = \"{heldd}\"")).contains("no figure `heldd`"));
        assert!(error(&row("value = \"held\"\nbar = \"5 parsecs\"")).contains("is no bound"));
        assert!(error(&row("value = \"held\"\nbarr = \"5\"")).contains("barr"));
    }

    /// The stored runs were judged by what these rows say; where the measure's name stayed, they
    /// find the same.
    #[test]
    fn the_rows_find_in_stored_reports_what_was_found_then() {
        let thresholds = Thresholds::load(None).unwrap();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/reports"));
        let mut compared = 0;
        for name in ["million", "million-ws", "million-epoll", "million-dpdk", "million-slower-host"] {
            let stored = Outcome::load(&folder.join(name)).unwrap();
            let figures = Figures { full: &stored.full, small: stored.small.as_ref(), floor: None };
            for row in thresholds.judge(&figures, name == "million-dpdk") {
                let of_then = stored.measurements.iter().find(|then| then.measure == row.measure);
                // The floor is no part of a report, and of the slab's samples few were kept.
                // Past the kernel, busy time was judged in place of the processor's.
                let is_left_out = row.measure.contains("floor")
                    || row.measure.contains("slab")
                    || name == "million-dpdk" && row.measure.contains("gateway CPU");
                let Some(then) = of_then.filter(|_| !is_left_out) else { continue };
                assert_eq!((&row.found, row.verdict), (&then.found, then.verdict), "{name}: {}", row.measure);
                compared += 1;
            }
        }
        assert!(compared > 65, "{compared}");
    }
}
