//! The last that a connection is sent before it ends.

use super::http_answers::{NOT_NOW, TOO_LATE};
use gateway_proto::codes::CloseCode;
use std::fmt::{Display, Write};

/// The last that a connection is sent. The code is the metric's label, and the journal's.
#[derive(Clone, Copy)]
pub(crate) enum Goodbye<'a> {
    /// Nothing: the connection ends at once, and what is queued for it is dropped.
    Silent(CloseCode),
    /// Code and reason in a Closed (operation 111), over WebSocket with a close frame behind it. A
    /// client that knows no frames gets what it does know: a close frame on an echo, an HTTP
    /// response before the upgrade.
    Closed(CloseCode, &'a dyn Display),
    /// A WebSocket close frame alone: the fault is one of framing.
    CloseFrame(CloseCode, &'a dyn Display),
    /// The answer to the peer's close frame, with the peer's own code (RFC 6455 §5.5.1).
    CloseAnswer(Option<CloseCode>),
    /// The rest of an HTTP response.
    Http(CloseCode, &'a [u8]),
}

impl Goodbye<'_> {
    pub(in crate::handler) fn code(&self) -> CloseCode {
        match *self {
            Goodbye::Silent(code)
            | Goodbye::Closed(code, _)
            | Goodbye::CloseFrame(code, _)
            | Goodbye::Http(code, _) => code,
            Goodbye::CloseAnswer(_) => CloseCode::NORMAL,
        }
    }

    /// To a client of which the upgrade request is incomplete: an HTTP response, where there is one
    /// for the code.
    pub(in crate::handler) fn before_upgrade(self) -> Self {
        match self.code() {
            code @ CloseCode::AUTH_TIMEOUT => Goodbye::Http(code, TOO_LATE),
            code @ (CloseCode::SHUTDOWN | CloseCode::OVERLOAD) => Goodbye::Http(code, NOT_NOW),
            code => Goodbye::Silent(code),
        }
    }
}

/// Text of at most 123 bytes (`REASON_SIZE_MAX`), written without allocating.
pub(in crate::handler) struct Brief {
    bytes: [u8; 123],
    len: usize,
}

impl Brief {
    pub(in crate::handler) fn of(text: &dyn Display) -> Brief {
        let mut brief = Brief { bytes: [0; 123], len: 0 };
        let _ = write!(brief, "{text}"); // an error means that it was cut
        brief
    }

    pub(in crate::handler) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for Brief {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let cut = text.floor_char_boundary(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += cut;
        if cut == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

/// Whether the peer is still to say its own last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handler) enum Answer {
    /// Its close frame, where it speaks WebSocket.
    Awaited,
    /// It has sent its close frame.
    Came,
}
