//! `gateway dpdk-check`, `dpdk-stats` and `dpdk-capture`: what a gateway past the kernel lacks,
//! counts and keeps.

use super::outcome::{problems_text, wrong};
use crate::dpdk;
use crate::workers::WorkerHost;
use gateway_config::{BackendKind, Config, Plan, Problems, Reserves, SystemLimits};
use gateway_control::output::{complain, say};
use std::path::Path;
use std::process::ExitCode;

/// The sums without what workers reserve.
fn plan_of(config: &Config, system: &SystemLimits) -> Result<Plan, Problems> {
    let reserves = Reserves { process: &gateway_control::memory_plan, ..Reserves::NONE };
    Plan::new(config, system, BackendKind::Dpdk, reserves)
}

pub(super) fn check(config: &Config, host: &dyn WorkerHost) -> ExitCode {
    let system = SystemLimits::read();
    let machine = dpdk::Machine { root: "/".into(), cores: system.cores };
    let library = host.choose_backend(Some(BackendKind::Dpdk)).map(|(_, version)| version);
    let plan = match plan_of(config, &system) {
        Ok(plan) => plan,
        Err(problems) => return wrong(problems_text(&problems)),
    };
    let wanted = plan.dpdk.as_ref().map(|dpdk| {
        (dpdk, dpdk.memory_mb(plan.workers, plan.backend_config.pools.receive.count), plan.workers)
    });
    let is_built = library.is_ok();
    let mut findings = dpdk::check(&machine, library, wanted);
    if is_built && plan.dpdk.is_some() && findings.iter().all(|one| one.state != dpdk::State::Missing) {
        findings.push(dpdk::try_in_child());
    }
    let (text, is_complete) = dpdk::report(&findings);
    match (say(&text), is_complete) {
        (code, true) => code,
        (_, false) => ExitCode::FAILURE,
    }
}

/// The child of `dpdk-check`: what it says goes to the parent.
pub(super) fn try_port(config: &Config, host: &dyn WorkerHost) -> ExitCode {
    let plan = match plan_of(config, &SystemLimits::read()) {
        Ok(plan) => plan,
        Err(problems) => return wrong(problems_text(&problems)),
    };
    let (text, code) = match host.try_port(&plan) {
        Ok(port) => (port, ExitCode::SUCCESS),
        Err(why) => (why, ExitCode::FAILURE),
    };
    match say(&format!("{}{text}\n", dpdk::TRIED)) == ExitCode::SUCCESS {
        true => code,
        false => ExitCode::FAILURE,
    }
}

pub(super) fn stats(config: &Config, all: bool) -> ExitCode {
    let address = config.control.address;
    let exposition = match dpdk::read(address) {
        Ok(exposition) => exposition,
        Err(error) => {
            complain(format_args!(
                "no gateway answers at control.address {address}: {error}; start it, or name its configuration (--config)"
            ));
            return ExitCode::FAILURE;
        }
    };
    match dpdk::table(&exposition, all) {
        Some(text) => say(&text),
        None => {
            complain(format_args!(
                "the gateway at {address} has no TCP/IP stack of its own: its io.backend is not \"dpdk\""
            ));
            ExitCode::FAILURE
        }
    }
}

pub(super) fn capture(config: &Config, file: &Path) -> ExitCode {
    let address = config.control.address;
    match dpdk::write_capture(address, config.control.api_key.as_ref(), file) {
        Ok(size) => {
            complain(format_args!("{size} bytes to {}", file.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(format_args!("no capture from the gateway at control.address {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}
