//! The command line: `loadtest <scenario> [flags]`, `loadtest run FILE [flags]`,
//! `loadtest capacity <scenario> --goal …`, `loadtest compare A B …`, `loadtest page REPORT`,
//! `loadtest profile-diff A B`, `loadtest agent`.

use crate::agents::{AgentArgs, serve};
use crate::capacity::{self, CapacityArgs};
use crate::error::{Exit, RunError};
use crate::measure::{Live, measure_live, stop_on_signal, store};
use crate::outlets::Outlets;
use crate::profile::{Diff, Folded};
use crate::report::conditions::{self, Condition};
use crate::report::page::Page;
use crate::report::{SCHEMA, checks, compare, json, terminal};
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
  loadtest capacity push -c 1000 --goal p99=5ms
  loadtest compare before.json after.json --fail-if 'p99>1.1x' --fail-if 'loss>0' --junit checks.xml";

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
        let sub = sub.mut_args(|arg| {
            let hidden = !scenario.applies(arg.get_id().as_str());
            arg.hide(hidden)
        });
        command = command.subcommand(Outlets::augment_args(Live::augment_args(sub)));
    }
    let file = Arg::new("file").value_name("FILE").required(true).help("Scenario file, TOML");
    let run = Settings::augment_args(Command::new("run").arg(file));
    let run = run.about("Run a scenario file; flags given here win over it").long_about(None);
    let run = Outlets::augment_args(Live::augment_args(run));
    let show = Command::new("scenario")
        .about("Print a built-in scenario as its file, to be changed and run")
        .arg(Arg::new("name").value_name("NAME").required(true).help("Its name"));
    let files =
        Arg::new("reports").value_name("REPORT").num_args(1..).required(true).action(ArgAction::Append);
    let compare = Command::new("compare")
        .about("Compare stored reports; the first is the base of the ratios")
        .arg(files.help("Files written by --json"))
        .arg(Arg::new("html").long("html").value_name("FILE").help("Also as a page"))
        .arg(
            Arg::new("fail-if")
                .long("fail-if")
                .value_name("CONDITION")
                .action(ArgAction::Append)
                .help("May be repeated. Exit with 1 if it holds for any report but the first, e.g. 'p99>1.1x', 'throughput<-5%', 'loss>0'"),
        );
    let compare = Outlets::augment_args(compare);
    let profiles = Arg::new("profiles").value_name("PROFILE").num_args(2).required(true);
    let profile_diff = Command::new("profile-diff")
        .about("Compare two profiles by function, as shares of all samples")
        .arg(profiles.help("Files written by --profile: before and after"));
    let stored = Arg::new("report").value_name("REPORT").required(true).help("File written by --json");
    let page = Command::new("page").about("Print a stored report as one self-contained page").arg(stored);
    let schema = Command::new("schema").about("Print the JSON Schema of reports");
    let agent = AgentArgs::augment_args(Command::new("agent"))
        .about("Generate parts of runs that `--agents` of another loadtest hands out")
        .long_about(None);
    command.subcommands([run, show, capacity(), agent, compare, profile_diff, page, schema])
}

/// The search for the highest rate, over each scenario that has one.
fn capacity() -> Command {
    let mut command = Command::new("capacity")
        .about("Find the highest rate at which the goals are met")
        .subcommand_required(true)
        .arg_required_else_help(true);
    for name in capacity::SCENARIOS {
        let Ok(scenario) = Scenario::built_in(name) else { continue };
        let sub = Settings::augment_args(Command::new(name)).mut_args(|arg| {
            let id = arg.get_id().as_str();
            let chosen = ["rate", "depth", "churn_rate", "html"].contains(&id);
            let hidden = chosen || !scenario.applies(id);
            arg.hide(hidden)
        });
        let about = format!("Find the highest rate of {name} at which the goals are met");
        let sub = Live::augment_args(sub).mut_arg("profile", |arg| arg.hide(true));
        command = command.subcommand(CapacityArgs::augment_args(sub).about(about).long_about(None));
    }
    command
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
        Some(("agent", matches)) => {
            flags::<AgentArgs>(matches).and_then(|args| serve(&args)).map(|()| Exit::Met)
        }
        Some(("capacity", matches)) => search_capacity(matches, &line),
        Some(("profile-diff", matches)) => compare_profiles(matches),
        Some(("page", matches)) => page(matches),
        Some(("scenario", matches)) => show(matches),
        Some(("schema", _)) => {
            say!("{SCHEMA}");
            Ok(Exit::Met)
        }
        Some((name, matches)) => resolve_settings(name, matches)
            .and_then(|(scenario, settings)| run(&scenario, &settings, matches, &line)),
        None => Ok(Exit::CouldNotRun),
    };
    outcome.unwrap_or_else(|error| {
        note!("loadtest: {error}");
        Exit::CouldNotRun
    })
}

/// Resolves the scenario and its settings, from flags and perhaps a file.
fn resolve_settings(name: &str, matches: &ArgMatches) -> Result<(Scenario, Settings), RunError> {
    let flags = flags::<Settings>(matches)?;
    match matches.try_get_one::<String>("file") {
        Ok(Some(path)) => Scenario::load(path, &flags),
        _ => Ok((Scenario::built_in(name)?, flags)),
    }
}

fn run(
    scenario: &Scenario,
    settings: &Settings,
    matches: &ArgMatches,
    command: &str,
) -> Result<Exit, RunError> {
    let (live, outlets) = (flags::<Live>(matches)?, flags::<Outlets>(matches)?);
    let all = scenario.defaults(settings)?;
    for path in all.json.iter().chain(&all.html) {
        json::probe(path)?;
    }
    outlets.check()?;
    let report = measure_live(scenario, settings, command, &live, &stop_on_signal())?;
    say!("{}", terminal::render(&report));
    store(&all, &report)?;
    outlets.publish(scenario.name(), report.measured_seconds, &checks::of(&report))?;
    Ok(report.verdict.judgment.exit())
}

/// The flags of one group.
fn flags<A: FromArgMatches>(matches: &ArgMatches) -> Result<A, RunError> {
    A::from_arg_matches(matches).map_err(|error| RunError::new(error.to_string(), "see loadtest --help"))
}

fn search_capacity(matches: &ArgMatches, line: &str) -> Result<Exit, RunError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(Exit::CouldNotRun) };
    let (scenario, settings) = resolve_settings(name, matches)?;
    let (args, live) = (flags::<CapacityArgs>(matches)?, flags::<Live>(matches)?);
    capacity::run(&scenario, &settings, (&args, &live), line, &stop_on_signal())
}

fn compare_profiles(matches: &ArgMatches) -> Result<Exit, RunError> {
    let paths: Vec<&String> = matches.get_many("profiles").into_iter().flatten().collect();
    let [before, after] = paths[..] else { return Ok(Exit::CouldNotRun) };
    say!("{}", Diff::of(&Folded::load(before)?, &Folded::load(after)?).text());
    Ok(Exit::Met)
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
    let outlets = flags::<Outlets>(matches)?;
    outlets.check()?;
    let conditions = matches.get_many::<String>("fail-if").into_iter().flatten();
    let conditions = conditions.map(|text| Condition::parse(text)).collect::<Result<Vec<_>, _>>()?;
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
    let checks = conditions::judge(&conditions, &reports)?;
    say!("{}", conditions::text(&checks));
    outlets.publish("compare", 0.0, &checks)?;
    Ok(conditions::exit(&checks))
}

/// A file's name without folder and ending.
fn named(path: &str) -> String {
    let path = std::path::Path::new(path);
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}
