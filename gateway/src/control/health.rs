//! Alive, and ready: two different questions.
//!
//! A process is alive while every worker turns. A worker turns at least once a second, also when nothing happens: its
//! wait is bounded. So a turn counter that stands still for [`SILENCE_MAX`] is a worker that hangs.

use super::Control;
use super::lifecycle::Stage;
use super::workers::Workers;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A worker that has not turned for this long hangs.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// When each worker was last seen to have turned.
pub(super) struct Heartbeats(Mutex<Vec<(u64, Instant)>>);

impl Heartbeats {
    pub(super) fn new(workers: &Workers) -> Heartbeats {
        let now = Instant::now();
        Heartbeats(Mutex::new(workers.metrics().iter().map(|metrics| (metrics.turns.get(), now)).collect()))
    }

    /// Looks at the turn counters; returns the workers that have been silent for too long.
    pub(super) fn silent(&self, workers: &Workers, now: Instant) -> Vec<usize> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut silent = Vec::new();
        for (index, (metrics, (turns, at))) in workers.metrics().iter().zip(seen.iter_mut()).enumerate() {
            let current = metrics.turns.get();
            if current != *turns {
                (*turns, *at) = (current, now);
            } else if now.duration_since(*at) > SILENCE_MAX {
                silent.push(index);
            }
        }
        silent
    }
}

pub(super) async fn healthz(State(control): State<Arc<Control>>) -> (StatusCode, String) {
    if control.lifecycle.stage() == Stage::Starting {
        return (StatusCode::OK, "ok: starting\n".into());
    }
    let silent = control.heartbeats.silent(&control.workers, Instant::now());
    if silent.is_empty() {
        return (StatusCode::OK, "ok\n".into());
    }
    let seconds = SILENCE_MAX.as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("workers {silent:?} have not turned for {seconds} s\n"))
}

pub(super) async fn readyz(State(control): State<Arc<Control>>) -> (StatusCode, String) {
    match control.unready_reason() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
