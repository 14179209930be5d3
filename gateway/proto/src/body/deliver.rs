//! Operations 102 and 103: a published message on its way to a client, and how far the client is.

use super::send::{read_traceparent, traceparent_size, write_traceparent};
use super::{BodyError, Name, Target, Traceparent, end, need, size_u8};
use crate::bytes::{Reader, Writer};

const HEAD_SIZE: usize = 24;
const ACK_HEAD_SIZE: usize = 16;
const FLAG_TRACEPARENT: u8 = 1;

/// A place in a stream. Offsets of different epochs do not compare: a new epoch is a new history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which history the offset counts in; 0 without history.
    pub epoch: u32,
    /// Messages since the epoch's start; 0 without history.
    pub offset: u64,
}

impl Position {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, BodyError> {
        Ok(Self { epoch: need(reader.u32())?, offset: need(reader.u64())? })
    }

    pub(super) fn write(self, writer: &mut Writer<'_>) -> Option<()> {
        writer.u32(self.epoch)?;
        writer.u64(self.offset)
    }
}

/// Everything of operation 102 but the payload, which the sender references where it is.
///
/// ```text
///  0      1     2     3       4       8        16        24      24+n        24+n+s        [+55]
///  ┌──────┬─────┬─────┬───────┬───────┬────────┬─────────┬───────┬───────────┬─────────────┬─────────
///  │ kind │ n   │ s   │ flags │ epoch │ offset │ time ms │ id[n] │ sender[s] │ traceparent │ payload …
///  └──────┴─────┴─────┴───────┴───────┴────────┴─────────┴───────┴───────────┴─────────────┴─────────
///   flags: bit 0 traceparent present
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverPrefix<'a> {
    /// The stream the message belongs to.
    pub stream: Target<'a>,
    /// The publisher; `None`, zero bytes on the wire, is a service behind the gateway.
    pub sender: Option<Name<'a>>,
    /// Its place in the stream; zeros without history.
    pub position: Position,
    /// When the server accepted it, in milliseconds since the Unix epoch.
    pub server_time_ms: u64,
    /// The publisher's trace context.
    pub traceparent: Option<Traceparent<'a>>,
}

impl<'a> DeliverPrefix<'a> {
    /// The largest prefix, in bytes.
    pub const SIZE_MAX: usize = HEAD_SIZE + 255 + 255 + super::TRACEPARENT_SIZE;

    fn read(reader: &mut Reader<'a>) -> Result<Self, BodyError> {
        let (kind, id_size) = (need(reader.u8())?, need(reader.u8())?);
        let (sender_size, flags) = (need(reader.u8())?, need(reader.u8())?);
        let position = Position::read(reader)?;
        let server_time_ms = need(reader.u64())?;
        if flags & !FLAG_TRACEPARENT != 0 {
            return Err(BodyError::Flags);
        }
        let stream = Target::read(reader, kind, id_size)?;
        let sender = match need(reader.take(usize::from(sender_size)))? {
            [] => None,
            name => Some(Name::parse(name)?),
        };
        let traceparent = read_traceparent(reader, flags & FLAG_TRACEPARENT != 0)?;
        Ok(Self { stream, sender, position, server_time_ms, traceparent })
    }

    fn sender_size(&self) -> usize {
        self.sender.map_or(0, |name| name.as_bytes().len())
    }

    /// Size of the prefix, in bytes: 25 to [`Self::SIZE_MAX`].
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        HEAD_SIZE + self.stream.id_size() + self.sender_size() + traceparent_size(self.traceparent)
    }

    /// Writes the prefix; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        self.stream.write_head(&mut writer)?;
        writer.u8(size_u8(self.sender_size())?)?;
        writer.u8(if self.traceparent.is_some() { FLAG_TRACEPARENT } else { 0 })?;
        self.position.write(&mut writer)?;
        writer.u64(self.server_time_ms)?;
        self.stream.write_id(&mut writer)?;
        writer.put(self.sender.map_or(&[], Name::as_bytes))?;
        write_traceparent(&mut writer, self.traceparent)?;
        Some(writer.size())
    }
}

/// Operation 102: a published message, see [`DeliverPrefix`] for its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// All but the payload.
    pub prefix: DeliverPrefix<'a>,
    /// The rest of the body.
    pub payload: &'a [u8],
}

impl<'a> Deliver<'a> {
    /// Parses the body of operation 102.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let prefix = DeliverPrefix::read(&mut reader)?;
        Ok(Self { prefix, payload: reader.rest() })
    }

    /// Size of the body, in bytes.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        self.prefix.encoded_size() + self.payload.len()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let size = self.prefix.emit(out)?;
        Writer::new(out.get_mut(size..)?).put(self.payload)?;
        Some(size + self.payload.len())
    }
}

/// Operation 103: the highest offset up to which the client holds a stream without a gap.
///
/// ```text
///  0 u8 kind · 1 u8 n · 2 u16 0 · 4 u32 epoch · 8 u64 offset · 16 id[n]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverAck<'a> {
    /// The stream.
    pub stream: Target<'a>,
    /// The highest contiguous place that the client holds.
    pub position: Position,
}

impl<'a> DeliverAck<'a> {
    /// Parses the body of operation 103.
    ///
    /// # Errors
    /// Any [`BodyError`] of its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let (kind, id_size) = (need(reader.u8())?, need(reader.u8())?);
        let reserved = need(reader.u16())?;
        let position = Position::read(&mut reader)?;
        if reserved != 0 {
            return Err(BodyError::Reserved);
        }
        let stream = Target::read(&mut reader, kind, id_size)?;
        end(reader)?;
        Ok(Self { stream, position })
    }

    /// Size of the body, in bytes: 17 to 271.
    #[must_use]
    pub const fn encoded_size(&self) -> usize {
        ACK_HEAD_SIZE + self.stream.id_size()
    }

    /// Writes the body; `None` if it does not fit.
    pub fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        self.stream.write_head(&mut writer)?;
        writer.u16(0)?;
        self.position.write(&mut writer)?;
        self.stream.write_id(&mut writer)?;
        Some(writer.size())
    }
}
