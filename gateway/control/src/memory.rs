//! Watching how near the process is to the end of its memory, and telling workers and operators.

use super::Control;
use super::workers::Workers;
use gateway_config::bytes_text;
use gateway_config::memory::Source;
use gateway_core::memory::{Gauge, Level, ROOM_MAX, Reading, Signal, Thresholds};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the gauge is read far from the limit.
const CALM_INTERVAL: Duration = Duration::from_millis(250);
/// How often near it: clients can take tens of megabytes of the kernel's memory in the longer time.
const NEAR_INTERVAL: Duration = Duration::from_millis(50);
/// Percent of the limit below the first threshold at which "near" begins.
const NEAR_PERCENT: u64 = 20;

/// What was read last, for metrics and probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryState {
    /// Usage and limit: the machine's, where nothing else limits this process. `None`: /proc can't be read.
    pub reading: Option<Reading>,
    /// Share of the last ten seconds in which tasks waited for memory, in percent.
    pub stall_percent: f32,
    /// What that calls for.
    pub level: Level,
}

/// The watch's own state.
pub(super) struct MemoryWatch {
    source: Source,
    signal: Arc<Signal>,
    state: Mutex<MemoryState>,
}

impl MemoryWatch {
    /// Reads `source`, tells by `signal`.
    pub(super) fn new(source: Source, signal: Arc<Signal>) -> MemoryWatch {
        MemoryWatch { source, signal, state: Mutex::default() }
    }

    /// What was read last.
    pub(super) fn state(&self) -> MemoryState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once.
    fn look(&self, gauge: &mut Gauge, thresholds: &Thresholds, workers: &Workers) -> MemoryState {
        let connections = workers.connections();
        let reading = self.source.read(connections);
        let stall_percent = self.source.stall_percent();
        let level = gauge.update(thresholds, reading, stall_percent);
        let room = reading.map(|reading| reading.room(thresholds.refuse_percent, workers.count()));
        self.signal.publish(level, room.unwrap_or(ROOM_MAX));
        let reading = reading.or_else(|| self.source.of_machine(connections));
        let state = MemoryState { reading, stall_percent, level };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        state
    }
}

/// Looks again and again; says in the log and the journal when the level changes.
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
        control.memory.source.label(),
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
