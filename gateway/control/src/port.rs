//! Watch over a poll-mode port: whether clients can reach it by its link and its addresses.
//!
//! With the kernel's sockets an operator sees both with `ip link` and `ip address`; the state of a
//! poll-mode port is visible nowhere else. So a link that is down, and an address that another host
//! has, make the gateway not ready, and are logged, recorded and counted.

use super::control::Control;
use super::port_watch::Change;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often the port is looked at.
pub(super) const PORT_INTERVAL: Duration = Duration::from_millis(250);

/// Watches the port; writes its changes to the log and the journal.
pub(super) async fn watch_port(control: Arc<Control>) {
    for ip in control.port.taken() {
        report(&control, &Change::Taken(ip));
    }
    while control.port.is_on() {
        tokio::time::sleep(PORT_INTERVAL).await;
        for change in control.port.look() {
            report(&control, &change);
        }
    }
}

fn report(control: &Control, change: &Change) {
    match change {
        Change::LinkUp => {
            tracing::info!("the link of the port is up");
            control.journal.record("port_link_up", json!({}));
        }
        Change::LinkDown => {
            tracing::warn!("not ready: the link of the port is down, so no client is reached");
            control.journal.record("port_link_down", json!({}));
        }
        Change::Taken(ip) => {
            tracing::warn!(
                "not ready: another host on the link has {ip}, so it is not used; give that host, or dpdk.addresses, another \
                 address. It is asked about again once a minute"
            );
            control.journal.record("address_taken", json!({ "address": ip.to_string() }));
        }
        Change::Freed(ip) => {
            tracing::info!("no other host has {ip} any longer: it is used");
            control.journal.record("address_used", json!({ "address": ip.to_string() }));
        }
    }
}
