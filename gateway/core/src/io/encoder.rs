//! Frames that the server writes itself: replies, notices, and pushes with a payload that had to
//! be copied.
//!
//! Frames are written one behind the other into a block, so that several replies to one connection
//! in one turn are neighbors and leave as one piece.

use crate::listener::Framing;
use gateway_proto::frame::{HEADER_SIZE, Header};
use gateway_proto::websocket::{HEADER_SIZE_MAX, Opcode, emit_header, header_size};
use netpoll::{Buffer, BufferPools, SharedBuffer};

/// Size of the blocks that small frames share.
const BLOCK_SIZE: usize = 4096;

/// The block being written.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    block: Option<Buffer>,
}

impl Encoder {
    /// Writes a frame, over WebSocket in a message of its own; `body` writes the
    /// `header.body_size` bytes of its body. `None` when no block is free.
    pub(super) fn frame(
        &mut self,
        pools: &mut BufferPools,
        framing: Framing,
        header: Header,
        body: impl FnOnce(&mut [u8]),
    ) -> Option<SharedBuffer> {
        let prefix = match framing {
            Framing::Tcp => 0,
            Framing::WebSocket => header_size(header.frame_size() as u64),
        };
        let size = prefix + header.frame_size();
        let block = self.reserve(pools, size)?;
        let out = &mut block.spare_mut()[..size];
        if framing == Framing::WebSocket {
            emit_header(Opcode::Binary, true, header.frame_size() as u64, out)?;
        }
        let (head, rest) = out[prefix..].split_at_mut(HEADER_SIZE);
        head.copy_from_slice(&header.to_bytes());
        body(rest);
        Some(Self::cut(block, size))
    }

    /// Writes a WebSocket control frame. `None` when no block is free or the payload is over 125
    /// bytes.
    pub(super) fn control(
        &mut self,
        pools: &mut BufferPools,
        opcode: Opcode,
        payload: &[u8],
    ) -> Option<SharedBuffer> {
        let size = 2 + payload.len();
        let block = self.reserve(pools, size)?;
        let out = &mut block.spare_mut()[..size];
        emit_header(opcode, true, payload.len() as u64, out)?;
        out[2..].copy_from_slice(payload);
        Some(Self::cut(block, size))
    }

    /// Writes bytes as they are. `None` when no block is free.
    pub(super) fn bytes(&mut self, pools: &mut BufferPools, bytes: &[u8]) -> Option<SharedBuffer> {
        let block = self.reserve(pools, bytes.len())?;
        block.append(bytes);
        block.set_len(0);
        Some(Self::cut(block, bytes.len()))
    }

    /// The block, with `size` bytes to spare.
    fn reserve(&mut self, pools: &mut BufferPools, size: usize) -> Option<&mut Buffer> {
        let fits = self.block.as_ref().is_some_and(|block| block.capacity() >= size);
        if !fits {
            self.block = None;
            self.block = Some(pools.take(size.max(BLOCK_SIZE)).or_else(|| pools.take(size))?);
        }
        self.block.as_mut()
    }

    /// Cuts what was written off the block; the rest stays for the next frame.
    fn cut(block: &mut Buffer, size: usize) -> SharedBuffer {
        block.set_len(size);
        block.split_to(size).freeze()
    }

    /// Lets the block go: an idle worker holds none.
    pub(super) fn release(&mut self) {
        self.block = None;
    }
}

/// Rewrites in place: puts a WebSocket header (in that framing), `header` and `prefix` right before
/// the payload, which begins at `payload_start` of `buffer` and goes on to its end. Returns the
/// bytes as they are on the wire. No byte of the payload moves.
///
/// # Errors
/// The buffer itself when there is no room in front of the payload.
#[inline]
pub(crate) fn rewrite_in_place(
    mut buffer: Buffer,
    payload_start: usize,
    header: Header,
    prefix: &[u8],
    framing: Framing,
) -> Result<SharedBuffer, Buffer> {
    debug_assert_eq!(buffer.len() - payload_start + prefix.len(), header.body_size as usize);
    let mut outer = [0; HEADER_SIZE_MAX];
    let outer_size = match framing {
        Framing::Tcp => 0,
        Framing::WebSocket => {
            emit_header(Opcode::Binary, true, header.frame_size() as u64, &mut outer).unwrap_or(0)
        }
    };
    let Some(start) = payload_start.checked_sub(prefix.len() + HEADER_SIZE + outer_size) else {
        return Err(buffer);
    };
    let bytes = &mut buffer.as_mut_slice()[start..payload_start];
    bytes[..outer_size].copy_from_slice(&outer[..outer_size]);
    bytes[outer_size..outer_size + HEADER_SIZE].copy_from_slice(&header.to_bytes());
    bytes[outer_size + HEADER_SIZE..].copy_from_slice(prefix);
    buffer.advance(start);
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::frame::Operation;
    use netpoll::BackendConfig;

    fn pools() -> BufferPools {
        BufferPools::new(&BackendConfig::small(1).pools).unwrap()
    }

    #[test]
    fn replies_of_one_turn_are_neighbors() {
        let mut pools = pools();
        let mut encoder = Encoder::default();
        let mut all = encoder
            .frame(&mut pools, Framing::Tcp, Header::new(Operation(3), 1, 4), |body| body.fill(1))
            .unwrap();
        let next = encoder
            .frame(&mut pools, Framing::WebSocket, Header::new(Operation(3), 2, 4), |body| body.fill(2))
            .unwrap();
        assert_eq!(&next[..2], [0x82, 20]);
        all.try_join(next).unwrap();
        assert_eq!(all.len(), 20 + 22);
        encoder.release();
        drop(all);
        assert!(pools.is_full());
    }

    #[test]
    fn rewriting_moves_no_payload_byte() {
        let mut pools = pools();
        for (payload_start, framing, fits) in [
            (16, Framing::Tcp, true),
            (15, Framing::Tcp, false),
            (18, Framing::WebSocket, true),
            (17, Framing::WebSocket, false),
        ] {
            let mut buffer = pools.take_receive().unwrap();
            buffer.append(&[9; 64]);
            let at = buffer.as_slice()[payload_start..].as_ptr();
            let header = Header::new(Operation(1000), 0, 64 - payload_start as u32);
            match rewrite_in_place(buffer, payload_start, header, &[], framing) {
                Ok(bytes) => {
                    assert!(fits);
                    let payload = &bytes[bytes.len() - header.body_size as usize..];
                    assert_eq!((payload.as_ptr(), payload.len()), (at, 64 - payload_start));
                }
                Err(buffer) => assert!(!fits && buffer.len() == 64),
            }
        }
        assert!(pools.is_full());
    }
}
