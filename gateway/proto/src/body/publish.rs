//! Operations 100 and 101: an idempotent message.

use super::send::{
    FLAG_NOT_TO_SELF, FLAG_TRACEPARENT, flags_u8, read_traceparent, traceparent_size, write_traceparent,
};
use super::{BodyError, MessageId, Position, Target, Traceparent, end, need, read_code, size_u8, write_code};
use crate::bytes::{Reader, Writer};
use crate::codes::ErrorCode;

const HEAD_SIZE: usize = 8;

/// Operation 100: accept a message under the client's own id, so that a retry is not a second
/// message.
///
/// ```text
///  0      1     2       3     4     8       8+n           8+n+m         [+55]
///  ┌──────┬─────┬───────┬─────┬─────┬───────┬─────────────┬─────────────┬─────────
///  │ kind │ n   │ flags │ m   │ 0   │ id[n] │ message id  │ traceparent │ payload …
///  └──────┴─────┴───────┴─────┴─────┴───────┴─────────────┴─────────────┴─────────
///   flags: bit 0 traceparent present, bit 1 not to the sending connection; 1 ≤ m ≤ 64
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The target.
    pub target: Target<'a>,
    /// The client's id for the message.
    pub message_id: MessageId<'a>,
    /// Spare the sending connection, where the target includes it.
    pub not_to_self: bool,
    /// Trace context to carry on.
    pub traceparent: Option<Traceparent<'a>>,
    /// The rest of the body.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Parses the body of operation 100.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (kind, id_size) = (need(reader.u8())?, need(reader.u8())?);
        let (flags, message_id_size) = (u16::from(need(reader.u8())?), need(reader.u8())?);
        let reserved = need(reader.u32())?;
        if flags & !(FLAG_TRACEPARENT | FLAG_NOT_TO_SELF) != 0 {
            return Err(BodyError::Flags);
        }
        if reserved != 0 {
            return Err(BodyError::Reserved);
        }
        let target = Target::read(&mut reader, kind, id_size)?;
        let message_id = MessageId::parse(need(reader.take(usize::from(message_id_size)))?)?;
        let traceparent = read_traceparent(&mut reader, flags & FLAG_TRACEPARENT != 0)?;
        let not_to_self = flags & FLAG_NOT_TO_SELF != 0;
        Ok(Self { target, message_id, not_to_self, traceparent, payload: reader.rest() })
    }

    /// Offset of the payload from the body's start, in bytes: 10 to 382.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        HEAD_SIZE
            + self.target.id_size()
            + self.message_id.as_bytes().len()
            + traceparent_size(self.traceparent)
    }

    /// Size of the body, in bytes.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        self.payload_offset() + self.payload.len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        self.target.write_head(&mut writer)?;
        writer.u8(flags_u8(self.traceparent, self.not_to_self))?;
        writer.u8(size_u8(self.message_id.as_bytes().len())?)?;
        writer.u32(0)?;
        self.target.write_id(&mut writer)?;
        writer.put(self.message_id.as_bytes())?;
        write_traceparent(&mut writer, self.traceparent)?;
        writer.put(self.payload)?;
        Some(writer.size())
    }
}

/// Operation 101: what became of a [`Publish`].
///
/// ```text
///  0 i32 code (0: accepted, else an ErrorCode) · 4 u32 epoch · 8 u64 offset · 16 u32 receivers
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishReply {
    /// Whether it was accepted, or why not.
    pub result: Result<(), ErrorCode>,
    /// Its place in the stream; zeros without history.
    pub position: Position,
    /// Connections it was queued for, as far as the answering server knows.
    pub receivers: u32,
}

impl PublishReply {
    /// Size of the body, in bytes.
    pub const SIZE: usize = 20;

    /// Parses the body of operation 101.
    ///
    /// # Errors
    /// [`BodyError::Truncated`], [`BodyError::TrailingBytes`], [`BodyError::Code`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let result = read_code(&mut reader)?;
        let position = Position::read(&mut reader)?;
        let receivers = need(reader.u32())?;
        end(reader)?;
        Ok(Self { result, position, receivers })
    }

    /// Size of the body, in bytes: [`Self::SIZE`].
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        Self::SIZE
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        write_code(&mut writer, self.result)?;
        self.position.write(&mut writer)?;
        writer.u32(self.receivers)?;
        Some(writer.size())
    }
}
