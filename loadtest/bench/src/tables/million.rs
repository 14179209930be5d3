//! Tables of the reports of `make million`: what each measure found, with processor time beside
//! busy time where the gateway polls.

use super::format::{NONE, nanos, or_dash, percent, table as lines};
use crate::exit::{Exit, Failure};
use crate::run::Spread;
use serde_json::Value;
use std::path::Path;

/// Measures that are a share of a processor, and the stages that they are of.
const SHARES: [(&str, &str); 4] = [
    ("gateway CPU, idle, a heartbeat a connection and interval", "idle"),
    (SERVICE_CPU, "service"),
    ("push to random users over HTTP, a request each: gateway CPU", "push"),
    ("push to random users over HTTP, in lists: gateway CPU", "list"),
];
/// The measure of pushes from a service's connection.
pub(super) const SERVICE_CPU: &str = "push to random users over a service's connection: gateway CPU";
/// The measure of a broadcast beside a bare send.
pub(super) const BROADCAST: &str = "broadcast: CPU a delivery, to the bare floor's send";
/// What its note says of a floor that was measured in the same run, with as many receivers.
const SAME_RUN: &str = "right after the gateway";
/// The measure of lost messages; its note says how many there were.
pub(super) const LOST: &str = "messages lost, doubled, out of order or damaged, in any stage";
/// The stages of a broadcast, which is sent three times.
const BROADCASTS: [&str; 3] = ["broadcast", "broadcast-2", "broadcast-3"];

/// A stored report.
#[derive(Debug)]
pub(super) struct MillionReport {
    folder: String,
    value: Value,
}

impl MillionReport {
    pub(super) fn load(path: &Path, folder: &str) -> Result<MillionReport, Failure> {
        let could_not = |text: String| Failure { exit: Exit::CouldNotRun, text };
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| could_not(format!("{}: {error}", path.display())))?;
        let value: Value = serde_json::from_str(&text)?;
        let report = MillionReport { folder: folder.to_owned(), value };
        if report.measures().next().is_none() {
            return Err(could_not(format!("{}: no report of a million: it has no measures", path.display())));
        }
        Ok(report)
    }

    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.value["thresholds"].as_array().into_iter().flatten()
    }

    fn measures(&self) -> impl Iterator<Item = &str> {
        self.rows().filter_map(|row| row["measure"].as_str())
    }

    fn row(&self, measure: &str) -> Option<&Value> {
        self.rows().find(|row| row["measure"].as_str() == Some(measure))
    }

    /// What a measure found, in its words; `None` where the run does not have it.
    pub(super) fn found(&self, measure: &str) -> Option<String> {
        let row = self.row(measure)?;
        let found = row["found"].as_str()?;
        let note = row["note"].as_str().unwrap_or_default();
        if measure == BROADCAST && !note.contains(SAME_RUN) {
            return Some(format!("{NONE} (no floor of the same run and size)"));
        }
        if measure == LOST {
            return Some(format!("{found} {note}"));
        }
        let stage = SHARES.iter().find(|(name, _)| *name == measure).map(|(_, stage)| *stage);
        let is_named = found.contains("busy");
        Some(match stage.and_then(|stage| self.polled_shares(stage)) {
            Some((used, busy)) => {
                format!("processor time {}, busy time {:.2} %", percent(used), busy * 100.0)
            }
            None if self.polls() && measure.contains("CPU") && !is_named => format!("{found} of busy time"),
            None => found.to_owned(),
        })
    }

    fn stage(&self, name: &str) -> Option<&Value> {
        let stages = self.value["full"]["stages"].as_array()?;
        stages.iter().find(|stage| stage["name"].as_str() == Some(name))
    }

    /// The share of a processor that a gateway which polls used in a stage, user and system, and
    /// the share that was busy; `None` where it does not poll.
    fn polled_shares(&self, stage: &str) -> Option<(f64, f64)> {
        let stage = self.stage(stage)?;
        let server = &stage["server"];
        if !server["is_busy_time"].as_bool()? {
            return None;
        }
        let seconds = stage["to"].as_f64()? - stage["from"].as_f64()?;
        let used = server["user_seconds"].as_f64()? + server["system_seconds"].as_f64()?;
        Some((used / seconds, server["cpu_seconds"].as_f64()? / seconds))
    }

    /// Whether the gateway's times are busy time.
    fn polls(&self) -> bool {
        self.value["full"]["server"]["is_busy_time"].as_bool() == Some(true)
    }

    /// The gateway's time a delivery of a broadcast, at the median.
    fn delivery(&self) -> Option<String> {
        let stages = BROADCASTS.iter().filter_map(|name| self.stage(name));
        let costs = stages.filter_map(|stage| stage["server"]["cpu_nanos_per_message"].as_f64());
        let text = nanos(Spread::of(costs)?.median);
        Some(if self.polls() { format!("{text} of busy time") } else { text })
    }

    /// The backend and the transport.
    pub(super) fn name(&self) -> String {
        let backend = self.value["backend"].as_str().unwrap_or("?");
        let protocol = self.value["full"]["protocol"].as_str().unwrap_or_default();
        let transport = if protocol.contains("WebSocket") { "WebSocket" } else { "TCP" };
        format!("{backend}, {transport}")
    }

    /// The day on which it was measured.
    pub(super) fn day(&self) -> String {
        or_dash(self.value["full"]["started_at"].as_u64().map(day_of))
    }
}

/// The day of a time in seconds since 1970, in UTC, such as 2026-12-01 (Howard Hinnant, "chrono-
/// compatible low-level date algorithms", `civil_from_days`).
pub(super) fn day_of(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// All measures of all reports.
///
/// # Errors
/// None at present: every report has measures.
pub(super) fn table(reports: &[MillionReport]) -> Result<String, Failure> {
    let mut measures: Vec<&str> = vec![];
    for measure in reports.iter().flat_map(MillionReport::measures) {
        if !measures.contains(&measure) {
            measures.push(measure);
        }
    }
    let mut head = vec!["measure".to_owned()];
    head.extend(reports.iter().map(|report| {
        format!("{}, {} ([{}](reports/{2}/summary.md))", report.name(), report.day(), report.folder)
    }));
    let row = |measure: &&str| {
        let found = reports.iter().map(|report| or_dash(report.found(measure)));
        [vec![(*measure).to_owned()], found.collect()].concat()
    };
    let mut rows: Vec<Vec<String>> = measures.iter().map(row).collect();
    let deliveries = reports.iter().map(|report| or_dash(report.delivery()));
    rows.push([vec!["broadcast: gateway's time a delivery".to_owned()], deliveries.collect()].concat());
    Ok(lines(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_busy_time: bool, note: &str) -> MillionReport {
        let text = format!(
            r#"{{"backend": "dpdk", "thresholds": [
                {{"measure": "{SERVICE_CPU}", "found": "4.44 %", "note": ""}},
                {{"measure": "{BROADCAST}", "found": "0.76 ×", "note": "{note}"}},
                {{"measure": "{LOST}", "found": "0", "note": "of 7"}}],
                "full": {{"started_at": 1795970737, "protocol": "goim over TCP", "stages": [{{"name": "service", "from": 10.0,
                "to": 25.0, "server": {{"user_seconds": 14.59, "system_seconds": 0.0, "cpu_seconds": 0.666, "is_busy_time": {is_busy_time}}}}}]}}}}"#
        );
        MillionReport { folder: "million".to_owned(), value: serde_json::from_str(&text).unwrap() }
    }

    #[test]
    fn a_gateway_that_polls_has_both_times_and_one_that_sleeps_has_one() {
        let found = |polls| report(polls, "").found(SERVICE_CPU).unwrap();
        assert_eq!(found(true), "processor time 97 %, busy time 4.44 %");
        assert_eq!(found(false), "4.44 %");
    }

    #[test]
    fn a_broadcast_without_a_floor_of_the_same_run_has_no_verdict() {
        let found = |note| report(false, note).found(BROADCAST).unwrap();
        assert_eq!(found("floor 8.21 µs (bare io_uring, right after the gateway)"), "0.76 ×");
        assert!(found("floor 12.6 µs (the benchmark's, another day)").starts_with(NONE));
    }

    #[test]
    fn a_day_is_of_the_calendar() {
        assert_eq!(day_of(0), "1970-01-01");
        assert_eq!(day_of(951_782_400), "2000-02-29");
        assert_eq!(day_of(1_795_970_737), "2026-11-29");
        assert_eq!(report(false, "").day(), "2026-11-29");
        assert_eq!(report(false, "").found(LOST).unwrap(), "0 of 7");
    }
}
