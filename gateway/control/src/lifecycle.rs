//! Stages of the process between its start and its end, and its readiness.

use std::sync::atomic::{AtomicU8, Ordering};

/// A stage of the process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Workers are being made.
    Starting,
    /// Clients are served.
    Ready,
    /// Clients are sent away.
    Draining,
    /// Workers end.
    Stopped,
}

/// The stage, readable from any thread. It only moves forward.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// The stage.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            2 => Stage::Draining,
            _ => Stage::Stopped,
        }
    }

    /// Moves on to `stage`; does nothing when that is passed already.
    pub fn advance(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::AcqRel);
    }

    /// Why the process is not ready; `None` when it is.
    pub fn unready_reason(&self) -> Option<&'static str> {
        match self.stage() {
            Stage::Starting => Some("starting"),
            Stage::Ready => None,
            Stage::Draining => Some("draining: clients are being sent away"),
            Stage::Stopped => Some("stopped"),
        }
    }
}
