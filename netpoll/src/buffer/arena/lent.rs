//! Memory of receive buffers that is not ours, and its blocks on their way to the pool.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

/// Foreign memory for receive buffers, which its owner fills: blocks of one size, numbered from 0.
pub struct LentMemory {
    pub(super) blocks: Vec<NonNull<u8>>,
    pub(super) size: u32,
    pub(super) reserve: u32,
    pub(super) owner: Arc<dyn Any + Send + Sync>,
}

impl LentMemory {
    /// Blocks of `size` bytes at these addresses. All of them are with the owner.
    ///
    /// # Safety
    /// Each block is initialized memory, disjoint from the others, which stays where it is until
    /// the last clone of `owner` is gone. The owner touches a block only while it is lent: until it
    /// passes it on as [`Filled`], and again from when [`crate::BufferPools::lend_receive`] has
    /// returned its number.
    pub unsafe fn new(blocks: Vec<NonNull<u8>>, size: u32, owner: Arc<dyn Any + Send + Sync>) -> LentMemory {
        LentMemory { blocks, size, reserve: 0, owner }
    }

    /// Declares that the owner always keeps `count` blocks: they are no stock to draw on.
    #[must_use]
    pub fn with_reserve(mut self, count: u32) -> LentMemory {
        self.reserve = count;
        self
    }

    /// Blocks that the owner always keeps.
    pub fn reserve(&self) -> u32 {
        self.reserve
    }

    /// The number of blocks.
    pub fn count(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Bytes of a block.
    pub fn size(&self) -> u32 {
        self.size
    }
}

impl std::fmt::Debug for LentMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LentMemory({} × {} B)", self.count(), self.size)
    }
}

/// A lent block with bytes in it, on its way from its owner to the pool.
#[derive(Debug)]
pub struct Filled {
    pub(super) index: u32,
    pub(super) start: u32,
    pub(super) size: u32,
}

impl Filled {
    /// Bytes `start..start + size` of block `index` arrived.
    ///
    /// # Safety
    /// The owner of the [`LentMemory`] that the pool is made over has the block, passes it on
    /// hereby, and touches it no more.
    pub unsafe fn new(index: u32, start: u32, size: u32) -> Filled {
        Filled { index, start, size }
    }

    /// Bytes that arrived.
    pub(in crate::buffer) fn size(&self) -> u32 {
        self.size
    }
}
