//! Why a connection closes ([`CloseCode`]) and why an operation is refused ([`ErrorCode`]).
//!
//! A client needs one bit of a close code: whether to reconnect. The range of the code says it, so
//! that codes can be added without new clients.
//!
//! | code | constant | reconnect | meaning |
//! |---|---|---|---|
//! | 3000 | `SHUTDOWN` | yes | the server drains for a restart |
//! | 3001 | `OVERLOAD` | yes | the server sheds load |
//! | 3002 | `IDLE_TIMEOUT` | yes | nothing was received for the idle time |
//! | 3003 | `AUTH_TIMEOUT` | yes | no auth frame in time |
//! | 3004 | `RATE_LIMITED` | yes | it sent above its rate, and went on when it was refused |
//! | 3008 | `SLOW_CONSUMER` | yes | the send queue was full; recover by (epoch, offset) |
//! | 3009 | `INTERNAL` | yes | a fault of the server |
//! | 3010 | `TOKEN_EXPIRED` | yes | refresh the token, then come back |
//! | 3500 | `PROTOCOL_ERROR` | no | the peer broke the protocol |
//! | 3501 | `AUTH_FAILED` | no | the credentials were refused |
//! | 3503 | `KICKED` | no | an administrator ended the connection |
//! | 3504 | `REPLACED` | no | a newer connection has the same key |
//! | 3505 | `DEVICE_LIMIT` | no | the user's newer device took the place |
//! | 3506 | `FRAME_TOO_LARGE` | no | a frame exceeds the limit |
//! | 3507 | `UNSUPPORTED` | no | the server does not speak what was asked |
//!
//! Codes from 1000 to 2999 are WebSocket's own (RFC 6455 §7.4.1 and the IANA registry). Of these,
//! only 1001 (going away), 1011 (internal error), 1012 (service restart), 1013 (try again later)
//! and 1014 (bad gateway) mean "come back".

#[cfg(test)]
mod tests;

use core::num::NonZeroU16;

/// Why a connection closes; valid in a WebSocket close frame and in operation 111.
///
/// Holds only what may be sent (RFC 6455 §7.4): 1000–1003, 1007–1014, 3000–4999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

#[rustfmt::skip]
impl CloseCode {
    /// WebSocket: done.
    pub const NORMAL: Self = Self(1000);
    /// WebSocket: the endpoint goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// WebSocket: a frame broke RFC 6455.
    pub const WEBSOCKET_PROTOCOL: Self = Self(1002);
    /// WebSocket: a data type that the endpoint does not accept, such as text.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// WebSocket: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// WebSocket: a policy, such as the number of fragments, is violated.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// WebSocket: a message over the limit.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// The server drains for a restart.
    pub const SHUTDOWN: Self = Self(3000);
    /// The server sheds load.
    pub const OVERLOAD: Self = Self(3001);
    /// Nothing was received for the idle time.
    pub const IDLE_TIMEOUT: Self = Self(3002);
    /// No auth frame in time.
    pub const AUTH_TIMEOUT: Self = Self(3003);
    /// The peer sent above its rate, and went on when it was refused.
    pub const RATE_LIMITED: Self = Self(3004);
    /// The receiver reads too slowly.
    pub const SLOW_CONSUMER: Self = Self(3008);
    /// A fault of the server.
    pub const INTERNAL: Self = Self(3009);
    /// The token ran out; a fresh one is welcome.
    pub const TOKEN_EXPIRED: Self = Self(3010);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(3500);
    /// The credentials were refused.
    pub const AUTH_FAILED: Self = Self(3501);
    /// An administrator ended the connection.
    pub const KICKED: Self = Self(3503);
    /// A newer connection has the same key.
    pub const REPLACED: Self = Self(3504);
    /// The user's newer device took the place.
    pub const DEVICE_LIMIT: Self = Self(3505);
    /// A frame exceeds the limit.
    pub const FRAME_TOO_LARGE: Self = Self(3506);
    /// The server does not speak what was asked.
    pub const UNSUPPORTED: Self = Self(3507);
}

impl CloseCode {
    /// The code, if it may be sent (RFC 6455 §7.4): 1000–1003, 1007–1014, 3000–4999.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether the client should come back by itself: 3000–3499, 4000–4499, and WebSocket's 1001
    /// and 1011–1014.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        matches!(self.0, 1001 | 1011..=1014 | 3000..=3499 | 4000..=4499)
    }

    /// The metric label: one of a closed set.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NORMAL => "normal",
            Self::GOING_AWAY => "going_away",
            Self::WEBSOCKET_PROTOCOL => "websocket_protocol",
            Self::UNSUPPORTED_DATA => "unsupported_data",
            Self::INVALID_PAYLOAD => "invalid_payload",
            Self::POLICY_VIOLATION => "policy_violation",
            Self::MESSAGE_TOO_BIG => "message_too_big",
            Self::SHUTDOWN => "shutdown",
            Self::OVERLOAD => "overload",
            Self::IDLE_TIMEOUT => "idle_timeout",
            Self::AUTH_TIMEOUT => "auth_timeout",
            Self::RATE_LIMITED => "rate_limited",
            Self::SLOW_CONSUMER => "slow_consumer",
            Self::INTERNAL => "internal",
            Self::TOKEN_EXPIRED => "token_expired",
            Self::PROTOCOL_ERROR => "protocol_error",
            Self::AUTH_FAILED => "auth_failed",
            Self::KICKED => "kicked",
            Self::REPLACED => "replaced",
            Self::DEVICE_LIMIT => "device_limit",
            Self::FRAME_TOO_LARGE => "frame_too_large",
            Self::UNSUPPORTED => "unsupported",
            Self(4000..) => "application",
            Self(_) => "other",
        }
    }
}

impl core::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.0, self.label())
    }
}

/// Why an operation was refused while the connection stays: the code of operation 112 and of
/// replies.
///
/// Never 0, which means success in a reply. Numbers follow HTTP's where one fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(NonZeroU16);

#[rustfmt::skip]
impl ErrorCode {
    /// 400: the body does not parse.
    pub const MALFORMED: Self = Self::constant(400);
    /// 401: the connection is not authenticated.
    pub const NOT_AUTHENTICATED: Self = Self::constant(401);
    /// 403: the sender may not do this.
    pub const FORBIDDEN: Self = Self::constant(403);
    /// 404: no such target, or it has no connections.
    pub const NOT_FOUND: Self = Self::constant(404);
    /// 409: it is so already.
    pub const ALREADY: Self = Self::constant(409);
    /// 410: the position asked for is no longer in the history.
    pub const GONE: Self = Self::constant(410);
    /// 413: the body, or a count within it, is over the limit.
    pub const TOO_LARGE: Self = Self::constant(413);
    /// 429: the sender's rate limit is used up.
    pub const LIMITED: Self = Self::constant(429);
    /// 500: a fault of the server.
    pub const INTERNAL: Self = Self::constant(500);
    /// 501: the server does not support this operation or target.
    pub const UNSUPPORTED: Self = Self::constant(501);
    /// 503: too busy now; a retry may pass.
    pub const BUSY: Self = Self::constant(503);
}

impl ErrorCode {
    const fn constant(code: u16) -> Self {
        match NonZeroU16::new(code) {
            Some(code) => Self(code),
            None => Self(NonZeroU16::MIN),
        }
    }

    /// The code, unless it is 0.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match NonZeroU16::new(code) {
            Some(code) => Some(Self(code)),
            None => None,
        }
    }

    /// The number on the wire, never 0.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The metric label: one of a closed set.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self.get() {
            400 => "malformed",
            401 => "not_authenticated",
            403 => "forbidden",
            404 => "not_found",
            409 => "already",
            410 => "gone",
            413 => "too_large",
            429 => "limited",
            500 => "internal",
            501 => "unsupported",
            503 => "busy",
            _ => "other",
        }
    }
}

impl core::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.get(), self.label())
    }
}
