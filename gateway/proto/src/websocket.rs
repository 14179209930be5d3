//! WebSocket (RFC 6455), both ends, without IO.
//!
//! ```text
//!   connection ── handshake::parse ── accept_response ──┐
//!                                                       ▼
//!   bytes ── Decoder::decode ── one whole frame, unmasked in place ── payload range
//!   payload ── emit_header before it ── bytes
//! ```
//!
//! The decoder works in the receive buffer: nothing is copied, and a connection keeps 16 bytes of
//! state. No extension is negotiated, so RSV bits are always 0.

mod close_watch;
mod decoder;
pub mod handshake;
mod header;
mod mask;
#[cfg(test)]
mod tests;
mod utf8;

pub use close_watch::CloseWatch;
pub use decoder::{Decoded, Decoder, Kind, Limits, Role};
pub use header::{
    CONTROL_PAYLOAD_SIZE_MAX, HEADER_SIZE_MAX, MASKED_HEADER_SIZE_MAX, Opcode, emit_close, emit_header,
    emit_masked_header, header_size, split_frame,
};
pub use mask::apply_mask;

use crate::codes::CloseCode;

/// Why a frame was refused. The peer is to blame, and the connection must fail (RFC 6455 §7.1.7)
/// with [`WebSocketError::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebSocketError {
    /// An RSV bit is set, but no extension was negotiated (RFC 6455 §5.2).
    ReservedBits,
    /// Opcode 3–7 or 11–15 (RFC 6455 §5.2).
    Opcode,
    /// A client's frame is not masked (RFC 6455 §5.1).
    MaskMissing,
    /// A server's frame is masked (RFC 6455 §5.1).
    MaskPresent,
    /// A control frame without FIN (RFC 6455 §5.5).
    ControlFragmented,
    /// A control frame with over 125 bytes of payload (RFC 6455 §5.5).
    ControlTooLong,
    /// The length would fit a shorter form (RFC 6455 §5.2).
    LengthNotMinimal,
    /// The top bit of a 64-bit length is set (RFC 6455 §5.2).
    LengthOverflow,
    /// The payload exceeds `frame_payload_size_max`.
    FrameTooLarge,
    /// The message exceeds `message_size_max`.
    MessageTooLarge,
    /// The message has more frames than `fragments_max`.
    TooManyFragments,
    /// A continuation frame outside a message (RFC 6455 §5.4).
    ContinuationWithoutStart,
    /// A text or binary frame inside a message (RFC 6455 §5.4).
    MessageInterrupted,
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    TextNotUtf8,
    /// A close frame with a payload of one byte (RFC 6455 §5.5.1).
    CloseSize,
    /// A close code that must not be sent (RFC 6455 §7.4).
    CloseCode,
    /// A close reason is not UTF-8 (RFC 6455 §5.5.1).
    ReasonNotUtf8,
}

impl WebSocketError {
    /// The code to close with (RFC 6455 §7.4.1): 1002, 1007, 1008 or 1009.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::TextNotUtf8 | Self::ReasonNotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::FrameTooLarge | Self::MessageTooLarge => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY_VIOLATION,
            _ => CloseCode::WEBSOCKET_PROTOCOL,
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::Opcode => "opcode",
            Self::MaskMissing => "mask_missing",
            Self::MaskPresent => "mask_present",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthOverflow => "length_overflow",
            Self::FrameTooLarge => "frame_too_large",
            Self::MessageTooLarge => "message_too_large",
            Self::TooManyFragments => "too_many_fragments",
            Self::ContinuationWithoutStart => "continuation_without_start",
            Self::MessageInterrupted => "message_interrupted",
            Self::TextNotUtf8 => "text_not_utf8",
            Self::CloseSize => "close_size",
            Self::CloseCode => "close_code",
            Self::ReasonNotUtf8 => "reason_not_utf8",
        }
    }
}

impl core::fmt::Display for WebSocketError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "reserved bit is set without an extension",
            Self::Opcode => "reserved opcode",
            Self::MaskMissing => "client frame is not masked",
            Self::MaskPresent => "server frame is masked",
            Self::ControlFragmented => "control frame is fragmented",
            Self::ControlTooLong => "control frame exceeds 125 bytes",
            Self::LengthNotMinimal => "payload length is not in its shortest form",
            Self::LengthOverflow => "payload length has its top bit set",
            Self::FrameTooLarge => "frame exceeds the payload limit",
            Self::MessageTooLarge => "message exceeds the size limit",
            Self::TooManyFragments => "message has too many fragments",
            Self::ContinuationWithoutStart => "continuation without a message",
            Self::MessageInterrupted => "new message inside a message",
            Self::TextNotUtf8 => "text is not UTF-8",
            Self::CloseSize => "close payload is one byte",
            Self::CloseCode => "close code must not be sent",
            Self::ReasonNotUtf8 => "close reason is not UTF-8",
        })
    }
}

impl core::error::Error for WebSocketError {}
