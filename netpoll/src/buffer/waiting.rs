//! Where bytes wait for peers that take none now.
//!
//! Receive buffers are no place for them: what waits leaves for a block, at the latest when fewer
//! than half of the receive buffers are free. Blocks have bounds for it: a quarter of each pool is
//! left, a queue holds a part of what is free, and what finds no block is refused where others
//! caused it.
//!
//! ```text
//!   waits ─► at most `copy_break` bytes, or receive buffers are half taken? ─► a block of its size
//!     │        └─ an answer, and the queue's last block has room ─► behind the last one
//!     └─ neither ─► stays where it was received
//! ```

use super::pool::{BufferPools, PoolId, PoolSet, WAITING_PART};
use super::{Buffer, SharedBuffer};
use std::ops::Range;

/// The queue of a waiting connection may hold so many bytes however few blocks are free.
const WAITING_BYTES_MIN: usize = 64 << 10;

/// Of each pool of blocks one part in so many is left by bytes that outlive a turn: they have most
/// of what slow peers leave, also while relief, which begins at an eighth, is under way.
const TURN_PART: u32 = 64;

/// Answers that wait are gathered in blocks of at most this size.
const GATHERED_SIZE_MAX: usize = 4096;

impl BufferPools {
    /// A copy of `bytes` in a block of less than `size_below` bytes, from the pools of which at
    /// least a quarter is free: the last quarter of each is for replies, logins and partial frames,
    /// not for what waits for slow peers.
    fn copy_to_wait(&mut self, bytes: &[u8], size_below: usize) -> Option<Buffer> {
        self.copy_to_sizes(bytes, bytes.len()..size_below, WAITING_PART as u32)
    }

    /// The same in a block of one of these sizes, from the pools of which at least one part in
    /// `parts` is free.
    fn copy_to_sizes(&mut self, bytes: &[u8], sizes: Range<usize>, parts: u32) -> Option<Buffer> {
        let mut fitting =
            self.blocks.iter_mut().filter(|pool| sizes.contains(&(pool.blocks.block_size() as usize)));
        let mut buffer = fitting.find_map(|pool| if pool.is_below(parts) { None } else { pool.take() })?;
        buffer.append(bytes);
        Some(buffer)
    }

    /// Returns the bytes of `buffer` in the form in which they may outlive the turn that they were
    /// received in: a copy in a block of at most half the size of its own, or the buffer itself.
    /// Leaves a 64th of each pool of blocks, far less than what waits for slow peers does, and half
    /// of the receive buffers.
    ///
    /// # Errors
    /// The buffer itself when nothing of that is to be had: bytes that are kept nevertheless are
    /// missing to all that receive, or reply.
    pub fn to_wait(&mut self, buffer: Buffer) -> Result<Buffer, Buffer> {
        let sizes = buffer.len()..buffer.block_size() / 2 + 1;
        if let Some(copy) = self.copy_to_sizes(buffer.as_slice(), sizes, TURN_PART) {
            return Ok(copy);
        }
        let key = buffer.span.pool_key();
        let pool = self.blocks.iter_mut().find(|pool| pool.blocks.pool_key() == key);
        let is_short = match pool {
            Some(pool) => pool.is_below(TURN_PART),
            None => self.receive_is_half_taken(),
        };
        if is_short { Err(buffer) } else { Ok(buffer) }
    }

    /// Returns a buffer that has to wait in the form in which it should: as a copy in a right-sized
    /// block when that frees a larger one and the bytes are at most `copy_break` (or at any size
    /// when the receive pool is low), otherwise as it is. Leaves a quarter of each pool.
    ///
    /// Returns also whether it copied.
    pub fn retain(&mut self, buffer: SharedBuffer, copy_break: usize) -> (SharedBuffer, bool) {
        let worth_it = buffer.len() <= copy_break || self.receive_is_low();
        let mut sizes = self.blocks.iter().map(|pool| pool.blocks.block_size() as usize);
        let frees = sizes.any(|size| (buffer.len()..buffer.block_size()).contains(&size));
        if !worth_it || !frees || buffer.len() * 2 > buffer.block_size() {
            return (buffer, false);
        }
        match self.copy_to_wait(&buffer, buffer.block_size()) {
            Some(copy) => (copy.freeze(), true),
            None => (buffer, false),
        }
    }

    /// The same for a buffer that waits for a peer which takes no bytes now. It leaves a receive
    /// buffer at any size while fewer than half of these are free, for a block that may be as
    /// large; and at once a block of another owner, for one of at most half its size: by the time
    /// that an owner asks for its receive buffers, others may hold them all.
    pub fn retain_waiting(&mut self, buffer: SharedBuffer, copy_break: usize) -> (SharedBuffer, bool) {
        let key = buffer.span.pool_key();
        let size_below = match () {
            () if self.receive.blocks.pool_key() == key && self.receive_is_half_taken() => {
                buffer.block_size() + 1
            }
            () if !self.is_shared_of(&buffer, PoolSet::ALL) => buffer.block_size() / 2 + 1,
            () => return self.retain(buffer, copy_break),
        };
        match self.copy_to_wait(&buffer, size_below) {
            Some(copy) => (copy.freeze(), true),
            None => (buffer, false),
        }
    }

    /// The same for an answer in a queue with `queued` bytes: a small one gets a block with room
    /// for as much again, which further answers fill
    /// ([`BufferPools::append_waiting`]).
    pub(crate) fn retain_answer(
        &mut self,
        buffer: SharedBuffer,
        copy_break: usize,
        queued: usize,
    ) -> (SharedBuffer, bool) {
        if buffer.len() <= copy_break && buffer.len() < queued.min(GATHERED_SIZE_MAX) {
            let room = queued.min(GATHERED_SIZE_MAX);
            let sizes = room..GATHERED_SIZE_MAX + 1;
            if let Some(copy) = self.copy_to_sizes(&buffer, sizes, WAITING_PART as u32) {
                return (copy.freeze(), true);
            }
        }
        self.retain_waiting(buffer, copy_break)
    }

    /// Whether `buffer`, whose bytes wait for a slow peer, holds a block that is short: fewer than
    /// half of the receive buffers, or a quarter of another pool, are free, as far as the owner may
    /// hold them, or the pool is another owner's, which asks for its blocks.
    pub fn is_scarce(&mut self, buffer: &SharedBuffer) -> bool {
        let key = buffer.span.pool_key();
        if self.receive.blocks.pool_key() == key {
            return self.receive_is_half_taken();
        }
        match self.blocks.iter_mut().find(|pool| pool.blocks.pool_key() == key) {
            Some(pool) => pool.is_below(WAITING_PART as u32),
            None => self.asked.contains(&Some(PoolId::from_bits(key))),
        }
    }

    /// Copies an answer behind `last`, the last piece of a queue that waits; false when it is too
    /// large for that, or `last` is not in a block of this owner's that has room and no other hold.
    pub(crate) fn append_waiting(
        &mut self,
        last: &mut SharedBuffer,
        answer: &SharedBuffer,
        copy_break: usize,
    ) -> bool {
        if !self.is_shared_of(last, PoolSet::ALL.without(PoolSet::RECEIVE)) {
            return false;
        }
        let leaves = self.receive.blocks.pool_key() == answer.span.pool_key();
        let is_worth_it = answer.len() <= copy_break || (leaves && self.receive_is_half_taken());
        is_worth_it && last.try_append(answer)
    }

    /// Bytes that the queue of a waiting connection may hold behind a push: what such queues keep
    /// from their pools is divided among them, and leaves a part free.
    pub fn waiting_bytes_max(&self) -> usize {
        WAITING_BYTES_MIN.max(self.free_block_bytes() / WAITING_PART)
    }
}
