//! The server's side: the request (RFC 6455 §4.2.1).

use super::{HandshakeError, has_token};
use base64::{Engine, engine::general_purpose::STANDARD};
use httparse::{Header, Status};

/// The largest head of a request, unless [`HandshakeRules::head_size_max`] says otherwise, and of
/// an answer, in bytes.
pub const HEAD_SIZE_MAX: usize = 16 * 1024;

/// The most header fields.
pub const HEADERS_MAX: usize = 64;

/// What version 2 of the PROXY protocol begins with; version 1 begins with its name.
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Size of a Sec-WebSocket-Key, in bytes: 16 in base64.
pub const KEY_SIZE: usize = 24;

/// What a server accepts.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeRules<'r> {
    /// The one path to upgrade at, such as `/sub`. A query string may follow it in the request.
    pub path: &'r str,
    /// Allowed origins, such as `https://example.com`, compared without case; empty allows any.
    /// Native clients send no Origin and are always allowed: the check protects browsers' users
    /// (RFC 6455 §10.2).
    pub origins: &'r [&'r str],
    /// Subprotocols the server speaks; the first one that the client offers is chosen.
    pub protocols: &'r [&'r str],
    /// The largest request head, in bytes; usually [`HEAD_SIZE_MAX`].
    pub head_size_max: usize,
}

/// What the front of the input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeParse<'a, 'r> {
    /// The head has not ended yet.
    Incomplete,
    /// A request to upgrade at the allowed path, from an allowed origin.
    Upgrade {
        /// Bytes of the head: where the client's first frame starts.
        consumed: usize,
        /// The request.
        request: Request<'a, 'r>,
    },
    /// A well-formed GET or HEAD that asks for no WebSocket.
    Plain {
        /// Bytes of the head.
        consumed: usize,
        /// The request.
        head: RequestHead<'a>,
    },
}

/// The parts of any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// `GET`, or `HEAD` in [`HandshakeParse::Plain`].
    pub method: &'a str,
    /// The path, from its first slash to the query.
    pub path: &'a str,
    /// The query after its question mark, if any.
    pub query: Option<&'a str>,
    /// Host.
    pub host: &'a [u8],
    /// The last X-Forwarded-For, the one nearest to this server, as it came. Trust it only from a
    /// proxy.
    pub forwarded_for: Option<&'a [u8]>,
    /// The last Forwarded (RFC 7239), as it came. Trust it only from a proxy.
    pub forwarded: Option<&'a [u8]>,
}

/// A request to upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a, 'r> {
    /// The parts of any request.
    pub head: RequestHead<'a>,
    /// Sec-WebSocket-Key, for [`accept_response`](super::accept_response).
    pub key: &'a [u8; KEY_SIZE],
    /// Origin, if any.
    pub origin: Option<&'a [u8]>,
    /// The chosen subprotocol, one of [`HandshakeRules::protocols`].
    pub protocol: Option<&'r str>,
}

impl<'a, 'r> Request<'a, 'r> {
    /// Parses the request at the front of `bytes`.
    ///
    /// `Incomplete` means: call again with more bytes from the same start, at most
    /// [`HandshakeRules::head_size_max`].
    ///
    /// # Errors
    /// Any [`HandshakeError`] but `NotUpgrade`. Syntax errors come as soon as they can be seen.
    pub fn parse(
        bytes: &'a [u8],
        rules: &HandshakeRules<'r>,
    ) -> Result<HandshakeParse<'a, 'r>, HandshakeError> {
        if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_2) {
            return Err(HandshakeError::Proxy);
        }
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        let window = bytes.get(..rules.head_size_max).unwrap_or(bytes);
        let consumed = match parsed.parse(window).map_err(syntax)? {
            Status::Complete(consumed) => consumed,
            Status::Partial if bytes.len() >= rules.head_size_max => {
                return Err(HandshakeError::HeadTooLarge);
            }
            Status::Partial => return Ok(HandshakeParse::Incomplete),
        };
        if parsed.version != Some(1) {
            return Err(HandshakeError::HttpVersion);
        }
        let method = parsed.method.ok_or(HandshakeError::Malformed)?;
        let target = parsed.path.ok_or(HandshakeError::Malformed)?;
        let fields = Fields(parsed.headers);
        let head = head(method, target, &fields)?;
        if !fields.have_token("Upgrade", "websocket") {
            return Ok(HandshakeParse::Plain { consumed, head });
        }
        let request = upgrade(head, &fields, rules)?;
        Ok(HandshakeParse::Upgrade { consumed, request })
    }
}

fn syntax(error: httparse::Error) -> HandshakeError {
    match error {
        httparse::Error::TooManyHeaders => HandshakeError::TooManyHeaders,
        httparse::Error::Version => HandshakeError::HttpVersion,
        _ => HandshakeError::Malformed,
    }
}

fn head<'a>(
    method: &'a str,
    target: &'a str,
    fields: &Fields<'_, 'a>,
) -> Result<RequestHead<'a>, HandshakeError> {
    if !matches!(method, "GET" | "HEAD") {
        return Err(HandshakeError::Method);
    }
    let (authority, target) = target_form(target).ok_or(HandshakeError::Malformed)?;
    let host = match fields.only("Host") {
        Ok(Some(host)) if !host.is_empty() => authority.map_or(host, str::as_bytes),
        _ => return Err(HandshakeError::Host),
    };
    let sized = fields.all("Content-Length").any(|value| value != b"0");
    if sized || fields.all("Transfer-Encoding").next().is_some() {
        return Err(HandshakeError::Body);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let forwarded_for = fields.all("X-Forwarded-For").last();
    let forwarded = fields.all("Forwarded").last();
    Ok(RequestHead { method, path, query, host, forwarded_for, forwarded })
}

/// A target's authority, if it has one, and its path with the query. RFC 9112 §3.2.2: a server MUST
/// accept the absolute form; its host overrules that of the Host field.
fn target_form(target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    let known = ["ws", "wss", "http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(path)?;
    let path = if path.is_empty() { "/" } else { path };
    (known && !authority.is_empty() && path.starts_with('/')).then_some((Some(authority), path))
}

fn upgrade<'a, 'r>(
    head: RequestHead<'a>,
    fields: &Fields<'_, 'a>,
    rules: &HandshakeRules<'r>,
) -> Result<Request<'a, 'r>, HandshakeError> {
    if head.method != "GET" {
        return Err(HandshakeError::Method);
    }
    if head.path != rules.path {
        return Err(HandshakeError::NotFound);
    }
    if !fields.have_token("Connection", "upgrade") {
        return Err(HandshakeError::Connection);
    }
    if fields.only("Sec-WebSocket-Version") != Ok(Some(b"13")) {
        return Err(HandshakeError::WebSocketVersion);
    }
    let key = match fields.only("Sec-WebSocket-Key") {
        Ok(Some(value)) => check_key(value).ok_or(HandshakeError::Key)?,
        _ => return Err(HandshakeError::Key),
    };
    let origin = fields.only("Origin").map_err(|()| HandshakeError::Origin)?;
    let same = |origin: &[u8], allowed: &str| origin.eq_ignore_ascii_case(allowed.as_bytes());
    let allowed = |origin| rules.origins.iter().any(|allowed| same(origin, allowed));
    if !rules.origins.is_empty() && origin.is_some_and(|origin| !allowed(origin)) {
        return Err(HandshakeError::Origin);
    }
    Ok(Request { head, key, origin, protocol: protocol(fields, rules.protocols) })
}

/// RFC 6455 §4.2.1: base64 that decodes to 16 bytes.
fn check_key(value: &[u8]) -> Option<&[u8; KEY_SIZE]> {
    let key = value.try_into().ok()?;
    let mut nonce = [0; 18];
    (STANDARD.decode_slice(value, &mut nonce) == Ok(16)).then_some(key)
}

/// The first offered subprotocol that is spoken here (RFC 6455 §4.2.2); subprotocols have a case.
fn protocol<'r>(fields: &Fields<'_, '_>, spoken: &[&'r str]) -> Option<&'r str> {
    let offers = fields.all("Sec-WebSocket-Protocol").flat_map(|value| value.split(|&byte| byte == b','));
    let find = |offer: &[u8]| spoken.iter().copied().find(|name| name.as_bytes() == offer.trim_ascii());
    offers.into_iter().find_map(find)
}

/// Header fields by name, without case.
struct Fields<'h, 'a>(&'h [Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that must not be repeated.
    fn only(&self, name: &'static str) -> Result<Option<&'a [u8]>, ()> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(()) } else { Ok(first) }
    }

    fn have_token(&self, name: &'static str, token: &str) -> bool {
        self.all(name).any(|value| has_token(value, token))
    }
}
