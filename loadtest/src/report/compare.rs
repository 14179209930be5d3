//! Several stored reports side by side: each measure with its ratio to the first report's.

use super::page::{Page, Table};
use super::units::{bytes, nanos, number};
use super::{FlowReport as Flow, Latency, Report, terminal};
use crate::error::RunError;

/// One measure over all reports.
struct Row {
    name: String,
    values: Vec<Option<f64>>,
    format: fn(f64) -> String,
}

/// See the module's text.
pub(crate) struct Comparison {
    names: Vec<String>,
    /// What the reports were not asked alike, in words.
    differences: Vec<String>,
    rows: Vec<Row>,
}

impl Comparison {
    /// Of reports with their names.
    pub(crate) fn of(reports: &[(String, Report)]) -> Comparison {
        let name = |(file, report): &(String, Report)| {
            if report.label.is_empty() { file.clone() } else { report.label.clone() }
        };
        let names: Vec<String> = reports.iter().map(name).collect();
        let mut rows = Vec::new();
        let mut add = |name: String, format: fn(f64) -> String, of: &dyn Fn(&Report) -> Option<f64>| {
            let values: Vec<Option<f64>> = reports.iter().map(|(_, report)| of(report)).collect();
            if values.iter().any(Option::is_some) {
                rows.push(Row { name, values, format });
            }
        };
        let flows = reports.iter().map(|(_, report)| report.flows.len()).max().unwrap_or(0);
        for index in 0..flows {
            let name = reports.iter().find_map(|(_, report)| Some(report.flows.get(index)?.name.clone()));
            let name = name.unwrap_or_default();
            add(format!("{name}: delivered/s"), number, &|report| Some(report.flows.get(index)?.delivered));
            for (percentile, what) in [(50_000, "p50"), (99_000, "p99"), (99_900, "p99.9")] {
                let of = |report: &Report| known(&report.flows.get(index)?.latency, percentile);
                add(format!("{name}: {what}"), nanos, &of);
            }
            let lost = |report: &Report| Some(report.flows.get(index)?.conservation.lost as f64);
            add(format!("{name}: lost"), number, &lost);
        }
        let stages = reports.iter().map(|(_, report)| report.stages.len()).max().unwrap_or(0);
        for index in 0..stages {
            let name = reports.iter().find_map(|(_, report)| Some(report.stages.get(index)?.name.clone()));
            let name = name.unwrap_or_default();
            let server = |report: &Report| report.stages.get(index)?.server.clone();
            add(format!("{name}: server CPU a piece"), nanos, &|report| {
                server(report).filter(|server| server.messages > 0).map(|server| server.cpu_nanos_per_message)
            });
            add(format!("{name}: server RSS"), bytes, &|report| Some(server(report)?.rss_after as f64));
        }
        add("connects/s".to_owned(), number, &|report| Some(report.connect.per_second));
        add("ready: p99".to_owned(), nanos, &|report| known(&report.connect.ready_latency, 99_000));
        let server = |report: &Report| report.server.clone();
        add("server CPU a message".to_owned(), nanos, &|report| {
            server(report).filter(|server| server.messages > 0).map(|server| server.cpu_nanos_per_message)
        });
        add("server RSS a connection".to_owned(), bytes, &|report| {
            Some(server(report)?.rss_bytes_per_connection)
        });
        add("generator's busiest worker".to_owned(), super::units::percent, &|report| {
            report.generator.busy.iter().copied().reduce(f64::max)
        });
        let differences = differences(reports, &names);
        Comparison { names, differences, rows }
    }

    fn head(&self) -> Vec<&str> {
        let others = self.names.iter().skip(1).flat_map(|name| [name.as_str(), "ratio"]);
        ["", self.names.first().map_or("", String::as_str)].into_iter().chain(others).collect()
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let cells = |row: &Row| {
            let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), row.format);
            let base = row.values.first().copied().flatten();
            let ratio = |value: Option<f64>| match (base, value) {
                (Some(base), Some(value)) if base != 0.0 => format!("{:.2}×", value / base),
                _ => "–".to_owned(),
            };
            let others = row.values.iter().skip(1).flat_map(|value| [cell(*value), ratio(*value)]);
            [row.name.clone(), cell(base)].into_iter().chain(others).collect()
        };
        self.rows.iter().map(cells).collect()
    }

    /// As aligned text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("\n");
        terminal::table(&mut out, &self.head(), &self.cells());
        for difference in &self.differences {
            out += &format!("  not alike: {difference}\n");
        }
        out
    }

    /// As a page, with the percentile curves of the first flows over one another.
    pub(crate) fn page(&self, reports: &[(String, Report)]) -> String {
        let head = self.head().into_iter().map(str::to_owned).collect();
        Page {
            title: self.names.join(" · "),
            reports: self
                .names
                .iter()
                .zip(reports)
                .map(|(name, (_, report))| (name.clone(), report))
                .collect(),
            before: vec![Table::new("Measures, and ratios to the first", head, self.cells())],
            after: Vec::new(),
            notes: self.differences.iter().map(|text| format!("not alike: {text}")).collect(),
            missed: String::new(),
        }
        .render()
    }
}

/// Fails for reports of different scenarios or protocols: their figures have nothing in common.
pub(crate) fn refuse_unlike(reports: &[(String, Report)]) -> Result<(), RunError> {
    let kind = |report: &Report| format!("{} ({})", report.scenario, report.protocol);
    let Some((first, base)) = reports.first() else { return Ok(()) };
    match reports.iter().find(|(_, report)| kind(report) != kind(base)) {
        Some((other, report)) => Err(RunError::new(
            format!("{first} is of {}, {other} of {}", kind(base), kind(report)),
            "compare runs of one scenario",
        )),
        None => Ok(()),
    }
}

/// What a run was asked to do, by name.
fn asked(report: &Report) -> Vec<(String, String)> {
    let mut all = vec![("connections".to_owned(), number(report.connect.asked as f64))];
    for flow in &report.flows {
        let Flow { name, course, payload_size, fan_out, .. } = flow;
        all.push((format!("{name}: pace"), course.pace.clone()));
        all.push((format!("{name}: payload"), format!("{payload_size} B")));
        all.push((format!("{name}: receivers"), number(*fan_out)));
    }
    all
}

/// Where a report was asked something else than the first.
fn differences(reports: &[(String, Report)], names: &[String]) -> Vec<String> {
    let asked: Vec<_> = reports.iter().map(|(_, report)| asked(report)).collect();
    let mut found = Vec::new();
    for (other, name) in asked.iter().zip(names).skip(1) {
        for at in 0..other.len().max(asked[0].len()) {
            let (one, two) = (asked[0].get(at), other.get(at));
            let text = |part: Option<&(String, String)>| {
                part.map_or_else(|| "nothing".to_owned(), |(what, value)| format!("{what} {value}"))
            };
            if one != two {
                found.push(format!("{} in {}, {} in {name}", text(one), names[0], text(two)));
            }
        }
    }
    found
}

fn known(latency: &Latency, percentile: u32) -> Option<f64> {
    (latency.count > 0).then(|| latency.at(percentile) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{CourseReport, FlowReport};

    #[test]
    fn ratios_are_to_the_first() {
        let report = |delivered| Report {
            flows: vec![FlowReport { name: "echo".to_owned(), delivered, ..FlowReport::default() }],
            ..Report::default()
        };
        let reports = [("a".to_owned(), report(100.0)), ("b".to_owned(), report(150.0))];
        let comparison = Comparison::of(&reports);
        let text = comparison.text();
        assert!(
            text.lines().any(|line| line.contains("echo: delivered/s") && line.contains("1.50×")),
            "{text}"
        );
        assert!(comparison.page(&reports).contains("1.50×"));
        assert!(!text.contains("not alike"), "{text}");
    }

    #[test]
    fn what_was_not_asked_alike_is_said_and_other_scenarios_are_refused() {
        let report = |scenario: &str, pace: &str, payload_size| Report {
            scenario: scenario.to_owned(),
            flows: vec![FlowReport {
                course: CourseReport { pace: pace.to_owned(), steps: Vec::new() },
                payload_size,
                ..FlowReport::default()
            }],
            ..Report::default()
        };
        let base = ("a".to_owned(), report("echo", "open, 100/s", 64));
        let faster = [base.clone(), ("b".to_owned(), report("echo", "open, 200/s", 64))];
        assert!(refuse_unlike(&faster).is_ok());
        let text = Comparison::of(&faster).text();
        assert!(text.contains("not alike: : pace open, 100/s in a, : pace open, 200/s in b"), "{text}");
        assert!(Comparison::of(&faster).page(&faster).contains("not alike"));
        let other = [base, ("b".to_owned(), report("push", "open, 100/s", 64))];
        assert!(refuse_unlike(&other).is_err());
    }
}
