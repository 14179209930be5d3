//! The command line: `loadtest <scenario> [flags]`, `loadtest run FILE [flags]`,
//! `loadtest compare A B …`, `loadtest page REPORT`.

use crate::error::{Exit, RunError};
use crate::measure::{measure, stop_on_signal, store};
use crate::report::page::Page;
use crate::report::{SCHEMA, compare, json, terminal};
use crate::scenario::Scenario;
use crate::settings::Settings;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::OsString;

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
  loadtest run configs/loadtest.echo.toml --json echo.json
  loadtest page echo.json > echo.html
  loadtest compare before.json after.json --html diff.html";

/// The command, scenarios and all.
fn command() -> Command {
    let mut command = Command::new("loadtest")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Load generator for goim-compatible gateways: offers a schedule, checks every delivery, says what was the bottleneck")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true);
    for (name, scenario) in Scenario::names().filter_map(|name| Some((name, Scenario::built_in(name).ok()?)))
    {
        // The settings' own description would take the place of the scenario's.
        let sub = Settings::augment_args(Command::new(name));
        let sub = sub.about(scenario.about.clone()).long_about(None);
        command = command.subcommand(sub.mut_args(|arg| {
            let hidden = !scenario.applies(arg.get_id().as_str());
            arg.hide(hidden)
        }));
    }
    let file = Arg::new("file").value_name("FILE").required(true).help("Scenario file, TOML");
    let run = Settings::augment_args(Command::new("run").arg(file));
    let run = run.about("Run a scenario file; flags given here win over it").long_about(None);
    let show = Command::new("scenario")
        .about("Print a built-in scenario as its file, to be changed and run")
        .arg(Arg::new("name").value_name("NAME").required(true).help("Its name"));
    let files =
        Arg::new("reports").value_name("REPORT").num_args(1..).required(true).action(ArgAction::Append);
    let compare = Command::new("compare")
        .about("Compare stored reports; the first is the base of the ratios")
        .arg(files.help("Files written by --json"))
        .arg(Arg::new("html").long("html").value_name("FILE").help("Also as a page"));
    let stored = Arg::new("report").value_name("REPORT").required(true).help("File written by --json");
    let page = Command::new("page").about("Print a stored report as one self-contained page").arg(stored);
    let schema = Command::new("schema").about("Print the JSON Schema of reports");
    command.subcommands([run, show, compare, page, schema])
}

/// Parses, runs, reports; returns the exit of the process.
pub(crate) fn main(words: Vec<OsString>) -> Exit {
    let line: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
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
        Some(("page", matches)) => page(matches),
        Some(("scenario", matches)) => show(matches),
        Some(("schema", _)) => {
            say!("{SCHEMA}");
            Ok(Exit::Met)
        }
        Some((name, matches)) => {
            resolve_settings(name, matches).and_then(|(scenario, settings)| run(&scenario, &settings, &line))
        }
        None => Ok(Exit::CouldNotRun),
    };
    outcome.unwrap_or_else(|error| {
        note!("loadtest: {error}");
        Exit::CouldNotRun
    })
}

/// Resolves the scenario and its settings, from flags and perhaps a file.
fn resolve_settings(name: &str, matches: &ArgMatches) -> Result<(Scenario, Settings), RunError> {
    let flags = Settings::from_arg_matches(matches)
        .map_err(|error| RunError::new(error.to_string(), "see loadtest --help"))?;
    match matches.try_get_one::<String>("file") {
        Ok(Some(path)) => Scenario::load(path, &flags),
        _ => Ok((Scenario::built_in(name)?, flags)),
    }
}

fn run(scenario: &Scenario, settings: &Settings, command: &str) -> Result<Exit, RunError> {
    let all = scenario.defaults(settings)?;
    for path in all.json.iter().chain(&all.html) {
        json::probe(path)?;
    }
    let report = measure(scenario, settings, command, &stop_on_signal())?;
    say!("{}", terminal::render(&report));
    store(&all, &report)?;
    Ok(report.verdict.judgment.exit())
}

fn show(matches: &ArgMatches) -> Result<Exit, RunError> {
    let name = matches.get_one::<String>("name").map_or("", String::as_str);
    say!("{}", Scenario::text(name)?);
    Ok(Exit::Met)
}

fn page(matches: &ArgMatches) -> Result<Exit, RunError> {
    let path = matches.get_one::<String>("report").map_or("", String::as_str);
    say!("{}", Page::of(&json::load(path)?).render());
    Ok(Exit::Met)
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
