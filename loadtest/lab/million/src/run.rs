//! One command that prepares, starts a gateway, runs every stage against it, stops it, and writes
//! the results.
//!
//! ```text
//!   own network namespace ─► budget: descriptors, ports, memory ─► gateway ─► stages
//!       (10 000 connections, then all) ─► SIGTERM, exit checked ─► floor ─► report, summary
//! ```
//!
//! Nothing is left behind: the namespace ends with the process, and with it every sysctl that was
//! set in it.

use crate::budget::Budget;
use crate::floor::{self, Floor};
use crate::gateway::{self, Gateway};
use crate::memory::MemoryPrefault;
use crate::orders::{GatewayBackend, Orders};
use crate::outcome::Outcome;
use crate::thresholds::Thresholds;
use crate::{namespace, summary};
use loadtest::report::{Report, json, terminal};
use loadtest::settings::units::{Count, Span};
use loadtest::settings::{BackendChoice, Settings, Transport};
use loadtest::{Exit, RunError, Scenario, Stop, note, say};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Connections of the run to compare with.
const SMALL: u32 = 10_000;
/// The longest of a stage's optional lengths in that run.
const SMALL_STAGE_MAX: Duration = Duration::from_secs(20);

/// Runs all of it.
///
/// # Errors
/// What the machine, the gateway or the flags do not allow.
pub(crate) fn run(
    orders: &Orders,
    scenario: &Scenario,
    settings: &Settings,
    command: &str,
    stop: &Stop,
) -> Result<Exit, RunError> {
    let backend = orders.gateway_backend;
    let mut settings = settings.clone();
    if backend == GatewayBackend::Dpdk {
        // Its clients can only be on the other end of its link.
        settings.backend = Some(BackendChoice::Dpdk);
    }
    settings.json.as_ref().map_or(Ok(()), |path| json::probe(path))?;
    let thresholds = Thresholds::load(orders.thresholds.as_deref())?;
    let mut notes = namespace::enter()?;
    let settings = scenario.defaults(&settings)?;
    let budget = Budget::of(&settings, backend);
    notes.extend(budget.notes.iter().cloned());
    for line in notes.iter().chain(&budget.sum) {
        note!("{line}");
    }
    budget.check()?;
    let session = Session {
        orders,
        program: program(orders),
        scenario,
        settings: &settings,
        command,
        budget: &budget,
        stop,
    };
    session.check()?;
    let prefault = MemoryPrefault::begin(budget.needed, stop);
    if let Some(note) = &prefault.note {
        note!("{note}");
        notes.push(note.clone());
    }
    if stop.load(Relaxed) {
        return Ok(interrupted());
    }
    let small = orders.small.map_or(SMALL, |count| count.0);
    let small = match small > 0 && small < budget.connections {
        true => Some(session.once(small, "small")?),
        false => None,
    };
    if stop.load(Relaxed) {
        return Ok(interrupted());
    }
    let full = session.once(budget.connections, "full")?;
    if stop.load(Relaxed) {
        say!("{}", terminal::render(&full));
        return Ok(interrupted());
    }
    // Measurements must not be lost for lack of something to compare them with.
    let floor = session.floor().unwrap_or_else(|error| {
        note!("million: {error}");
        notes.push(format!("no floor of the broadcast: {error}"));
        None
    });
    let outcome = Outcome::of(full, small, backend, notes, &budget, (&thresholds, floor.as_ref()));
    say!("{}", terminal::render(&outcome.full));
    say!("{}", summary::thresholds(&outcome));
    if let Some(folder) = &orders.report {
        summary::store(&outcome, folder)?;
    }
    loadtest::store(&settings, &outcome.full)?;
    Ok(if outcome.passed() { Exit::Met } else { Exit::Missed })
}

/// The gateway's program: as named, or the one next to this program.
fn program(orders: &Orders) -> String {
    let beside = || std::env::current_exe().map(|own| own.with_file_name("gateway"));
    let named = orders.gateway.clone();
    named.unwrap_or_else(|| beside().map_or_else(|_| "gateway".into(), |path| path.display().to_string()))
}

/// Half a run is no report, and must not replace a whole one.
fn interrupted() -> Exit {
    note!("million: interrupted, so nothing is stored");
    Exit::Missed
}

struct Session<'a> {
    orders: &'a Orders,
    program: String,
    scenario: &'a Scenario,
    settings: &'a Settings,
    command: &'a str,
    budget: &'a Budget,
    stop: &'a Stop,
}

impl Session<'_> {
    /// Checks the flags and the programs, before anything takes time.
    fn check(&self) -> Result<(), RunError> {
        self.orders.floor.as_deref().map_or(Ok(()), floor::check)?;
        self.orders.report.as_deref().map_or(Ok(()), Outcome::probe)?;
        loadtest::check(self.scenario, &self.settings_of(self.budget.connections, "full", 0)).map(drop)
    }

    /// The floor of a broadcast, measured now where that was asked for and the gateway's rings are
    /// the kernel's: another backend has none of its kind.
    fn floor(&self) -> Result<Option<Floor>, RunError> {
        match &self.orders.floor {
            Some(program) if self.orders.gateway_backend == GatewayBackend::IoUring => {
                floor::measure(program, self.budget.connections, self.budget.workers, self.stop)
            }
            _ => Ok(None),
        }
    }

    /// A fresh gateway, all stages with so many connections, and its end.
    fn once(&self, connections: u32, label: &str) -> Result<Report, RunError> {
        let backend = self.orders.gateway_backend;
        let transport = self.settings.transport.unwrap_or(Transport::Tcp);
        let gateway = {
            let config = gateway::config(backend, transport, self.budget);
            Gateway::start(&self.program, &config, gateway::clients(backend))?
        };
        let settings = self.settings_of(connections, label, gateway.pid());
        let stages = loadtest::check(self.scenario, &settings)?;
        note!("{label}: {connections} connections through {stages} stages");
        let report = loadtest::measure(self.scenario, &settings, self.command, self.stop);
        gateway.stop()?;
        report
    }

    /// The settings of one run against a gateway started here.
    fn settings_of(&self, connections: u32, label: &str, pid: i32) -> Settings {
        let mut settings = self.settings.clone();
        settings.connections = Some(Count(connections));
        settings.workers = settings.workers.map(|workers| workers.min(connections));
        settings.server = Some(gateway::clients(self.orders.gateway_backend).to_owned());
        if self.orders.gateway_backend == GatewayBackend::Dpdk {
            settings.dpdk_device = settings.dpdk_device.or_else(|| Some(gateway::link("client")));
        }
        settings.http = Some(gateway::CONTROL.to_owned());
        settings.server_pid = Some(pid);
        settings.backend = settings.backend.or(Some(BackendChoice::Auto));
        settings.label = Some(format!("{label}, {connections} connections"));
        if label == "small" {
            // Only its pushes are compared; the rest checks that all is well, and may be short.
            let shorter = |span: Option<Span>| span.map(|span| Span(span.0.min(SMALL_STAGE_MAX)));
            settings.idle_for = shorter(settings.idle_for);
            settings.churn_for = shorter(settings.churn_for);
            settings.recover_for = shorter(settings.recover_for);
        }
        settings
    }
}
