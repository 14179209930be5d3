//! Stored reports: written, and read again, those of before `schema` too.

use super::report::{Report, SCHEMA};
use crate::exit::{Exit, Failure};
use serde_json::{Value, json};
use std::path::Path;

/// Reads a report.
///
/// # Errors
/// A file that is not there, or no report of `bench`.
pub fn load(path: &Path) -> Result<Report, Failure> {
    let could_not = |text: String| Failure { exit: Exit::CouldNotRun, text };
    let text =
        std::fs::read_to_string(path).map_err(|error| could_not(format!("{}: {error}", path.display())))?;
    parse(&text).map_err(|error| could_not(format!("{}: {error}", path.display())))
}

fn parse(text: &str) -> Result<Report, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !value["cases"].is_array() {
        return Err("no report of bench: it has no cases (`bench --out FOLDER` writes one)".to_owned());
    }
    match value.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => {}
        Some(other) => return Err(format!("its schema is {other}; this build reads {SCHEMA}")),
        None => upgrade(&mut value),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Rewrites a report of before `schema`: a run had one cost, `server_ns`, which was busy time where
/// the server counted frames (it polled), and processor time elsewhere. Its verdicts are dropped,
/// for they were judged by it. Nothing is made up: the processor time of a server that polled is
/// not in such a report.
fn upgrade(report: &mut Value) {
    report["schema"] = json!(SCHEMA);
    report["verdicts"] = json!([]);
    let cases = report["cases"].as_array_mut().into_iter().flatten();
    let rows = cases.filter_map(|case| case["rows"].as_array_mut()).flatten();
    for run in rows.filter_map(|row| row["runs"].as_array_mut()).flatten() {
        let polled = run.get("frame_rate").is_some_and(Value::is_number);
        let (cost, share) = if polled { ("busy_ns", "busy_share") } else { ("cpu_ns", "cpu_share") };
        let Some(run) = run.as_object_mut() else { continue };
        if let (Some(ns), Some(busy)) = (run.remove("server_ns"), run.remove("server_busy")) {
            run.insert(cost.to_owned(), ns);
            run.insert(share.to_owned(), busy);
        }
    }
}

/// Writes `report.json` into `folder`.
///
/// # Errors
/// Those of the file system.
pub fn store(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)? + "\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"machine": "m", "method": "n", "verdicts": [{"aim": "x"}], "cases": [{"name": "echo", "depth": 1,
        "size": 64, "rows": [
        {"name": "gateway, dpdk", "floor": null, "problem": null, "server_ns": {"median": 5}, "runs": [{"server_ns": 5.0,
         "client_ns": 1.0, "rate": 2.0, "frame_rate": 4.0, "server_busy": 0.5, "client_busy": 0.5, "foreign": 0.0,
         "p50_us": 1.0, "p99_us": 2.0, "noisy": false, "tries": 1}]},
        {"name": "gateway, epoll", "floor": null, "problem": null, "runs": [{"server_ns": 7.0, "client_ns": 1.0, "rate": 2.0,
         "frame_rate": null, "server_busy": 0.5, "client_busy": 0.5, "foreign": 0.0, "p50_us": 1.0, "p99_us": 2.0,
         "noisy": false, "tries": 1}]}]}]}"#;

    #[test]
    fn an_older_report_keeps_what_its_one_cost_was() {
        let report = parse(OLD).unwrap();
        assert!(report.verdicts.is_empty() && report.day.is_empty());
        let [dpdk, epoll] = [0, 1].map(|row| report.cases[0].rows[row].runs[0].server);
        assert_eq!((dpdk.cpu_ns, dpdk.busy_ns, dpdk.busy_share), (None, Some(5.0), Some(0.5)));
        assert_eq!((epoll.cpu_ns, epoll.busy_ns, epoll.cpu_share), (Some(7.0), None, Some(0.5)));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = parse(OLD).unwrap();
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::to_string(&parse(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn what_is_no_report_is_refused_with_a_reason() {
        assert!(parse(r#"{"format": 1, "bars": []}"#).unwrap_err().contains("no cases"));
        let newer = OLD.replacen('{', r#"{"schema": "bench/9","#, 1);
        assert!(parse(&newer).unwrap_err().contains("bench/9"));
        assert!(parse("{").is_err());
    }
}
