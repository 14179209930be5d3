//! All routes, who may call them, and what every request passes through.
//!
//! ```text
//!   connection ─► under way < requests_max? ─► API key? ─► handler, at most request_timeout ─► counted
//! ```
//!
//! Health and metrics pass even when the API is busy, and need no key: probes and scrapers come without.

use super::http::Caller;
use super::pushes::{self, PushRoute};
use super::reply::ApiError;
use super::{Control, api, capture, goim, health, inspect};
use crate::config::{Config, Secret};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::json;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The OpenAPI 3.1 document. A test holds it against [`routes`].
pub const OPENAPI: &str = include_str!("../../assets/openapi.json");

const INDEX: &str = include_str!("../../assets/index.html");

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone who reaches the port, also when the API is busy.
    Open,
    /// Who has `control.goim_api_key`, if it is set.
    Goim,
    /// Who has `control.api_key`, if it is set.
    Api,
}

type Route = (&'static str, &'static str, Access, MethodRouter<Arc<Control>>);

#[rustfmt::skip]
fn table() -> Vec<Route> {
    use Access::{Api, Goim, Open};
    let push = |route: PushRoute| {
        let handler = move |State(control): State<Arc<Control>>, request: Request| async move {
            pushes::handle(&control, route, request).await
        };
        ("POST", route.path(), route.access(), post(handler))
    };
    let others: Vec<Route> = vec![
        ("GET", "/", Open, get(|| async { Html(INDEX) })),
        ("GET", "/healthz", Open, get(health::healthz)),
        ("GET", "/readyz", Open, get(health::readyz)),
        ("GET", "/metrics", Open, get(super::metrics::exposition)),
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
        ("GET", "/api/v1/openapi.json", Open, get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) })),
    ];
    PushRoute::ALL.into_iter().map(push).chain(others).collect()
}

/// Methods and paths, as OpenAPI writes them.
pub fn routes() -> Vec<(&'static str, String)> {
    table().into_iter().map(|(method, path, ..)| (method, path.replace("{*", "{"))).collect()
}

/// Whether a path is one of [`Access::Open`]: answered at once, from what the control thread knows.
pub(super) fn is_open(path: &str) -> bool {
    static OPEN: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let open = table().into_iter().filter(|(_, _, access, _)| *access == Access::Open);
        open.map(|(_, path, ..)| path).collect()
    });
    OPEN.contains(&path)
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

/// Lets a request through that may pass, and bounds its time.
async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let config = gate.control.config();
    let caller = request.extensions().get::<Caller>().copied();
    let _permit = match admit(&gate.control, &config, gate.access, caller, &request) {
        Ok(permit) => permit,
        Err(error) => return error.into_response(),
    };
    let path = gate.audited.then(|| request.uri().path().to_owned());
    let response = match tokio::time::timeout(config.control.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::request_timeout().into_response(),
    };
    if gate.audited {
        let status = response.status().as_u16();
        let fields = json!({ "caller": caller.map(Caller::text), "path": path, "status": status });
        gate.control.journal.record("admin_call", fields);
    }
    response
}

/// Lets a request in that has the key and finds room, for as long as the permit lives. Who has not the key is journaled.
pub(super) fn admit<'c>(
    control: &'c Control,
    config: &Config,
    access: Access,
    caller: Option<Caller>,
    request: &Request,
) -> Result<Option<SemaphorePermit<'c>>, ApiError> {
    let key = match access {
        Access::Open => None,
        Access::Goim => config.control.goim_api_key.as_ref(),
        Access::Api => config.control.api_key.as_ref(),
    };
    if let Err(error) = check_key(key, request.headers()) {
        let (caller, path) = (caller.map(Caller::text), request.uri().path());
        let fields = json!({ "caller": caller, "path": path, "code": error.code });
        control.journal.record("admin_refused", fields);
        return Err(error);
    }
    match (access, control.metrics.requests.try_acquire()) {
        (Access::Open, _) => Ok(None),
        (_, Ok(permit)) => Ok(Some(permit)),
        (_, Err(_)) => Err(ApiError::busy()),
    }
}

fn check_key(key: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(key) = key else { return Ok(()) };
    // RFC 9110 §11.1: the scheme is case-insensitive.
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
    });
    let given = bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()));
    let given = given.ok_or_else(ApiError::unauthorized)?;
    if bool::from(given.ct_eq(key.as_bytes())) { Ok(()) } else { Err(ApiError::forbidden()) }
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
fn route_label(path: &str) -> &'static str {
    static PATHS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| table().into_iter().map(|(_, path, ..)| path).collect());
    PATHS.iter().find(|known| **known == path).copied().unwrap_or("other")
}

fn known_method(method: &Method) -> &'static str {
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
