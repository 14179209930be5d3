//! Metrics of the control thread, and those of workers that have labels of their own. All that a
//! scrape says of one stands here or, beside its counter, in `gateway_core::metrics`.

use gateway_core::metrics;
use gateway_core::metrics::{BackendMetrics, Metric, WorkerMetrics};

metrics! {
    /// Those of this file.
    pub(super) HERE;

    // What was fixed at the start, and the state of the process.
    BUILD_INFO: Gauge "gateway_build_info" {"version"} "The version that runs.";
    BACKEND_INFO: Gauge "gateway_backend_info" {"backend", "reason"} "The IO backend, and why it was chosen.";
    WORKERS: Gauge "gateway_workers" "Workers.";
    WORKER_THREADS: Gauge "gateway_worker_threads" "Threads that run the workers.";
    CONNECTIONS_MAX: Gauge "gateway_connections_max" "Connections that the gateway can hold.";
    ADDRESS_CONNECTIONS: Gauge "gateway_address_connections"
        "Connections of the address (a /64 of IPv6) that has the most, or a few more; 0 without limits.connections_per_address_max.";
    ADDRESS_CONNECTIONS_MAX: Gauge "gateway_address_connections_max"
        "limits.connections_per_address_max; 0: no limit.";
    READY: Gauge "gateway_ready" "1 while clients should be sent here.";
    MEMORY_PLANNED_BYTES: Gauge "gateway_memory_planned_bytes" {"owner"}
        "Memory reserved at the start, by owner.";
    PORT_LINK_UP: Gauge "gateway_port_link_up"
        "0 while the link of the port is down; 1 otherwise, and with the kernel's sockets.";
    PORT_LINK_LOSSES: Counter "gateway_port_link_losses_total" "Times that the link of the port went down.";
    PORT_ADDRESSES_TAKEN: Gauge "gateway_port_addresses_taken"
        "Addresses of dpdk.addresses that another host on the link has, so that they are not used.";
    MEMORY_USED_BYTES: Gauge "gateway_memory_used_bytes"
        "Memory that counts against the limit: the cgroup's, or resident memory and the kernel's part of connections.";
    MEMORY_LIMIT_BYTES: Gauge "gateway_memory_limit_bytes"
        "The limit: of the cgroup, or memory.memory_max_bytes, whichever is nearer; without both, the machine's memory.";
    MEMORY_STALL_RATIO: Gauge "gateway_memory_stall_ratio"
        "Share of the last ten seconds in which some task waited for memory (PSI).";
    MEMORY_LEVEL: Gauge "gateway_memory_level" {"level"}
        "1 at what the state of memory calls for: nothing, to refuse connections, to shed messages, to close slow receivers.";

    // Counts of workers with labels of their own; the others are in `WorkerMetrics`.
    CONNECTIONS: Gauge "gateway_connections" {"listener", "transport"} "Connections open.";
    ACCEPTS: Counter "gateway_accepts_total" {"listener", "transport"} "Connections accepted.";
    CONNECTION_ENDS: Counter "gateway_connection_ends_total" {"by", "reason"}
        "Connections ended, by the side that ended them and the reason.";
    SLOW_CONSUMER_CLOSES: Counter "gateway_slow_consumer_closes_total" {"reason"}
        "Connections closed because they received too slowly, by the reason of the close.";
    PRESSURE_CLOSES: Counter "gateway_pressure_closes_total"
        "Slow consumers closed because buffers or pieces ran short; included in gateway_slow_consumer_closes_total.";
    MEMORY_CLOSES: Counter "gateway_memory_closes_total"
        "Slow consumers closed because memory was short; included in gateway_slow_consumer_closes_total.";
    RECEIVE_FRAMES: Counter "gateway_receive_frames_total" {"class"}
        "Frames received, by class of operation.";
    RECEIVE_BYTES: Counter "gateway_receive_bytes_total" {"class"}
        "Bytes of frames received, headers included.";
    SEND_FRAMES: Counter "gateway_send_frames_total" {"class"} "Frames sent, by class of operation.";
    SEND_BYTES: Counter "gateway_send_bytes_total" {"class"} "Bytes of frames sent, headers included.";
    DELIVERIES: Counter "gateway_deliveries_total" {"class"} "Messages handed to receivers.";
    DROPPED_MESSAGES: Counter "gateway_dropped_messages_total" {"class", "receiver"}
        "Messages that found the receiver's queue full: the receiver was kept and lost only them, or was closed for them.";
    WORKER_SESSIONS: Gauge "gateway_worker_sessions" {"worker"} "Sessions of a worker.";
    WORKER_RECEIVE_BUFFERS_FREE: Gauge "gateway_worker_receive_buffers_free" {"worker"}
        "Free receive buffers of a worker.";
    STORE_USED: Gauge "gateway_store_used" {"store"}
        "Entries used of a store that connections share, on the worker where it is fullest.";
    STORE_MAX: Gauge "gateway_store_max" {"store"} "Entries that this store has there.";
    POOL_BUFFERS: Gauge "gateway_pool_buffers" {"pool", "size"} "Buffers of a pool, by size in bytes.";
    POOL_BUFFERS_FREE: Gauge "gateway_pool_buffers_free" {"pool", "size"} "Free buffers of a pool.";
    POOL_EXHAUSTED: Counter "gateway_pool_exhausted_total" {"pool", "size"}
        "Times that a pool had no free buffer.";

    // A TCP/IP stack in user space.
    STACK_DROPS: Counter "gateway_stack_drops_total" {"reason"}
        "Frames dropped by the TCP/IP stack in user space, by reason.";
    STACK_EVENTS: Counter "gateway_stack_events_total" {"event"}
        "What happened in the TCP/IP stack in user space; see Counters of the crate dpdk-backend.";

    // Verifiers, HTTP server, journal, reloads.
    TOKEN_CHECKS: Counter "gateway_token_checks_total" {"result"}
        "Logins with a token, by result; overload: refused unchecked, for the verifier's queue was full.";
    TOKENS_WITHDRAWN: Counter "gateway_tokens_withdrawn_total"
        "Tokens that were not checked, for their connections had ended.";
    TOKEN_VERDICTS_LOST: Counter "gateway_token_verdicts_lost_total"
        "Verdicts dropped because a worker's mailbox had no room in time.";
    TOKEN_CHECK_DURATION_SECONDS: Histogram "gateway_token_check_duration_seconds" "Time that a check takes.";
    HTTP_CONNECTIONS_MAX: Gauge "gateway_http_connections_max"
        "HTTP connections at most (control.connections_max).";
    HTTP_ACCEPT_ERRORS: Counter "gateway_http_accept_errors_total"
        "Times that the control port could not accept a connection.";
    HTTP_BAD_REQUESTS: Counter "gateway_http_bad_requests_total" {"reason"}
        "Request heads that were refused because they make no sense, by reason.";
    HTTP_CONNECTION_ENDS: Counter "gateway_http_connection_ends_total" {"reason"}
        "HTTP connections that ended, by reason.";
    HTTP_HELD_BYTES: Gauge "gateway_http_held_bytes" {"what"}
        "Bytes of large requests, and of large answers that their callers have not taken yet.";
    HTTP_HELD_BYTES_MAX: Gauge "gateway_http_held_bytes_max" {"what"} "The bound of gateway_http_held_bytes.";
    HTTP_REQUESTS: Counter "gateway_http_requests_total" {"route", "method", "status"}
        "HTTP requests answered.";
    HTTP_REQUEST_SECONDS: Counter "gateway_http_request_seconds_total" {"route", "method", "status"}
        "Time spent on HTTP requests.";
    HTTP_CONNECTIONS: Gauge "gateway_http_connections" "HTTP connections open.";
    HTTP_EVICTIONS: Counter "gateway_http_evictions_total"
        "HTTP connections closed for new ones, because all of control.connections_max were taken.";
    CONTROL_TIMEOUTS: Counter "gateway_control_timeouts_total"
        "Requests that workers did not answer in time.";
    LOG_DROPPED_LINES: Counter "gateway_log_dropped_lines_total"
        "Log lines dropped because stderr was not read, or could not be written.";
    CONTROL_MESSAGES: Counter "gateway_control_messages_total" "Messages from workers to the control thread.";
    MAILBOX_MESSAGES: Gauge "gateway_mailbox_messages" "Messages in all workers' mailboxes.";
    JOURNAL_LINES: Counter "gateway_journal_lines_total" "Lines written to the audit journal.";
    JOURNAL_DROPPED_LINES: Counter "gateway_journal_dropped_lines_total"
        "Lines lost to a full queue or a full disk.";
    JOURNAL_ERRORS: Counter "gateway_journal_errors_total" "Times that the journal could not be written.";
    JOURNAL_DAMAGES: Counter "gateway_journal_damages_total"
        "Times that a file of the journal was found removed, cut short or written by another process.";
    CONFIG_RELOAD_SUCCESS: Gauge "gateway_config_reload_success"
        "1 when the last reload of the configuration was applied.";
    CONFIG_RELOAD_TIMESTAMP_SECONDS: Gauge "gateway_config_reload_timestamp_seconds"
        "When the configuration in force was read.";
    CONFIG_RELOADS: Counter "gateway_config_reloads_total" {"result"}
        "Reloads of the configuration, by result.";

    // The process, by the names that Prometheus' own clients use.
    PROCESS_CPU_SECONDS: Counter "process_cpu_seconds_total" "User and system CPU time spent in seconds.";
    PROCESS_RESIDENT_MEMORY_BYTES: Gauge "process_resident_memory_bytes" "Resident memory size in bytes.";
    PROCESS_VIRTUAL_MEMORY_BYTES: Gauge "process_virtual_memory_bytes" "Virtual memory size in bytes.";
    PROCESS_THREADS: Gauge "process_threads" "Number of OS threads in the process.";
    PROCESS_START_TIME_SECONDS: Gauge "process_start_time_seconds"
        "Start time of the process since unix epoch in seconds.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" "Number of open file descriptors.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" "Maximum number of open file descriptors.";
}

/// All metrics of a scrape.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let of_workers = WorkerMetrics::SUMMED.iter().chain(WorkerMetrics::EACH).map(|one| &one.metric);
    let durations = WorkerMetrics::DURATIONS.iter().map(|(metric, _)| metric);
    let of_backends = BackendMetrics::TABLE.iter().map(|(metric, _)| metric);
    HERE.iter().chain(of_workers).chain(durations).chain(of_backends)
}
