//! What is wrong with a request, and the answer to it.

/// Why a request was refused. The peer is to blame; send [`HandshakeError::response`], then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// Not HTTP, or a target that is no path.
    Malformed,
    /// It begins with a header of the PROXY protocol, which is not spoken here.
    Proxy,
    /// The head exceeds its bound.
    HeadTooLarge,
    /// The head has over 64 fields.
    TooManyHeaders,
    /// Not HTTP/1.1 (RFC 6455 §4.1).
    HttpVersion,
    /// Neither GET nor HEAD, or an upgrade that is not GET (RFC 6455 §4.1).
    Method,
    /// Host is missing, empty or repeated (RFC 9112 §3.2).
    Host,
    /// The request has a body.
    Body,
    /// Nothing is at this path.
    NotFound,
    /// Connection lacks the upgrade token (RFC 6455 §4.2.1).
    Connection,
    /// Sec-WebSocket-Version is not 13, once (RFC 6455 §4.2.1).
    WebSocketVersion,
    /// Sec-WebSocket-Key is not 16 bytes in base64, once (RFC 6455 §4.2.1).
    Key,
    /// Origin is repeated or not allowed (RFC 6455 §10.2).
    Origin,
    /// A plain request where only WebSocket is spoken. Never returned by the parser: for the caller
    /// that has no page to serve.
    NotUpgrade,
}

macro_rules! response {
    ($status:literal, $fields:literal, $size:literal, $body:literal) => {{
        const _: () = assert!($body.len() == $size);
        concat!(
            "HTTP/1.1 ",
            $status,
            "\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: ",
            $size,
            "\r\n",
            $fields,
            "\r\n",
            $body
        )
        .as_bytes()
    }};
}

impl HandshakeError {
    /// A whole HTTP response with a short text and `Connection: close`.
    #[must_use]
    #[rustfmt::skip]
    pub const fn response(self) -> &'static [u8] {
        match self {
            Self::Malformed => response!("400 Bad Request", "", 17, "malformed request"),
            Self::Proxy => response!(
                "400 Bad Request",
                "",
                72,
                "the PROXY protocol is not spoken here; turn it off in front (send-proxy)"
            ),
            Self::Host => response!("400 Bad Request", "", 20, "one Host is required"),
            Self::Body => response!("400 Bad Request", "", 18, "no body is allowed"),
            Self::Connection => response!("400 Bad Request", "", 26, "Connection must be upgrade"),
            Self::Key => response!("400 Bad Request", "", 21, "bad Sec-WebSocket-Key"),
            Self::Origin => response!("403 Forbidden", "", 18, "origin not allowed"),
            Self::NotFound => response!("404 Not Found", "", 9, "not found"),
            Self::Method => response!("405 Method Not Allowed", "Allow: GET\r\n", 14, "GET is allowed"),
            Self::WebSocketVersion => response!(
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                20, "version 13 is spoken"
            ),
            Self::NotUpgrade => response!(
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                19, "websocket is spoken"
            ),
            Self::HeadTooLarge => {
                response!("431 Request Header Fields Too Large", "", 14, "head too large")
            }
            Self::TooManyHeaders => {
                response!("431 Request Header Fields Too Large", "", 15, "too many fields")
            }
            Self::HttpVersion => {
                response!("505 HTTP Version Not Supported", "", 18, "HTTP/1.1 is spoken")
            }
        }
    }

    /// The HTTP status of [`HandshakeError::response`].
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Proxy | Self::Host | Self::Body | Self::Connection | Self::Key => 400,
            Self::Origin => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::WebSocketVersion | Self::NotUpgrade => 426,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::HttpVersion => 505,
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Proxy => "proxy_protocol",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyHeaders => "too_many_headers",
            Self::HttpVersion => "http_version",
            Self::Method => "method",
            Self::Host => "host",
            Self::Body => "body",
            Self::NotFound => "not_found",
            Self::Connection => "connection",
            Self::WebSocketVersion => "websocket_version",
            Self::Key => "key",
            Self::Origin => "origin",
            Self::NotUpgrade => "not_upgrade",
        }
    }
}

impl core::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "request is not HTTP",
            Self::Proxy => "request begins with the PROXY protocol",
            Self::HeadTooLarge => "request head is too large",
            Self::TooManyHeaders => "request has too many header fields",
            Self::HttpVersion => "request is not HTTP/1.1",
            Self::Method => "request method is not GET",
            Self::Host => "Host is missing or repeated",
            Self::Body => "request has a body",
            Self::NotFound => "nothing is at this path",
            Self::Connection => "Connection lacks the upgrade token",
            Self::WebSocketVersion => "Sec-WebSocket-Version is not 13",
            Self::Key => "Sec-WebSocket-Key is not 16 bytes in base64",
            Self::Origin => "Origin is not allowed",
            Self::NotUpgrade => "request asks for no upgrade",
        })
    }
}

impl core::error::Error for HandshakeError {}
