//! A message encoded once, patched in place for each send: stamp, sequence, room digits or user
//! number. A WebSocket client's payload is masked, so the patches are too.

use crate::stamp::{STAMP_SIZE, Stamp, filler};
use gateway_proto::websocket::apply_mask;

/// Digits of a room's number in its name.
pub(crate) const ROOM_DIGITS: usize = 8;

/// The mask of every frame. RFC 6455 §5.3 requires an unpredictable one, against proxies in the
/// way; a generator needs a cheap one. It is not zero, so that the server does the work that it
/// would do for a browser.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One encoded message.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Box<[u8]>,
    stamp_at: Option<usize>,
    sequence_at: Option<usize>,
    room_at: Option<usize>,
    user_at: Option<usize>,
    /// Where the masked part begins, if there is one.
    masked_from: Option<usize>,
}

/// The fields that differ from message to message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patch {
    pub(crate) stamp: Stamp,
    /// The header's.
    pub(crate) sequence: u32,
    pub(crate) room: u32,
    pub(crate) user: i64,
}

/// The payload of every message of this size: room for the stamp, then filler.
pub(crate) fn payload(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; STAMP_SIZE];
    bytes.extend(filler(size.saturating_sub(STAMP_SIZE)));
    bytes
}

impl Template {
    /// A message of these bytes; offsets are from their start.
    pub(crate) fn new(
        bytes: Vec<u8>,
        stamp_at: Option<usize>,
        sequence_at: Option<usize>,
        room_at: Option<usize>,
    ) -> Template {
        let (user_at, masked_from) = (None, None);
        Template { bytes: bytes.into(), stamp_at, sequence_at, room_at, user_at, masked_from }
    }

    /// The same with a user's number at this offset.
    pub(crate) fn with_user_at(self, at: usize) -> Template {
        Template { user_at: Some(at), ..self }
    }

    /// The same in a masked WebSocket binary message.
    pub(crate) fn in_websocket(self) -> Template {
        use gateway_proto::websocket::{MASKED_HEADER_SIZE_MAX, Opcode, emit_masked_header};
        let mut head = [0; MASKED_HEADER_SIZE_MAX];
        let size = self.bytes.len() as u64;
        let head_size = emit_masked_header(Opcode::Binary, true, size, MASK, &mut head).unwrap_or(0);
        let mut bytes = head[..head_size].to_vec();
        bytes.extend_from_slice(&self.bytes);
        apply_mask(&mut bytes[head_size..], MASK);
        let shift = |at: Option<usize>| at.map(|at| at + head_size);
        Template {
            bytes: bytes.into(),
            stamp_at: shift(self.stamp_at),
            sequence_at: shift(self.sequence_at),
            room_at: shift(self.room_at),
            user_at: shift(self.user_at),
            masked_from: Some(head_size),
        }
    }

    /// Size of one message on the wire, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Writes one message to the front of `out`, which has room for it.
    pub(crate) fn write(&self, out: &mut [u8], patch: &Patch) {
        let out = &mut out[..self.bytes.len()];
        out.copy_from_slice(&self.bytes);
        if let Some(at) = self.stamp_at {
            self.put(out, at, patch.stamp.to_bytes());
        }
        if let Some(at) = self.sequence_at {
            self.put(out, at, patch.sequence.to_be_bytes());
        }
        if let Some(at) = self.room_at {
            self.put(out, at, digits(patch.room));
        }
        if let Some(at) = self.user_at {
            self.put(out, at, patch.user.to_be_bytes());
        }
    }

    /// Writes the message as it is, without patches.
    pub(crate) fn write_plain(&self, out: &mut [u8]) {
        out[..self.bytes.len()].copy_from_slice(&self.bytes);
    }

    /// Writes the message with the header's sequence and no other patch.
    pub(crate) fn write_numbered(&self, out: &mut [u8], sequence: u32) {
        self.write_plain(out);
        if let Some(at) = self.sequence_at {
            self.put(out, at, sequence.to_be_bytes());
        }
    }

    fn put<const N: usize>(&self, out: &mut [u8], at: usize, mut bytes: [u8; N]) {
        if let Some(from) = self.masked_from {
            let [a, b, c, d] = MASK;
            let turned = match (at - from) % 4 {
                0 => [a, b, c, d],
                1 => [b, c, d, a],
                2 => [c, d, a, b],
                _ => [d, a, b, c],
            };
            apply_mask(&mut bytes, turned);
        }
        out[at..at + N].copy_from_slice(&bytes);
    }
}

/// The last eight decimal digits of a room's number.
pub(crate) fn digits(number: u32) -> [u8; ROOM_DIGITS] {
    let mut out = [b'0'; ROOM_DIGITS];
    let mut rest = number;
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_land_under_the_mask_at_any_offset() {
        use gateway_proto::websocket::{Decoded, Decoder, Limits, Role};
        let stamp = Stamp { run: 1, audience: 2, sequence: 3, slot: 4, flow: 5, intended: 6 };
        for lead in 0..9 {
            let mut bytes = vec![b'x'; lead];
            bytes.extend([0; ROOM_DIGITS]);
            bytes.extend([0; 4]);
            bytes.extend(payload(130));
            let (room_at, sequence_at) = (lead, lead + ROOM_DIGITS);
            let template = Template::new(bytes, Some(sequence_at + 4), Some(sequence_at), Some(room_at));
            let template = template.in_websocket();
            let mut wire = vec![0; template.size()];
            template.write(&mut wire, &Patch { stamp, sequence: 4, room: 4711, user: 0 });
            let limits = Limits { frame_payload_size_max: 4096, message_size_max: 4096, fragments_max: 1 };
            let decoded = Decoder::default().decode(&mut wire, &limits, Role::Server).unwrap();
            let Decoded::Frame { payload, .. } = decoded else { panic!("not whole") };
            let body = &wire[payload];
            assert_eq!(&body[room_at..sequence_at], b"00004711");
            assert_eq!(body[sequence_at..sequence_at + 4], 4_u32.to_be_bytes());
            assert_eq!(Stamp::parse(&body[sequence_at + 4..]), Some(stamp));
            assert_eq!(&body[sequence_at + 4 + STAMP_SIZE..], filler(130 - STAMP_SIZE));
        }
    }
}
