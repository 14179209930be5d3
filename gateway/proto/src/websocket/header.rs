//! Frame headers (RFC 6455 §5.2), to write, and a server's own frames, to read.

use crate::body::{REASON_SIZE_MAX, Reason};
use crate::bytes::{Reader, Writer};
use crate::codes::CloseCode;

/// The largest header of a frame that a server sends, in bytes.
pub const HEADER_SIZE_MAX: usize = 10;

/// The largest header of a frame that a client sends, in bytes: the mask is four more.
pub const MASKED_HEADER_SIZE_MAX: usize = 14;

/// The largest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_SIZE_MAX: usize = 125;

const _: () = assert!(2 + REASON_SIZE_MAX == CONTROL_PAYLOAD_SIZE_MAX);

pub(super) const FIN: u8 = 0x80;
pub(super) const RESERVED: u8 = 0x70;
pub(super) const OPCODE: u8 = 0x0f;
pub(super) const MASKED: u8 = 0x80;
pub(super) const LENGTH: u8 = 0x7f;
pub(super) const LENGTH_U16: u8 = 126;
pub(super) const LENGTH_U64: u8 = 127;

/// The opcodes (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further frame of a message.
    Continuation,
    /// The first frame of a text message.
    Text,
    /// The first frame of a binary message.
    Binary,
    /// The peer closes.
    Close,
    /// Answer with a pong of the same payload.
    Ping,
    /// The answer to a ping, or a heartbeat of its own.
    Pong,
}

impl Opcode {
    pub(super) const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Close, ping or pong: may come between the frames of a message (RFC 6455 §5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Size of the header before an unmasked payload of this size, in bytes: 2, 4 or 10. A mask is 4
/// more.
#[must_use]
pub const fn header_size(payload_size: u64) -> usize {
    match payload_size {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Writes the header of a server's frame to the front of `out`, [`header_size`] bytes.
///
/// `payload_size` is in bytes. Returns the bytes written; `None` where they do not fit, where the
/// size has its top bit set, and where a control frame would be fragmented or over 125 bytes.
pub fn emit_header(opcode: Opcode, fin: bool, payload_size: u64, out: &mut [u8]) -> Option<usize> {
    emit(opcode, fin, payload_size, 0, out)
}

/// Writes the header of a client's frame, as [`emit_header`], with its mask: [`header_size`] + 4
/// bytes.
///
/// The payload must then be masked with [`apply_mask`](super::apply_mask).
pub fn emit_masked_header(
    opcode: Opcode,
    fin: bool,
    payload_size: u64,
    mask: [u8; 4],
    out: &mut [u8],
) -> Option<usize> {
    let size = emit(opcode, fin, payload_size, MASKED, out)?;
    out.get_mut(size..size.checked_add(4)?)?.copy_from_slice(&mask);
    Some(size + 4)
}

fn emit(opcode: Opcode, fin: bool, payload_size: u64, masked: u8, out: &mut [u8]) -> Option<usize> {
    let control_fits = fin && payload_size <= CONTROL_PAYLOAD_SIZE_MAX as u64;
    if payload_size >> 63 != 0 || (opcode.is_control() && !control_fits) {
        return None;
    }
    let mut writer = Writer::new(out);
    writer.u8(opcode.bits() | if fin { FIN } else { 0 })?;
    match payload_size {
        0..=125 => writer.u8(masked | payload_size as u8)?,
        126..=0xffff => {
            writer.u8(masked | LENGTH_U16)?;
            writer.u16(payload_size as u16)?;
        }
        _ => {
            writer.u8(masked | LENGTH_U64)?;
            writer.u64(payload_size)?;
        }
    }
    Some(writer.size())
}

/// Splits the whole frame at the front of `bytes`, which a server wrote, from what is behind it:
/// returns its opcode, its payload and the rest.
///
/// `None` where no such frame is, whole and without a mask.
#[must_use]
pub fn split_frame(bytes: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let mut reader = Reader::new(bytes);
    let opcode = Opcode::from_bits(reader.u8()? & OPCODE)?;
    let size = match reader.u8()? {
        LENGTH_U16 => u64::from(reader.u16()?),
        LENGTH_U64 => reader.u64()?,
        MASKED.. => return None,
        size => u64::from(size),
    };
    let (payload, behind) = reader.rest().split_at_checked(usize::try_from(size).ok()?)?;
    Some((opcode, payload, behind))
}

/// Writes the payload of a close frame (RFC 6455 §5.5.1): the code and the reason, 2 to 125 bytes.
///
/// Returns the bytes written, `None` where they do not fit.
pub fn emit_close(code: CloseCode, reason: Reason<'_>, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.u16(code.get())?;
    writer.put(reason.as_str().as_bytes())?;
    Some(writer.size())
}
