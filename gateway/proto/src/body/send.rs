//! Operations 4 and 5: a client's message to a user or a room.

use super::{BodyError, TRACEPARENT_SIZE, Target, Traceparent, end, need, read_code, write_code};
use crate::bytes::{Reader, Writer};
use crate::codes::ErrorCode;
use crate::frame::Operation;

/// Size of the fixed head of [`SendMessage`], in bytes.
pub const SEND_MESSAGE_HEAD_SIZE: usize = 12;

pub(super) const FLAG_TRACEPARENT: u16 = 1;
pub(super) const FLAG_NOT_TO_SELF: u16 = 2;
const FLAG_QUIET: u16 = 4;

/// An operation that receivers of a message may see: 1000 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushOperation(i32);

impl PushOperation {
    /// The operation, if it [`is_push`](Operation::is_push).
    #[must_use]
    pub const fn new(operation: Operation) -> Option<Self> {
        if operation.is_push() { Some(Self(operation.0)) } else { None }
    }

    /// The operation, at least 1000.
    #[must_use]
    pub const fn get(self) -> Operation {
        Operation(self.0)
    }
}

/// Operation 4: deliver the payload to a target, at most once.
///
/// ```text
///  0      1     2       4                8          12     12+n           [+55]
///  ┌──────┬─────┬───────┬────────────────┬──────────┬───────┬─────────────┬─────────
///  │ kind │ n   │ flags │ push operation │ 0        │ id[n] │ traceparent │ payload …
///  └──────┴─────┴───────┴────────────────┴──────────┴───────┴─────────────┴─────────
///   flags: bit 0 traceparent present, bit 1 not to the sending connection, bit 2 quiet
/// ```
///
/// At least 13 bytes of body, and with them the frame's own header, precede the payload: room for a
/// receiver's 16-byte push header to be written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendMessage<'a> {
    /// The target.
    pub target: Target<'a>,
    /// Spare the sending connection, where the target includes it.
    pub not_to_self: bool,
    /// Reply only if the message reached no connection: for senders of many messages that need only
    /// the exceptions.
    pub quiet: bool,
    /// The operation that receivers see; 0 on the wire, `None` here, is the server's default.
    pub push_operation: Option<PushOperation>,
    /// Trace context to carry on.
    pub traceparent: Option<Traceparent<'a>>,
    /// The rest of the body.
    pub payload: &'a [u8],
}

impl<'a> SendMessage<'a> {
    /// Parses the body of operation 4.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (kind, id_size) = (need(reader.u8())?, need(reader.u8())?);
        let flags = need(reader.u16())?;
        let operation = Operation(need(reader.i32())?);
        let reserved = need(reader.u32())?;
        if flags & !(FLAG_TRACEPARENT | FLAG_NOT_TO_SELF | FLAG_QUIET) != 0 {
            return Err(BodyError::Flags);
        }
        if reserved != 0 {
            return Err(BodyError::Reserved);
        }
        let push_operation = PushOperation::new(operation);
        if operation.0 != 0 && push_operation.is_none() {
            return Err(BodyError::PushOperation);
        }
        let target = Target::read(&mut reader, kind, id_size)?;
        let traceparent = read_traceparent(&mut reader, flags & FLAG_TRACEPARENT != 0)?;
        let (not_to_self, quiet) = (flags & FLAG_NOT_TO_SELF != 0, flags & FLAG_QUIET != 0);
        Ok(Self { target, not_to_self, quiet, push_operation, traceparent, payload: reader.rest() })
    }

    /// Offset of the payload from the body's start, in bytes: 13 to 322.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        SEND_MESSAGE_HEAD_SIZE + self.target.id_size() + traceparent_size(self.traceparent)
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
        let quiet = if self.quiet { FLAG_QUIET } else { 0 };
        writer.u16(flags(self.traceparent, self.not_to_self) | quiet)?;
        writer.i32(self.push_operation.map_or(0, |operation| operation.0))?;
        writer.u32(0)?;
        self.target.write_id(&mut writer)?;
        write_traceparent(&mut writer, self.traceparent)?;
        writer.put(self.payload)?;
        Some(writer.size())
    }
}

/// Operation 5: what became of a [`SendMessage`].
///
/// ```text
///  0 i32 code (0: done, else an ErrorCode) · 4 u32 receivers
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendMessageReply {
    /// Whether it was handed over, or why not.
    pub result: Result<(), ErrorCode>,
    /// Connections it was queued for, as far as the answering server knows.
    pub receivers: u32,
}

impl SendMessageReply {
    /// Size of the body, in bytes.
    pub const SIZE: usize = 8;

    /// Parses the body of operation 5.
    ///
    /// # Errors
    /// [`BodyError::Truncated`], [`BodyError::TrailingBytes`], [`BodyError::Code`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let result = read_code(&mut reader)?;
        let receivers = need(reader.u32())?;
        end(reader)?;
        Ok(Self { result, receivers })
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
        writer.u32(self.receivers)?;
        Some(writer.size())
    }
}

fn flags(traceparent: Option<Traceparent<'_>>, not_to_self: bool) -> u16 {
    let trace = if traceparent.is_some() { FLAG_TRACEPARENT } else { 0 };
    trace | if not_to_self { FLAG_NOT_TO_SELF } else { 0 }
}

/// [`flags`], which fit one byte.
pub(super) fn flags_u8(traceparent: Option<Traceparent<'_>>, not_to_self: bool) -> u8 {
    flags(traceparent, not_to_self).to_be_bytes()[1]
}

pub(super) const fn traceparent_size(traceparent: Option<Traceparent<'_>>) -> usize {
    if traceparent.is_some() { TRACEPARENT_SIZE } else { 0 }
}

pub(super) fn read_traceparent<'a>(
    reader: &mut Reader<'a>,
    present: bool,
) -> Result<Option<Traceparent<'a>>, BodyError> {
    if !present {
        return Ok(None);
    }
    Traceparent::parse(need(reader.take(TRACEPARENT_SIZE))?).map(Some)
}

pub(super) fn write_traceparent(writer: &mut Writer<'_>, traceparent: Option<Traceparent<'_>>) -> Option<()> {
    traceparent.map_or(Some(()), |traceparent| writer.put(traceparent.as_str().as_bytes()))
}
