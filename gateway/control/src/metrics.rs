//! `/metrics`.

use super::control::Control;
use super::exposition::{ControlSnapshot, StartSnapshot, exposition as expose};
use super::http::{Counted, SharedBody};
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub(super) async fn exposition(State(control): State<Arc<Control>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let start = Instant::now();
    if let Some(text) = control.scrapes.shared(start) {
        return (Extension(SharedBody), kind, text).into_response();
    }
    let text = exposed(&control);
    let claim = || control.answer_budget.claim(text.len());
    let held = claim().or_else(|| control.admission.relieve().then(claim).flatten());
    let counted = held.map(|held| Counted { bytes: text.clone().into_bytes(), _held: held });
    match control.scrapes.made(counted.map(Bytes::from_owner), start.elapsed()) {
        Some(text) => (Extension(SharedBody), kind, text).into_response(),
        None => (kind, text).into_response(),
    }
}

fn started(control: &Control) -> StartSnapshot {
    let (plan, listeners) = (&control.facts.plan, &control.facts.listeners);
    StartSnapshot {
        backend: plan.backend.label(),
        backend_reason: plan.backend_reason.clone(),
        listeners: listeners.iter().map(|(one, _)| (one.name.clone(), one.kind())).collect(),
        connections_max: plan.backend_config.connections_max * plan.workers,
        worker_threads: plan.threads,
        memory_planned: plan.memory.entries.iter().map(|one| (one.owner.clone(), one.bytes)).collect(),
    }
}

fn exposed(control: &Control) -> String {
    let journal = &control.journal.metrics;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sources = control.facts.shared.sources.as_ref();
    let snapshot = ControlSnapshot {
        start: started(control),
        busiest_address: sources.map(|(sources, max)| (sources.busiest(), *max)),
        ready: control.unready_reason().is_none(),
        memory: control.memory.state(),
        port: control.port.snapshot(),
        http: control
            .metrics
            .http(control.config().control.connections_max, [&control.input_budget, &control.answer_budget]),
        reload: control.metrics.reload(),
        log_dropped: crate::output::dropped_lines(),
        ticket_timeouts: load(&control.tickets.timeouts),
        worker_messages: load(&control.metrics.messages),
        journal: [&journal.written, &journal.dropped, &journal.errors, &journal.damages].map(load),
        mailbox_depths: control.workers.mailbox_depths().collect(),
    };
    let verifiers = control.verifier.as_ref().map_or(&[][..], |verifier| verifier.metrics());
    expose(control.workers.metrics(), verifiers, &snapshot)
}
