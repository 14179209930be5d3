//! The command line.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | ended cleanly, or the check is good |
//! | 1 | could not start here, or a worker ended by itself |
//! | 2 | the configuration or the command line is wrong |
//! | 130, 143 | a second SIGINT or SIGTERM ended it at once |

mod control;
mod dpdk;
mod init;
mod log;
mod outcome;
mod pages;
mod run;
mod settings;
mod tail;
mod token;
pub(crate) mod version;

use crate::preflight;
use crate::start::{Prepared, prepare, prepare_and_try};
use crate::workers::WorkerHost;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};
use gateway_config::{Config, Problems, SystemLimits, effective, meant_section, nearest, schema_text};
use gateway_control::output::{complain, say, show};
use outcome::{count_text, problems_text, with_config, wrong};
use run::{run, screen};
use settings::Settings;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  gateway init demo                                   a folder with configuration, keys and a token
  gateway run --config demo/gateway.toml              serve
  gateway check --config FILE                         would it start here?
  gateway run --backend epoll --set log.format=json   without a file, on this machine only
  gateway tail --config demo/gateway.toml --token-file demo/token
  gateway push --config demo/gateway.toml --mid 7 'hello'
  gateway completions bash > /etc/bash_completion.d/gateway

Exit codes:
  0         ended cleanly, or the answer is yes
  1         could not start here, a worker ended by itself, or no gateway answered as it should
  2         the configuration or the command line is wrong; nothing was done
  130, 143  a second SIGINT or SIGTERM ended it at once

Files and environment:
  GATEWAY_CONFIG names the configuration; GATEWAY_IO__BACKEND is io.backend, and so is every other key";

/// An IM edge gateway: holds client connections and carries messages between them and the services
/// behind it.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    version = version::SHORT,
    long_version = version::LONG,
    about,
    max_term_width = 100,
    after_help = "`gateway --help` has examples and exit codes; `gateway COMMAND --help` has a command's own.",
    after_long_help = EXAMPLES
)]
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
    /// Say whether a start would succeed here and now, and how it would look; start nothing.
    Check {
        /// Look at the configuration and the files that it names only, not at this machine and its
        /// ports.
        #[arg(long)]
        offline: bool,
    },
    /// Print the effective configuration, with where each value comes from.
    Config,
    /// Print all keys with their defaults and what they are for.
    Schema {
        /// Only keys with this in their name, such as io, timeout or listener.
        #[arg(value_name = "PART")]
        part: Option<String>,
    },
    /// Write a configuration, keys, an API key and a sample token into a new folder; ask nothing,
    /// overwrite nothing.
    Init(init::Init),
    /// Sign a token as a login service would, and print it.
    Token(token::Token),
    /// Push a message to a user, a connection, a room or everyone, through a running gateway's
    /// control port.
    Push(control::Push),
    /// Log in as a client over TCP and print what arrives.
    Tail(tail::Tail),
    /// Ask a running gateway whether it is alive (exit code 0) or not (1): for probes in images
    /// without a shell.
    Health(control::Health),
    /// Wait so many seconds and end: for a preStop hook in an image without a shell.
    Sleep {
        #[arg(value_parser = clap::value_parser!(u64).range(..=3600))]
        seconds: u64,
    },
    /// Print completions for a shell.
    Completions(pages::Completions),
    /// Print the manual page.
    Man(pages::Man),
    /// Say what a start with io.backend = "dpdk" would lack, and the commands that mend it.
    DpdkCheck,
    /// Open the port and close it again, as the child of dpdk-check.
    #[command(hide = true)]
    DpdkTry,
    /// Print what the TCP/IP stack of a running gateway has dropped and counted.
    DpdkStats {
        /// Counts of zero, too.
        #[arg(long)]
        all: bool,
    },
    /// Write the last frames of a running gateway as a pcap file, where dpdk.capture_frames keeps
    /// some.
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
        Err(mut error) => {
            suggest(&mut error);
            // Help and version end with 0, wrong flags with 2; nothing is left to do when the
            // terminal is gone.
            if let Err(unwritten) = error.print()
                && unwritten.kind() != std::io::ErrorKind::BrokenPipe
                && !error.use_stderr()
            {
                complain(format_args!("the output can't be written: {unwritten}"));
                return ExitCode::FAILURE;
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.unwrap_or(Order::Run) {
        Order::Schema { part } => schema(part.as_deref()),
        Order::Config => with_config(&cli.settings, |config| say(&effective(&config.source.values))),
        Order::Check { offline: true } => with_config(&cli.settings, |config| check_offline(&config)),
        Order::Check { offline: false } => with_config(&cli.settings, |config| check(config, host)),
        Order::Init(order) => init::init(&order),
        Order::Token(order) => token::token(&cli.settings, &order),
        Order::Push(order) => control::push(&cli.settings, &order),
        Order::Tail(order) => tail::tail(&cli.settings, &order),
        Order::Health(order) => control::health(&cli.settings, &order),
        Order::Sleep { seconds } => {
            std::thread::sleep(Duration::from_secs(seconds));
            ExitCode::SUCCESS
        }
        Order::Completions(order) => pages::completions(Cli::command(), &order),
        Order::Man(order) => pages::man(Cli::command(), &order),
        Order::DpdkCheck => with_config(&cli.settings, |config| dpdk::check(&config, host)),
        Order::DpdkTry => with_config(&cli.settings, |config| dpdk::try_port(&config, host)),
        Order::DpdkStats { all } => with_config(&cli.settings, |config| dpdk::stats(&config, all)),
        Order::DpdkCapture { file } => with_config(&cli.settings, |config| dpdk::capture(&config, &file)),
        Order::Run => with_config(&cli.settings, |config| {
            with_prepared(config, host, prepare, |prepared, problems| {
                if problems.is_empty() {
                    run(prepared, host, cli.settings.clone())
                } else {
                    cant_start(&problems)
                }
            })
        }),
    }
}

/// For a command by another product's name, and for a file where a command belongs: clap looks at
/// letters alone.
fn suggest(error: &mut clap::Error) {
    let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let names: Vec<String> = Cli::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
    if written.ends_with(".toml") {
        let tip = format!("a configuration is named with --config: gateway run --config {written}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    } else if let Some(meant) = nearest(written, &names.iter().map(String::as_str).collect::<Vec<_>>()) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant.to_owned()]));
    }
}

fn check(config: Config, host: &dyn WorkerHost) -> ExitCode {
    with_prepared(config, host, prepare_and_try, |prepared, mut problems| {
        show(screen(&prepared));
        problems.extend(preflight::ports(&prepared));
        problems.extend(preflight::journal_is_free(&prepared.config));
        if !problems.is_empty() {
            let code = cant_start(&problems);
            complain("`gateway check --offline` looks at the configuration only");
            return code;
        }
        say("the configuration is good, and a start would succeed here\n")
    })
}

fn check_offline(config: &Config) -> ExitCode {
    config.source.warnings.iter().for_each(|warning| complain(format_args!("warning: {warning}")));
    say(
        "the configuration is good by itself; ports, io_uring, memory and folders of this machine were not looked at\n",
    )
}

fn schema(part: Option<&str>) -> ExitCode {
    match schema_text(part) {
        Some(text) => say(&text),
        None => {
            let part = part.unwrap_or_default();
            let meant = meant_section(part).map(|meant| format!("; did you mean `gateway schema {meant}`?"));
            let advice = meant.unwrap_or_else(|| "; `gateway schema` lists all".into());
            wrong(format!("no key has {part:?} in its name{advice}"))
        }
    }
}

/// What keeps a good configuration from starting here.
fn cant_start(problems: &[String]) -> ExitCode {
    problems.iter().for_each(complain);
    complain(format_args!("the gateway can't start here: {}", count_text(problems.len())));
    ExitCode::FAILURE
}

/// With what `prepare` makes of the configuration here, the warnings of what it meets, and the
/// problems.
fn with_prepared(
    config: Config,
    host: &dyn WorkerHost,
    prepare: impl FnOnce(Config, SystemLimits, &dyn WorkerHost) -> Result<Prepared, Problems>,
    then: impl FnOnce(Prepared, Vec<String>) -> ExitCode,
) -> ExitCode {
    let mut system = SystemLimits::read();
    system.descriptors_max = SystemLimits::raise_descriptors();
    match prepare(config, system, host) {
        Ok(mut prepared) => {
            let preflight::Findings { problems, warnings } = preflight::look(&prepared.config);
            prepared.config.source.warnings.extend(warnings);
            then(prepared, problems)
        }
        Err(problems) => wrong(problems_text(&problems)),
    }
}
