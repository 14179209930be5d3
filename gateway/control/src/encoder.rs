//! Pushes, encoded once for all receivers.

use gateway_core::memory::Signal;
use gateway_core::message::{EncodedPush, MessageClass};
use gateway_proto::frame::{HEADER_SIZE, Operation};
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
pub(super) struct PushEncoder {
    pools: BufferPools,
    /// The signal that asks workers for blocks that their receivers hold.
    signal: Arc<Signal>,
    /// Time of the last request because blocks were short.
    asked_at: Option<Instant>,
    body_size_max: u32,
}

/// Interval of these requests while a pool is short: shorter than that at which workers check.
const ASKED_EVERY: Duration = Duration::from_millis(10);

impl PushEncoder {
    /// With pools of its own.
    ///
    /// # Errors
    /// When the memory can't be had.
    pub(super) fn new(body_size_max: u32, signal: Arc<Signal>) -> io::Result<PushEncoder> {
        let pools = BufferPools::new(&pools_config(body_size_max))?;
        Ok(PushEncoder { pools, signal, asked_at: None, body_size_max })
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
    ) -> Result<EncodedPush, EncodeError> {
        let inner = match bodies {
            [body] => body.len(),
            _ => bodies.iter().map(|body| HEADER_SIZE + body.len()).sum(),
        };
        let size = EncodedPush::encoded_size(bodies).filter(|_| inner <= self.body_size_max as usize);
        let block = self.take(size.ok_or(EncodeError::TooLarge)?)?;
        Ok(EncodedPush::encode(block, class, Operation(operation), bodies))
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
    PoolsConfig { receive, blocks: gateway_config::blocks(frame_body_size_max, 16_384, 0), huge_pages: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_has_a_body_of_the_largest_size_and_an_envelope_no_more() {
        let mut encoder = PushEncoder::new(65_536, Arc::default()).unwrap();
        let mut push = |bodies: &[&[u8]]| encoder.push(MessageClass::User, 1000, bodies);
        assert_eq!(push(&[&[7; 65_536]]).unwrap().frames_size(), HEADER_SIZE + 65_536);
        assert_eq!(push(&[&[0; 65_537]]).unwrap_err(), EncodeError::TooLarge);
        let half = [0; 32_768];
        assert_eq!(push(&[&half, &half[32..]]).unwrap().frames_size(), 65_536);
        assert_eq!(push(&[&half, &half[31..]]).unwrap_err(), EncodeError::TooLarge);
    }

    #[test]
    fn pushes_held_by_slow_receivers_run_out_and_come_back() {
        let mut encoder = PushEncoder::new(4096, Arc::default()).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).ok())
            .take(1 << 20)
            .collect();
        assert_eq!(encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).unwrap_err(), EncodeError::NoMemory);
        drop(held);
        encoder.push(MessageClass::Room, 1000, &[&[0; 4096]]).unwrap();
    }
}
