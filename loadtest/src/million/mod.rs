//! `loadtest million --gateway PROGRAM`: one command that prepares, starts a gateway, runs every
//! stage against it, stops it, and writes the results.
//!
//! ```text
//!   own network namespace ─► budget: descriptors, ports, memory ─► gateway ─► stages
//!       (10 000 connections, then all) ─► SIGTERM, exit checked ─► floor ─► page, summary
//! ```
//!
//! Nothing is left behind: the namespace ends with the process, and with it every sysctl that was
//! set in it.

mod budget;
mod comparison;
mod floor;
mod gateway;
mod memory;
mod namespace;
mod outcome;
mod page;
mod peers;
mod summary;
mod thresholds;

pub(crate) use comparison::render;
pub(crate) use namespace::called;

use crate::cli::Stop;
use crate::error::{Exit, RunError};
use crate::goals::Goal;
use crate::plan::{BackendKind, RunPlan};
use crate::report::build::{self, About};
use crate::report::{Report, terminal};
use crate::run::{Watch, execute};
use crate::scenario;
use crate::settings::units::Count;
use crate::settings::{BackendChoice, GatewayBackend, Settings, Transport};
use budget::Budget;
use floor::Floor;
use gateway::Gateway;
use memory::MemoryPrefault;
use outcome::Outcome;
use std::sync::atomic::Ordering::Relaxed;

/// Connections of the run to compare with.
const SMALL: u32 = 10_000;

/// Runs all of it.
///
/// # Errors
/// What the machine, the gateway or the flags do not allow.
pub(crate) fn run(settings: &Settings, command: &str, stop: &Stop) -> Result<Exit, RunError> {
    let backend = settings.gateway_backend.unwrap_or(GatewayBackend::IoUring);
    let mut settings = settings.clone();
    if backend == GatewayBackend::Dpdk {
        crate::backend::check(BackendKind::Dpdk)?;
        // Its clients can only be on the other end of its link.
        settings.backend = Some(BackendChoice::Dpdk);
    }
    let mut notes = namespace::enter()?;
    let settings = scenario::defaults("million", &settings);
    let budget = Budget::of(&settings, backend)?;
    notes.extend(budget.notes.iter().cloned());
    for line in notes.iter().chain(&budget.sum) {
        note!("{line}");
    }
    budget.check()?;
    let session = Session { settings: &settings, command, backend, budget: &budget, stop };
    session.check()?;
    let prefault = MemoryPrefault::begin(budget.needed, stop);
    if let Some(note) = &prefault.note {
        note!("{note}");
        notes.push(note.clone());
    }
    if stop.load(Relaxed) {
        return Ok(interrupted());
    }
    let small = settings.small.map_or(SMALL, |count| count.0);
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
        note!("loadtest: {error}");
        notes.push(format!("no floor of the broadcast: {error}"));
        None
    });
    let outcome = Outcome::of(full, small, backend, notes, &budget, floor.as_ref());
    say!("{}", terminal::render(&outcome.full));
    say!("{}", summary::thresholds(&outcome));
    if let Some(folder) = &settings.report {
        outcome.store(folder)?;
    }
    crate::cli::store(&settings, &outcome.full)?;
    Ok(if outcome.passed() { Exit::Met } else { Exit::Missed })
}

/// Half a run is no report, and must not replace a whole one.
fn interrupted() -> Exit {
    note!("loadtest: interrupted, so nothing is stored");
    Exit::Missed
}

struct Session<'a> {
    settings: &'a Settings,
    command: &'a str,
    backend: GatewayBackend,
    budget: &'a Budget,
    stop: &'a Stop,
}

impl Session<'_> {
    /// Checks the flags and the programs, before anything takes time.
    fn check(&self) -> Result<(), RunError> {
        self.goals()?;
        self.settings.floor.as_deref().map_or(Ok(()), floor::check)?;
        self.settings.report.as_deref().map_or(Ok(()), Outcome::probe)?;
        self.plan(self.budget.connections, "full", 0).map(drop)
    }

    fn goals(&self) -> Result<Vec<Goal>, RunError> {
        self.settings.goal.iter().flatten().map(|text| Goal::parse(text)).collect()
    }

    /// The floor of a broadcast: measured now where that was asked for and the gateway's rings are
    /// the kernel's, otherwise the stored one.
    fn floor(&self) -> Result<Option<Floor>, RunError> {
        match &self.settings.floor {
            Some(program) if self.backend == GatewayBackend::IoUring => {
                floor::measure(program, self.budget.connections, self.budget.workers, self.stop)
            }
            _ => Ok(floor::stored(self.backend)),
        }
    }

    /// A fresh gateway, all stages with so many connections, and its end.
    fn once(&self, connections: u32, label: &str) -> Result<Report, RunError> {
        let transport = self.settings.transport.unwrap_or(Transport::Tcp);
        let program = self.settings.gateway.as_deref().unwrap_or_default();
        let gateway = {
            let config = gateway::config(self.backend, transport, self.budget);
            Gateway::start(program, &config, gateway::clients(self.backend))?
        };
        let plan = self.plan(connections, label, gateway.pid())?;
        note!("{label}: {connections} connections through {} stages", plan.stages.len());
        let goals = self.goals()?;
        let watch = Watch {
            server_pid: Some(gateway.pid()),
            metrics: plan.endpoints.http,
            quiet: self.settings.quiet.unwrap_or(false),
        };
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let output = execute(plan.clone(), &watch, self.stop);
        let about = About {
            label: format!("{label}, {connections} connections"),
            command: self.command.to_owned(),
            started_at: since.as_secs(),
            goals,
        };
        let report = output.map(|output| build::report(&plan, output, about));
        gateway.stop()?;
        report
    }

    /// The plan of one run against a gateway started here.
    fn plan(&self, connections: u32, label: &str, pid: i32) -> Result<RunPlan, RunError> {
        let mut settings = self.settings.clone();
        settings.connections = Some(Count(connections));
        settings.workers = settings.workers.map(|workers| workers.min(connections));
        settings.server = Some(gateway::clients(self.backend).to_owned());
        if self.backend == GatewayBackend::Dpdk {
            settings.dpdk_device = settings.dpdk_device.or_else(|| Some(gateway::link("client")));
        }
        settings.http = Some(gateway::CONTROL.to_owned());
        settings.server_pid = Some(pid);
        settings.backend = settings.backend.or(Some(BackendChoice::Auto));
        if label == "small" {
            // Only its pushes are compared; the rest checks that all is well, and may be short.
            let shorter = |span: Option<crate::settings::units::Span>| {
                span.map(|span| crate::settings::units::Span(span.0.min(std::time::Duration::from_secs(20))))
            };
            settings.idle_for = shorter(settings.idle_for);
            settings.churn_for = shorter(settings.churn_for);
            settings.recover_for = shorter(settings.recover_for);
        }
        for orchestration in [&mut settings.gateway, &mut settings.floor, &mut settings.report] {
            *orchestration = None;
        }
        scenario::plan("million", &settings)
    }
}
