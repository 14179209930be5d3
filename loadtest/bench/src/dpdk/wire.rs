//! Frames between the generator and a bare port: as long as TCP's would be, with nothing of TCP in
//! them.
//!
//! ```text
//!   to (6) │ from (6) │ kind (2) │ nothing (52: for IPv4, and TCP with timestamps) │ payload
//! ```
//!
//! A connection is a hardware address of the generator's.

use dpdk_backend::device::{Device, Frame};
use dpdk_backend::ffi::Queue;
use dpdk_backend::wire::Mac;
use netpoll::Timestamp;

/// Bytes before the payload: those of a segment of an established connection.
pub(super) const HEADER_SIZE: usize = 14 + 20 + 32;
/// At most so many bytes of payload, as in a segment.
pub(super) const PAYLOAD_MAX: usize = 1514 - HEADER_SIZE;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A connection begins; confirmed by the same.
    Join,
    /// Payload.
    Message,
}

impl Kind {
    /// One of IEEE 802's two types for local experiments.
    const fn ether_type(self) -> u16 {
        match self {
            Kind::Join => 0x88b5,
            Kind::Message => 0x88b6,
        }
    }

    /// The kind of a frame; `None` for a foreign one.
    pub(super) fn of(frame: &[u8]) -> Option<Kind> {
        let kind = frame.get(12..14).filter(|_| frame.len() >= HEADER_SIZE)?;
        [Kind::Join, Kind::Message].into_iter().find(|one| kind == one.ether_type().to_be_bytes())
    }
}

/// The server's address.
pub(super) const SERVER: Mac = Mac([2, 0xff, 0, 0, 0, 0]);

/// The address of connection `number`.
pub(super) fn address(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

/// The connection that a frame is to.
pub(super) fn number(frame: &[u8]) -> Option<u32> {
    let [2, 0, a, b, c, d] = *frame.first_chunk()? else { return None };
    Some(u32::from_be_bytes([a, b, c, d]))
}

/// The header of a frame from connection `number` to the server.
pub(super) fn header(number: u32, kind: Kind) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    header[..6].copy_from_slice(&SERVER.0);
    header[6..12].copy_from_slice(&address(number).0);
    header[12..14].copy_from_slice(&kind.ether_type().to_be_bytes());
    header
}

/// Passes a frame to the port; returns whether there was room for it.
pub(super) fn transmit(queue: &mut Queue, now: Timestamp, frame: &[u8]) -> bool {
    queue.transmit(now, &Frame::whole(frame)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_connections() {
        let mut frame = header(70_000, Kind::Message);
        assert_eq!((Kind::of(&frame), number(&frame)), (Some(Kind::Message), None));
        frame.copy_within(6..12, 0);
        assert_eq!(number(&frame), Some(70_000));
        frame[12] = 8;
        assert_eq!((Kind::of(&frame), Kind::of(&frame[..60])), (None, None));
    }
}
