//! Waits for a peer's close frame (RFC 6455 §7.1.2): follows frames without keeping any of them.
//!
//! An endpoint that has sent its close frame discards what still comes until the peer's close frame, and only then ends the
//! TCP connection (§7.1.1). Until then the stream is nothing but headers to be skipped over, cut anywhere:
//!
//! ```text
//!   First ─► Second ─► Length (0, 2 or 8 bytes) ─► Rest (mask and payload) ─► First …
//! ```
//!
//! Nothing is judged: the connection is at its end, and a frame that was refused may be what ended it.

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

/// See the module. The default is the start of a frame. 12 bytes, for it takes the place of a [`super::Decoder`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseWatch {
    /// The length as far as it has come; then the bytes left of mask and payload. A `u64` without its alignment.
    left: [u8; 8],
    expects: Expects,
    masked: bool,
    closes: bool,
}

const _: () = assert!(size_of::<CloseWatch>() <= 12);

impl CloseWatch {
    /// Takes the stream's next bytes. True as soon as a close frame has ended in them; what follows it is of no interest.
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
mod tests {
    use super::super::{CONTROL_PAYLOAD_SIZE_MAX, emit_header, emit_masked_header};
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn frame(opcode: Opcode, size: usize) -> Vec<u8> {
        let mut out = vec![0; 14];
        let header = emit_masked_header(opcode, true, size as u64, [9; 4], &mut out).unwrap();
        out.truncate(header);
        // Payload that would read as close frames, were it taken for headers.
        out.resize(header + size, 0x88);
        out
    }

    #[test]
    fn the_close_frame_is_found_wherever_the_stream_is_cut() {
        let mut stream = vec![];
        for size in [0, 1, 125, 126, 300, 0xffff, 0x1_0000] {
            stream.extend(frame(Opcode::Binary, size));
            stream.extend(frame(Opcode::Ping, size.min(CONTROL_PAYLOAD_SIZE_MAX)));
        }
        let before = stream.len();
        stream.extend(frame(Opcode::Close, 20));
        let end = stream.len();
        stream.extend(frame(Opcode::Binary, 3));
        for piece in [1, 2, 3, 7, 1000, usize::MAX] {
            let mut watch = CloseWatch::default();
            let mut seen = 0;
            let found = stream.chunks(piece.min(stream.len())).find(|bytes| {
                seen += bytes.len();
                watch.has_closed(bytes)
            });
            assert!(found.is_some(), "in pieces of {piece}");
            assert!(
                seen >= end && seen - end < piece,
                "in pieces of {piece}: at {seen}, the frame is {before}..{end}"
            );
        }
    }

    #[test]
    fn frames_that_are_refused_are_skipped_like_others() {
        let unmasked = |opcode, size: usize| {
            let mut out = vec![0; 10];
            let header = emit_header(opcode, true, size as u64, &mut out).unwrap();
            out.truncate(header);
            out.resize(header + size, 0x88);
            out
        };
        let reserved = [0xf3, 0x82, 1, 2, 3, 4, 0x88, 0x88];
        let not_minimal = [0x82, 0xfe, 0, 1, 1, 2, 3, 4, 0x88];
        for bytes in [&unmasked(Opcode::Text, 200)[..], &reserved, &not_minimal] {
            let mut watch = CloseWatch::default();
            assert!(!watch.has_closed(bytes));
            assert!(watch.has_closed(&unmasked(Opcode::Close, 0)));
        }
    }

    #[test]
    fn a_length_that_never_comes_whole_is_waited_for_and_nothing_more() {
        let mut watch = CloseWatch::default();
        assert!(!watch.has_closed(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]));
        assert!(!watch.has_closed(&[0x88; 100_000]));
    }
}
