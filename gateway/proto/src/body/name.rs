//! The short texts inside bodies: names, room keys, message ids, trace contexts.

use super::BodyError;

/// The longest name, in bytes: its length field is one byte.
pub const NAME_SIZE_MAX: usize = 255;

/// The longest message id, in bytes.
pub const MESSAGE_ID_SIZE_MAX: usize = 64;

/// Size of a W3C `traceparent` of version 00, in bytes.
pub const TRACEPARENT_SIZE: usize = 55;

/// A user, connection key, stream or sender: 1 to [`NAME_SIZE_MAX`] bytes of UTF-8 without control
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    /// Takes the whole of `bytes`.
    ///
    /// # Errors
    /// [`BodyError::IdSize`] for none or more than 255 bytes; [`BodyError::Text`] for what is not
    /// printable UTF-8.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        if bytes.is_empty() || bytes.len() > NAME_SIZE_MAX {
            return Err(BodyError::IdSize);
        }
        printable(bytes).map(Self)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The text's bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }
}

/// A room's key: goim's `type://id`, or any other [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey<'a>(Name<'a>);

impl<'a> RoomKey<'a> {
    /// Takes the whole of `bytes`.
    ///
    /// # Errors
    /// As [`Name::parse`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        Name::parse(bytes).map(Self)
    }

    /// The whole key.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0.as_str()
    }

    /// The whole key's bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// goim's two parts, `type` and `id`, where the key has them (goim `internal/logic/model`,
    /// `DecodeRoomKey`).
    #[must_use]
    pub fn split(self) -> Option<(&'a str, &'a str)> {
        self.as_str().split_once("://")
    }
}

/// A client's id for its message, for idempotence: 1 to [`MESSAGE_ID_SIZE_MAX`] bytes of any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId<'a>(&'a [u8]);

impl<'a> MessageId<'a> {
    /// Takes the whole of `bytes`.
    ///
    /// # Errors
    /// [`BodyError::IdSize`] for none or more than 64 bytes.
    pub const fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        if bytes.is_empty() || bytes.len() > MESSAGE_ID_SIZE_MAX {
            return Err(BodyError::IdSize);
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A trace context: W3C Trace Context §3.2, `00-<32 hex>-<16 hex>-<2 hex>` in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traceparent<'a>(&'a str);

impl<'a> Traceparent<'a> {
    /// Takes the whole of `bytes`, [`TRACEPARENT_SIZE`] of them.
    ///
    /// # Errors
    /// [`BodyError::Traceparent`] for another shape, for version ff and for all-zero ids (W3C Trace
    /// Context §3.2.2).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        let is_dash = |index: usize| matches!(index, 2 | 35 | 52);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let shaped = bytes.len() == TRACEPARENT_SIZE
            && bytes.iter().enumerate().all(|(i, &b)| if is_dash(i) { b == b'-' } else { is_hex(b) });
        let text = core::str::from_utf8(bytes).map_err(|_| BodyError::Traceparent)?;
        let zero = |part: Option<&str>| part.is_none_or(|part| part.bytes().all(|byte| byte == b'0'));
        if !shaped || text.starts_with("ff") || zero(text.get(3..35)) || zero(text.get(36..52)) {
            return Err(BodyError::Traceparent);
        }
        Ok(Self(text))
    }

    /// The header value.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// UTF-8 without control characters (Unicode category Cc).
pub(super) fn printable(bytes: &[u8]) -> Result<&str, BodyError> {
    let text = core::str::from_utf8(bytes).map_err(|_| BodyError::Text)?;
    if text.chars().any(char::is_control) { Err(BodyError::Text) } else { Ok(text) }
}
