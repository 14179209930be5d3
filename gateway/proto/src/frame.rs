//! The frame: a 16-byte big-endian header, then the body (goim, `api/protocol`).
//!
//! ```text
//!  0        4            6         8           12         16
//!  ┌────────┬────────────┬─────────┬───────────┬──────────┬────────────
//!  │ length │ header = 16│ version │ operation │ sequence │ body …
//!  └────────┴────────────┴─────────┴───────────┴──────────┴────────────
//!    length = 16 + body, 16 ≤ length ≤ 16 + body_size_max
//! ```
//!
//! The same bytes travel over TCP and inside WebSocket binary messages. goim checks a length on one
//! side only; here both sides of each length are checked before a byte of the body is looked at.

mod operation;
#[cfg(test)]
mod tests;

pub use operation::Operation;

use crate::bytes::Reader;
use crate::codes::CloseCode;

/// Size of the frame header, in bytes (goim `api/protocol`: `_rawHeaderSize`).
pub const HEADER_SIZE: usize = 16;

/// The version that clients send. Others are accepted and echoed, as goim does.
pub const VERSION: u16 = 1;

/// The largest body that the signed 32-bit length field can describe, in bytes.
pub const BODY_SIZE_LIMIT: u32 = i32::MAX as u32 - HEADER_SIZE as u32;

/// A frame header with a length that was checked on both sides (goim `api/protocol`, `Proto`).
///
/// A header that [`Header::peek`] returned has `body_size ≤ body_size_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Size of the body that follows, in bytes: the length field less [`HEADER_SIZE`].
    /// At most [`BODY_SIZE_LIMIT`]; [`Header::emit`] cuts a larger value down to it.
    pub body_size: u32,
    /// Protocol version, [`VERSION`] from today's clients. Echoed in replies, not checked.
    pub version: u16,
    /// What the frame means.
    pub operation: Operation,
    /// The client's number for the request, echoed in its reply; 0 on pushes.
    pub sequence: i32,
}

/// What the front of a byte stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// The frame is not whole yet.
    Incomplete {
        /// Bytes from the start of the frame that allow progress; always more than were given.
        needed: usize,
    },
    /// A whole frame: `HEADER_SIZE` bytes of header, then `body_size` bytes of body, are there.
    Frame(Header),
}

impl Header {
    /// A header of today's version.
    #[must_use]
    pub const fn new(operation: Operation, sequence: i32, body_size: u32) -> Self {
        Self { body_size, version: VERSION, operation, sequence }
    }

    /// Looks at the frame at the front of `bytes`.
    ///
    /// `body_size_max` is in bytes and is itself cut to [`BODY_SIZE_LIMIT`].
    ///
    /// # Errors
    /// An impossible length is refused as soon as its four bytes are there, a wrong header length
    /// as soon as the header is. Both end the connection: the stream has no next frame to find.
    pub fn peek(bytes: &[u8], body_size_max: u32) -> Result<Peek, FrameError> {
        let mut reader = Reader::new(bytes);
        let Some(length) = reader.u32() else {
            return Ok(Peek::Incomplete { needed: HEADER_SIZE });
        };
        let body_size = length.checked_sub(HEADER_SIZE as u32).ok_or(FrameError::LengthTooSmall)?;
        // A negative length has the top bit set, so it is over BODY_SIZE_LIMIT too.
        if body_size > body_size_max.min(BODY_SIZE_LIMIT) {
            return Err(FrameError::LengthTooLarge);
        }
        let fields = (reader.u16(), reader.u16(), reader.i32(), reader.i32());
        let (Some(header_size), Some(version), Some(operation), Some(sequence)) = fields else {
            return Ok(Peek::Incomplete { needed: HEADER_SIZE });
        };
        if usize::from(header_size) != HEADER_SIZE {
            return Err(FrameError::HeaderLength);
        }
        if reader.rest().len() < body_size as usize {
            return Ok(Peek::Incomplete { needed: length as usize });
        }
        Ok(Peek::Frame(Self { body_size, version, operation: Operation(operation), sequence }))
    }

    /// Writes the header. The bytes always form a header that [`Header::peek`] accepts under a
    /// `body_size_max` of at least `body_size`.
    pub fn emit(&self, out: &mut [u8; HEADER_SIZE]) {
        let length = self.frame_size() as u32;
        out[0..4].copy_from_slice(&length.to_be_bytes());
        out[4..6].copy_from_slice(&(HEADER_SIZE as u16).to_be_bytes());
        out[6..8].copy_from_slice(&self.version.to_be_bytes());
        out[8..12].copy_from_slice(&self.operation.0.to_be_bytes());
        out[12..16].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// The header's sixteen bytes, see [`Header::emit`].
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        self.emit(&mut out);
        out
    }

    /// Size of the whole frame, header included, in bytes; at most `i32::MAX`.
    #[must_use]
    pub const fn frame_size(&self) -> usize {
        let body_size = if self.body_size > BODY_SIZE_LIMIT { BODY_SIZE_LIMIT } else { self.body_size };
        HEADER_SIZE + body_size as usize
    }

    /// The header of this request's reply: same version and sequence, [`Operation::reply`].
    #[must_use]
    pub const fn reply(&self, body_size: u32) -> Self {
        Self { body_size, version: self.version, operation: self.operation.reply(), sequence: self.sequence }
    }
}

/// Why a frame was refused. The peer is to blame, and the connection must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameError {
    /// The length field is below 16, the size of the header itself.
    LengthTooSmall,
    /// The length field is negative or exceeds 16 + `body_size_max`.
    LengthTooLarge,
    /// The header length field is not 16.
    HeaderLength,
    /// A message or a raw envelope ends within a frame ([`Frames`] only).
    Truncated,
}

impl FrameError {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LengthTooSmall => "length_too_small",
            Self::LengthTooLarge => "length_too_large",
            Self::HeaderLength => "header_length",
            Self::Truncated => "truncated",
        }
    }

    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::LengthTooLarge => CloseCode::FRAME_TOO_LARGE,
            Self::LengthTooSmall | Self::HeaderLength | Self::Truncated => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::LengthTooSmall => "frame length is below the 16 bytes of its header",
            Self::LengthTooLarge => "frame length is negative or over the limit",
            Self::HeaderLength => "frame header length is not 16",
            Self::Truncated => "message ends within a frame",
        })
    }
}

impl core::error::Error for FrameError {}

/// The whole frames inside a WebSocket message or the body of a raw envelope (operation 9).
///
/// Yields `(header, body)`. Bytes that do not end on a frame boundary, and frames that are refused,
/// yield one error and end the iteration. At most `bytes.len() / 16` items.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    body_size_max: u32,
}

impl<'a> Frames<'a> {
    /// Iterates `bytes`; each body is at most `body_size_max` bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8], body_size_max: u32) -> Self {
        Self { rest: bytes, body_size_max }
    }

    fn split(&mut self) -> Result<(Header, &'a [u8]), FrameError> {
        let Peek::Frame(header) = Header::peek(self.rest, self.body_size_max)? else {
            return Err(FrameError::Truncated);
        };
        let (frame, rest) = self.rest.split_at_checked(header.frame_size()).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok((header, frame.get(HEADER_SIZE..).unwrap_or_default()))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<(Header, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.split();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}
