//! `gateway dpdk-check`, `dpdk-stats` and `dpdk-capture`: what a gateway past the kernel lacks, counts and keeps.

use super::{problems_text, wrong};
use crate::config::{BackendKind, Config, Plan, SystemLimits};
use crate::dpdk;
use crate::output::{complain, say};
use crate::start::WorkerHost;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn check(config: &Config, host: &dyn WorkerHost) -> ExitCode {
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
