//! Parser of request heads: where a head ends, what it says, and the status of a malformed one.
//!
//! ```text
//!   bytes ─► HeadScan: end of line, end of fields ─► Head: method, target, fields, framing, host
//!                 └────────── HeadError: 400, 414, 431, 501, 505 ────────┘
//! ```
//!
//! A pure function of the bytes: no socket, no clock. The rules are those of RFC 9112, cited where
//! they are applied.

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri, Version};
use bytes::Bytes;

/// Names in the query of one push at most, each of [`NAME_SIZE`] bytes.
const NAMES_MAX: usize = 1000;
/// Bytes of a name, percent-encoded: three characters for each of 128 bytes.
const NAME_SIZE: usize = 3 * 128;
/// Bytes of a request line at most: all names of a push, each behind `&keys=`, and 8 KiB for the
/// rest.
pub(crate) const LINE_SIZE_MAX: usize = NAMES_MAX * (NAME_SIZE + "&keys=".len()) + (8 << 10);
/// Bytes of all header fields at most.
pub(crate) const FIELDS_SIZE_MAX: usize = 16 << 10;
/// Header fields at most.
pub(crate) const FIELDS_MAX: usize = 64;
/// What a map of fields takes for each: name, value, links, hash and index; and for each repeated
/// one.
const FIELD_SIZE: usize = size_of::<HeaderName>() + size_of::<HeaderValue>() + 40;
const REPEATED_FIELD_SIZE: usize = 2 * (size_of::<HeaderValue>() + 32);
/// Bytes of memory of a head at most: its text, names once more, and the map.
pub(crate) const HEAD_SIZE_MAX: usize =
    LINE_SIZE_MAX + 2 * FIELDS_SIZE_MAX + FIELDS_MAX * (2 * FIELD_SIZE + REPEATED_FIELD_SIZE);
/// Bytes of a target that the router takes (a limit of `http::Uri`); targets of pushes may be
/// longer.
const ROUTED_TARGET_SIZE_MAX: usize = (u16::MAX - 1) as usize;
/// A method is no longer than this, in bytes: the longest registered one has 17.
const METHOD_SIZE_MAX: usize = 32;

/// Why a head is refused. The peer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It does not begin like a request line.
    NotHttp,
    /// It begins like TLS.
    Tls,
    /// It begins with a header of the PROXY protocol.
    Proxy,
    /// A field is malformed.
    Field,
    /// The target is malformed.
    Target,
    /// A `%` of the path is no escape (RFC 3986 §2.1).
    Escape,
    /// Host is missing, repeated or malformed (RFC 9112 §3.2).
    Host,
    /// The length of the body is ambiguous or malformed (RFC 9112 §6.3).
    Framing,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1).
    Coding,
    /// The request line is too long (RFC 9112 §3).
    LineTooLong,
    /// The header fields are too large (RFC 6585 §5).
    FieldsTooLarge,
    /// There are too many header fields (RFC 6585 §5).
    TooManyFields,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// CONNECT, or a target that names no path.
    Method,
    /// Another major version, or HTTP/2 without negotiation (RFC 9110 §15.6.6).
    Version,
}

impl HeadError {
    pub(crate) const ALL: [HeadError; 15] = [
        HeadError::NotHttp,
        HeadError::Tls,
        HeadError::Proxy,
        HeadError::Field,
        HeadError::Target,
        HeadError::Escape,
        HeadError::Host,
        HeadError::Framing,
        HeadError::Coding,
        HeadError::LineTooLong,
        HeadError::FieldsTooLarge,
        HeadError::TooManyFields,
        HeadError::Expectation,
        HeadError::Method,
        HeadError::Version,
    ];

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            HeadError::NotHttp
            | HeadError::Tls
            | HeadError::Proxy
            | HeadError::Field
            | HeadError::Target
            | HeadError::Escape
            | HeadError::Host
            | HeadError::Framing => StatusCode::BAD_REQUEST,
            HeadError::LineTooLong => StatusCode::URI_TOO_LONG,
            HeadError::FieldsTooLarge | HeadError::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            HeadError::Expectation => StatusCode::EXPECTATION_FAILED,
            HeadError::Coding | HeadError::Method => StatusCode::NOT_IMPLEMENTED,
            HeadError::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// The metric label, and the error's code for programs.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            HeadError::NotHttp => "not_http",
            HeadError::Tls => "tls",
            HeadError::Proxy => "proxy_protocol",
            HeadError::Field => "field",
            HeadError::Target => "target",
            HeadError::Escape => "percent_escape",
            HeadError::Host => "host",
            HeadError::Framing => "framing",
            HeadError::Coding => "transfer_coding",
            HeadError::LineTooLong => "line_too_long",
            HeadError::FieldsTooLarge => "fields_too_large",
            HeadError::TooManyFields => "too_many_fields",
            HeadError::Expectation => "expectation",
            HeadError::Method => "method",
            HeadError::Version => "version",
        }
    }

    /// What is wrong, and what to send instead.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            HeadError::NotHttp => {
                "this port speaks HTTP/1.1: send a request line such as GET /healthz HTTP/1.1"
            }
            HeadError::Tls => "this port speaks HTTP without TLS: use http://, or put a TLS proxy in front",
            HeadError::Proxy => {
                "the PROXY protocol is not spoken here: turn it off in the proxy (send-proxy, proxy_protocol)"
            }
            HeadError::Field => "a header field is malformed: send `Name: value`, one a line (RFC 9112 §5)",
            HeadError::Target => {
                "the request target is malformed: send a path that begins with / (RFC 9112 §3.2)"
            }
            HeadError::Escape => {
                "a % of the path has no two hexadecimal digits behind it: write %25 for it (RFC 3986 §2.1)"
            }
            HeadError::Host => "exactly one valid Host field is needed (RFC 9112 §3.2)",
            HeadError::Framing => {
                "the body's length is ambiguous: send one Content-Length, or Transfer-Encoding: chunked (RFC 9112 §6.3)"
            }
            HeadError::Coding => "the only transfer coding understood is `chunked` (RFC 9112 §6.1)",
            HeadError::LineTooLong => {
                "the request line is too long: it holds 1000 names of 128 bytes; split the push, or send the names as a form body"
            }
            HeadError::FieldsTooLarge => "the header fields are too large: at most 16384 bytes are taken",
            HeadError::TooManyFields => "there are too many header fields: at most 64 are taken",
            HeadError::Expectation => "the only expectation understood is 100-continue (RFC 9110 §10.1.1)",
            HeadError::Method => "this method, or this form of its target, is not implemented here",
            HeadError::Version => "HTTP/1.1 and HTTP/1.0 are spoken here; HTTP/2 and HTTP/3 are not",
        }
    }
}

/// How a request's body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// After so many bytes; 0 where there is none.
    Length(u64),
    /// After the last chunk.
    Chunked,
}

/// A whole head that makes sense.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Path and query, as they came; of a target in absolute form too. `*` for the server itself.
    pub(crate) target: Bytes,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) framing: BodyFraming,
    /// The host that the request is for, with its port; empty where none is named.
    pub(crate) host: Bytes,
    /// Whether the client keeps the connection (RFC 9112 §9.3).
    pub(crate) keeps_alive: bool,
    /// Whether the client waits for 100 (Continue) before its body.
    pub(crate) expects_continue: bool,
    /// Bytes of memory that it holds.
    pub(crate) held: usize,
}

impl Head {
    pub(crate) fn path(&self) -> &str {
        self.target().split_once('?').map_or(self.target(), |(path, _)| path)
    }

    pub(crate) fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    fn target(&self) -> &str {
        // Checked when it was parsed.
        std::str::from_utf8(&self.target).unwrap_or_default()
    }

    /// The target for the router.
    ///
    /// # Errors
    /// [`HeadError`], when it is longer than the router takes, or no valid URI.
    pub(crate) fn uri(&self) -> Result<Uri, HeadError> {
        if self.target.len() > ROUTED_TARGET_SIZE_MAX {
            return Err(HeadError::LineTooLong);
        }
        Uri::from_maybe_shared(self.target.clone()).map_err(|_| HeadError::Target)
    }
}

/// Looks for the end of a head that comes in pieces, and never twice at the same bytes.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Size of the request line with its end, once that has come.
    line: Option<usize>,
    /// Bytes that were looked at.
    scanned: usize,
}

impl HeadScan {
    /// The head's size, once it is whole. `bytes` has at least what it had at the last call, from
    /// the same start.
    ///
    /// # Errors
    /// [`HeadError`], as soon as it can be seen.
    pub(crate) fn whole(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        let line = match self.line {
            Some(line) => line,
            None => match self.end_of_line(bytes)? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        // An empty line ends the fields; the first may follow the request line at once.
        let from = self.scanned.max(line) - line;
        let fields = &bytes[line..];
        let end = ends(fields, from);
        self.scanned = bytes.len();
        match end {
            Some(end) if end > FIELDS_SIZE_MAX => Err(HeadError::FieldsTooLarge),
            Some(end) => Ok(Some(line + end)),
            None if fields.len() > FIELDS_SIZE_MAX => Err(HeadError::FieldsTooLarge),
            None => Ok(None),
        }
    }

    fn end_of_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        begins_like_http(bytes)?;
        let end = bytes[self.scanned..].iter().position(|&byte| byte == b'\n');
        let line = end.map(|end| self.scanned + end + 1);
        self.scanned = line.unwrap_or(bytes.len());
        self.line = line;
        if line.unwrap_or(bytes.len()) > LINE_SIZE_MAX {
            return Err(HeadError::LineTooLong);
        }
        Ok(line)
    }
}

/// Where the fields end, with their empty line: the first line that is empty, looked for from
/// `from` on.
fn ends(fields: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(2);
    if at == 0 {
        match fields {
            [b'\n', ..] => return Some(1),
            [b'\r', b'\n', ..] => return Some(2),
            _ => {}
        }
    }
    while let Some(found) = fields[at..].iter().position(|&byte| byte == b'\n') {
        let next = at + found + 1;
        match fields.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

/// A method, of token characters, then a space. Seen at the first bytes: what is not HTTP may never
/// send a line's end.
fn begins_like_http(bytes: &[u8]) -> Result<(), HeadError> {
    // RFC 8446 §5.1: a record of type handshake, version 3.x.
    if let [0x16, 3, ..] = bytes {
        return Err(HeadError::Tls);
    }
    if bytes.starts_with(b"PROXY ") {
        return Err(HeadError::Proxy);
    }
    let begin = &bytes[..bytes.len().min(METHOD_SIZE_MAX + 1)];
    match begin.iter().position(|&byte| !is_token(byte)) {
        Some(at) if at > 0 && begin[at] == b' ' => Ok(()),
        None if begin.len() <= METHOD_SIZE_MAX => Ok(()),
        _ => Err(HeadError::NotHttp),
    }
}

/// RFC 9110 §5.6.2: `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes of empty lines before a request line, which are ignored (RFC 9112 §2.2); the last one may
/// be half there.
pub(crate) fn empty_lines(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match bytes.get(at..) {
            Some([b'\n', ..] | [b'\r']) => at += 1,
            Some([b'\r', b'\n', ..]) => at += 2,
            _ => return at,
        }
    }
}

/// The signature of version 2 of the PROXY protocol begins with empty lines, so it is looked for
/// before they are skipped.
pub(crate) fn is_proxy_v2(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
}

/// Parses a whole head, as [`HeadScan`] found it. Its `bytes`, which the result refers to, hold
/// `held` bytes of memory.
///
/// # Errors
/// [`HeadError`].
pub(crate) fn parse(bytes: &Bytes, held: usize) -> Result<Head, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut slots);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HeadError::Field),
        Err(error) => return Err(of_parser(error, bytes)),
    }
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| HeadError::NotHttp)?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut fields = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        fields.append(name, value.map_err(|_| HeadError::Field)?);
    }
    let target = parsed.path.unwrap_or_default();
    let (target, authority) = target_form(&method, target)?;
    if !target.is_none_or(has_whole_escapes) {
        return Err(HeadError::Escape);
    }
    let host = host(&fields, version, authority)?;
    let host = host.map_or_else(Bytes::new, |host| bytes.slice_ref(host.as_bytes()));
    let target = target.map_or(Bytes::from_static(b"/"), |target| bytes.slice_ref(target.as_bytes()));
    let (keeps_alive, framing) = (keeps_alive(&fields, version), framing(&fields, version)?);
    let expects_continue = expects_continue(&fields, version)?;
    let held = held + fields_size(&fields);
    Ok(Head { method, target, version, fields, framing, host, keeps_alive, expects_continue, held })
}

/// Bytes of memory that a map of fields takes, without the values' text.
fn fields_size(fields: &HeaderMap) -> usize {
    let names: usize = fields.keys().map(|name| name.as_str().len()).sum();
    let repeated = fields.len() - fields.keys_len();
    names + fields.capacity() * FIELD_SIZE + repeated * REPEATED_FIELD_SIZE
}

fn of_parser(error: httparse::Error, bytes: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version if names_a_version(bytes) => HeadError::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::Field,
        // Of a line that names no version at all: HTTP/0.9, or something else.
        httparse::Error::Token | httparse::Error::Version | httparse::Error::NewLine => HeadError::NotHttp,
        _ => HeadError::NotHttp,
    }
}

/// Whether the request line ends in a well-formed version (RFC 9112 §2.3), whichever.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Path and query of a target, and its authority where it has one (RFC 9112 §3.2). No path means
/// the root.
fn target_form<'t>(
    method: &Method,
    target: &'t str,
) -> Result<(Option<&'t str>, Option<&'t str>), HeadError> {
    if *method == Method::CONNECT {
        return Err(HeadError::Method);
    }
    if target.starts_with('/') {
        return Ok((Some(target), None));
    }
    if target == "*" {
        return if *method == Method::OPTIONS { Ok((Some(target), None)) } else { Err(HeadError::Target) };
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = scheme.map(|_| &target[7..]).ok_or(HeadError::Target)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || path.starts_with('?') {
        return Err(HeadError::Target);
    }
    Ok((Some(path).filter(|path| !path.is_empty()), Some(authority)))
}

/// Whether each `%` of the path has two hexadecimal digits behind it (RFC 3986 §2.1). In a query a
/// form's rules hold, by which it may stand for itself.
fn has_whole_escapes(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let is_escape = |rest: &str| matches!(rest.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    path.split('%').skip(1).all(is_escape)
}

/// The host that a request is for. RFC 9112 §3.2: exactly one Host field, which an absolute target
/// overrules; HTTP/1.0 needs none.
fn host<'h>(
    fields: &'h HeaderMap,
    version: Version,
    authority: Option<&'h str>,
) -> Result<Option<&'h str>, HeadError> {
    let mut all = fields.get_all(header::HOST).iter();
    let (first, second) = (all.next(), all.next());
    if second.is_some() || (first.is_none() && version == Version::HTTP_11) {
        return Err(HeadError::Host);
    }
    let field = first.map(|value| value.to_str().map_err(|_| HeadError::Host)).transpose()?;
    for name in [field, authority].into_iter().flatten() {
        if !name.bytes().all(is_authority) {
            return Err(HeadError::Host);
        }
    }
    Ok(authority.or(field))
}

/// RFC 3986 §3.2.2 and §3.2.3: what a host and its port are made of.
fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// RFC 9112 §6.3. Where two fields disagree, a proxy in front may have taken the other one: the
/// connection ends.
fn framing(fields: &HeaderMap, version: Version) -> Result<BodyFraming, HeadError> {
    let mut length = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| HeadError::Framing)?;
        for item in text.split(',').map(str::trim) {
            if item.is_empty() || !item.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(HeadError::Framing);
            }
            let item: u64 = item.parse().map_err(|_| HeadError::Framing)?;
            if length.replace(item).is_some_and(|before| before != item) {
                return Err(HeadError::Framing);
            }
        }
    }
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(BodyFraming::Length(length.unwrap_or(0))) };
    if version == Version::HTTP_10 || length.is_some() || codings.next().is_some() {
        return Err(HeadError::Framing);
    }
    if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Ok(BodyFraming::Chunked);
    }
    Err(HeadError::Coding)
}

fn keeps_alive(fields: &HeaderMap, version: Version) -> bool {
    let has = |option: &str| {
        let all = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(option))
    };
    !has("close") && (version == Version::HTTP_11 || has("keep-alive"))
}

/// RFC 9110 §10.1.1. HTTP/1.0 knows no expectations.
fn expects_continue(fields: &HeaderMap, version: Version) -> Result<bool, HeadError> {
    let Some(expectation) = fields.get(header::EXPECT) else { return Ok(false) };
    if version == Version::HTTP_10 {
        return Ok(false);
    }
    if expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        Ok(true)
    } else {
        Err(HeadError::Expectation)
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
