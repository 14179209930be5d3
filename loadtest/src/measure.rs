//! A run as a function: a scenario and its settings in, a report out. The command line is made of
//! these, and so is what drives this crate as a library.

use crate::agents::{Connected, Secret, connect};
use crate::backend;
use crate::error::RunError;
use crate::goals::Goal;
use crate::plan::RunPlan;
use crate::report::build::{self, About};
use crate::report::page::Page;
use crate::report::{Judgment, Report, SCHEMA_VERSION, json};
use crate::run::{Watch, execute};
use crate::scenario::{self, Scenario};
use crate::settings::Settings;
use clap::Args;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a run shows of itself while it lasts, and keeps beside its report.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Live {
    /// Serve figures for Prometheus while the run lasts, at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS", help_heading = "Report")]
    pub(crate) metrics_listen: Option<String>,
    /// Record the server's stacks with perf while traffic flows, and write them folded
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) profile: Option<String>,
    /// Generate from these agents, each with --workers, instead of from this process
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', help_heading = "Run")]
    pub(crate) agents: Vec<String>,
    /// File with the secret that the agents know
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub(crate) secret_file: Option<String>,
}

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
    measure_live(scenario, settings, command, &Live::default(), stop)
}

/// As [`measure`]. What became invalid on the way has a report that says so.
pub(crate) fn measure_live(
    scenario: &Scenario,
    settings: &Settings,
    command: &str,
    live: &Live,
    stop: &Stop,
) -> Result<Report, RunError> {
    let given = &shared(settings, live)?;
    let plan = scenario::plan(scenario, given)?;
    let settings = &scenario.defaults(given)?;
    goals(plan.stages.iter().flat_map(|stage| &stage.goals))?;
    let whole = goals(settings.goal.iter().flatten())?;
    let metrics = match &settings.metrics {
        Some(text) => Some(scenario::resolve("metrics", text)?),
        None => plan.endpoints.http,
    };
    live.profile.iter().try_for_each(|path| json::probe(path))?;
    let watch = Watch {
        server_pid: settings.server_pid,
        metrics,
        quiet: settings.quiet.unwrap_or(false),
        metrics_listen: live.metrics_listen.clone(),
        profile: live.profile.is_some(),
    };
    let label = settings.label.clone().unwrap_or_default();
    let command = without_token(command, settings);
    let about = About { label, command, started_at: now(), goals: whole };
    let agents = connect_agents(scenario, given, plan.run, live)?;
    let mut output = match execute(plan.clone(), &watch, agents, stop) {
        Ok(output) => output,
        Err(error) => return error.invalid().map(|why| invalid(&plan, about, why)).ok_or(error),
    };
    match (&live.profile, output.profile.take()) {
        (Some(path), Some(Ok(folded))) => json::write(path, &folded.text())?,
        // The run is what was asked for first: it has its report.
        (_, Some(Err(error))) => note!("loadtest: {error}"),
        (_, Some(Ok(_)) | None) => {}
    }
    Ok(build::report(&plan, output, about))
}

/// The settings of a run that agents share: each has --workers.
fn shared(settings: &Settings, live: &Live) -> Result<Settings, RunError> {
    let count = live.agents.len() as u32;
    if count == 0 {
        return Ok(settings.clone());
    }
    let advice = "give one to 64 --agents, and fewer --workers";
    let workers = settings.workers.unwrap_or(1).checked_mul(count).filter(|_| count <= 64);
    let workers = workers.ok_or_else(|| RunError::new(format!("{count} agents"), advice))?;
    Ok(Settings { workers: Some(workers), ..settings.clone() })
}

fn connect_agents(
    scenario: &Scenario,
    settings: &Settings,
    run: u32,
    live: &Live,
) -> Result<Vec<Connected>, RunError> {
    if live.agents.is_empty() {
        return Ok(Vec::new());
    }
    let secret = Secret::load(live.secret_file.as_deref())?;
    let of = live.agents.len() as u32;
    let each = live.agents.iter().zip(0..);
    each.map(|(address, index)| connect(address, &secret, (scenario, settings, run), (index, of))).collect()
}

/// The report of a run that became invalid on the way: what it saw until then says nothing.
fn invalid(plan: &RunPlan, about: About, why: &str) -> Report {
    let mut report = Report {
        schema_version: SCHEMA_VERSION.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label: about.label,
        scenario: plan.scenario.clone(),
        command: about.command,
        started_at: about.started_at,
        target: plan.endpoints.server_name.clone(),
        ..Report::default()
    };
    report.verdict.invalid.push(why.to_owned());
    report.verdict.judgment = Judgment::Invalid;
    report
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn goals<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Goal>, RunError> {
    texts.map(|text| Goal::parse(text)).collect()
}

/// Removes the credential, which does not belong in a report.
pub(crate) fn without_token(command: &str, settings: &Settings) -> String {
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
