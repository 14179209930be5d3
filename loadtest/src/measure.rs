//! A run as a function: a scenario and its settings in, a report out. The command line is made of
//! these, and so is what drives this crate as a library.

use crate::backend;
use crate::error::RunError;
use crate::goals::Goal;
use crate::report::build::{self, About};
use crate::report::page::Page;
use crate::report::{Report, json};
use crate::run::{Watch, execute};
use crate::scenario::{self, Scenario};
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Set when the run is to end early.
pub type Stop = Arc<AtomicBool>;

/// Checks scenario, settings and goals without running anything. Returns the number of stages.
///
/// # Errors
/// Settings that contradict each other or that this machine does not allow; goals without a
/// meaning; a backend that cannot be used here.
pub fn check(scenario: &Scenario, settings: &Settings) -> Result<usize, RunError> {
    goals(scenario.defaults(settings)?.goal.iter().flatten())?;
    let plan = scenario::plan(scenario, settings)?;
    goals(plan.stages.iter().flat_map(|stage| &stage.goals))?;
    backend::check(plan.machinery.backend)?;
    Ok(plan.stages.len())
}

/// Runs `scenario` to its end, or until `stop`. `command` stands in the report; a token of the
/// settings is cut out of it.
///
/// # Errors
/// As [`check`]; a server that cannot be reached, or that lets no connection in.
pub fn measure(
    scenario: &Scenario,
    settings: &Settings,
    command: &str,
    stop: &Stop,
) -> Result<Report, RunError> {
    let plan = scenario::plan(scenario, settings)?;
    let settings = &scenario.defaults(settings)?;
    goals(plan.stages.iter().flat_map(|stage| &stage.goals))?;
    let whole = goals(settings.goal.iter().flatten())?;
    let metrics = match &settings.metrics {
        Some(text) => Some(scenario::resolve("metrics", text)?),
        None => plan.endpoints.http,
    };
    let watch = Watch { server_pid: settings.server_pid, metrics, quiet: settings.quiet.unwrap_or(false) };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let label = settings.label.clone().unwrap_or_default();
    let command = without_token(command, settings);
    let about = About { label, command, started_at: since.as_secs(), goals: whole };
    let output = execute(plan.clone(), &watch, stop)?;
    Ok(build::report(&plan, output, about))
}

fn goals<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Goal>, RunError> {
    texts.map(|text| Goal::parse(text)).collect()
}

/// Removes the credential, which does not belong in a report.
fn without_token(command: &str, settings: &Settings) -> String {
    match settings.token.as_deref().filter(|token| !token.is_empty()) {
        Some(token) => command.replace(token, "…"),
        None => command.to_owned(),
    }
}

/// Writes the files of `--json` and `--html`.
///
/// # Errors
/// One cannot be written.
pub fn store(settings: &Settings, report: &Report) -> Result<(), RunError> {
    if let Some(path) = &settings.json {
        json::write(path, &json::encode(report))?;
    }
    settings.html.as_ref().map_or(Ok(()), |path| json::write(path, &Page::of(report).render()))
}

/// The first Ctrl-C (or SIGTERM) ends the run and still reports; the second ends the process.
pub fn stop_on_signal() -> Stop {
    let stop = Stop::default();
    let flag = stop.clone();
    // A handler that is there already (several runs in one process, as in tests) stays.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
    stop
}
