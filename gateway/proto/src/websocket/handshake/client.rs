//! The client's side (RFC 6455 §4.1), for load generators and tests.

use super::{HEAD_SIZE_MAX, HEADERS_MAX, KEY_SIZE, accept_key, has_token, is_token};
use crate::bytes::Writer;
use base64::{Engine, engine::general_purpose::STANDARD};
use httparse::Status;

/// Writes an upgrade request to the front of `out`.
///
/// `path` may carry a query; `nonce` is 16 random bytes. Returns the bytes written and the key to
/// verify the response with; `None` where they do not fit, or where `path`, `host` or `protocol`
/// may not stand in a head.
pub fn client_request(
    path: &str,
    host: &str,
    nonce: [u8; 16],
    protocol: Option<&str>,
    out: &mut [u8],
) -> Option<(usize, [u8; KEY_SIZE])> {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !visible(path) || !visible(host) || !protocol.is_none_or(is_token) {
        return None;
    }
    let mut key = [0; KEY_SIZE];
    STANDARD.encode_slice(nonce, &mut key).ok()?;
    let mut writer = Writer::new(out);
    writer.put(b"GET ")?;
    writer.put(path.as_bytes())?;
    writer.put(b" HTTP/1.1\r\nHost: ")?;
    writer.put(host.as_bytes())?;
    writer.put(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n")?;
    writer.put(b"Sec-WebSocket-Key: ")?;
    writer.put(&key)?;
    if let Some(protocol) = protocol {
        writer.put(b"\r\nSec-WebSocket-Protocol: ")?;
        writer.put(protocol.as_bytes())?;
    }
    writer.put(b"\r\n\r\n")?;
    Some((writer.size(), key))
}

/// What the front of the server's answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseParse {
    /// The head has not ended yet.
    Incomplete,
    /// The server speaks WebSocket from here on.
    Accepted {
        /// Bytes of the head: where the server's first frame starts.
        consumed: usize,
    },
}

/// Why a server's answer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// Not HTTP.
    Malformed,
    /// The head exceeds 8 KiB or 64 fields.
    HeadTooLarge,
    /// Any HTTP status but 101: this one.
    Status(u16),
    /// Upgrade is not websocket.
    Upgrade,
    /// Connection lacks the upgrade token.
    Connection,
    /// Sec-WebSocket-Accept is missing, repeated, or another key's.
    Accept,
}

impl ResponseError {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::Status(_) => "status",
            Self::Upgrade => "upgrade",
            Self::Connection => "connection",
            Self::Accept => "accept",
        }
    }
}

impl core::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed => f.write_str("response is not HTTP"),
            Self::HeadTooLarge => f.write_str("response head is too large"),
            Self::Status(status) => write!(f, "response status is {status}, not 101"),
            Self::Upgrade => f.write_str("response does not upgrade to websocket"),
            Self::Connection => f.write_str("response lacks Connection: Upgrade"),
            Self::Accept => f.write_str("Sec-WebSocket-Accept is not this key's"),
        }
    }
}

impl core::error::Error for ResponseError {}

/// Verifies the server's answer at the front of `bytes` (RFC 6455 §4.1).
///
/// `key` is the one that [`client_request`] gave.
///
/// # Errors
/// Any [`ResponseError`].
pub fn verify_response(bytes: &[u8], key: &[u8; KEY_SIZE]) -> Result<ResponseParse, ResponseError> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let window = bytes.get(..HEAD_SIZE_MAX).unwrap_or(bytes);
    let consumed = match parsed.parse(window) {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) if bytes.len() >= HEAD_SIZE_MAX => return Err(ResponseError::HeadTooLarge),
        Ok(Status::Partial) => return Ok(ResponseParse::Incomplete),
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLarge),
        Err(_) => return Err(ResponseError::Malformed),
    };
    match parsed.code {
        Some(101) => {}
        status => return Err(ResponseError::Status(status.unwrap_or_default())),
    }
    let all = |name: &'static str| {
        parsed.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    };
    if !all("Upgrade").any(|value| has_token(value, "websocket")) {
        return Err(ResponseError::Upgrade);
    }
    if !all("Connection").any(|value| has_token(value, "upgrade")) {
        return Err(ResponseError::Connection);
    }
    if !all("Sec-WebSocket-Accept").eq([accept_key(key).as_slice()]) {
        return Err(ResponseError::Accept);
    }
    Ok(ResponseParse::Accepted { consumed })
}
