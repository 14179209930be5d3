//! Reports as files.

use super::{FORMAT, Report};
use crate::error::Trouble;

/// Writes `text` to `path`.
pub(crate) fn write(path: &str, text: &str) -> Result<(), Trouble> {
    std::fs::write(path, text).map_err(|error| {
        Trouble::new(
            format!("cannot write {path}: {error}"),
            "name a file in a folder that exists and is yours",
        )
    })
}

/// The stored form.
pub(crate) fn encode(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// Reads a stored report.
pub(crate) fn load(path: &str) -> Result<Report, Trouble> {
    let advice = "name files that `loadtest … --json FILE` wrote";
    let text = std::fs::read_to_string(path)
        .map_err(|error| Trouble::new(format!("cannot read {path}: {error}"), advice))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| Trouble::new(format!("{path} is no report: {error}"), advice))?;
    if !(1..=FORMAT).contains(&report.format) {
        let what = format!("{path} has format {}, this program reads 1 to {FORMAT}", report.format);
        return Err(Trouble::new(what, "read it with the version that wrote it"));
    }
    Ok(report)
}
