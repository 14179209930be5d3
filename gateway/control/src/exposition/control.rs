//! The control thread's part of a scrape.

use super::families::{Families, Row};
use super::table;
use crate::MemoryState;
use gateway_auth::VerifierMetrics;
use gateway_core::memory::Level;
use gateway_core::message::AuthError;
use std::sync::Arc;

/// What the control thread knows at a scrape.
#[derive(Clone, Debug)]
pub struct ControlSnapshot {
    /// What was settled at the start.
    pub start: StartSnapshot,
    /// Connections of the address that has the most, and how many one may have; `None`: they are
    /// not counted.
    pub busiest_address: Option<(u32, u32)>,
    /// Whether clients should be sent here.
    pub ready: bool,
    /// How near the end of memory is.
    pub memory: MemoryState,
    /// Whether the port's link is up, how often it was lost, how many own addresses another host
    /// has; `None` without a port.
    pub port: Option<(bool, u64, usize)>,
    /// The HTTP server.
    pub http: HttpSnapshot,
    /// Reloads of the configuration.
    pub reload: ReloadSnapshot,
    /// Log lines dropped because stderr was not read, or could not be written.
    pub log_dropped: u64,
    /// Requests that workers did not answer in time.
    pub ticket_timeouts: u64,
    /// Messages from workers to the control thread.
    pub worker_messages: u64,
    /// Journal lines written and dropped, and errors.
    pub journal: [u64; 4],
    /// Messages in workers' mailboxes now.
    pub mailbox_depths: Vec<usize>,
}

/// What was settled at the start, and does not change.
#[derive(Clone, Debug)]
pub struct StartSnapshot {
    /// Name of the backend.
    pub backend: &'static str,
    /// Why it was chosen.
    pub backend_reason: String,
    /// Listeners by number: name and kind.
    pub listeners: Vec<(String, &'static str)>,
    /// Connections that the gateway can hold.
    pub connections_max: usize,
    /// Threads that run the workers.
    pub worker_threads: usize,
    /// Memory reserved, by owner, in bytes.
    pub memory_planned: Vec<(String, u64)>,
}

/// Counts of the HTTP server.
#[derive(Clone, Debug, Default)]
pub struct HttpSnapshot {
    /// Route, method, status, requests, seconds.
    pub requests: Vec<(String, &'static str, u16, u64, f64)>,
    /// Connections open.
    pub connections: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// Connections closed to make room for new ones.
    pub evictions: u64,
    /// Times that no connection could be accepted.
    pub accept_errors: u64,
    /// Heads that were refused, by reason.
    pub bad_heads: Vec<(&'static str, u64)>,
    /// Connections that ended, by reason.
    pub ends: Vec<(&'static str, u64)>,
    /// Shared budgets: what for, bytes in use, bytes at most.
    pub held: [(&'static str, usize, usize); 2],
}

/// Reloads of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct ReloadSnapshot {
    /// Whether the last one was applied.
    pub success: bool,
    /// When the last one was, in seconds since 1970.
    pub at: u64,
    /// Reloads applied.
    pub applied: u64,
    /// Reloads refused.
    pub refused: u64,
}

/// What was fixed at the start.
pub(super) fn build(families: &mut Families, control: &ControlSnapshot, workers: usize) {
    families.rows(&table::BUILD_INFO, [(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)]);
    let backend = vec![control.start.backend.to_owned(), control.start.backend_reason.clone()];
    families.rows(&table::BACKEND_INFO, [(backend, 1.0)]);
    families.value(&table::WORKERS, workers as f64);
    let threads = control.start.worker_threads as f64;
    families.value(&table::WORKER_THREADS, threads);
    families.value(&table::CONNECTIONS_MAX, control.start.connections_max as f64);
    let (busiest, max) = control.busiest_address.unwrap_or_default();
    families.value(&table::ADDRESS_CONNECTIONS, f64::from(busiest));
    families.value(&table::ADDRESS_CONNECTIONS_MAX, f64::from(max));
    families.value(&table::READY, f64::from(u8::from(control.ready)));
    let planned = control.start.memory_planned.iter();
    let planned = planned.map(|(owner, bytes)| (vec![owner.clone()], *bytes as f64));
    families.rows(&table::MEMORY_PLANNED_BYTES, planned);
    memory_state(families, &control.memory);
    port(families, control.port);
}

fn port(families: &mut Families, state: Option<(bool, u64, usize)>) {
    let (link_up, losses, taken) = state.unwrap_or((true, 0, 0));
    families.value(&table::PORT_LINK_UP, f64::from(u8::from(link_up)));
    families.value(&table::PORT_LINK_LOSSES, losses as f64);
    families.value(&table::PORT_ADDRESSES_TAKEN, taken as f64);
}

fn memory_state(families: &mut Families, state: &MemoryState) {
    if let Some(reading) = state.reading {
        families.value(&table::MEMORY_USED_BYTES, reading.used as f64);
        families.value(&table::MEMORY_LIMIT_BYTES, reading.limit as f64);
    }
    families.value(&table::MEMORY_STALL_RATIO, f64::from(state.stall_percent) / 100.0);
    let is_at = |level: Level| f64::from(u8::from(level == state.level));
    families
        .rows(&table::MEMORY_LEVEL, Level::ALL.map(|level| (vec![level.label().to_owned()], is_at(level))));
}

/// The verifier of tokens. `overloads` are logins that found its queue full, as the workers count
/// them.
pub(super) fn verifiers(families: &mut Families, all: &[Arc<VerifierMetrics>], overloads: u64) {
    if all.is_empty() {
        return;
    }
    let sum = |of: &dyn Fn(&VerifierMetrics) -> u64| all.iter().map(|one| of(one)).sum::<u64>() as f64;
    let label = |result: &str| vec![result.to_owned()];
    let mut rows = vec![(label("accepted"), sum(&|one| one.accepted.get()))];
    rows.extend(AuthError::ALL.iter().map(|error| {
        let unasked = if *error == AuthError::Overload { overloads } else { 0 };
        (label(error.label()), sum(&|one| one.refused[*error as usize].get()) + unasked as f64)
    }));
    families.rows(&table::TOKEN_CHECKS, rows);
    families.value(&table::TOKENS_WITHDRAWN, sum(&|one| one.withdrawn.get()));
    families.value(&table::TOKEN_VERDICTS_LOST, sum(&|one| one.lost.get()));
    families.durations(&table::TOKEN_CHECK_DURATION_SECONDS, all.iter().map(|one| &one.check_time));
}

/// What the HTTP server's connections hold, and how they end.
fn http_connections(families: &mut Families, http: &HttpSnapshot) {
    let most = http.connections_max as f64;
    families.value(&table::HTTP_CONNECTIONS_MAX, most);
    families.value(&table::HTTP_ACCEPT_ERRORS, http.accept_errors as f64);
    let rows = |all: &[(&'static str, u64)]| -> Vec<Row> {
        all.iter().map(|(reason, count)| (vec![(*reason).to_owned()], *count as f64)).collect()
    };
    families.rows(&table::HTTP_BAD_REQUESTS, rows(&http.bad_heads));
    families.rows(&table::HTTP_CONNECTION_ENDS, rows(&http.ends));
    let held = |of: &dyn Fn(&(&'static str, usize, usize)) -> usize| -> Vec<Row> {
        http.held.iter().map(|row| (vec![row.0.to_owned()], of(row) as f64)).collect()
    };
    families.rows(&table::HTTP_HELD_BYTES, held(&|row| row.1));
    families.rows(&table::HTTP_HELD_BYTES_MAX, held(&|row| row.2));
}

/// HTTP server, reloads, journal.
pub(super) fn http(families: &mut Families, control: &ControlSnapshot) {
    let labels = |route: &str, method: &str, status: u16| {
        vec![route.to_owned(), method.to_owned(), status.to_string()]
    };
    let rows = control.http.requests.iter();
    let counts =
        rows.clone().map(|(route, method, status, count, _)| (labels(route, method, *status), *count as f64));
    families.rows(&table::HTTP_REQUESTS, counts);
    let seconds = rows.map(|(route, method, status, _, seconds)| (labels(route, method, *status), *seconds));
    families.rows(&table::HTTP_REQUEST_SECONDS, seconds);
    families.value(&table::HTTP_CONNECTIONS, control.http.connections as f64);
    families.value(&table::HTTP_EVICTIONS, control.http.evictions as f64);
    http_connections(families, &control.http);
    families.value(&table::CONTROL_TIMEOUTS, control.ticket_timeouts as f64);
    families.value(&table::LOG_DROPPED_LINES, control.log_dropped as f64);
    families.value(&table::CONTROL_MESSAGES, control.worker_messages as f64);
    let waiting = control.mailbox_depths.iter().sum::<usize>();
    families.value(&table::MAILBOX_MESSAGES, waiting as f64);
    let [written, dropped, errors, damages] = control.journal.map(|count| count as f64);
    families.value(&table::JOURNAL_LINES, written);
    families.value(&table::JOURNAL_DROPPED_LINES, dropped);
    families.value(&table::JOURNAL_ERRORS, errors);
    families.value(&table::JOURNAL_DAMAGES, damages);
    let reload = &control.reload;
    families.value(&table::CONFIG_RELOAD_SUCCESS, f64::from(u8::from(reload.success)));
    families.value(&table::CONFIG_RELOAD_TIMESTAMP_SECONDS, reload.at as f64);
    let rows = [("applied", reload.applied), ("refused", reload.refused)];
    let rows = rows.map(|(result, count)| (vec![result.to_owned()], count as f64));
    families.rows(&table::CONFIG_RELOADS, rows);
}
