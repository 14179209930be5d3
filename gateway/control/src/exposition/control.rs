//! The control thread's part of a scrape.

use super::families::Families;
use crate::MemoryState;
use gateway_auth::VerifierMetrics;
use gateway_core::memory::Level;
use gateway_core::message::AuthError;
use gateway_core::metrics::Histogram;
use std::sync::Arc;

/// What the control thread knows at a scrape.
#[derive(Clone, Debug)]
pub struct ControlSnapshot {
    /// Name of the backend.
    pub backend: &'static str,
    /// Why it was chosen.
    pub backend_reason: String,
    /// Listeners by number: name and transport.
    pub listeners: Vec<(String, &'static str)>,
    /// Connections that the gateway can hold.
    pub connections_max: usize,
    /// Connections of the address that has the most, and how many one may have; `None`: they are
    /// not counted.
    pub busiest_address: Option<(u32, u32)>,
    /// Threads that run the workers.
    pub worker_threads: usize,
    /// Memory reserved at the start, by owner, in bytes.
    pub memory_planned: Vec<(String, u64)>,
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

/// What was settled at the start.
pub(super) fn build(families: &mut Families, control: &ControlSnapshot, workers: usize) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    families.gauges("gateway_build_info", "The version that runs.", vec![(version, 1.0)]);
    let backend = vec![("backend", control.backend.to_owned()), ("reason", control.backend_reason.clone())];
    families.gauges("gateway_backend_info", "The IO backend, and why it was chosen.", vec![(backend, 1.0)]);
    families.gauge("gateway_workers", "Workers.", workers as f64);
    let threads = control.worker_threads as f64;
    families.gauge("gateway_worker_threads", "Threads that run the workers.", threads);
    families.gauge(
        "gateway_connections_max",
        "Connections that the gateway can hold.",
        control.connections_max as f64,
    );
    let (busiest, max) = control.busiest_address.unwrap_or_default();
    families.gauge(
        "gateway_address_connections",
        "Connections of the address (a /64 of IPv6) that has the most, or a few more; 0 without limits.connections_per_address_max.",
        f64::from(busiest),
    );
    families.gauge(
        "gateway_address_connections_max",
        "limits.connections_per_address_max; 0: no limit.",
        f64::from(max),
    );
    families.gauge(
        "gateway_ready",
        "1 while clients should be sent here.",
        f64::from(u8::from(control.ready)),
    );
    let memory = control.memory_planned.iter();
    let memory = memory.map(|(owner, bytes)| (vec![("owner", owner.clone())], *bytes as f64)).collect();
    families.gauges("gateway_memory_planned_bytes", "Memory reserved at the start, by owner.", memory);
    memory_state(families, &control.memory);
    port(families, control.port);
}

fn port(families: &mut Families, state: Option<(bool, u64, usize)>) {
    let (link_up, losses, taken) = state.unwrap_or((true, 0, 0));
    families.gauge(
        "gateway_port_link_up",
        "0 while the link of the port is down; 1 otherwise, and with the kernel's sockets.",
        f64::from(u8::from(link_up)),
    );
    families.counter(
        "gateway_port_link_losses_total",
        "Times that the link of the port went down.",
        losses as f64,
    );
    families.gauge(
        "gateway_port_addresses_taken",
        "Addresses of dpdk.addresses that another host on the link has, so that they are not used.",
        taken as f64,
    );
}

fn memory_state(families: &mut Families, state: &MemoryState) {
    if let Some(reading) = state.reading {
        families.gauge(
            "gateway_memory_used_bytes",
            "Memory that counts against the limit: the cgroup's, or resident memory and the kernel's part of connections.",
            reading.used as f64,
        );
        families.gauge(
            "gateway_memory_limit_bytes",
            "The limit: of the cgroup, or memory.memory_max_bytes, whichever is nearer; without both, the machine's memory.",
            reading.limit as f64,
        );
    }
    families.gauge(
        "gateway_memory_stall_ratio",
        "Share of the last ten seconds in which some task waited for memory (PSI).",
        f64::from(state.stall_percent) / 100.0,
    );
    let levels = Level::ALL
        .into_iter()
        .map(|level| (vec![("level", level.label().to_owned())], f64::from(u8::from(level == state.level))));
    families.gauges(
        "gateway_memory_level",
        "1 at what the state of memory calls for: nothing, to refuse connections, to shed messages, to close slow receivers.",
        levels.collect(),
    );
}

/// The verifier of tokens. `overloads` are logins that found its queue full, as the workers count
/// them.
pub(super) fn verifiers(families: &mut Families, all: &[Arc<VerifierMetrics>], overloads: u64) {
    if all.is_empty() {
        return;
    }
    let sum = |of: &dyn Fn(&VerifierMetrics) -> u64| all.iter().map(|one| of(one)).sum::<u64>() as f64;
    let label = |result: &str| vec![("result", result.to_owned())];
    let mut rows = vec![(label("accepted"), sum(&|one| one.accepted.get()))];
    rows.extend(AuthError::ALL.iter().map(|error| {
        let unasked = if *error == AuthError::Overload { overloads } else { 0 };
        (label(error.label()), sum(&|one| one.refused[*error as usize].get()) + unasked as f64)
    }));
    families.counters(
        "gateway_token_checks_total",
        "Logins with a token, by result; overload: refused unchecked, for the verifier's queue was full.",
        rows,
    );
    families.counter(
        "gateway_token_verdicts_lost_total",
        "Verdicts dropped because a worker's mailbox had no room in time.",
        sum(&|one| one.lost.get()),
    );
    let times: Vec<&Histogram> = all.iter().map(|one| &one.check_time).collect();
    families.histogram("gateway_token_check_duration_seconds", "Time that a check takes.", &times);
}

/// What the HTTP server's connections hold, and how they end.
fn http_connections(families: &mut Families, http: &HttpSnapshot) {
    let most = http.connections_max as f64;
    families.gauge(
        "gateway_http_connections_max",
        "HTTP connections at most (control.connections_max).",
        most,
    );
    families.counter(
        "gateway_http_accept_errors_total",
        "Times that the control port could not accept a connection.",
        http.accept_errors as f64,
    );
    let rows = |all: &[(&'static str, u64)]| {
        let row =
            |(reason, count): &(&'static str, u64)| (vec![("reason", (*reason).to_owned())], *count as f64);
        all.iter().map(row).collect::<Vec<_>>()
    };
    families.counters(
        "gateway_http_bad_requests_total",
        "Request heads that were refused because they make no sense, by reason.",
        rows(&http.bad_heads),
    );
    families.counters(
        "gateway_http_connection_ends_total",
        "HTTP connections that ended, by reason.",
        rows(&http.ends),
    );
    let held = |of: &dyn Fn(&(&'static str, usize, usize)) -> usize| {
        http.held.iter().map(|row| (vec![("what", row.0.to_owned())], of(row) as f64)).collect::<Vec<_>>()
    };
    families.gauges(
        "gateway_http_held_bytes",
        "Bytes of large requests, and of large answers that their callers have not taken yet.",
        held(&|row| row.1),
    );
    families.gauges(
        "gateway_http_held_bytes_max",
        "The bound of gateway_http_held_bytes.",
        held(&|row| row.2),
    );
}

/// HTTP server, reloads, journal.
pub(super) fn http(families: &mut Families, control: &ControlSnapshot) {
    let labels = |route: &str, method: &str, status: u16| {
        vec![("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())]
    };
    let rows = control.http.requests.iter();
    let counts =
        rows.clone().map(|(route, method, status, count, _)| (labels(route, method, *status), *count as f64));
    families.counters("gateway_http_requests_total", "HTTP requests answered.", counts.collect());
    let seconds = rows.map(|(route, method, status, _, seconds)| (labels(route, method, *status), *seconds));
    families.counters(
        "gateway_http_request_seconds_total",
        "Time spent on HTTP requests.",
        seconds.collect(),
    );
    families.gauge("gateway_http_connections", "HTTP connections open.", control.http.connections as f64);
    families.counter(
        "gateway_http_evictions_total",
        "HTTP connections closed for new ones, because all of control.connections_max were taken.",
        control.http.evictions as f64,
    );
    http_connections(families, &control.http);
    families.counter(
        "gateway_control_timeouts_total",
        "Requests that workers did not answer in time.",
        control.ticket_timeouts as f64,
    );
    families.counter(
        "gateway_log_dropped_lines_total",
        "Log lines dropped because stderr was not read, or could not be written.",
        control.log_dropped as f64,
    );
    families.counter(
        "gateway_control_messages_total",
        "Messages from workers to the control thread.",
        control.worker_messages as f64,
    );
    let waiting = control.mailbox_depths.iter().sum::<usize>();
    families.gauge("gateway_mailbox_messages", "Messages in all workers' mailboxes.", waiting as f64);
    let [written, dropped, errors, damages] = control.journal.map(|count| count as f64);
    families.counter("gateway_journal_lines_total", "Lines written to the audit journal.", written);
    families.counter(
        "gateway_journal_dropped_lines_total",
        "Lines lost to a full queue or a full disk.",
        dropped,
    );
    families.counter("gateway_journal_errors_total", "Times that the journal could not be written.", errors);
    families.counter(
        "gateway_journal_damages_total",
        "Times that a file of the journal was found removed, cut short or written by another process.",
        damages,
    );
    let reload = &control.reload;
    families.gauge(
        "gateway_config_reload_success",
        "1 when the last reload of the configuration was applied.",
        f64::from(u8::from(reload.success)),
    );
    families.gauge(
        "gateway_config_reload_timestamp_seconds",
        "When the configuration in force was read.",
        reload.at as f64,
    );
    let result = |result: &str| vec![("result", result.to_owned())];
    let rows = vec![(result("applied"), reload.applied as f64), (result("refused"), reload.refused as f64)];
    families.counters("gateway_config_reloads_total", "Reloads of the configuration, by result.", rows);
}
