//! The router: a handler for each route of the [table](super::paths), and what every request passes
//! through.
//!
//! ```text
//!   connection ─► gate: key, page ─► under way < requests_max? ─► handler, request_timeout ─► counted
//! ```
//!
//! Health and metrics are served even when the API is busy, and need no key: probes and scrapers
//! have none. Health is open to any Host, metrics only where a key is set (see
//! [`gate`](super::gate)).

use super::control::Control;
use super::gate::admit;
use super::http::{Caller, SharedBody};
use super::paths::{self, Access, PushRoute, Route, known_method, route_label};
use super::refusals::cut;
use super::reply::ApiError;
use super::{api, capture, goim, health, inspect, metrics};
use axum::Extension;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// The OpenAPI 3.1 document. A test holds it against [`routes`](crate::routes).
pub const OPENAPI: &str = include_str!("../../assets/openapi.json");

const ICON: &str = include_str!("../../assets/icon.svg");

const INDEX: &str = include_str!("../../assets/index.html");

/// The handlers of all routes.
fn handlers() -> Vec<(Route, MethodRouter<Arc<Control>>)> {
    // The POST of these passes by the router; the handler here answers other methods.
    let push = |route: PushRoute| (route.route(), post(|| async { ApiError::method_not_allowed() }));
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { (Extension(SharedBody), [(header::CONTENT_TYPE, kind)], text) })
    };
    let index = get(|| async { (Extension(SharedBody), Html(INDEX)) });
    let others = vec![
        // A load balancer's default check asks OPTIONS of the root for readiness.
        (paths::INDEX, index.options(health::readyz)),
        // Browsers ask for it beside any page, JSON too.
        (paths::ICON, file("image/svg+xml", ICON)),
        (paths::HEALTHZ, get(health::healthz).options(health::healthz)),
        (paths::READYZ, get(health::readyz).options(health::readyz)),
        (paths::METRICS, get(metrics::exposition)),
        (paths::ONLINE_TOP, get(goim::online_top)),
        (paths::ONLINE_ROOM, get(goim::online_room)),
        (paths::ONLINE_TOTAL, get(goim::online_total)),
        (paths::NODES_WEIGHTED, get(goim::nodes_weighted)),
        (paths::NODES_INSTANCES, get(goim::nodes_instances)),
        (paths::BROADCAST, post(api::broadcast)),
        (paths::KICK, post(api::kick)),
        (paths::CONNECTIONS, get(inspect::connections)),
        (paths::CONNECTION, get(inspect::connection)),
        (paths::ROOMS, get(inspect::rooms)),
        (paths::ROOM, get(inspect::room)),
        (paths::STATS, get(api::stats)),
        (paths::CAPTURE, get(capture::capture)),
        (paths::OPENAPI, file("application/json", OPENAPI)),
    ];
    PushRoute::ALL.into_iter().map(push).chain(others).collect()
}

/// The whole service.
pub(super) fn router(control: &Arc<Control>) -> Router {
    let mut router = Router::new();
    for (Route { method, path, access }, handler) in handlers() {
        let audited = method != "GET" && access == Access::Api && path != PushRoute::Publish.path();
        let gate = Gate { access, audited, control: Arc::clone(control) };
        router = router.route(path, handler.route_layer(from_fn_with_state(gate, guard)));
    }
    router
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .fallback(|| async { ApiError::not_found("no such path; GET / lists what there is") })
        .layer(from_fn_with_state(Arc::clone(control), count))
        .with_state(Arc::clone(control))
}

#[derive(Clone)]
struct Gate {
    access: Access,
    /// Whether calls are written to the journal.
    audited: bool,
    control: Arc<Control>,
}

/// Lets a request through that finds room, and bounds its time. The [gate](super::gate) has let it
/// pass.
async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let config = gate.control.config();
    let caller = request.extensions().get::<Caller>().copied();
    let _permit = match admit(&gate.control, gate.access) {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let path = gate.audited.then(|| request.uri().path().to_owned());
    let response = match tokio::time::timeout(config.control.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::handler_timeout().into_response(),
    };
    if let Some(path) = path {
        let status = response.status().as_u16();
        let path = cut(&path);
        let fields = json!({ "caller": caller.map(Caller::text), "path": path, "status": status });
        gate.control.journal.record("admin_call", fields);
    }
    response
}

/// Counts every request by route, method and status: all three from closed sets.
async fn count(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| route_label(path.as_str()));
    let method = known_method(request.method());
    let response = next.run(request).await;
    let status: StatusCode = response.status();
    control.metrics.count(route, method, status.as_u16(), start.elapsed());
    response
}

/// Permits for requests under way.
pub(super) fn permits(requests_max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(requests_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path without a row of its own would be open to every caller.
    #[test]
    fn every_row_of_the_table_has_its_handler() {
        let rows: Vec<Route> = handlers().into_iter().map(|(route, _)| route).collect();
        assert_eq!(rows, paths::all().collect::<Vec<_>>());
    }
}
