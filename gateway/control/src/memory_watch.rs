//! Memory readings: the last one, and the memory state that it sets.

use super::workers::Workers;
use gateway_config::memory::Source;
use gateway_core::memory::{Gauge, Level, ROOM_MAX, Reading, Signal, Thresholds};
use std::sync::{Arc, Mutex, PoisonError};

/// The last reading, for metrics and probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryState {
    /// Usage and limit: the machine's, where nothing else limits this process. `None`: /proc can't
    /// be read.
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
    /// Reads `source`, publishes by `signal`.
    pub(super) fn new(source: Source, signal: Arc<Signal>) -> MemoryWatch {
        MemoryWatch { source, signal, state: Mutex::default() }
    }

    /// What was read last.
    pub(super) fn state(&self) -> MemoryState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name of the limit, for operators.
    pub(super) fn label(&self) -> &'static str {
        self.source.label()
    }

    /// Reads once.
    pub(super) fn look(&self, gauge: &mut Gauge, thresholds: &Thresholds, workers: &Workers) -> MemoryState {
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
