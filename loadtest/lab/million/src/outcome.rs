//! The outcome of a whole `million`, and the files it becomes.

use crate::budget::Budget;
use crate::figures::Figures;
use crate::floor::Floor;
use crate::noise::noise;
use crate::orders::GatewayBackend;
use crate::thresholds::{Measurement, Thresholds, Verdict};
use loadtest::RunError;
use loadtest::report::{Report, SCHEMA_VERSION, is_readable, json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Files of a folder.
const FILES: [&str; 2] = ["report.json", "summary.md"];
/// At most so many samples are kept of a run.
const SAMPLES_MAX: usize = 400;
/// The size from which the thresholds apply.
pub(crate) const FULL_SIZE: u64 = 1_000_000;

/// See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) schema_version: String,
    pub(crate) backend: String,
    pub(crate) notes: Vec<String>,
    pub(crate) budget: Vec<String>,
    pub(crate) noise: Vec<String>,
    #[serde(rename = "thresholds")]
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) full: Report,
    pub(crate) small: Option<Report>,
}

impl Outcome {
    pub(crate) fn of(
        mut full: Report,
        mut small: Option<Report>,
        backend: GatewayBackend,
        notes: Vec<String>,
        budget: &Budget,
        (thresholds, floor): (&Thresholds, Option<&Floor>),
    ) -> Outcome {
        let past = backend.is_past();
        let figures = Figures { full: &full, small: small.as_ref(), floor };
        let measurements = thresholds.judge(&figures, past);
        let noise = noise(&full);
        let step = full.samples.len().div_ceil(SAMPLES_MAX).max(1);
        let samples = std::mem::take(&mut full.samples).into_iter().enumerate();
        // The slab is read rarely.
        let kept = samples.filter(|(number, sample)| number % step == 0 || !sample.slab.is_empty());
        full.samples = kept.map(|(_, sample)| sample).collect();
        // Nothing is drawn of the small run.
        small.iter_mut().for_each(|small| small.samples.clear());
        let backend = backend.name().to_owned();
        Outcome {
            schema_version: SCHEMA_VERSION.to_owned(),
            backend,
            notes,
            budget: budget.sum.clone(),
            noise,
            measurements,
            full,
            small,
        }
    }

    /// Whether nothing was lost, all connections were made and goals were met; and at full size, no
    /// threshold missed.
    pub(crate) fn passed(&self) -> bool {
        let met = || self.measurements.iter().all(|row| row.verdict != Verdict::Missed);
        let is_sound = |report: &Report| report.verdict.reasons.is_empty();
        let sound = is_sound(&self.full) && self.small.as_ref().is_none_or(is_sound);
        sound && (self.full.connect.asked < FULL_SIZE || met())
    }

    /// Tests whether [`Outcome::store`] can write its files, and makes the folder. What is there
    /// stays as it is.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn probe(folder: &str) -> Result<(), RunError> {
        std::fs::create_dir_all(folder).map_err(|error| {
            RunError::new(
                format!("cannot make {folder}: {error}"),
                "name a folder that you may write with --report",
            )
        })?;
        FILES.iter().try_for_each(|name| json::probe(&Path::new(folder).join(name).to_string_lossy()))
    }

    /// Writes report.json.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn store(&self, folder: &str) -> Result<(), RunError> {
        Outcome::probe(folder)?;
        json::write(&Path::new(folder).join("report.json").to_string_lossy(), &self.json())
    }

    /// The stored form, on one line; numbers have nine digits.
    fn json(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        shorten(&mut value);
        format!("{value}\n")
    }

    /// Reads what was stored in `folder`.
    ///
    /// # Errors
    /// There is no such report.
    pub(crate) fn load(folder: &Path) -> Result<Outcome, RunError> {
        let path = folder.join("report.json");
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let outcome =
            read.and_then(|text| serde_json::from_str::<Outcome>(&text).map_err(|error| error.to_string()));
        let outcome = outcome.and_then(|outcome| match is_readable(&outcome.schema_version) {
            true => Ok(outcome),
            false => {
                Err(format!("its schema is {}, this program's {SCHEMA_VERSION}", outcome.schema_version))
            }
        });
        outcome.map_err(|error| {
            let path = path.display();
            RunError::new(
                format!("cannot read {path}: {error}"),
                "name folders that million wrote with --report",
            )
        })
    }
}

/// Rounds all numbers with a fraction to nine digits. Quantiles near 1 keep theirs: there the
/// distance to 1 counts.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(all) => all.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or_default();
            let short = format!("{exact:.8e}").parse().unwrap_or(exact);
            if !(0.99..1.0).contains(&exact) {
                *value = Value::from(short);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_short_and_as_near_as_anyone_reads_them() {
        let mut value = json!({"a": [10.227046963123, 1234567.89, 0.99999912345], "b": 1234567890123_u64});
        shorten(&mut value);
        assert_eq!(value, json!({"a": [10.2270470, 1234567.89, 0.99999912345], "b": 1234567890123_u64}));
    }
}
