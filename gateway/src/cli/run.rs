//! `gateway run`: from a configuration that can start here to the end of the process.

use super::log::start_log;
use super::outcome::colors_wanted;
use super::settings::{Settings, Usage, load_again};
use crate::start::{Prepared, start};
use crate::start_screen::{Paint, render};
use crate::workers::WorkerHost;
use gateway_config::Problems;
use gateway_control::output::{LogQueue, complain};
use gateway_control::{LogHandle, ReloadSource};
use std::process::ExitCode;
use std::time::Duration;

/// Longest wait for the last log lines to be written.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

pub(super) fn screen(prepared: &Prepared) -> String {
    let paint = Paint { colours: colors_wanted() };
    render(prepared, &[], prepared.config.control.address, paint)
}

pub(super) fn run(prepared: Prepared, host: &dyn WorkerHost, settings: Settings) -> ExitCode {
    let (log, lines) = match start_log(&prepared.config) {
        Ok(started) => started,
        Err(error) => {
            complain(format_args!("the gateway can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = serve(prepared, host, settings, log, &lines);
    lines.flush(LAST_LINES_MAX);
    code
}

fn serve(
    prepared: Prepared,
    host: &dyn WorkerHost,
    settings: Settings,
    log: LogHandle,
    lines: &LogQueue,
) -> ExitCode {
    let reload = ReloadSource::new(move || match load_again(&settings) {
        Ok(loaded) => loaded,
        Err(Usage(what)) => {
            let mut problems = Problems::default();
            problems.push(&gateway_config::Origin::Default, "", what);
            Err(problems)
        }
    });
    let (mut shown, json) = (prepared.clone(), prepared.config.log.json);
    let running = match start(prepared, host, reload, log, true) {
        Ok(running) => running,
        Err(error) => {
            lines.push(format!("the gateway can't start: {error}\n").as_bytes());
            return ExitCode::FAILURE;
        }
    };
    shown.plan = running.plan.clone();
    let listeners = shown.config.listeners.iter().zip(&running.addresses);
    let listeners: Vec<String> =
        listeners.map(|(listener, address)| format!("{} on {address}", listener.name)).collect();
    if json {
        let (backend, reason) = (shown.plan.backend.label(), &shown.plan.backend_reason);
        let (capacity, control) = (shown.plan.room_text(), running.control_address);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), backend, %reason, capacity, %control, "started");
        shown.config.source.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    } else {
        let paint = Paint { colours: colors_wanted() };
        lines.push(render(&shown, &running.addresses, running.control_address, paint).as_bytes());
    }
    // After all other output of the start: a reader that waits for this line finds every port open.
    let (listeners, control) = (listeners.join(", "), running.control_address);
    tracing::info!(%control, "serving {listeners}");
    match running.join() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            lines.push(format!("the control thread failed: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}
