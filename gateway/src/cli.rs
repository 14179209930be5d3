//! The command line.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | ended cleanly, or the configuration is good |
//! | 1 | could not start, or a worker ended by itself |
//! | 2 | the configuration or the command line is wrong |
//! | 130, 143 | a second SIGINT or SIGTERM ended it at once |

use crate::config::{BackendKind, Config, Plan, Problems, Sources, SystemLimits, effective, schema_text};
use crate::control::{LogHandle, ReloadSource};
use crate::dpdk;
use crate::preflight;
use crate::start::{Prepared, WorkerHost, prepare, start};
use crate::start_screen::{Paint, render};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

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

#[derive(Args, Clone, Debug)]
struct Settings {
    /// Configuration file (TOML).
    #[arg(long, short, global = true, env = "GATEWAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key: --set io.backend=epoll. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same as --set io.backend=…
    #[arg(long, global = true, value_name = "BACKEND")]
    backend: Option<String>,
    /// The same as --set io.workers=…
    #[arg(long, global = true, value_name = "COUNT")]
    workers: Option<String>,
    /// The same as --set limits.connections_max=…
    #[arg(long, global = true, value_name = "COUNT")]
    connections_max: Option<String>,
    /// The same as --set control.address=…
    #[arg(long, global = true, value_name = "ADDRESS")]
    control_address: Option<String>,
    /// The same as --set log.level=…
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Why nothing could be read.
#[derive(Debug)]
struct Usage(String);

impl Settings {
    fn flags(&self) -> Result<Vec<(String, String, String)>, Usage> {
        let mut flags = Vec::new();
        for setting in &self.set {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(Usage(format!(
                    "--set {setting}: expected KEY=VALUE, such as --set io.backend=epoll"
                )));
            };
            flags.push((path.trim().to_owned(), value.to_owned(), format!("--set {}", path.trim())));
        }
        let short = [
            ("backend", "io.backend", &self.backend),
            ("workers", "io.workers", &self.workers),
            ("connections-max", "limits.connections_max", &self.connections_max),
            ("control-address", "control.address", &self.control_address),
            ("log-level", "log.level", &self.log_level),
        ];
        let given = short.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value.as_ref()?)));
        flags.extend(given.map(|(flag, path, value)| (path.into(), value.clone(), format!("--{flag}"))));
        Ok(flags)
    }

    fn sources(&self) -> Result<Sources, Usage> {
        let file = match &self.config {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let bytes = std::fs::read(path).map_err(|error| {
                    Usage(format!("{name}: can't be read: {error}; --config names the file"))
                })?;
                let text =
                    String::from_utf8(bytes).map_err(|_| Usage(format!("{name}: is not UTF-8 text")))?;
                Some((name, text))
            }
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        });
        Ok(Sources { file, environment: environment.collect(), flags: self.flags()? })
    }
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
        Order::DpdkCheck => with_config(&cli.settings, |config| dpdk_check(&config, host)),
        Order::DpdkStats { all } => with_config(&cli.settings, |config| dpdk_stats(&config, all)),
        Order::DpdkCapture { file } => with_config(&cli.settings, |config| dpdk_capture(&config, &file)),
        Order::Run => with_config(&cli.settings, |config| {
            with_prepared(config, host, |prepared| run(prepared, host, cli.settings.clone()))
        }),
    }
}

fn dpdk_check(config: &Config, host: &dyn WorkerHost) -> ExitCode {
    let system = SystemLimits::read();
    let machine = dpdk::Machine { root: "/".into(), cores: system.cores };
    let library = host.choose_backend(Some(BackendKind::Dpdk)).map(|(_, version)| version);
    let plan = match Plan::new(config, &system, BackendKind::Dpdk, &|_, _, _| Vec::new()) {
        Ok(plan) => plan,
        Err(problems) => return wrong(problems_text(&problems)),
    };
    let wanted = plan.dpdk.as_ref().map(|dpdk| {
        (dpdk, dpdk.memory_mb(plan.workers, plan.backend_config.pools.receive.count), plan.workers)
    });
    let (text, is_complete) = dpdk::report(&dpdk::check(&machine, library, wanted));
    match (say(&text), is_complete) {
        (code, true) => code,
        (_, false) => ExitCode::FAILURE,
    }
}

fn dpdk_stats(config: &Config, all: bool) -> ExitCode {
    let address = config.control.address;
    let exposition = match dpdk::read(address) {
        Ok(exposition) => exposition,
        Err(error) => {
            eprintln!(
                "no gateway answers at control.address {address}: {error}; start it, or name its configuration (--config)"
            );
            return ExitCode::FAILURE;
        }
    };
    match dpdk::table(&exposition, all) {
        Some(text) => say(&text),
        None => {
            eprintln!(
                "the gateway at {address} has no TCP/IP stack of its own: its io.backend is not \"dpdk\""
            );
            ExitCode::FAILURE
        }
    }
}

fn dpdk_capture(config: &Config, file: &Path) -> ExitCode {
    let address = config.control.address;
    match dpdk::write_capture(address, config.control.api_key.as_ref(), file) {
        Ok(size) => {
            eprintln!("{size} bytes to {}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no capture from the gateway at control.address {address}: {error}");
            ExitCode::FAILURE
        }
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

fn load(settings: &Settings) -> Result<Result<Config, Problems>, Usage> {
    Ok(Config::load(&settings.sources()?, &|file| std::fs::read(file)))
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

fn screen(prepared: &Prepared) -> String {
    let paint = Paint { colours: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    render(prepared, &[], prepared.config.control.address, paint)
}

fn run(prepared: Prepared, host: &dyn WorkerHost, settings: Settings) -> ExitCode {
    let log = start_log(&prepared.config);
    let reload = ReloadSource::new(move || match load(&settings) {
        Ok(loaded) => loaded,
        Err(Usage(what)) => {
            let mut problems = Problems::default();
            problems.push(&crate::config::Origin::Default, "", what);
            Err(problems)
        }
    });
    let (mut shown, json) = (prepared.clone(), prepared.config.log.json);
    let running = match start(prepared, host, reload, log, true) {
        Ok(running) => running,
        Err(error) => {
            eprintln!("the gateway can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    shown.backend_reason.clone_from(&running.backend_reason);
    let listeners = shown.config.listeners.iter().zip(&running.addresses);
    let listeners: Vec<String> =
        listeners.map(|(listener, address)| format!("{} on {address}", listener.name)).collect();
    if json {
        let (backend, reason) = (shown.plan.backend.label(), &shown.backend_reason);
        let (capacity, control) = (shown.plan.room_text(), running.control_address);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), backend, %reason, capacity, %control, "started");
        shown.config.source.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    } else {
        let paint =
            Paint { colours: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
        eprint!("{}", render(&shown, &running.addresses, running.control_address, paint));
    }
    // After everything else that is said at the start: who waits for this line finds every port open.
    let (listeners, control) = (listeners.join(", "), running.control_address);
    tracing::info!(%control, "serving {listeners}");
    match running.join() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the control thread failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging to stderr. The handle changes the level later.
fn start_log(config: &Config) -> LogHandle {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(config.log.level));
    let registry = registry().with(filter);
    let started = if config.log.json {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        registry
            .with(fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr))
            .try_init()
    };
    if let Err(error) = started {
        eprintln!("logging was started before: {error}");
    }
    LogHandle::new(move |level| {
        if let Err(error) = handle.modify(|filter| *filter = LevelFilter::from_level(level)) {
            tracing::error!(%error, "the log level can't be changed");
        }
    })
}
