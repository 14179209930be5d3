//! All routes, who may call them, and what every request passes through.
//!
//! ```text
//!   connection ─► gate: key, page ─► under way < requests_max? ─► handler, at most request_timeout ─► counted
//! ```
//!
//! Health and metrics pass even when the API is busy, and need no key: probes and scrapers come without. Health is open to any
//! Host, metrics only where a key is set (see [`gate`](super::gate)).

use super::http::{Caller, SharedBody};
use super::pushes::PushRoute;
use super::reply::ApiError;
use super::{Control, api, capture, gate, goim, health, inspect};
use axum::Extension;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::json;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The OpenAPI 3.1 document. A test holds it against [`routes`].
pub const OPENAPI: &str = include_str!("../../assets/openapi.json");

const ICON: &str = include_str!("../../assets/icon.svg");

const INDEX: &str = include_str!("../../assets/index.html");

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone who reaches the port, also when the API is busy.
    Open,
    /// The same without pages in browsers, unless `control.api_key` is set.
    Metrics,
    /// Who has `control.goim_api_key`, if it is set.
    Goim,
    /// Who has `control.api_key`, if it is set.
    Api,
}

impl Access {
    /// Whether a request is served also when the API is busy.
    pub(super) const fn is_always_served(self) -> bool {
        matches!(self, Access::Open | Access::Metrics)
    }
}

type Route = (&'static str, &'static str, Access, MethodRouter<Arc<Control>>);

#[rustfmt::skip]
fn table() -> Vec<Route> {
    use Access::{Api, Goim, Metrics, Open};
    // Their POST goes past the router; what is here answers other methods, and describes them.
    let push = |route: PushRoute| {
        ("POST", route.path(), route.access(), post(|| async { ApiError::method_not_allowed() }))
    };
    let others: Vec<Route> = vec![
        // A load balancer's default check asks OPTIONS of the root: may clients be sent here?
        ("GET", "/", Open, get(|| async { (Extension(SharedBody), Html(INDEX)) }).options(health::readyz)),
        // Browsers ask for it beside any page, JSON too.
        ("GET", "/favicon.ico", Open, get(|| async {
            (Extension(SharedBody), [(header::CONTENT_TYPE, "image/svg+xml")], ICON)
        })),
        ("GET", "/healthz", Open, get(health::healthz).options(health::healthz)),
        ("GET", "/readyz", Open, get(health::readyz).options(health::readyz)),
        ("GET", "/metrics", Metrics, get(super::metrics::exposition)),
        ("GET", "/goim/online/top", Goim, get(goim::online_top)),
        ("GET", "/goim/online/room", Goim, get(goim::online_room)),
        ("GET", "/goim/online/total", Goim, get(goim::online_total)),
        ("GET", "/goim/nodes/weighted", Open, get(goim::nodes_weighted)),
        ("GET", "/goim/nodes/instances", Goim, get(goim::nodes_instances)),
        ("POST", "/api/v1/broadcast", Api, post(api::broadcast)),
        ("POST", "/api/v1/kick", Api, post(api::kick)),
        ("GET", "/api/v1/connections", Api, get(inspect::connections)),
        ("GET", "/api/v1/connections/{connection}", Api, get(inspect::connection)),
        ("GET", "/api/v1/rooms", Api, get(inspect::rooms)),
        // A room's key has slashes of its own, escaped or not.
        ("GET", "/api/v1/rooms/{*room}", Api, get(inspect::room)),
        ("GET", "/api/v1/stats", Api, get(api::stats)),
        ("GET", "/api/v1/capture", Api, get(capture::capture)),
        ("GET", "/api/v1/openapi.json", Open, get(|| async {
            (Extension(SharedBody), [(header::CONTENT_TYPE, "application/json")], OPENAPI)
        })),
    ];
    PushRoute::ALL.into_iter().map(push).chain(others).collect()
}

/// Methods and paths, as OpenAPI writes them.
pub fn routes() -> Vec<(&'static str, String)> {
    table().into_iter().map(|(method, path, ..)| (method, path.replace("{*", "{"))).collect()
}

/// Who may call what is at a path; also of a path that has a part of its own, or is nowhere.
pub(super) fn access(path: &str) -> Access {
    static KNOWN: LazyLock<Vec<(&'static str, Access)>> =
        LazyLock::new(|| table().into_iter().map(|(_, path, access, _)| (path, access)).collect());
    let known = KNOWN.iter().find(|(known, _)| *known == path);
    match known {
        Some((_, access)) => *access,
        None if path.starts_with("/api/") => Access::Api,
        None if path.starts_with("/goim/") => Access::Goim,
        None => Access::Open,
    }
}

/// The whole service.
pub(super) fn router(control: &Arc<Control>) -> Router {
    let mut router = Router::new();
    for (method, path, access, handler) in table() {
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

/// Lets a request through that finds room, and bounds its time. The [gate](super::gate) has let it pass.
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
        let path = gate::cut(&path);
        let fields = json!({ "caller": caller.map(Caller::text), "path": path, "status": status });
        gate.control.journal.record("admin_call", fields);
    }
    response
}

/// Lets a request in that finds room, for as long as the permit lives. Its body is here already, so a slow peer holds none.
pub(super) fn admit(control: &Control, access: Access) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
    if access.is_always_served() {
        return Ok(None);
    }
    control.metrics.requests.try_acquire().map(Some).map_err(|_| ApiError::busy())
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

/// The route's path as the table has it.
pub(super) fn route_label(path: &str) -> &'static str {
    static PATHS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| table().into_iter().map(|(_, path, ..)| path).collect());
    PATHS.iter().find(|known| **known == path).copied().unwrap_or("other")
}

pub(super) fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Permits for requests under way.
pub(super) fn permits(requests_max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(requests_max))
}
