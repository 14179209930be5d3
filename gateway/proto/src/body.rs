//! The bodies of the operations, one type each, big-endian.
//!
//! Each type has the same three functions, and can hold only values that may be on the wire:
//!
//! * `parse(&[u8]) -> Result<Self, BodyError>` borrows from the body and takes all of it: bytes
//!   left over are an error, as are flags and reserved fields that this version does not know;
//! * `encoded_size(&self) -> usize` in bytes;
//! * `emit(&self, &mut [u8]) -> Option<usize>` writes `encoded_size()` bytes to the front and
//!   returns how many, or `None` (and nothing of use written) where they do not fit.
//!
//! `parse` of what `emit` wrote gives the value back, and `emit` of what `parse` gave writes the
//! same bytes (except [`OperationList`], which has many spellings).

mod deliver;
mod name;
mod notice;
mod operations;
mod publish;
mod room;
mod send;
mod target;
#[cfg(test)]
mod tests;

pub use deliver::{Deliver, DeliverAck, DeliverPrefix, Position};
pub use name::{MESSAGE_ID_SIZE_MAX, MessageId, NAME_SIZE_MAX, Name, RoomKey, TRACEPARENT_SIZE, Traceparent};
pub use notice::{Closed, Error, HeartbeatReply, REASON_SIZE_MAX, Reason, Reconnect};
pub use operations::{OPERATIONS_MAX, OperationList, Operations};
pub use publish::{Publish, PublishReply};
pub use room::{ChangeRoom, Join, JoinReply, Leave, LeaveReply};
pub use send::{PushOperation, SEND_MESSAGE_HEAD_SIZE, SendMessage, SendMessageReply};
pub use target::Target;

use crate::bytes::{Reader, Writer};
use crate::codes::ErrorCode;

/// Why a body was refused. The peer is to blame; the connection may stay, see
/// [`BodyError::error_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// The body ends before the fields its head announces.
    Truncated,
    /// The body goes on after its last field.
    TrailingBytes,
    /// The target kind is none of 1–5.
    TargetKind,
    /// An id, room, sender or message id is empty or longer than its limit.
    IdSize,
    /// An id, room, sender, address or reason is not UTF-8, or holds a control character.
    Text,
    /// A flag is set that this version does not know.
    Flags,
    /// A reserved field is not 0.
    Reserved,
    /// The push operation is neither 0 nor at least 1000.
    PushOperation,
    /// The trace context is not a W3C `traceparent`.
    Traceparent,
    /// A result, close or error code is outside its range.
    Code,
    /// A reason is longer than [`REASON_SIZE_MAX`].
    ReasonSize,
    /// The least delay exceeds the greatest.
    Delay,
    /// An operation list holds something that is not a decimal 32-bit integer.
    Number,
    /// An operation list is longer than the caller's limit.
    TooMany,
}

impl BodyError {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::TargetKind => "target_kind",
            Self::IdSize => "id_size",
            Self::Text => "text",
            Self::Flags => "flags",
            Self::Reserved => "reserved",
            Self::PushOperation => "push_operation",
            Self::Traceparent => "traceparent",
            Self::Code => "code",
            Self::ReasonSize => "reason_size",
            Self::Delay => "delay",
            Self::Number => "number",
            Self::TooMany => "too_many",
        }
    }

    /// The code for the reply, or for operation 112.
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::TooMany => ErrorCode::TOO_LARGE,
            Self::Flags | Self::Reserved | Self::TargetKind => ErrorCode::UNSUPPORTED,
            _ => ErrorCode::MALFORMED,
        }
    }
}

impl core::fmt::Display for BodyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "body ends before its announced fields",
            Self::TrailingBytes => "body goes on after its last field",
            Self::TargetKind => "unknown target kind",
            Self::IdSize => "id is empty or too long",
            Self::Text => "text is not printable UTF-8",
            Self::Flags => "unknown flag is set",
            Self::Reserved => "reserved field is not zero",
            Self::PushOperation => "push operation is below 1000",
            Self::Traceparent => "traceparent is malformed",
            Self::Code => "code is out of range",
            Self::ReasonSize => "reason is too long",
            Self::Delay => "least delay exceeds the greatest",
            Self::Number => "operation is not a 32-bit integer",
            Self::TooMany => "too many operations",
        })
    }
}

impl core::error::Error for BodyError {}

/// A field of the reader, or [`BodyError::Truncated`].
fn need<T>(field: Option<T>) -> Result<T, BodyError> {
    field.ok_or(BodyError::Truncated)
}

/// The end of the body, or [`BodyError::TrailingBytes`].
fn end(reader: Reader<'_>) -> Result<(), BodyError> {
    if reader.rest().is_empty() { Ok(()) } else { Err(BodyError::TrailingBytes) }
}

/// A result code: 0 is success, else an [`ErrorCode`].
fn read_code(reader: &mut Reader<'_>) -> Result<Result<(), ErrorCode>, BodyError> {
    let code = u16::try_from(need(reader.i32())?).map_err(|_| BodyError::Code)?;
    Ok(ErrorCode::new(code).map_or(Ok(()), Err))
}

fn write_code(writer: &mut Writer<'_>, result: Result<(), ErrorCode>) -> Option<()> {
    writer.i32(result.map_or_else(|code| i32::from(code.get()), |()| 0))
}

/// A size that a validated type keeps within one byte.
fn size_u8(size: usize) -> Option<u8> {
    u8::try_from(size).ok()
}
