//! Pooled memory for bytes on the move: arena → pool → [`Buffer`] → [`SharedBuffer`].
//!
//! ```text
//!   BufferPools ── take(size) ──► Buffer (unique, writable) ── freeze() ──► SharedBuffer (counted)
//!        ▲                          │ split_to(n): two buffers, one block       │ clone: count
//!        └──── the last hold on a block returns it, from any thread ◄───────────┘
//! ```
//!
//! An idle connection owns no buffer. A backend takes one when bytes exist, the protocol handler
//! splits it frame by frame, rewrites in place and freezes what is to be sent; nothing is copied on
//! the way.

mod arena;
mod pool;
#[cfg(test)]
mod tests;
mod waiting;

pub use arena::{Arena, Filled, HUGE_PAGE_SIZE, LentMemory};
pub use pool::{ASKED_MAX, BufferPools, PoolId, PoolLevel, PoolSet, PoolSize, PoolsConfig};

use arena::{SharedSpan, Span};
use std::fmt;
use std::ops::Deref;

/// A unique, writable piece of a pooled block: `len` bytes filled, the rest spare.
///
/// Dropping it ends its hold on the block. Two buffers may lie in one block, side by side
/// ([`Buffer::split_to`]); each is exclusive over its own bytes.
pub struct Buffer {
    span: Span,
    len: u32,
}

impl Buffer {
    fn new(span: Span) -> Buffer {
        Buffer { span, len: 0 }
    }

    fn filled(span: Span, len: u32) -> Buffer {
        Buffer { span, len }
    }

    /// The number of filled bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is filled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the buffer can hold in all, filled ones included.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.span.len() as usize
    }

    /// Bytes of the block that it keeps, which it may share with others.
    #[inline]
    pub fn block_size(&self) -> usize {
        self.span.block_size() as usize
    }

    /// The filled bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.span.as_slice()[..self.len as usize]
    }

    /// The filled bytes, writable in place.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len as usize;
        &mut self.span.as_mut_slice()[..len]
    }

    /// The bytes behind the filled ones. They are initialized, with unspecified values.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let len = self.len as usize;
        &mut self.span.as_mut_slice()[len..]
    }

    /// Sets the number of filled bytes to `len`.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "length {len} over capacity {}", self.capacity());
        self.len = len as u32;
    }

    /// Appends as much of `bytes` as fits and returns how many bytes that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare_mut();
        let count = bytes.len().min(spare.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.len += count as u32;
        count
    }

    /// Cuts the first `at` filled bytes off into a buffer of their own, without spare room.
    ///
    /// # Panics
    /// If fewer than `at` bytes are filled.
    #[inline]
    pub fn split_to(&mut self, at: usize) -> Buffer {
        assert!(at <= self.len(), "split at {at} of {}", self.len());
        let head = self.span.split_to(at as u32);
        self.len -= at as u32;
        Buffer { span: head, len: at as u32 }
    }

    /// Drops the first `count` filled bytes; they stay unused until the block returns to its pool.
    ///
    /// # Panics
    /// If fewer are filled.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        self.span.advance(count as u32);
        self.len -= count as u32;
    }

    /// Drops all filled bytes behind the first `len`; does nothing when fewer are filled.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u32);
    }

    /// Returns the memory of the bytes behind the filled ones to the system, as far as it is whole
    /// pages: they are zeros, or as before.
    pub(crate) fn release(&mut self) {
        self.span.release(self.len);
    }

    /// Ends writing to the filled bytes, so that they can be referenced any number of times.
    #[inline]
    pub fn freeze(mut self) -> SharedBuffer {
        let span =
            if self.len as usize == self.capacity() { self.span } else { self.span.split_to(self.len) };
        SharedBuffer { span: span.freeze() }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} B)", self.len(), self.capacity())
    }
}

/// A read-only, reference-counted range of a pooled block: 16 bytes of descriptor for a payload of
/// any size.
///
/// Cloning adds a reference and copies nothing. Any thread may hold one.
#[derive(Clone)]
pub struct SharedBuffer {
    span: SharedSpan,
}

impl SharedBuffer {
    /// Drops the first `count` bytes, which were sent.
    ///
    /// # Panics
    /// If it is shorter.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.span.advance(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Another reference to `start..end` of these bytes.
    ///
    /// # Panics
    /// If the range does not lie inside.
    #[inline]
    pub fn slice(&self, start: usize, end: usize) -> SharedBuffer {
        assert!(start <= end && end <= self.len(), "slice {start}..{end} of {}", self.len());
        let mut span = self.span.clone();
        span.truncate(end as u32);
        span.advance(start as u32);
        SharedBuffer { span }
    }

    /// Joins `next` when it continues this range in the same block, so that both leave as one
    /// piece.
    ///
    /// # Errors
    /// `next`, when the two are not neighbors.
    #[inline]
    pub fn try_join(&mut self, next: SharedBuffer) -> Result<(), SharedBuffer> {
        self.span.try_join(next.span).map_err(|span| SharedBuffer { span })
    }

    /// Copies `bytes` behind this range, into the rest of its block. False when they do not fit
    /// there, or when another reference keeps the block.
    pub(crate) fn try_append(&mut self, bytes: &[u8]) -> bool {
        self.span.try_append(bytes)
    }

    /// The pool that its block returns to.
    pub fn pool(&self) -> PoolId {
        PoolId::from_bits(self.span.pool_key())
    }

    /// Size in bytes of the block that this reference keeps from its pool.
    pub fn block_size(&self) -> usize {
        self.span.block().1 as usize
    }

    /// The block, as a number that no other block has while this one is held.
    pub(crate) fn block(&self) -> usize {
        self.span.block().0
    }
}

impl Deref for SharedBuffer {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.span.as_slice()
    }
}

impl fmt::Debug for SharedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBuffer({} B)", self.len())
    }
}
