//! Frames (RFC 6455 §5.2–§5.5), to read: one whole frame at a time, in place.
//!
//! A frame is judged in three steps, each as soon as its bytes are there: the two fixed bytes, the
//! length against the limits and the open message, and with the whole frame the payload. So a peer
//! cannot make the caller buffer what would be refused.

use super::WebSocketError;
use super::header::{
    CONTROL_PAYLOAD_SIZE_MAX, FIN, LENGTH, LENGTH_U16, LENGTH_U64, MASKED, OPCODE, Opcode, RESERVED,
    header_size,
};
use super::mask::apply_mask;
use super::utf8::Utf8State;
use crate::bytes::Reader;
use crate::codes::CloseCode;
use core::ops::Range;

/// Which end of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Received frames must be masked (RFC 6455 §5.1).
    Server,
    /// Received frames must not be masked (RFC 6455 §5.1).
    Client,
}

/// What a peer may send. Control frames have limits of their own (RFC 6455 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest payload of one data frame, in bytes.
    pub frame_payload_size_max: u64,
    /// The largest message over all its frames, in bytes.
    pub message_size_max: u64,
    /// The most frames one message may have. They are counted to 65 535: over that there is no
    /// limit but the size.
    pub fragments_max: u32,
}

/// What the front of the input holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The frame is not whole yet; the input is as it was.
    Incomplete {
        /// Bytes from the start of the input that allow progress; always more than were given, and
        /// never more than 14 + the limits allow.
        needed: usize,
    },
    /// A whole frame. Its payload is unmasked now.
    Frame {
        /// Bytes of the frame, header included: where the next frame starts.
        consumed: usize,
        /// Where the payload is in the input.
        payload: Range<usize>,
        /// What the frame is.
        kind: Kind,
    },
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of a message, or all of it.
    Data {
        /// The message is text, and valid UTF-8 so far; else it is binary.
        text: bool,
        /// The message's first frame.
        first: bool,
        /// The message's last frame.
        last: bool,
    },
    /// To be answered with a pong of the same payload (RFC 6455 §5.5.2).
    Ping,
    /// Needs no answer (RFC 6455 §5.5.3).
    Pong,
    /// To be answered with a close; what follows must be ignored (RFC 6455 §5.5.1).
    Close {
        /// Why; `None` for an empty payload.
        code: Option<CloseCode>,
        /// Where the reason, UTF-8 of at most 123 bytes, is in the input.
        reason: Range<usize>,
    },
}

/// What a connection remembers between frames. Default is a connection without an open message.
///
/// After an error the state is the one before the bad frame; the connection must close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// Bytes of the open message so far; 0 without one.
    message_size: u64,
    /// Open character of the open message; a boundary unless that is text.
    utf8: Utf8State,
    /// Frames of the open message so far; 0 without one.
    fragments: u16,
    /// The open message is text.
    text: bool,
}

const _: () = assert!(size_of::<Decoder>() <= 16);

/// A header that passed every check but those of its payload.
struct Head {
    opcode: Opcode,
    fin: bool,
    mask: Option<[u8; 4]>,
    payload: Range<usize>,
}

impl Decoder {
    /// Whether a message is open: its first frame was decoded, its last was not.
    #[must_use]
    pub const fn in_message(&self) -> bool {
        self.fragments != 0
    }

    /// Decodes the frame at the front of `input`, and unmasks its payload there.
    ///
    /// Call it again with the input from `consumed` on for the next frame. With `Incomplete`, call
    /// it again from the same place when there are `needed` bytes; nothing has changed until then.
    ///
    /// # Errors
    /// Any [`WebSocketError`]; those of the header before the payload is there. The payload may be
    /// unmasked then. The connection must fail.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        role: Role,
    ) -> Result<Decoded, WebSocketError> {
        let head = match self.head(input, limits, role)? {
            Ok(head) => head,
            Err(needed) => return Ok(Decoded::Incomplete { needed }),
        };
        let Some(payload) = input.get_mut(head.payload.clone()) else {
            return Ok(Decoded::Incomplete { needed: head.payload.end });
        };
        if let Some(mask) = head.mask {
            apply_mask(payload, mask);
        }
        let kind = match head.opcode {
            Opcode::Ping => Kind::Ping,
            Opcode::Pong => Kind::Pong,
            Opcode::Close => close(payload, &head.payload)?,
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.data(&head, payload)?,
        };
        Ok(Decoded::Frame { consumed: head.payload.end, payload: head.payload, kind })
    }

    /// The header, or how many bytes from the start of the input to wait for.
    fn head(&self, input: &[u8], limits: &Limits, role: Role) -> Result<Result<Head, usize>, WebSocketError> {
        let mut reader = Reader::new(input);
        let Some(first) = reader.u8() else { return Ok(Err(2)) };
        let opcode = check_first(first)?;
        let fin = first & FIN != 0;
        self.check_order(opcode)?;
        let Some(second) = reader.u8() else { return Ok(Err(2)) };
        let masked = second & MASKED != 0;
        match (role, masked) {
            (Role::Server, false) => return Err(WebSocketError::MaskMissing),
            (Role::Client, true) => return Err(WebSocketError::MaskPresent),
            _ => {}
        }
        let short = second & LENGTH;
        if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_SIZE_MAX {
            return Err(WebSocketError::ControlTooLong);
        }
        let mask_size = if masked { 4 } else { 0 };
        let (length, length_end) = match short {
            LENGTH_U16 => (reader.u16().map(u64::from), 4),
            LENGTH_U64 => (reader.u64(), 10),
            _ => (Some(u64::from(short)), 2),
        };
        let Some(length) = length else { return Ok(Err(length_end + mask_size)) };
        if length >> 63 != 0 {
            return Err(WebSocketError::LengthOverflow);
        }
        if header_size(length) != length_end {
            return Err(WebSocketError::LengthNotMinimal);
        }
        self.check_limits(opcode, length, limits)?;
        let start = length_end + mask_size;
        let mask = if masked {
            let Some(mask) = reader.take(4) else { return Ok(Err(start)) };
            mask.try_into().ok()
        } else {
            None
        };
        let size = usize::try_from(length).map_err(|_| WebSocketError::FrameTooLarge)?;
        let end = start.checked_add(size).ok_or(WebSocketError::FrameTooLarge)?;
        Ok(Ok(Head { opcode, fin, mask, payload: start..end }))
    }

    /// RFC 6455 §5.4: the frames of a message follow one another; only control frames come between.
    fn check_order(&self, opcode: Opcode) -> Result<(), WebSocketError> {
        match opcode {
            Opcode::Continuation if !self.in_message() => Err(WebSocketError::ContinuationWithoutStart),
            Opcode::Text | Opcode::Binary if self.in_message() => Err(WebSocketError::MessageInterrupted),
            _ => Ok(()),
        }
    }

    fn check_limits(&self, opcode: Opcode, length: u64, limits: &Limits) -> Result<(), WebSocketError> {
        if opcode.is_control() {
            return Ok(());
        }
        if length > limits.frame_payload_size_max {
            return Err(WebSocketError::FrameTooLarge);
        }
        if self.message_size.saturating_add(length) > limits.message_size_max {
            return Err(WebSocketError::MessageTooLarge);
        }
        if u32::from(self.fragments) >= limits.fragments_max {
            return Err(WebSocketError::TooManyFragments);
        }
        Ok(())
    }

    fn data(&mut self, head: &Head, payload: &[u8]) -> Result<Kind, WebSocketError> {
        let first = head.opcode != Opcode::Continuation;
        let text = if first { head.opcode == Opcode::Text } else { self.text };
        let mut utf8 = self.utf8;
        if text {
            utf8 = utf8.push(payload).ok_or(WebSocketError::TextNotUtf8)?;
            if head.fin && !utf8.is_boundary() {
                return Err(WebSocketError::TextNotUtf8);
            }
        }
        *self = if head.fin {
            Self::default()
        } else {
            Self {
                message_size: self.message_size.saturating_add(payload.len() as u64),
                utf8,
                fragments: self.fragments.saturating_add(1),
                text,
            }
        };
        Ok(Kind::Data { text, first, last: head.fin })
    }
}

/// RFC 6455 §5.2: reserved bits and opcodes; §5.5: control frames are not fragmented.
fn check_first(first: u8) -> Result<Opcode, WebSocketError> {
    if first & RESERVED != 0 {
        return Err(WebSocketError::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & OPCODE).ok_or(WebSocketError::Opcode)?;
    if opcode.is_control() && first & FIN == 0 {
        return Err(WebSocketError::ControlFragmented);
    }
    Ok(opcode)
}

/// RFC 6455 §5.5.1 and §7.4: nothing, or a code that may be sent and a reason in UTF-8.
fn close(payload: &[u8], range: &Range<usize>) -> Result<Kind, WebSocketError> {
    let (code, reason) = match payload {
        [] => return Ok(Kind::Close { code: None, reason: range.clone() }),
        [_] => return Err(WebSocketError::CloseSize),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    let code = CloseCode::new(code).ok_or(WebSocketError::CloseCode)?;
    if core::str::from_utf8(reason).is_err() {
        return Err(WebSocketError::ReasonNotUtf8);
    }
    Ok(Kind::Close { code: Some(code), reason: range.start + 2..range.end })
}
