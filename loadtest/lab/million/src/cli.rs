//! The command line: `million [flags]`, `million summary FOLDER …`, `million page FOLDER`.

use crate::orders::{HEADING, Orders};
use crate::outcome::Outcome;
use crate::{comparison, namespace, page, run, summary};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use loadtest::settings::Settings;
use loadtest::{Exit, RunError, Scenario, note, say};
use std::ffi::OsString;
use std::path::Path;

const AFTER: &str = "\
Exit codes:
  0  all thresholds met (at a million connections), goals met, nothing lost
  1  a threshold or a goal missed, a delivery rule broken, or interrupted
  2  could not run: flags, addresses, limits

Examples:
  million --quick                                   3 000 connections, under a minute
  million --scenario configs/loadtest.million.toml --report /tmp/million
  million page /tmp/million > page.html";

#[derive(Parser)]
#[command(
    name = "million",
    version,
    about = "A gateway under a million connections: every stage, its thresholds, a report",
    after_help = AFTER,
    args_conflicts_with_subcommands = true
)]
struct Line {
    #[command(subcommand)]
    stored: Option<Stored>,
    #[command(flatten)]
    orders: Orders,
    #[command(flatten)]
    settings: Settings,
}

/// What is done with stored reports.
#[derive(Subcommand)]
enum Stored {
    /// Write summary.md of stored reports anew, each with those in the folders next to it
    Summary {
        /// Folders written by --report
        #[arg(required = true)]
        folders: Vec<String>,
    },
    /// Print a stored report as one self-contained page
    Page {
        /// Folder written by --report
        folder: String,
    },
}

/// Parses, runs, reports; returns the outcome of the process.
pub(crate) fn main(words: Vec<OsString>) -> Exit {
    let million = Scenario::built_in("million");
    let command = Line::command().mut_args(|arg| {
        let of_gateway = arg.get_help_heading() == Some(HEADING);
        let applies = million.as_ref().is_ok_and(|million| million.applies(arg.get_id().as_str()));
        arg.hide(!of_gateway && !applies)
    });
    let parsed = command.try_get_matches_from(&words).and_then(|matches| Line::from_arg_matches(&matches));
    let outcome = match parsed {
        Ok(Line { stored: Some(Stored::Summary { folders }), .. }) => {
            summary::render(&folders).map(|()| Exit::Met)
        }
        Ok(Line { stored: Some(Stored::Page { folder }), .. }) => show(&folder).map(|()| Exit::Met),
        Ok(Line { orders, settings, .. }) => resolve(&orders, settings).and_then(|(scenario, settings)| {
            run::run(&orders, &scenario, &settings, &called(&words), &loadtest::stop_on_signal())
        }),
        Err(error) => {
            let asked = !error.use_stderr();
            let _ = error.print();
            return if asked { Exit::Met } else { Exit::CouldNotRun };
        }
    };
    outcome.unwrap_or_else(|error| {
        note!("million: {error}");
        Exit::CouldNotRun
    })
}

/// The scenario and the settings, from flags and perhaps a file.
fn resolve(orders: &Orders, flags: Settings) -> Result<(Scenario, Settings), RunError> {
    match &orders.scenario {
        Some(path) => Scenario::load(path, &flags),
        None => Ok((Scenario::built_in("million")?, flags)),
    }
}

/// The command line as it was given: in its namespace the program is started by its whole path,
/// which does not belong in a report.
fn called(words: &[OsString]) -> String {
    let mut line: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let (Some(first), Some(called)) = (line.first_mut(), namespace::called()) {
        *first = called;
    }
    line.join(" ")
}

fn show(folder: &str) -> Result<(), RunError> {
    let outcome = Outcome::load(Path::new(folder))?;
    say!("{}", page::render(&outcome, &comparison::stored_next_to(folder, &outcome)));
    Ok(())
}
