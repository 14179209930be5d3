//! `gateway run`: from a configuration that can start here to the end of the process.

use super::colors_wanted;
use super::log::start_log;
use super::settings::{Settings, Usage, load};
use crate::config::Problems;
use crate::control::ReloadSource;
use crate::start::{Prepared, WorkerHost, start};
use crate::start_screen::{Paint, render};
use std::process::ExitCode;

pub(super) fn screen(prepared: &Prepared) -> String {
    let paint = Paint { colours: colors_wanted() };
    render(prepared, &[], prepared.config.control.address, paint)
}

pub(super) fn run(prepared: Prepared, host: &dyn WorkerHost, settings: Settings) -> ExitCode {
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
    shown.plan = running.plan.clone();
    let listeners = shown.config.listeners.iter().zip(&running.addresses);
    let listeners: Vec<String> =
        listeners.map(|(listener, address)| format!("{} on {address}", listener.name)).collect();
    if json {
        let (backend, reason) = (shown.plan.backend.label(), &shown.backend_reason);
        let (capacity, control) = (shown.plan.room_text(), running.control_address);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), backend, %reason, capacity, %control, "started");
        shown.config.source.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    } else {
        let paint = Paint { colours: colors_wanted() };
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
