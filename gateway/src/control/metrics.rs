//! What the control thread counts of itself, and `/metrics`.

use super::Control;
use crate::metrics::{ControlSnapshot, HttpSnapshot, ReloadSnapshot, exposition as expose};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Route, method, status.
type RequestKey = (&'static str, &'static str, u16);

/// Counts of the HTTP server and of the control thread.
pub struct HttpMetrics {
    /// Permits for requests under way.
    pub(super) requests: Arc<Semaphore>,
    /// Connections open.
    pub(super) connections: AtomicUsize,
    /// Connections ended for others to come in.
    pub(super) evictions: AtomicU64,
    /// Requests and nanoseconds by route, method and status: closed sets.
    counts: Mutex<BTreeMap<RequestKey, (u64, u64)>>,
    /// Reloads that were applied, and that were refused.
    reloads: [AtomicU64; 2],
    /// Whether the last one was applied, and when it was, in seconds since 1970.
    last_reload: Mutex<(bool, u64)>,
    /// Messages from workers.
    pub(super) messages: AtomicU64,
}

impl HttpMetrics {
    pub(super) fn new(requests: Arc<Semaphore>) -> HttpMetrics {
        HttpMetrics {
            requests,
            connections: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            counts: Mutex::default(),
            reloads: [AtomicU64::new(0), AtomicU64::new(0)],
            last_reload: Mutex::new((true, seconds_now())),
            messages: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counts.entry((route, method, status)).or_default();
        entry.0 += 1;
        entry.1 += took.as_nanos() as u64;
    }

    pub(super) fn count_reload(&self, applied: bool) {
        self.reloads[usize::from(!applied)].fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (applied, if applied { seconds_now() } else { last.1 });
    }

    fn http(&self) -> HttpSnapshot {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = counts.iter().map(|((route, method, status), (count, nanos))| {
            ((*route).to_owned(), *method, *status, *count, *nanos as f64 / 1e9)
        });
        HttpSnapshot {
            requests: rows.collect(),
            connections: self.connections.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    fn reload(&self) -> ReloadSnapshot {
        let (success, at) = *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |index: usize| self.reloads[index].load(Ordering::Relaxed);
        ReloadSnapshot { success, at, applied: count(0), refused: count(1) }
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) async fn exposition(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let journal = &control.journal.metrics;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let snapshot = ControlSnapshot {
        backend: control.facts.plan.backend.label(),
        backend_reason: control.facts.backend_reason.clone(),
        listeners: control
            .facts
            .listeners
            .iter()
            .map(|(one, _)| (one.name.clone(), one.kind.label()))
            .collect(),
        worker_threads: control.facts.plan.threads,
        connections_max: control.facts.plan.backend_config.connections_max * control.facts.plan.workers,
        memory_planned: control
            .facts
            .plan
            .memory
            .entries
            .iter()
            .map(|one| (one.owner.clone(), one.bytes))
            .collect(),
        ready: control.unready_reason().is_none(),
        memory: control.memory.state(),
        http: control.metrics.http(),
        reload: control.metrics.reload(),
        ticket_timeouts: load(&control.tickets.timeouts),
        worker_messages: load(&control.metrics.messages),
        journal: [load(&journal.written), load(&journal.dropped), load(&journal.errors)],
        mailbox_depths: control.workers.mailbox_depths().collect(),
    };
    let verifiers = control.verifier.as_ref().map_or(&[][..], |verifier| verifier.metrics());
    let text = expose(control.workers.metrics(), verifiers, &snapshot);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
