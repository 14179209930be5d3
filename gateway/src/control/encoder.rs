//! Pushes, encoded once for all receivers.

use crate::worker::message::{MessageClass, Push};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_header, header_size};
use netpoll::{BufferPools, PoolsConfig};
use std::io;

/// Why a push could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EncodeError {
    /// The body exceeds `frame_body_size_max`.
    TooLarge,
    /// All blocks are held by receivers that have not read them yet.
    NoMemory,
}

/// Writes `[WebSocket header][frame]` into one block of the control thread's own pools.
pub(super) struct Encoder {
    pools: BufferPools,
    body_size_max: u32,
}

impl Encoder {
    /// With pools of its own.
    ///
    /// # Errors
    /// When the memory can't be had.
    pub(super) fn new(body_size_max: u32) -> io::Result<Encoder> {
        Ok(Encoder { pools: BufferPools::new(&pools_config(body_size_max))?, body_size_max })
    }

    /// The push of `body`.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub(super) fn push(
        &mut self,
        class: MessageClass,
        operation: i32,
        body: &[u8],
    ) -> Result<Push, EncodeError> {
        if body.len() > self.body_size_max as usize {
            return Err(EncodeError::TooLarge);
        }
        let header = Header::new(Operation(operation), 0, body.len() as u32);
        let frame_size = header.frame_size() as u64;
        let mut websocket = [0; HEADER_SIZE_MAX];
        let websocket_size =
            emit_header(Opcode::Binary, true, frame_size, &mut websocket).ok_or(EncodeError::TooLarge)?;
        debug_assert_eq!(websocket_size, header_size(frame_size));
        let size = websocket_size + HEADER_SIZE + body.len();
        let mut buffer = self.pools.take(size).ok_or(EncodeError::NoMemory)?;
        for part in [&websocket[..websocket_size], &header.to_bytes(), body] {
            buffer.append(part);
        }
        debug_assert_eq!(buffer.len(), size);
        Ok(Push { bytes: buffer.freeze(), websocket_header: websocket_size as u8, class, operation })
    }
}

/// Pools that the control thread encodes pushes into.
pub(crate) fn pools_config(frame_body_size_max: u32) -> PoolsConfig {
    let receive = netpoll::PoolSize { size: 64, count: 1 };
    PoolsConfig { receive, blocks: crate::config::blocks(frame_body_size_max, 16_384), huge_pages: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::frame::Peek;

    #[test]
    fn a_push_is_a_websocket_message_and_behind_its_header_a_frame() {
        let mut encoder = Encoder::new(65_536).unwrap();
        for size in [0, 109, 110, 65_519, 65_520, 65_536] {
            let body = vec![7; size];
            let push = encoder.push(MessageClass::User, 1000, &body).unwrap();
            let frame = push.bytes.slice(usize::from(push.websocket_header), push.bytes.len());
            let Ok(Peek::Frame(header)) = Header::peek(&frame, 65_536) else { panic!("no frame of {size}") };
            assert_eq!((header.operation, header.body_size as usize), (Operation(1000), size));
            assert_eq!(&frame[HEADER_SIZE..], &body[..]);
            assert_eq!(push.bytes[0], 0x82);
        }
        assert_eq!(encoder.push(MessageClass::User, 1000, &[0; 65_537]).unwrap_err(), EncodeError::TooLarge);
    }

    #[test]
    fn pushes_held_by_slow_receivers_run_out_and_come_back() {
        let mut encoder = Encoder::new(4096).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| encoder.push(MessageClass::Room, 1000, &[0; 4096]).ok())
            .take(1 << 20)
            .collect();
        assert_eq!(encoder.push(MessageClass::Room, 1000, &[0; 4096]).unwrap_err(), EncodeError::NoMemory);
        drop(held);
        encoder.push(MessageClass::Room, 1000, &[0; 4096]).unwrap();
    }
}
