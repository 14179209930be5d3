//! The outcome of a whole `million`, and the files it becomes.

use super::budget::Budget;
use super::floor::Floor;
use super::thresholds::{self, Measurement, Verdict};
use super::{comparison, page, summary};
use crate::error::RunError;
use crate::report::{Report, json};
use crate::settings::GatewayBackend;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the stored form.
const FORMAT: u32 = 1;
/// Files of a folder.
const FILES: [&str; 3] = ["report.html", "report.json", "summary.md"];
/// At most so many samples are kept of a run.
const SAMPLES_MAX: usize = 600;
/// The size from which the thresholds apply.
pub(super) const FULL_SIZE: u64 = 1_000_000;

/// See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) format: u32,
    pub(super) backend: String,
    pub(super) notes: Vec<String>,
    pub(super) budget: Vec<String>,
    pub(super) noise: Vec<String>,
    #[serde(rename = "thresholds")]
    pub(super) measurements: Vec<Measurement>,
    pub(super) full: Report,
    pub(super) small: Option<Report>,
}

impl Outcome {
    pub(super) fn of(
        mut full: Report,
        mut small: Option<Report>,
        backend: GatewayBackend,
        notes: Vec<String>,
        budget: &Budget,
        floor: Option<&Floor>,
    ) -> Outcome {
        let past = super::gateway::is_past(backend);
        let measurements = thresholds::all(&full, small.as_ref(), floor, past);
        let noise = summary::noise(&full);
        for report in [Some(&mut full), small.as_mut()].into_iter().flatten() {
            let step = report.samples.len().div_ceil(SAMPLES_MAX).max(1);
            let samples = std::mem::take(&mut report.samples);
            report.samples = samples.into_iter().step_by(step).collect();
        }
        let backend = name(backend).to_owned();
        Outcome {
            format: FORMAT,
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
    pub(super) fn passed(&self) -> bool {
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
    pub(super) fn probe(folder: &str) -> Result<(), RunError> {
        std::fs::create_dir_all(folder).map_err(|error| {
            RunError::new(
                format!("cannot make {folder}: {error}"),
                "name a folder that you may write with --report",
            )
        })?;
        FILES.iter().try_for_each(|name| json::probe(&Path::new(folder).join(name).to_string_lossy()))
    }

    /// Writes report.html, report.json and summary.md.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn store(&self, folder: &str) -> Result<(), RunError> {
        let path = |name: &str| Path::new(folder).join(name).to_string_lossy().into_owned();
        Outcome::probe(folder)?;
        json::write(&path("report.json"), &(serde_json::to_string(self).unwrap_or_default() + "\n"))?;
        self.store_pages(folder)
    }

    /// Writes the pages, with a comparison to the runs that are stored next to `folder`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn store_pages(&self, folder: &str) -> Result<(), RunError> {
        let path = |name: &str| Path::new(folder).join(name).to_string_lossy().into_owned();
        let comparison = comparison::stored_next_to(folder, self);
        json::write(&path("summary.md"), &summary::markdown(self, &comparison))?;
        json::write(&path("report.html"), &page::render(self, &comparison))
    }

    /// Reads what was stored in `folder`.
    ///
    /// # Errors
    /// There is no such report.
    pub(super) fn load(folder: &Path) -> Result<Outcome, RunError> {
        let path = folder.join("report.json");
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let outcome =
            read.and_then(|text| serde_json::from_str::<Outcome>(&text).map_err(|error| error.to_string()));
        let outcome = outcome.and_then(|outcome| match outcome.format {
            FORMAT => Ok(outcome),
            other => Err(format!("its format is {other}, this program's {FORMAT}")),
        });
        outcome.map_err(|error| {
            let path = path.display();
            RunError::new(
                format!("cannot read {path}: {error}"),
                "name folders that loadtest million wrote with --report",
            )
        })
    }
}

/// A backend's name.
pub(super) fn name(backend: GatewayBackend) -> &'static str {
    match backend {
        GatewayBackend::IoUring => "io_uring",
        GatewayBackend::Epoll => "epoll",
        GatewayBackend::Dpdk => "dpdk",
    }
}
