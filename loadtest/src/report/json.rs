//! Reports as files.

use super::{Report, SCHEMA_VERSION, is_readable};
use crate::error::RunError;

/// Writes `text` to `path`.
pub fn write(path: &str, text: &str) -> Result<(), RunError> {
    std::fs::write(path, text).map_err(|error| unwritable(path, &error))
}

/// Tests whether `path` can be written, before the run of its report. What is there stays as it is.
pub fn probe(path: &str) -> Result<(), RunError> {
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
            Some(_) => format!("{path} is the report of a whole `million`"),
            None => format!("{path} is the report of something else"),
        };
        return Err(RunError::new(
            what,
            "`million summary FOLDER …` and `million page FOLDER` read its reports",
        ));
    }
    let version = value["schema_version"].as_str().unwrap_or("unknown").to_owned();
    if !is_readable(&version) {
        let what = format!("{path} has schema {version}, this program reads {SCHEMA_VERSION} and its like");
        return Err(RunError::new(what, "read it with the version that wrote it"));
    }
    serde_json::from_value(value).map_err(no_report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_another_major_are_refused() {
        let path = std::env::temp_dir().join(format!("loadtest-schema-{}.json", std::process::id()));
        let path = path.to_str().unwrap();
        for (version, is_read) in [(SCHEMA_VERSION, true), ("1.99", true), ("2.0", false), ("10.0", false)] {
            let report = Report { schema_version: version.to_owned(), ..Report::default() };
            write(path, &encode(&report)).unwrap();
            let loaded = load(path);
            assert_eq!(loaded.is_ok(), is_read, "{version}");
            let advice = loaded.err().map_or_else(String::new, |error| error.to_string());
            assert!(is_read || advice.contains(version), "{advice}");
        }
        write(path, "{\"scenario\":\"echo\",\"format\":2}").unwrap();
        assert!(load(path).unwrap_err().to_string().contains("unknown"));
        std::fs::remove_file(path).unwrap();
    }
}
