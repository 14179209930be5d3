//! Which settings apply to which scenario.

use crate::settings::Settings;

/// Settings of every scenario.
const COMMON: &[&str] = &[
    "server",
    "http",
    "transport",
    "protocol",
    "compat",
    "websocket_path",
    "server_pid",
    "metrics",
    "connections",
    "connect_rate",
    "connect_in_flight",
    "connect_timeout",
    "connect_retries",
    "source_addresses",
    "heartbeat",
    "first_mid",
    "platform",
    "token",
    "room_type",
    "room_size",
    "rooms_per_connection",
    "operation",
    "warmup",
    "duration",
    "settle",
    "backend",
    "dpdk_device",
    "dpdk_address",
    "dpdk_huge_pages",
    "dpdk_idle_sleep_us",
    "dpdk_arg",
    "workers",
    "threads",
    "pin",
    "goal",
    "json",
    "html",
    "label",
    "quiet",
];

/// Whether the setting called `name` applies to `scenario`.
pub(crate) fn applies(scenario: &str, name: &str) -> bool {
    let own: &[&str] = match scenario {
        "echo" => &["rate", "depth", "size", "echo_operation"],
        "push" => &["rate", "depth", "size", "by", "batch", "http_connections", "http_pipeline"],
        "room" => &["rate", "depth", "size", "publishers", "via", "http_connections", "http_pipeline"],
        "slow-reader" => {
            &["rate", "size", "publishers", "via", "slow_connections", "http_connections", "http_pipeline"]
        }
        "broadcast" => &["rate", "depth", "size", "publishers", "http_connections", "http_pipeline"],
        "churn" => &["rate", "churn_rate"],
        "syn-flood" => &["rate", "size", "echo_operation", "syn_rate"],
        "mix" => &[
            "size",
            "publishers",
            "via",
            "by",
            "batch",
            "http_connections",
            "http_pipeline",
            "echo_rate",
            "echo_operation",
            "push_rate",
            "room_rate",
            "broadcast_rate",
            "churn_rate",
            "churn_connections",
            "slow_connections",
        ],
        "million" => &[
            "quick",
            "size",
            "batch",
            "by",
            "push_rate",
            "room_rate",
            "broadcast_rate",
            "churn_rate",
            "idle_for",
            "churn_for",
            "recover_for",
            "http_connections",
            "http_pipeline",
            "gateway",
            "gateway_backend",
            "floor",
            "small",
            "report",
        ],
        _ => &[],
    };
    COMMON.contains(&name) || own.contains(&name)
}

/// The first given setting that does not apply to `scenario`.
pub(crate) fn unsuited(scenario: &str, settings: &Settings) -> Option<String> {
    settings.given().into_iter().find(|name| !applies(scenario, name))
}
