//! Who may call a route: checked with the head of a request, before its body is read.
//!
//! Where a key is set, it is needed. Where none is, the port is open to programs that reach it, and closed to pages in
//! browsers: a page of another origin is refused by its `Origin` (cross-site request forgery), and one that has its own name
//! point here by its `Host` (DNS rebinding). That holds for `/metrics` too, which needs no key where one is set.

use super::Control;
use super::http::{Caller, Head, Serves};
use super::reply::ApiError;
use super::routes::{self, Access};
use axum::http::{HeaderMap, Version, header};
use gateway_config::{Config, Secret};
use serde_json::json;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Bytes of a body at most on routes that need none to speak of.
const SMALL_BODY: usize = 16 << 10;

/// Whether a request may be handled: how many bytes its body may have.
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
    let access = routes::access(path);
    let is_served = match serves {
        Serves::All => true,
        Serves::Keyed => access.is_always_served() || has_key(&config, access, head),
        Serves::Probes => access.is_always_served(),
    };
    if !is_served {
        return Err(counted(control, head, ApiError::places_busy()));
    }
    let key = match access {
        // The liveness of a process is no secret, and probes send what Host they like.
        Access::Open => return body_size(control, head, SMALL_BODY),
        // Scrapers have no key. They come by any name where a key keeps the rest closed; where none is set, pages in
        // browsers are kept out, as from the rest.
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

/// RFC 9110 §8.4: content that is coded in a way that is not understood is not taken for something else.
fn body_size(control: &Control, head: &Head, size_max: usize) -> Result<usize, ApiError> {
    let mut codings = head.fields.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(counted(control, head, ApiError::content_encoding()));
    }
    Ok(size_max)
}

/// A request that is refused here passes no handler that counts it.
fn counted(control: &Control, head: &Head, error: ApiError) -> ApiError {
    let (route, method) = (routes::route_label(head.path()), routes::known_method(&head.method));
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

/// Whether a host is this gateway by a name that no other page can have: a loopback name, or one of `control.hosts`. Off
/// loopback also an address, which no name can be made to be, and the machine's own name.
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

/// Refusals a second that are journaled one by one at most; further ones are counted in one line.
const REFUSALS_PER_SECOND: u32 = 10;
/// Bytes of a path that are journaled at most.
const PATH_SIZE_MAX: usize = 200;

/// Journals refused calls, bounded: whoever is refused has no key, and must not fill the disk.
#[derive(Debug, Default)]
pub(super) struct Refusals(std::sync::Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<std::time::Instant>,
    written: u32,
    suppressed: u64,
}

impl Refusals {
    fn record(&self, journal: &super::Journal, caller: Caller, path: &str, code: &str) {
        if !journal.is_on() {
            return;
        }
        let (is_written, suppressed) = self.count(std::time::Instant::now());
        if suppressed > 0 {
            journal.record("admin_refused_more", json!({ "count": suppressed }));
        }
        if is_written {
            let fields = json!({ "caller": caller.text(), "path": cut(path), "code": code });
            journal.record("admin_refused", fields);
        }
    }

    /// Writes down how many were not written one by one, once their second is over.
    pub(super) fn settle(&self, journal: &super::Journal) {
        let mut second = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_over = second.began.is_some_and(|began| began.elapsed().as_secs() >= 1);
        if is_over && second.suppressed > 0 {
            let count = std::mem::take(&mut second.suppressed);
            journal.record("admin_refused_more", json!({ "count": count }));
        }
    }

    /// Whether this one is written, and how many of the second before were not.
    fn count(&self, now: std::time::Instant) -> (bool, u64) {
        let mut second = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_new = second.began.is_none_or(|began| now.duration_since(began).as_secs() >= 1);
        let suppressed = if is_new {
            let before = second.suppressed;
            *second = Second { began: Some(now), written: 0, suppressed: 0 };
            before
        } else {
            0
        };
        let is_written = second.written < REFUSALS_PER_SECOND;
        second.written += u32::from(is_written);
        second.suppressed += u64::from(!is_written);
        (is_written, suppressed)
    }
}

/// The front of a text that a caller chose, for the journal.
pub(super) fn cut(text: &str) -> &str {
    let end = (0..=PATH_SIZE_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

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

    #[test]
    fn refusals_are_written_one_by_one_up_to_a_rate() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let written = (0..1000).filter(|_| refusals.count(start).0).count();
        assert_eq!(written, REFUSALS_PER_SECOND as usize);
        assert_eq!(refusals.count(start + Duration::from_secs(1)), (true, 990));
        assert_eq!(refusals.count(start + Duration::from_secs(3)), (true, 0));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("/short"), "/short");
        assert_eq!(cut(&"é".repeat(101)).len(), 200);
        assert_eq!(cut(&format!("a{}", "é".repeat(101))).len(), 199);
    }
}
