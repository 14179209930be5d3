//! Liveness and readiness, two separate answers.
//!
//! Ready is a process that new clients should be sent to: not while memory is short, and not while
//! most of them would be refused or badly served because stores that connections share are nearly
//! full ([`StoreWatch`](super::store_watch::StoreWatch)). A store that one client can fill on its
//! worker is no reason: a client at each replica would take the whole service out of its balancer.
//!
//! A process is alive while every worker turns. A worker turns at least once a second, also when
//! nothing happens: its wait is bounded. So a worker hangs when its turn counter stands still for
//! [`SILENCE_MAX`].

use super::control::Control;
use super::heartbeats::SILENCE_MAX;
use super::lifecycle::Stage;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval at which the levels of the shared stores are read.
pub(super) const STORES_INTERVAL: Duration = Duration::from_millis(250);
/// What may be asked of the server as a whole (RFC 9110 §9.3.7).
const METHODS: &str = "GET, HEAD, POST, OPTIONS";

/// Watches the shared stores. Writes to the log and the journal when one becomes nearly full on a
/// worker, and to the log when the process is not ready because of it.
pub(super) async fn watch_stores(control: Arc<Control>) {
    let (mut before, mut short_before) = (Vec::new(), None);
    loop {
        tokio::time::sleep(STORES_INTERVAL).await;
        let now = control.stores.look(control.workers.metrics(), Instant::now());
        for store in now.iter().filter(|store| !before.contains(*store)) {
            tracing::warn!("on a worker {}", store.unready_reason());
            control.journal.record("store_nearly_full", json!({ "store": store.label() }));
        }
        for store in before.iter().filter(|store| !now.contains(*store)) {
            tracing::info!("the store of {} has room again", store.label());
            control.journal.record("store_has_room", json!({ "store": store.label() }));
        }
        let short = control.stores.shortage();
        match (short_before, short) {
            (before, Some(store)) if before != short => {
                tracing::warn!("not ready: {}", store.unready_reason());
            }
            (Some(_), None) => tracing::info!("ready again: the shared stores have room"),
            _ => {}
        }
        (before, short_before) = (now, short);
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

/// Answers `OPTIONS *`, which load balancers use to ask for readiness.
pub(super) fn options(control: &Control) -> impl IntoResponse + use<> {
    let status = match control.unready_reason() {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::ALLOW, METHODS)])
}
