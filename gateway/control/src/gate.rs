//! Access check of routes, with the head of a request, before its body is read.
//!
//! Where a key is set, a call needs it. Without a key, the port is open to programs that reach it,
//! and closed to pages in browsers: a page of another origin is refused by its `Origin` (cross-site
//! request forgery), and one that has its own name point here by its `Host` (DNS rebinding). That
//! holds for `/metrics` too, which needs no key where one is set.

use super::control::Control;
use super::http::{Caller, Head, Serves};
use super::paths::{self, Access};
use super::reply::ApiError;
use axum::http::{HeaderMap, Version, header};
use gateway_config::{Config, Secret};
use std::net::IpAddr;
use subtle::ConstantTimeEq;
use tokio::sync::SemaphorePermit;

/// Most bytes of a body on routes that need none.
const SMALL_BODY: usize = 16 << 10;

/// Checks whether a request may be handled. Returns the most bytes that its body may have.
///
/// # Errors
/// What to answer instead. A refusal is journaled.
pub(super) fn check(
    control: &Control,
    head: &Head,
    caller: Caller,
    serves: Serves,
) -> Result<usize, ApiError> {
    let config = control.config();
    let path = head.path();
    let access = paths::access(path);
    let is_served = match serves {
        Serves::All => true,
        Serves::Keyed => access.is_always_served() || has_key(&config, access, head),
        Serves::Probes => access.is_always_served(),
    };
    if !is_served {
        return Err(counted(control, head, ApiError::places_busy()));
    }
    let key = match access {
        // The liveness of a process is no secret, and probes send any Host.
        Access::Open => return body_size(control, head, SMALL_BODY),
        // Scrapers have no key. They come by any name where a key keeps the rest closed; where none
        // is set, pages in browsers are kept out, as from the rest.
        Access::Metrics if config.control.api_key.is_some() => return body_size(control, head, SMALL_BODY),
        Access::Metrics | Access::Goim | Access::Api => needed_key(&config, access),
    };
    let allowed = match key {
        Some(key) => check_key(access, key, &head.fields),
        None => check_page(&config, head),
    };
    if let Err(error) = allowed {
        control.refusals.record(&control.journal, caller, path, error.code);
        return Err(counted(control, head, error));
    }
    let carries_messages = path.starts_with("/goim/push/") || path.starts_with("/api/v1/");
    body_size(control, head, if carries_messages { control.body_size_max() } else { SMALL_BODY })
}

/// Admits a request while there is room, for as long as the permit lives. Its body has been
/// received already, so a slow peer holds no permit.
pub(super) fn admit(control: &Control, access: Access) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
    if access.is_always_served() {
        return Ok(None);
    }
    control.metrics.requests.try_acquire().map(Some).map_err(|_| ApiError::busy())
}

/// RFC 9110 §8.4: content that is coded in a way that is not understood is not taken for something
/// else.
fn body_size(control: &Control, head: &Head, size_max: usize) -> Result<usize, ApiError> {
    let mut codings = head.fields.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(counted(control, head, ApiError::content_encoding()));
    }
    Ok(size_max)
}

/// A request that is refused here passes no handler that counts it.
fn counted(control: &Control, head: &Head, error: ApiError) -> ApiError {
    let (route, method) = (paths::route_label(head.path()), paths::known_method(&head.method));
    control.metrics.count(route, method, error.status.as_u16(), std::time::Duration::ZERO);
    error
}

/// The key that a route needs, if one is set.
fn needed_key(config: &Config, access: Access) -> Option<&Secret> {
    match access {
        Access::Open | Access::Metrics => None,
        Access::Goim => config.control.goim_api_key.as_ref(),
        Access::Api => config.control.api_key.as_ref(),
    }
}

/// Whether a request has the key that its route needs.
fn has_key(config: &Config, access: Access, head: &Head) -> bool {
    needed_key(config, access).is_some_and(|key| check_key(access, key, &head.fields).is_ok())
}

fn check_key(access: Access, key: &Secret, headers: &HeaderMap) -> Result<(), ApiError> {
    // RFC 9110 §11.1: the scheme is case-insensitive; §11.4: one space or more follow it.
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key.trim_ascii_start())
    });
    let given = bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()));
    let given = given.ok_or_else(ApiError::unauthorized)?;
    let name = if access == Access::Goim { "control.goim_api_key" } else { "control.api_key" };
    if bool::from(given.ct_eq(key.as_bytes())) { Ok(()) } else { Err(ApiError::forbidden(name)) }
}

/// Refuses what only a page in a browser sends.
fn check_page(config: &Config, head: &Head) -> Result<(), ApiError> {
    let host = std::str::from_utf8(&head.host).unwrap_or_default();
    // HTTP/1.0 without Host is no browser's.
    let is_nameless = host.is_empty() && head.version == Version::HTTP_10;
    if !is_nameless && !is_own_host(config, host) {
        return Err(ApiError::foreign_host(host));
    }
    for origin in head.fields.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("null");
        let of_host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !of_host.is_some_and(|of_host| of_host.eq_ignore_ascii_case(host)) {
            return Err(ApiError::foreign_origin(origin));
        }
    }
    Ok(())
}

/// Whether a host is this gateway by a name that no other page can have: a loopback name, or one of
/// `control.hosts`. Off loopback also an address, which no name can be made to be, and the
/// machine's own name.
fn is_own_host(config: &Config, host: &str) -> bool {
    let name = without_port(host);
    // The final dot of a fully qualified name (RFC 3986 §3.2.2).
    let name = name.strip_suffix('.').unwrap_or(name);
    let configured = |known: &String| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
    let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name.len() > ".localhost".len()
            && name[name.len() - ".localhost".len()..].eq_ignore_ascii_case(".localhost");
    let is_loopback = is_local || address.is_some_and(|address| address.is_loopback());
    let is_remote = !config.control.address.ip().is_loopback();
    is_loopback
        || config.control.hosts.iter().any(configured)
        || is_remote && (address.is_some() || is_own_name(name))
}

fn is_own_name(name: &str) -> bool {
    let own = rustix::system::uname();
    !name.is_empty() && own.nodename().to_bytes().eq_ignore_ascii_case(name.as_bytes())
}

/// A host without its port, if it has one.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            if name.contains(':') && !name.ends_with(']') {
                host
            } else {
                name
            }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_nothing_else() {
        for (host, name) in [
            ("localhost:3111", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:3111", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:", "127.0.0.1"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
