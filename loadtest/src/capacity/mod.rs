//! `loadtest capacity SCENARIO --goal …`: the highest rate at which a server meets the goals.
//!
//! Each trial is a whole run of the scenario at one rate, judged as any run is: goals, delivery
//! checks, and whether the generator was fit to measure.

mod report;
mod search;

use crate::error::{Exit, RunError};
use crate::goals::Goal;
use crate::load::Course;
use crate::measure::{Live, Stop, measure_live, now, without_token};
use crate::monitor;
use crate::report::{Judgment, Report, json};
use crate::scenario::Scenario;
use crate::schedule::Rate;
use crate::settings::Settings;
use crate::settings::units::Span;
use clap::Args;
use report::{Bound, CapacityReport, Ended, Probe};
use search::{Limits, Next, Search, Trial};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Scenarios with one rate that can be searched for.
pub(crate) const SCENARIOS: [&str; 6] = ["echo", "push", "room", "broadcast", "churn", "slow-reader"];

/// Length of a trial's window, and of its warm-up, where none is given.
const DURATION: Duration = Duration::from_secs(5);
const WARMUP: Duration = Duration::from_secs(1);

/// The flags of the search.
#[derive(Args, Clone, Debug)]
pub(crate) struct CapacityArgs {
    /// Rate of the first trial; it is doubled from there
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0, help_heading = "Search")]
    first_rate: f64,
    /// Highest rate to try
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1e8, help_heading = "Search")]
    rate_max: f64,
    /// Narrowest gap between the rate that holds and the one that does not, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, help_heading = "Search")]
    precision: f64,
    /// Fresh trials of the rate that was found; four of five must hold
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Search")]
    confirmations: u32,
    /// Longest time for the whole search
    #[arg(long, value_name = "TIME", default_value = "10m", help_heading = "Search")]
    within: Span,
}

impl CapacityArgs {
    fn limits(&self) -> Result<Limits, RunError> {
        let rate = |per_second: f64, flag: &str| {
            let rate = Rate::new(per_second).map(Rate::per_second);
            rate.ok_or_else(|| {
                RunError::new(format!("{flag} {per_second} is no rate"), "give a positive number")
            })
        };
        if !(0.1..=100.0).contains(&self.precision) || !(1..=100).contains(&self.confirmations) {
            let CapacityArgs { precision, confirmations, .. } = self;
            return Err(RunError::new(
                format!("--precision {precision}, --confirmations {confirmations}"),
                "give a precision of 0.1 to 100 percent, and 1 to 100 confirmations",
            ));
        }
        Ok(Limits {
            first: rate(self.first_rate, "--first-rate")?,
            rate_max: rate(self.rate_max, "--rate-max")?,
            precision: self.precision / 100.0,
            confirmations: self.confirmations,
        })
    }
}

/// Searches, reports, and stores the report of --json.
///
/// # Errors
/// Settings that make no sense, or a trial that could not run.
pub(crate) fn run(
    scenario: &Scenario,
    settings: &Settings,
    (args, live): (&CapacityArgs, &Live),
    command: &str,
    stop: &Stop,
) -> Result<Exit, RunError> {
    let limits = args.limits()?;
    check(settings, live)?;
    let begun = Instant::now();
    let mut search = Search::new(limits);
    let mut probes: Vec<Probe> = Vec::new();
    let (mut longest, mut ended) = (Duration::ZERO, Ended::CutShort);
    loop {
        let next = search.next();
        let (Next::Search(rate) | Next::Confirm(rate)) = next else {
            ended = Ended::Over;
            break;
        };
        if begun.elapsed() + longest > args.within.0 || stop.load(Relaxed) {
            break;
        }
        let started = Instant::now();
        let found = measure_live(scenario, &trial(settings, rate)?, "", live, stop)?;
        longest = longest.max(started.elapsed());
        // A run that was cut short judges nothing.
        if found.interrupted {
            break;
        }
        let outcome = judge(&found);
        let probe = Probe::new(rate, matches!(next, Next::Confirm(_)), outcome, &found);
        if settings.quiet != Some(true) {
            note!("{}", probe.line());
        }
        search.take(next, outcome);
        probes.push(probe);
        if found.server_gone {
            ended = Ended::ServerGone;
            break;
        }
    }
    let mut report = CapacityReport::new(&search, &limits, probes, ended);
    report.scenario = scenario.name().to_owned();
    report.goals = settings.goal.clone().unwrap_or_default();
    report.command = without_token(command, settings);
    report.started_at = now().saturating_sub(begun.elapsed().as_secs());
    report.seconds = begun.elapsed().as_secs_f64();
    report.machine = monitor::machine();
    say!("{}", report.text());
    if let Some(path) = &settings.json {
        json::write(path, &(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"))?;
    }
    Ok(exit(&report))
}

/// Refuses what has no place in a search.
fn check(settings: &Settings, live: &Live) -> Result<(), RunError> {
    if live.profile.is_some() {
        return Err(RunError::new(
            "--profile of a search",
            "profile a run at the rate that was found, with --rate",
        ));
    }
    if settings.rate.is_some() || settings.depth.is_some() || settings.churn_rate.is_some() {
        return Err(RunError::new(
            "a search chooses the rate itself",
            "leave out --rate, --churn-rate and --depth; --first-rate and --rate-max bound the search",
        ));
    }
    if settings.goal.iter().flatten().next().is_none() {
        return Err(RunError::new("no goal to search by", "say what must hold, such as --goal p99=5ms"));
    }
    settings.goal.iter().flatten().try_for_each(|text| Goal::parse(text).map(drop))?;
    settings.json.iter().try_for_each(|path| json::probe(path))
}

/// The settings of one trial.
fn trial(settings: &Settings, per_second: f64) -> Result<Settings, RunError> {
    let rate = Rate::new(per_second)
        .ok_or_else(|| RunError::new(format!("{per_second} is no rate"), "lower --rate-max"))?;
    Ok(Settings {
        rate: Some(Course::constant(rate)),
        duration: settings.duration.or(Some(Span(DURATION))),
        warmup: settings.warmup.or(Some(Span(WARMUP))),
        quiet: Some(true),
        json: None,
        ..settings.clone()
    })
}

/// What a run says about its rate.
fn judge(report: &Report) -> Trial {
    match report.verdict.judgment {
        Judgment::Passed => Trial::Held,
        Judgment::Failed => Trial::Missed,
        Judgment::Invalid | Judgment::NoSamples => Trial::Invalid,
    }
}

fn exit(report: &CapacityReport) -> Exit {
    let found = &report.found;
    match (found.rate, found.bounded_by) {
        (None, Bound::Server | Bound::Goal) => Exit::Missed,
        // A higher rate may hold, but that is not known.
        (None, _) | (Some(_), Bound::Generator | Bound::Time) => Exit::Invalid,
        (Some(_), _) if found.confirmations.is_enough() => Exit::Met,
        (Some(_), _) => Exit::Invalid,
    }
}
