//! Pushes, encoded once for all receivers.

use gateway_core::memory::Signal;
use gateway_core::message::{MessageClass, Push};
use gateway_proto::frame::{HEADER_SIZE, Header, Operation};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_header};
use netpoll::{Buffer, BufferPools, PoolsConfig, SharedBuffer};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a push could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EncodeError {
    /// The body exceeds `frame_body_size_max`.
    TooLarge,
    /// All blocks are held by receivers that have not read them yet.
    NoMemory,
}

/// Writes pushes into blocks of the control thread's own pools, one block each.
///
/// ```text
///   one frame:      [WebSocket header][frame]
///   several frames: [WebSocket header][header, operation 9][frame][frame]…   goim's envelope
/// ```
///
/// Receivers over TCP get what begins with the first frame.
pub(super) struct Encoder {
    pools: BufferPools,
    /// The signal that asks workers for blocks that their receivers hold.
    signal: Arc<Signal>,
    /// Time of the last request because blocks were short.
    asked_at: Option<Instant>,
    body_size_max: u32,
}

/// Interval of these requests while a pool is short: shorter than that at which workers check.
const ASKED_EVERY: Duration = Duration::from_millis(10);

impl Encoder {
    /// With pools of its own.
    ///
    /// # Errors
    /// When the memory can't be had.
    pub(super) fn new(body_size_max: u32, signal: Arc<Signal>) -> io::Result<Encoder> {
        let pools = BufferPools::new(&pools_config(body_size_max))?;
        Ok(Encoder { pools, signal, asked_at: None, body_size_max })
    }

    /// Returns a block of `size` bytes. When blocks are short, the workers are asked for those that
    /// slow receivers hold.
    fn take(&mut self, size: usize) -> Result<Buffer, EncodeError> {
        let is_scarce = !self.pools.scarce().is_empty();
        if is_scarce && self.asked_at.is_none_or(|at| at.elapsed() >= ASKED_EVERY) {
            self.asked_at = Some(Instant::now());
            self.signal.ask_for(&mut self.pools);
        }
        self.pools.take(size).ok_or_else(|| {
            self.signal.request_blocks(self.pools.ids(self.pools.fitting(size)), true);
            EncodeError::NoMemory
        })
    }

    /// The push of `bodies` (at least one), a frame each; several must fit one envelope.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub(super) fn push(
        &mut self,
        class: MessageClass,
        operation: i32,
        bodies: &[&[u8]],
    ) -> Result<Push, EncodeError> {
        let frames_size: usize = bodies.iter().map(|body| HEADER_SIZE + body.len()).sum();
        let (inner, outer) = match bodies {
            [body] => (body.len(), None),
            _ => (frames_size, Some(Header::new(Operation::RAW, 0, frames_size as u32))),
        };
        let frames = u16::try_from(bodies.len()).map_err(|_| EncodeError::TooLarge)?;
        if inner > self.body_size_max as usize {
            return Err(EncodeError::TooLarge);
        }
        let message_size = frames_size + outer.map_or(0, |_| HEADER_SIZE);
        let mut prefix = [0; HEADER_SIZE_MAX + HEADER_SIZE];
        let websocket = emit_header(Opcode::Binary, true, message_size as u64, &mut prefix);
        let mut prefix_size = websocket.ok_or(EncodeError::TooLarge)?;
        if let Some(outer) = outer {
            prefix[prefix_size..prefix_size + HEADER_SIZE].copy_from_slice(&outer.to_bytes());
            prefix_size += HEADER_SIZE;
        }
        let mut buffer = self.take(prefix_size + frames_size)?;
        buffer.append(&prefix[..prefix_size]);
        for body in bodies {
            buffer.append(&Header::new(Operation(operation), 0, body.len() as u32).to_bytes());
            buffer.append(body);
        }
        debug_assert_eq!(buffer.len(), prefix_size + frames_size);
        let (bytes, websocket_header) = (buffer.freeze(), prefix_size as u8);
        Ok(Push { bytes, websocket_header, class, operation, frames })
    }

    /// `text` in a block.
    ///
    /// # Errors
    /// [`EncodeError::NoMemory`].
    pub(super) fn text(&mut self, text: &str) -> Result<SharedBuffer, EncodeError> {
        let mut buffer = self.take(text.len())?;
        buffer.append(text.as_bytes());
        Ok(buffer.freeze())
    }
}

/// Pools that the control thread encodes pushes into.
pub(super) fn pools_config(frame_body_size_max: u32) -> PoolsConfig {
    let receive = netpoll::PoolSize { size: 64, count: 1 };
    PoolsConfig { receive, blocks: gateway_config::blocks(frame_body_size_max, 16_384), huge_pages: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::frame::{Frames, Peek};

    #[test]
    fn a_push_is_a_websocket_message_and_behind_its_header_a_frame() {
        let mut encoder = Encoder::new(65_536, Arc::default()).unwrap();
        for size in [0, 109, 110, 65_519, 65_520, 65_536] {
            let body = vec![7; size];
            let push = encoder.push(MessageClass::User, 1000, &[&body]).unwrap();
            let frame = push.bytes.slice(usize::from(push.websocket_header), push.bytes.len());
            let Ok(Peek::Frame(header)) = Header::peek(&frame, 65_536) else { panic!("no frame of {size}") };
            assert_eq!((header.operation, header.body_size as usize), (Operation(1000), size));
            assert_eq!(&frame[HEADER_SIZE..], &body[..]);
            assert_eq!(push.bytes[0], 0x82);
        }
        assert_eq!(
            encoder.push(MessageClass::User, 1000, &[&[0; 65_537]]).unwrap_err(),
            EncodeError::TooLarge
        );
    }

    #[test]
    fn a_batch_is_an_envelope_for_websocket_and_a_row_of_frames_for_tcp() {
        let mut encoder = Encoder::new(65_536, Arc::default()).unwrap();
        let bodies: [&[u8]; 3] = [b"one", b"", &[7; 300]];
        let push = encoder.push(MessageClass::Room, 1000, &bodies).unwrap();
        let outer = usize::from(push.websocket_header);
        let envelope = &push.bytes[outer - HEADER_SIZE..];
        let Ok(Peek::Frame(header)) = Header::peek(envelope, 65_536) else { panic!("no envelope") };
        assert_eq!((header.operation, header.frame_size()), (Operation::RAW, envelope.len()));
        assert_eq!(push.bytes[0], 0x82);
        let frames: Vec<_> = Frames::new(&push.bytes[outer..], 65_536).map(Result::unwrap).collect();
        assert_eq!(frames.len(), usize::from(push.frames));
        for ((header, body), expected) in frames.iter().zip(bodies) {
            assert_eq!((header.operation, *body), (Operation(1000), expected));
        }
        let large = [0; 40_000];
        let refused = encoder.push(MessageClass::Room, 1000, &[&large, &large]);
        assert_eq!(refused.unwrap_err(), EncodeError::TooLarge);
    }

    #[test]
    fn pushes_held_by_slow_receivers_run_out_and_come_back() {
        let mut encoder = Encoder::new(4096, Arc::default()).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).ok())
            .take(1 << 20)
            .collect();
        assert_eq!(encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).unwrap_err(), EncodeError::NoMemory);
        drop(held);
        encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).unwrap();
    }
}
