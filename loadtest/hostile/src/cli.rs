//! The command line.

use crate::abuse::{self, Abuse};
use crate::attacker;
use crate::error::{Exit, RunError};
use crate::profile::Profile;
use crate::suite::{self, LatencyLimit, SuitePlan};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Abuses of a gateway, each beside well-behaved connections that must not notice.
#[derive(Parser)]
#[command(
    name = "hostile",
    version,
    after_help = "Exit codes: 0 every abuse held, 1 one was noticed, 2 the suite could not run.\n\
                  Examples:\n  hostile list\n  hostile run heartbeats_before_login long_room_names\n  \
                  hostile all --well-behaved 2000 --backend epoll --report hostile.json\n  hostile all --small"
)]
struct Cli {
    #[command(subcommand)]
    order: CliOrder,
}

#[derive(Subcommand)]
enum CliOrder {
    /// Print every abuse: what it does, and what the gateway should answer.
    List,
    /// Run the abuses that are named, one after the other.
    Run {
        /// Names of abuses, or of kinds.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Run every abuse alone, then all of them at once.
    All {
        #[command(flatten)]
        options: Options,
    },
    /// Run abuses in this process; the order comes on standard input.
    #[command(hide = true)]
    Attack,
}

#[derive(Args)]
struct Options {
    /// The program to test.
    #[arg(long, value_name = "FILE", default_value = "target/release/gateway")]
    gateway: PathBuf,
    /// Well-behaved connections, half over TCP, half over WebSocket.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(4..=8000))]
    well_behaved: u32,
    /// How the gateway moves bytes.
    #[arg(long, default_value = "auto", value_parser = ["auto", "io_uring", "epoll"])]
    backend: String,
    /// Only abuses of this profile.
    #[arg(long, value_parser = ["production", "development"])]
    profile: Option<String>,
    /// Time of each abuse, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 4000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    budget_ms: u64,
    /// Quiet time before each abuse that it is compared with, in milliseconds. 0: no ratios.
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    quiet_ms: u64,
    /// How often each abuse is run; ratios are medians.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    latency: LatencyOptions,
    /// Short: 200 well-behaved connections, 0.3 s an abuse, no quiet times, what is left is looked
    /// at once at the end.
    #[arg(long)]
    small: bool,
    /// The gateway on the first processor, everything else on the others: needs two.
    #[arg(long)]
    pin: bool,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A further key of the gateway's configuration.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Keep the gateway's folder, with its log.
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct LatencyOptions {
    /// An abuse also fails when the bystanders' p99 exceeds its quiet value by this factor.
    #[arg(long, value_name = "X")]
    ratio_max: Option<f64>,
    /// With --ratio-max: a p99 up to so many milliseconds is held, whatever the factor. A quiet p99
    /// is a fraction of a millisecond, and another thread of the same processor runs for up to 3.
    #[arg(long, value_name = "MS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3))]
    floor_ms: u64,
}

impl LatencyOptions {
    fn limit(self) -> Option<LatencyLimit> {
        let floor = Duration::from_millis(self.floor_ms);
        self.ratio_max.map(|ratio_max| LatencyLimit { ratio_max, floor })
    }
}

/// Runs a command line.
pub(crate) fn main(words: Vec<OsString>) -> Exit {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::CouldNotRun } else { Exit::Held };
        }
    };
    let ran = match cli.order {
        CliOrder::List => return list(),
        CliOrder::Attack => {
            // Its parent reads what it prints, not how it ends.
            attacker::main();
            return Exit::Held;
        }
        CliOrder::Run { names, options } => {
            choose(&names).and_then(|chosen| suite::run(&options.plan(chosen, false)))
        }
        CliOrder::All { options } => suite::run(&options.plan(abuse::ALL.iter().collect(), true)),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("hostile: {error}");
        Exit::CouldNotRun
    })
}

fn list() -> Exit {
    use std::io::Write;
    let mut text = String::new();
    let mut kind = "";
    for abuse in abuse::ALL.iter() {
        if abuse.kind != kind {
            kind = abuse.kind;
            text += &format!("\n{kind}\n");
        }
        text += &format!(
            "  {} ({}, {})\n      {}\n      Right: {}\n",
            abuse.name,
            abuse.on.name(),
            abuse.profile().name(),
            abuse.does,
            abuse.right
        );
    }
    text += &format!("\n{} abuses\n", abuse::ALL.len());
    // A reader that has seen enough is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Held
}

/// # Errors
/// A name that is neither an abuse nor a kind.
fn choose(names: &[String]) -> Result<Vec<&'static Abuse>, RunError> {
    for name in names {
        if !abuse::ALL.iter().any(|abuse| abuse.name == name || abuse.kind == name) {
            return Err(RunError::new(
                format!("no abuse is called {name}"),
                "`hostile list` prints all of them",
            ));
        }
    }
    let chosen = |abuse: &&Abuse| names.iter().any(|name| abuse.name == name || abuse.kind == name);
    Ok(abuse::ALL.iter().filter(chosen).collect())
}

impl Options {
    fn plan(self, chosen: Vec<&'static Abuse>, all_at_once: bool) -> SuitePlan {
        let wanted = self.profile.as_deref();
        let chosen =
            chosen.into_iter().filter(|abuse| wanted.is_none_or(|name| abuse.profile().name() == name));
        let (small, ms) = (self.small, Duration::from_millis);
        let well_behaved = if small { self.well_behaved.min(200) } else { self.well_behaved };
        SuitePlan {
            chosen: chosen.collect(),
            profiles: Profile::ALL
                .into_iter()
                .filter(|one| wanted.is_none_or(|name| one.name() == name))
                .collect(),
            all_at_once,
            program: self.gateway,
            well_behaved,
            backend: self.backend,
            budget: if small { ms(self.budget_ms.min(300)) } else { ms(self.budget_ms) },
            quiet: if small { Duration::ZERO } else { ms(self.quiet_ms) },
            rounds: self.rounds,
            latency: self.latency.limit().filter(|_| !small),
            settles_each: !small,
            // Slots for abuses to take, on top of those of bystanders.
            connections_max: well_behaved + if small { 800 } else { 2500 },
            crowd_max: if small { 1200 } else { 5000 },
            report: self.report,
            sets: self.sets,
            keep: self.keep,
            pin: self.pin,
        }
    }
}
