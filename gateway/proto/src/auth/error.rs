//! The fields of an auth request, and what can be wrong with them.

use crate::codes::CloseCode;

/// A field of an auth request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `mid`
    Mid,
    /// `key`
    Key,
    /// `room_id`
    RoomId,
    /// `platform`
    Platform,
    /// `accepts`
    Accepts,
    /// `token`
    Token,
    /// `uid`
    Uid,
    /// `resume`
    Resume,
}

impl Field {
    pub(super) const ALL: [Self; 8] = [
        Self::Mid,
        Self::Key,
        Self::RoomId,
        Self::Platform,
        Self::Accepts,
        Self::Token,
        Self::Uid,
        Self::Resume,
    ];

    /// What its value must be.
    const fn expected(self) -> &'static str {
        match self {
            Self::Mid => "a whole number of 64 bits, such as 7",
            Self::Accepts => "a list of whole numbers of 32 bits",
            Self::Key | Self::RoomId | Self::Platform | Self::Token | Self::Uid => "text in quotes",
            Self::Resume => "any JSON value",
        }
    }

    /// The name in the JSON, case-sensitive.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mid => "mid",
            Self::Key => "key",
            Self::RoomId => "room_id",
            Self::Platform => "platform",
            Self::Accepts => "accepts",
            Self::Token => "token",
            Self::Uid => "uid",
            Self::Resume => "resume",
        }
    }
}

/// Why an auth body was refused. The peer is to blame, but for `ScratchFull`; the connection must
/// close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthError {
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not one JSON object (RFC 8259).
    Syntax,
    /// A text holds an escaped half of a surrogate pair, which is no character.
    HalfPair,
    /// Arrays and objects nest deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The body goes on after the object.
    TrailingBytes,
    /// The field is given twice.
    Duplicate(Field),
    /// The field holds another JSON type.
    WrongType(Field),
    /// The number is no integer of the field's size.
    OutOfRange(Field),
    /// The number has a fraction or an exponent.
    NotWhole(Field),
    /// The field is over its limit.
    TooLong(Field),
    /// The field holds a control character.
    NotPrintable(Field),
    /// `accepts` has over 64 entries.
    TooManyAccepts,
    /// The caller's scratch buffer is too small for the unescaped strings. Ours to fix.
    ScratchFull,
}

impl AuthError {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Syntax => "syntax",
            Self::HalfPair => "half_pair",
            Self::TooDeep => "too_deep",
            Self::TrailingBytes => "trailing_bytes",
            Self::Duplicate(_) => "duplicate",
            Self::WrongType(_) => "wrong_type",
            Self::OutOfRange(_) => "out_of_range",
            Self::NotWhole(_) => "not_whole",
            Self::TooLong(_) => "too_long",
            Self::NotPrintable(_) => "not_printable",
            Self::TooManyAccepts => "too_many_accepts",
            Self::ScratchFull => "scratch_full",
        }
    }

    /// The code to close the connection with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ScratchFull => CloseCode::INTERNAL,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl core::fmt::Display for AuthError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("auth body is not UTF-8"),
            Self::Syntax => f.write_str("auth body is not a JSON object"),
            Self::HalfPair => f.write_str(
                "auth body has half of a surrogate pair: write both, as in \\ud83d\\ude00, or the character",
            ),
            Self::TooDeep => f.write_str("auth body nests too deeply"),
            Self::TrailingBytes => f.write_str("auth body goes on after its object"),
            Self::Duplicate(field) => write!(f, "auth field {} is given twice", field.name()),
            Self::WrongType(field) => {
                write!(f, "auth field {} has another type: expected {}", field.name(), field.expected())
            }
            Self::OutOfRange(field) => {
                write!(f, "auth field {} is out of range: expected {}", field.name(), field.expected())
            }
            Self::NotWhole(field) => {
                write!(f, "auth field {} is not whole: write 7, not 7.0 or 7e0", field.name())
            }
            Self::TooLong(field) => write!(f, "auth field {} is too long", field.name()),
            Self::NotPrintable(field) => write!(f, "auth field {} holds a control character", field.name()),
            Self::TooManyAccepts => f.write_str("auth field accepts has too many entries"),
            Self::ScratchFull => f.write_str("no room to unescape the auth body"),
        }
    }
}

impl core::error::Error for AuthError {}
