//! The command line: `loadtest <scenario> [flags]`, `loadtest run FILE [flags]`,
//! `loadtest compare A B …`, `loadtest pages FOLDER …`.

use crate::error::{Exit, RunError};
use crate::goals::Goal;
use crate::million;
use crate::report::build::About;
use crate::report::{Report, compare, html, json, terminal};
use crate::run::{Watch, execute};
use crate::scenario;
use crate::settings::{self, Settings};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const AFTER: &str = "\
Exit codes:
  0  goals met and nothing lost
  1  a goal missed, a delivery rule broken, or the server gone
  2  could not run: flags, addresses, limits
  3  measurement invalid: no fault found, but the generator itself stood still or was late, so times say nothing about the server
  4  no samples: no fault found, and nothing to judge by

Examples:
  loadtest echo -c 1000 --depth 16 --duration 10s
  loadtest room -c 5000 --rate 40 --goal p99=50ms loss=0 --html room.html
  loadtest idle -c 1m --workers 52 --backend io_uring --heartbeat 240s
  loadtest push --server 10.0.0.5:3101 --http 10.0.0.5:3111 --compat goim --rate 2000
  loadtest million --gateway target/release/gateway --report /tmp/million
  loadtest compare before.json after.json --html diff.html";

/// The command, scenarios and all.
fn command() -> Command {
    let mut command = Command::new("loadtest")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Load generator for goim-compatible gateways: offers a schedule, checks every delivery, says what was the bottleneck")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true);
    for (name, about) in scenario::ALL {
        // The settings' own description would take the place of the scenario's.
        let sub = Settings::augment_args(Command::new(name)).about(about).long_about(None);
        command = command.subcommand(sub.mut_args(|arg| {
            let hidden = !scenario::applies(name, arg.get_id().as_str());
            arg.hide(hidden)
        }));
    }
    let file = Arg::new("file").value_name("FILE").required(true).help("Scenario file, TOML");
    let run = Settings::augment_args(Command::new("run").arg(file));
    let run = run.about("Run a scenario file; flags given here win over it").long_about(None);
    let files =
        Arg::new("reports").value_name("REPORT").num_args(1..).required(true).action(ArgAction::Append);
    let compare = Command::new("compare")
        .about("Compare stored reports; the first is the base of the ratios")
        .arg(files.help("Files written by --json"))
        .arg(Arg::new("html").long("html").value_name("FILE").help("Also as a page"));
    let folders =
        Arg::new("folders").value_name("FOLDER").num_args(1..).required(true).action(ArgAction::Append);
    let pages = Command::new("pages")
        .about("Write the pages of stored million reports anew, each with the others next to it")
        .arg(folders.help("Folders written by loadtest million --report"));
    command.subcommand(run).subcommand(compare).subcommand(pages)
}

/// Parses, runs, reports; returns what a `main` returns.
pub(crate) fn main(words: Vec<OsString>) -> Exit {
    let mut line: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let (Some(first), Some(called)) = (line.first_mut(), crate::million::called()) {
        *first = called;
    }
    let line = line.join(" ");
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            let asked = !error.use_stderr();
            let _ = error.print();
            return if asked { Exit::Met } else { Exit::CouldNotRun };
        }
    };
    let outcome = match matches.subcommand() {
        Some(("compare", matches)) => compare_files(matches),
        Some(("pages", matches)) => {
            let folders: Vec<String> = matches.get_many("folders").into_iter().flatten().cloned().collect();
            million::render(&folders).map(|()| Exit::Met)
        }
        Some((name, matches)) => {
            resolve_settings(name, matches).and_then(|(name, settings)| run(name, &settings, line))
        }
        None => Ok(Exit::CouldNotRun),
    };
    outcome.unwrap_or_else(|error| {
        note!("loadtest: {error}");
        Exit::CouldNotRun
    })
}

/// Resolves the scenario and its settings, from flags and perhaps a file.
fn resolve_settings(name: &str, matches: &ArgMatches) -> Result<(&'static str, Settings), RunError> {
    let flags = Settings::from_arg_matches(matches)
        .map_err(|error| RunError::new(error.to_string(), "see loadtest --help"))?;
    let (wanted, settings) = match matches.try_get_one::<String>("file") {
        Ok(Some(path)) => {
            let (scenario, file) = settings::load(path)?;
            let merged = flags.over(&file).map_err(|error| {
                RunError::new(
                    format!("{path} and the flags do not go together: {error}"),
                    "leave the flag out",
                )
            })?;
            (scenario, merged)
        }
        _ => (name.to_owned(), flags),
    };
    let known = scenario::ALL.iter().map(|(known, _)| *known).find(|known| *known == wanted);
    let names = || scenario::ALL.map(|(name, _)| name).join(", ");
    let known = known.ok_or_else(|| {
        RunError::new(format!("no scenario `{wanted}`"), format!("scenarios are: {}", names()))
    });
    Ok((known?, settings))
}

/// Set when the run is to end early.
pub(crate) type Stop = Arc<AtomicBool>;

fn run(name: &'static str, settings: &Settings, command: String) -> Result<Exit, RunError> {
    for path in settings.json.iter().chain(&settings.html) {
        json::probe(path)?;
    }
    if let (Some(_), "million") = (&settings.gateway, name) {
        return million::run(settings, &without_token(command, settings), &stop_on_signal());
    }
    let goals =
        settings.goal.iter().flatten().map(|text| Goal::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let plan = scenario::plan(name, settings)?;
    let metrics = match &settings.metrics {
        Some(text) => Some(scenario::resolve("metrics", text)?),
        None => plan.endpoints.http,
    };
    let watch = Watch { server_pid: settings.server_pid, metrics, quiet: settings.quiet.unwrap_or(false) };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let label = settings.label.clone().unwrap_or_default();
    let about =
        About { label, command: without_token(command, settings), started_at: since.as_secs(), goals };
    let stop = stop_on_signal();
    let output = execute(plan.clone(), &watch, &stop)?;
    let report = crate::report::build::report(&plan, output, about);
    say!("{}", terminal::render(&report));
    store(settings, &report)?;
    Ok(report.verdict.judgment.exit())
}

/// Removes the credential, which does not belong in a report.
fn without_token(command: String, settings: &Settings) -> String {
    match settings.token.as_deref().filter(|token| !token.is_empty()) {
        Some(token) => command.replace(token, "…"),
        None => command,
    }
}

/// Writes the files of --json and --html.
pub(crate) fn store(settings: &Settings, report: &Report) -> Result<(), RunError> {
    if let Some(path) = &settings.json {
        json::write(path, &json::encode(report))?;
    }
    match &settings.html {
        Some(path) => json::write(path, &html::render(report)),
        None => Ok(()),
    }
}

/// The first Ctrl-C (or SIGTERM) ends the run and still reports; the second ends the process.
fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // A handler that is there already (several runs in one process, as in tests) stays.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Relaxed) {
            std::process::exit(130);
        }
    });
    stop
}

fn compare_files(matches: &ArgMatches) -> Result<Exit, RunError> {
    let paths: Vec<&String> = matches.get_many("reports").into_iter().flatten().collect();
    let reports = paths
        .iter()
        .map(|path| Ok((named(path), json::load(path)?)))
        .collect::<Result<Vec<_>, RunError>>()?;
    compare::refuse_unlike(&reports)?;
    let table = compare::Comparison::of(&reports);
    say!("{}", table.text());
    if let Some(path) = matches.get_one::<String>("html") {
        json::write(path, &table.page(&reports))?;
    }
    Ok(Exit::Met)
}

/// A file's name without folder and ending.
fn named(path: &str) -> String {
    let path = std::path::Path::new(path);
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
