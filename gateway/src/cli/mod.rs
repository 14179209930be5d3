//! The command line.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | ended cleanly, or the configuration is good |
//! | 1 | could not start, or a worker ended by itself |
//! | 2 | the configuration or the command line is wrong |
//! | 130, 143 | a second SIGINT or SIGTERM ended it at once |

mod dpdk;
mod log;
mod run;
mod settings;

use crate::config::{Config, Problems, SystemLimits, effective, schema_text};
use crate::preflight;
use crate::start::{Prepared, WorkerHost, prepare};
use clap::{Parser, Subcommand};
use run::{run, screen};
use settings::{Settings, Usage, load};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// An IM edge gateway: holds client connections and carries messages between them and the services behind it.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Order>,
}

#[derive(Clone, Debug, Subcommand)]
enum Order {
    /// Serve until SIGTERM or SIGINT (what happens without a command).
    Run,
    /// Say whether a start would succeed, and how it would look; start nothing.
    Check,
    /// Print the effective configuration, with where each value comes from.
    Config,
    /// Print all keys with their defaults and what they are for.
    Schema,
    /// Say what a start with io.backend = "dpdk" would lack, and the commands that mend it.
    DpdkCheck,
    /// Print what the TCP/IP stack of a running gateway has dropped and counted.
    DpdkStats {
        /// Counts of zero, too.
        #[arg(long)]
        all: bool,
    },
    /// Write the last frames of a running gateway as a pcap file, where dpdk.capture_frames keeps some.
    DpdkCapture {
        /// Where to; "-": the standard output, for `| tcpdump -r -`.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Runs the program with its arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>, host: &dyn WorkerHost) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version end with 0, wrong flags with 2; nothing is left to do when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.unwrap_or(Order::Run) {
        Order::Schema => say(&schema_text()),
        Order::Config => with_config(&cli.settings, |config| say(&effective(&config.source.values))),
        Order::Check => with_config(&cli.settings, |config| {
            with_prepared(config, host, |mut prepared| {
                let found = preflight::warnings(&prepared.config);
                prepared.config.source.warnings.extend(found);
                eprint!("{}", screen(&prepared));
                say("the configuration is good\n")
            })
        }),
        Order::DpdkCheck => with_config(&cli.settings, |config| dpdk::check(&config, host)),
        Order::DpdkStats { all } => with_config(&cli.settings, |config| dpdk::stats(&config, all)),
        Order::DpdkCapture { file } => with_config(&cli.settings, |config| dpdk::capture(&config, &file)),
        Order::Run => with_config(&cli.settings, |config| {
            with_prepared(config, host, |prepared| run(prepared, host, cli.settings.clone()))
        }),
    }
}

/// To stdout; a closed pipe ends the output, not the program.
fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn wrong(what: impl std::fmt::Display) -> ExitCode {
    eprintln!("{what}");
    ExitCode::from(2)
}

fn problems_text(problems: &Problems) -> String {
    let count = problems.0.len();
    format!("{problems}\nthe configuration has {count} {}", if count == 1 { "problem" } else { "problems" })
}

fn with_config(settings: &Settings, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match load(settings) {
        Ok(Ok(config)) => then(config),
        Ok(Err(problems)) => wrong(problems_text(&problems)),
        Err(Usage(what)) => wrong(what),
    }
}

fn with_prepared(config: Config, host: &dyn WorkerHost, then: impl FnOnce(Prepared) -> ExitCode) -> ExitCode {
    let mut system = SystemLimits::read();
    system.descriptors_max = SystemLimits::raise_descriptors();
    match prepare(config, system, host) {
        Ok(prepared) => then(prepared),
        Err(problems) => wrong(problems_text(&problems)),
    }
}
