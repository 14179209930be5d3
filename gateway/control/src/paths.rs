//! The table of routes: methods, paths, and what a caller needs. Handlers are in `routes`, the
//! checks in `gate`; both read this.

use super::http::Head;
use axum::http::Method;

/// What a caller of a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing; served also when the API is busy.
    Open,
    /// The same, without pages in browsers unless `control.api_key` is set.
    Metrics,
    /// `control.goim_api_key`, if it is set.
    Goim,
    /// `control.api_key`, if it is set.
    Api,
}

impl Access {
    /// Whether a request is served also when the API is busy.
    pub(super) const fn is_always_served(self) -> bool {
        matches!(self, Access::Open | Access::Metrics)
    }
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) method: &'static str,
    /// As the router writes it.
    pub(super) path: &'static str,
    pub(super) access: Access,
}

impl Route {
    const fn get(path: &'static str, access: Access) -> Route {
        Route { method: "GET", path, access }
    }

    const fn post(path: &'static str, access: Access) -> Route {
        Route { method: "POST", path, access }
    }
}

pub(super) const INDEX: Route = Route::get("/", Access::Open);
pub(super) const ICON: Route = Route::get("/favicon.ico", Access::Open);
pub(super) const HEALTHZ: Route = Route::get("/healthz", Access::Open);
pub(super) const READYZ: Route = Route::get("/readyz", Access::Open);
pub(super) const METRICS: Route = Route::get("/metrics", Access::Metrics);
pub(super) const ONLINE_TOP: Route = Route::get("/goim/online/top", Access::Goim);
pub(super) const ONLINE_ROOM: Route = Route::get("/goim/online/room", Access::Goim);
pub(super) const ONLINE_TOTAL: Route = Route::get("/goim/online/total", Access::Goim);
pub(super) const NODES_WEIGHTED: Route = Route::get("/goim/nodes/weighted", Access::Open);
pub(super) const NODES_INSTANCES: Route = Route::get("/goim/nodes/instances", Access::Goim);
pub(super) const BROADCAST: Route = Route::post("/api/v1/broadcast", Access::Api);
pub(super) const KICK: Route = Route::post("/api/v1/kick", Access::Api);
pub(super) const CONNECTIONS: Route = Route::get("/api/v1/connections", Access::Api);
pub(super) const CONNECTION: Route = Route::get("/api/v1/connections/{connection}", Access::Api);
pub(super) const ROOMS: Route = Route::get("/api/v1/rooms", Access::Api);
/// A room's key has slashes of its own, escaped or not.
pub(super) const ROOM: Route = Route::get("/api/v1/rooms/{*room}", Access::Api);
pub(super) const STATS: Route = Route::get("/api/v1/stats", Access::Api);
pub(super) const CAPTURE: Route = Route::get("/api/v1/capture", Access::Api);
pub(super) const OPENAPI: Route = Route::get("/api/v1/openapi.json", Access::Open);

/// All routes but those that carry messages.
pub(super) const OTHERS: [Route; 19] = [
    INDEX,
    ICON,
    HEALTHZ,
    READYZ,
    METRICS,
    ONLINE_TOP,
    ONLINE_ROOM,
    ONLINE_TOTAL,
    NODES_WEIGHTED,
    NODES_INSTANCES,
    BROADCAST,
    KICK,
    CONNECTIONS,
    CONNECTION,
    ROOMS,
    ROOM,
    STATS,
    CAPTURE,
    OPENAPI,
];

/// A route that carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushRoute {
    Keys,
    Mids,
    Room,
    All,
    Publish,
}

impl PushRoute {
    pub(super) const ALL: [PushRoute; 5] =
        [PushRoute::Mids, PushRoute::Keys, PushRoute::Room, PushRoute::All, PushRoute::Publish];

    pub(super) const fn path(self) -> &'static str {
        match self {
            PushRoute::Keys => "/goim/push/keys",
            PushRoute::Mids => "/goim/push/mids",
            PushRoute::Room => "/goim/push/room",
            PushRoute::All => "/goim/push/all",
            PushRoute::Publish => "/api/v1/publish",
        }
    }

    /// The key that a call needs.
    pub(super) const fn access(self) -> Access {
        if matches!(self, PushRoute::Publish) { Access::Api } else { Access::Goim }
    }

    /// Its row in the table.
    pub(super) const fn route(self) -> Route {
        Route::post(self.path(), self.access())
    }

    /// The route of a request, if it is one of these.
    pub(super) fn of(method: &Method, path: &str) -> Option<PushRoute> {
        let is_post = *method == Method::POST;
        PushRoute::ALL.into_iter().find(|route| is_post && route.path() == path)
    }
}

/// All routes.
pub(super) fn all() -> impl Iterator<Item = Route> {
    PushRoute::ALL.into_iter().map(PushRoute::route).chain(OTHERS)
}

/// Methods and paths, as OpenAPI writes them.
pub fn routes() -> Vec<(&'static str, String)> {
    all().map(|route| (route.method, route.path.replace("{*", "{"))).collect()
}

/// What a caller of this path needs; also of a path that has a part of its own, or leads nowhere.
pub(super) fn access(path: &str) -> Access {
    match all().find(|route| route.path == path) {
        Some(route) => route.access,
        None if path.starts_with("/api/") => Access::Api,
        None if path.starts_with("/goim/") => Access::Goim,
        None => Access::Open,
    }
}

/// Whether a request's method and path are those of a route. HEAD is answered as GET is.
pub(super) fn leads_somewhere(head: &Head) -> bool {
    let method = match head.method {
        Method::HEAD => "GET",
        _ => head.method.as_str(),
    };
    all().any(|route| route.method == method && fits(route.path, head.path()))
}

/// Whether a path has the form that the router writes `pattern` for.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('{') {
        None => pattern == path,
        Some((before, part)) => path.strip_prefix(before).is_some_and(|rest| {
            let is_tail = part.starts_with('*');
            !rest.is_empty() && (is_tail || !rest.contains('/'))
        }),
    }
}

/// The route's path as the table has it, for metrics.
pub(super) fn route_label(path: &str) -> &'static str {
    all().find(|route| route.path == path).map_or("other", |route| route.path)
}

/// A method as metrics name it.
pub(super) fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_their_patterns() {
        for path in ["/healthz", "/goim/push/mids", "/api/v1/rooms", "/api/v1/rooms/live://1"] {
            assert!(all().any(|route| fits(route.path, path)), "{path}");
        }
        assert!(fits(CONNECTION.path, "/api/v1/connections/12"));
        for path in ["/api/v1/connections/", "/api/v1/connections/1/2", "/api/v1/rooms/", "/healthz/", "/no"]
        {
            assert!(!all().any(|route| fits(route.path, path)), "{path}");
        }
    }
}
