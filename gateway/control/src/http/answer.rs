//! Encoding of answers: the status line, the fields, and what they say about the connection.

use super::super::clock::http_date;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use bytes::{BufMut, BytesMut};
use std::io::Write as _;
use std::time::{Duration, SystemTime};

/// Put into an answer's extensions when its body is counted, or static: many connections may hold
/// the same one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedBody;

/// What an answer says of the connection (RFC 9112 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is kept; the next request may come within this time.
    Keep(Duration),
    /// It ends after this answer.
    Close,
}

/// Writes the head of an answer with a body of `size` bytes.
pub(super) fn write_head(
    out: &mut BytesMut,
    method: Option<&Method>,
    response: &Response<()>,
    size: usize,
    then: Then,
) {
    let mut out = out.writer();
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("Unknown");
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in response.headers() {
        if !is_own(name) {
            write_name(&mut out, name);
            let _ = out.write_all(b": ");
            let _ = out.write_all(value.as_bytes());
            let _ = out.write_all(b"\r\n");
        }
    }
    if let Some(size) = content_length(method, status, response.headers(), size) {
        let _ = write!(out, "Content-Length: {size}\r\n");
    }
    let _ = write!(out, "Date: {}\r\n", http_date(SystemTime::now()));
    let _ = match then {
        Then::Close => out.write_all(b"Connection: close\r\n\r\n"),
        Then::Keep(idle) => {
            write!(out, "Connection: keep-alive\r\nKeep-Alive: timeout={}\r\n\r\n", idle.as_secs())
        }
    };
}

/// Fields that this module writes itself.
fn is_own(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::DATE].contains(name)
}

/// Writes a name in its usual spelling.
fn write_name(out: &mut impl std::io::Write, name: &HeaderName) {
    let mut starts = true;
    for byte in name.as_str().bytes() {
        let shown = if starts { byte.to_ascii_uppercase() } else { byte };
        let _ = out.write_all(&[shown]);
        starts = byte == b'-';
    }
}

/// RFC 9110 §8.6: none with 204; with HEAD that of the answer to GET.
fn content_length(
    method: Option<&Method>,
    status: StatusCode,
    fields: &HeaderMap,
    size: usize,
) -> Option<usize> {
    if status == StatusCode::NO_CONTENT {
        return None;
    }
    if method == Some(&Method::HEAD) {
        let given = fields.get(header::CONTENT_LENGTH)?.to_str().ok()?;
        return given.parse().ok();
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: Response<()>, method: Method, size: usize, then: Then) -> String {
        let mut out = BytesMut::new();
        write_head(&mut out, Some(&method), &response, size, then);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn heads_say_how_long_the_body_is_and_what_becomes_of_the_connection() {
        let ok = || Response::builder().header("content-type", "a/b").header("x-powered-by", "c");
        let kept = written(ok().body(()).unwrap(), Method::GET, 3, Then::Keep(Duration::from_secs(75)));
        assert!(kept.starts_with(
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-Powered-By: c\r\nContent-Length: 3\r\nDate: "
        ));
        assert!(kept.ends_with(" GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n"), "{kept}");
        let head = ok().header("content-length", "77").body(()).unwrap();
        let head = written(head, Method::HEAD, 0, Then::Close);
        assert!(
            head.contains("\r\nContent-Length: 77\r\n") && head.ends_with("\r\nConnection: close\r\n\r\n")
        );
        let none = written(ok().status(204).body(()).unwrap(), Method::OPTIONS, 0, Then::Close);
        assert!(!none.contains("Content-Length"), "{none}");
    }
}
