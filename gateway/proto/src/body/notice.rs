//! Operations 3 and 110–112: notices of the server to a connection.

use super::name::printable;
use super::{BodyError, Name, end, need};
use crate::bytes::{Reader, Writer};
use crate::codes::{CloseCode, ErrorCode};
use crate::frame::Operation;

/// The longest reason, in bytes: what a WebSocket close frame holds besides its code (RFC 6455
/// §5.5).
pub const REASON_SIZE_MAX: usize = 123;

/// A reason for people to read: at most [`REASON_SIZE_MAX`] bytes of UTF-8 without control
/// characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reason<'a>(&'a str);

impl<'a> Reason<'a> {
    /// Takes the whole of `bytes`, which may be empty.
    ///
    /// # Errors
    /// [`BodyError::ReasonSize`], [`BodyError::Text`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        if bytes.len() > REASON_SIZE_MAX {
            return Err(BodyError::ReasonSize);
        }
        printable(bytes).map(Self)
    }

    /// The front of `text`: up to the limit, to the last whole character, and to the first control
    /// character.
    #[must_use]
    pub fn truncated(text: &'a str) -> Self {
        let printable = text.find(char::is_control).unwrap_or(text.len());
        let end = text.floor_char_boundary(printable.min(REASON_SIZE_MAX));
        Self(text.get(..end).unwrap_or_default())
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Operation 3: the count of members online in the connection's (first) room, as an int32 (goim
/// `internal/comet/server_tcp.go`); 0 without a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Connections in the room.
    pub online: i32,
}

impl HeartbeatReply {
    /// Size of the body, in bytes.
    pub const SIZE: usize = 4;

    /// Parses the body of operation 3.
    ///
    /// # Errors
    /// [`BodyError::Truncated`], [`BodyError::TrailingBytes`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let online = need(reader.i32())?;
        end(reader)?;
        Ok(Self { online })
    }

    /// Size of the body, in bytes: [`Self::SIZE`].
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        Self::SIZE
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.i32(self.online)?;
        Some(writer.size())
    }
}

/// Operation 110: the server drains; come back after a delay drawn evenly from the range.
///
/// ```text
///  0 u32 delay_min_ms · 4 u32 delay_max_ms · 8 address, UTF-8 to the end, may be empty
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect<'a> {
    delay_min_ms: u32,
    delay_max_ms: u32,
    address: Option<Name<'a>>,
}

impl<'a> Reconnect<'a> {
    /// The notice.
    ///
    /// # Errors
    /// [`BodyError::Delay`] if the least delay exceeds the greatest.
    pub const fn new(
        delay_min_ms: u32,
        delay_max_ms: u32,
        address: Option<Name<'a>>,
    ) -> Result<Self, BodyError> {
        if delay_min_ms > delay_max_ms {
            return Err(BodyError::Delay);
        }
        Ok(Self { delay_min_ms, delay_max_ms, address })
    }

    /// Parses the body of operation 110.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (delay_min_ms, delay_max_ms) = (need(reader.u32())?, need(reader.u32())?);
        let address = match reader.rest() {
            [] => None,
            address => Some(Name::parse(address)?),
        };
        Self::new(delay_min_ms, delay_max_ms, address)
    }

    /// The least delay, in milliseconds; not over [`Self::delay_max_ms`].
    #[must_use]
    pub const fn delay_min_ms(&self) -> u32 {
        self.delay_min_ms
    }

    /// The greatest delay, in milliseconds.
    #[must_use]
    pub const fn delay_max_ms(&self) -> u32 {
        self.delay_max_ms
    }

    /// Where to go instead; `None` for the same address.
    #[must_use]
    pub const fn address(&self) -> Option<Name<'a>> {
        self.address
    }

    /// Size of the body, in bytes: 8 to 263.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        8 + self.address.map_or(0, |address| address.as_bytes().len())
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.u32(self.delay_min_ms)?;
        writer.u32(self.delay_max_ms)?;
        writer.put(self.address.map_or(&[], Name::as_bytes))?;
        Some(writer.size())
    }
}

/// Operation 111: the last frame before the server closes.
///
/// ```text
///  0 u16 code · 2 u16 0 · 4 reason, UTF-8 to the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed<'a> {
    /// Why, and whether to come back.
    pub code: CloseCode,
    /// Why, for people.
    pub reason: Reason<'a>,
}

impl<'a> Closed<'a> {
    /// The largest body, in bytes.
    pub const SIZE_MAX: usize = 4 + REASON_SIZE_MAX;

    /// Parses the body of operation 111.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (code, reserved) = (need(reader.u16())?, need(reader.u16())?);
        if reserved != 0 {
            return Err(BodyError::Reserved);
        }
        let code = CloseCode::new(code).ok_or(BodyError::Code)?;
        Ok(Self { code, reason: Reason::parse(reader.rest())? })
    }

    /// Size of the body, in bytes: 4 to [`Self::SIZE_MAX`].
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        4 + self.reason.0.len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.u16(self.code.get())?;
        writer.u16(0)?;
        writer.put(self.reason.0.as_bytes())?;
        Some(writer.size())
    }
}

/// Operation 112: a request was refused, the connection stays. The frame's sequence is the
/// request's.
///
/// ```text
///  0 u16 code · 2 u16 0 · 4 i32 operation of the request · 8 reason, UTF-8 to the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// Why.
    pub code: ErrorCode,
    /// The operation of the request.
    pub operation: Operation,
    /// Why, for people.
    pub reason: Reason<'a>,
}

impl<'a> Error<'a> {
    /// The largest body, in bytes.
    pub const SIZE_MAX: usize = 8 + REASON_SIZE_MAX;

    /// Parses the body of operation 112.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (code, reserved) = (need(reader.u16())?, need(reader.u16())?);
        let operation = Operation(need(reader.i32())?);
        if reserved != 0 {
            return Err(BodyError::Reserved);
        }
        let code = ErrorCode::new(code).ok_or(BodyError::Code)?;
        Ok(Self { code, operation, reason: Reason::parse(reader.rest())? })
    }

    /// Size of the body, in bytes: 8 to [`Self::SIZE_MAX`].
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        8 + self.reason.0.len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.u16(self.code.get())?;
        writer.u16(0)?;
        writer.i32(self.operation.0)?;
        writer.put(self.reason.0.as_bytes())?;
        Some(writer.size())
    }
}
