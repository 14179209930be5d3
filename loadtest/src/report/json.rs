//! Reports as files.

use super::{FORMAT, Report};
use crate::error::RunError;

/// Writes `text` to `path`.
pub(crate) fn write(path: &str, text: &str) -> Result<(), RunError> {
    std::fs::write(path, text).map_err(|error| unwritable(path, &error))
}

/// Tests whether `path` can be written, before the run of its report. What is there stays as it is.
pub(crate) fn probe(path: &str) -> Result<(), RunError> {
    let is_new = !std::path::Path::new(path).exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| unwritable(path, &error))?;
    if is_new {
        // An empty file of a failed run would be taken for a report.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn unwritable(path: &str, error: &std::io::Error) -> RunError {
    RunError::new(format!("cannot write {path}: {error}"), "name a file in a folder that exists and is yours")
}

/// The stored form.
pub(crate) fn encode(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// Reads a stored report.
pub(crate) fn load(path: &str) -> Result<Report, RunError> {
    let advice = "name files that `loadtest … --json FILE` wrote";
    let text = std::fs::read_to_string(path)
        .map_err(|error| RunError::new(format!("cannot read {path}: {error}"), advice))?;
    let no_report = |error| RunError::new(format!("{path} is no report: {error}"), advice);
    let value: serde_json::Value = serde_json::from_str(&text).map_err(no_report)?;
    if value.get("scenario").is_none() {
        // Every field has a default, so that reports of older versions can be read.
        let what = match value.get("thresholds") {
            Some(_) => format!("{path} is the report of a whole `million --gateway`"),
            None => format!("{path} is the report of something else"),
        };
        return Err(RunError::new(
            what,
            "compare those of `million --report` with `loadtest pages FOLDER …`",
        ));
    }
    let report: Report = serde_json::from_value(value).map_err(no_report)?;
    if !(1..=FORMAT).contains(&report.format) {
        let what = format!("{path} has format {}, this program reads 1 to {FORMAT}", report.format);
        return Err(RunError::new(what, "read it with the version that wrote it"));
    }
    Ok(report)
}
