//! Indexes other than slots of a slab. Each kind has its own type, so that they can not be
//! confused.

/// The index of a control block, or [`BlockIndex::NONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockIndex(u32);

impl BlockIndex {
    /// Names no block.
    pub(crate) const NONE: BlockIndex = BlockIndex(u32::MAX);

    #[inline]
    pub(crate) const fn new(index: u32) -> BlockIndex {
        BlockIndex(index)
    }

    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn is_some(self) -> bool {
        self.0 != u32::MAX
    }
}

/// The place of a record in the ring of connections in TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeWaitIndex(u32);

impl TimeWaitIndex {
    pub(crate) const fn new(index: u32) -> TimeWaitIndex {
        TimeWaitIndex(index)
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}
