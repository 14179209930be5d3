//! Detector of a peer's close frame (RFC 6455 §7.1.2): follows frames without keeping any of them.
//!
//! An endpoint that has sent its close frame discards what still comes until the peer's close
//! frame, and only then ends the TCP connection (§7.1.1). Until then the stream is nothing but
//! headers to be skipped over, cut anywhere:
//!
//! ```text
//!   First ─► Second ─► Length (0, 2 or 8 bytes) ─► Rest (mask and payload) ─► First …
//! ```
//!
//! Nothing is judged: the connection is at its end, and a frame that was refused may be what ended
//! it.

use super::header::{LENGTH, LENGTH_U16, LENGTH_U64, MASKED, OPCODE, Opcode};

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// The first byte of a header.
    #[default]
    First,
    /// The second byte.
    Second,
    /// A byte of the length; so many are still to come.
    Length(u8),
    /// A byte of the mask or the payload.
    Rest,
}

/// See the module. The default is the start of a frame. 12 bytes, for it takes the place of a
/// [`super::Decoder`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseWatch {
    /// The length as far as it has come; then the bytes left of mask and payload. A `u64` without
    /// its alignment.
    left: [u8; 8],
    expects: Expects,
    masked: bool,
    closes: bool,
}

const _: () = assert!(size_of::<CloseWatch>() <= 12);

impl CloseWatch {
    /// Takes the stream's next bytes. True as soon as a close frame has ended in them; the rest of
    /// the stream is ignored.
    #[must_use]
    pub fn has_closed(&mut self, mut bytes: &[u8]) -> bool {
        while let [first, rest @ ..] = bytes {
            match self.expects {
                Expects::First => {
                    self.closes = Opcode::from_bits(first & OPCODE) == Some(Opcode::Close);
                    self.expects = Expects::Second;
                    bytes = rest;
                }
                Expects::Second => {
                    self.masked = first & MASKED != 0;
                    self.set_left(0);
                    bytes = rest;
                    match first & LENGTH {
                        LENGTH_U16 => self.expects = Expects::Length(2),
                        LENGTH_U64 => self.expects = Expects::Length(8),
                        short => self.begin_rest(u64::from(short)),
                    }
                }
                Expects::Length(missing) => {
                    let length = self.left() << 8 | u64::from(*first);
                    bytes = rest;
                    match missing {
                        ..=1 => self.begin_rest(length),
                        _ => {
                            self.set_left(length);
                            self.expects = Expects::Length(missing - 1);
                        }
                    }
                }
                Expects::Rest => {
                    let count = bytes.len().min(usize::try_from(self.left()).unwrap_or(usize::MAX));
                    self.set_left(self.left() - count as u64);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
            }
            if self.expects == Expects::Rest && self.left() == 0 {
                self.expects = Expects::First;
                if self.closes {
                    return true;
                }
            }
        }
        false
    }

    const fn begin_rest(&mut self, length: u64) {
        let mask = if self.masked { 4 } else { 0 };
        self.set_left(length.saturating_add(mask));
        self.expects = Expects::Rest;
    }

    const fn left(&self) -> u64 {
        u64::from_ne_bytes(self.left)
    }

    const fn set_left(&mut self, left: u64) {
        self.left = left.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests;
