//! Watch over the memory left to the process; publishes its state to workers and operators.

use super::control::Control;
use super::memory_watch::MemoryState;
use gateway_config::bytes_text;
use gateway_core::memory::{Gauge, Level};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Interval at which the gauge is read far from the limit.
const CALM_INTERVAL: Duration = Duration::from_millis(250);
/// Interval near the limit: clients can take tens of megabytes of the kernel's memory in the longer
/// one.
const NEAR_INTERVAL: Duration = Duration::from_millis(50);
/// Percent of the limit below the first threshold at which "near" begins.
const NEAR_PERCENT: u64 = 20;

/// Watches the memory; writes changes of the level to the log and the journal.
pub(super) async fn watch_memory(control: Arc<Control>) {
    let mut gauge = Gauge::default();
    loop {
        control.facts.shared.wall.compare(control.facts.started, control.facts.started_at);
        let thresholds = control.config().memory.thresholds;
        let before = gauge.level();
        let state = control.memory.look(&mut gauge, &thresholds, &control.workers);
        if state.level != before {
            report(&control, &state, before);
        }
        let near = u64::from(thresholds.refuse_percent).saturating_sub(NEAR_PERCENT);
        let is_near = state.reading.is_some_and(|reading| reading.is_at(near));
        tokio::time::sleep(if is_near { NEAR_INTERVAL } else { CALM_INTERVAL }).await;
    }
}

fn report(control: &Control, state: &MemoryState, before: Level) {
    let (used, limit) = state.reading.map_or((0, 0), |reading| (reading.used, reading.limit));
    let sums = format!(
        "{} of {} used ({}), tasks stalled for memory {:.0} % of the last 10 s",
        bytes_text(used),
        bytes_text(limit),
        control.memory.label(),
        state.stall_percent
    );
    let does = match state.level {
        Level::Normal => "new connections are welcome again",
        Level::Refuse => "new connections are refused",
        Level::Shed => "new connections are refused, droppable messages to slow receivers are dropped",
        Level::Close => {
            "new connections are refused, droppable messages dropped, the slowest receivers closed"
        }
    };
    if state.level > before {
        tracing::warn!(
            "memory is short: {sums}; {does}. Give the gateway more, or lower limits.connections_max"
        );
    } else {
        tracing::info!("memory: {sums}; {does}");
    }
    control.journal.record("memory", json!({ "level": state.level.label(), "used": used, "limit": limit }));
}
