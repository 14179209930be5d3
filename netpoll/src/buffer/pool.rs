//! Pools of blocks in a few sizes, all in one arena.

use super::arena::{Arena, Blocks, Filled, LentMemory};
use super::{Buffer, SharedBuffer};
use std::io;

/// One pool: `count` blocks of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Bytes of one block.
    pub size: u32,
    /// Blocks in the pool.
    pub count: u32,
}

impl PoolSize {
    /// Bytes of the whole pool.
    pub const fn bytes(self) -> usize {
        self.size as usize * self.count as usize
    }
}

/// Sizes of the pools to reserve.
#[derive(Clone, Debug)]
pub struct PoolsConfig {
    /// Buffers that the backend receives into.
    pub receive: PoolSize,
    /// Blocks for everything else, by rising size: replies, straddling frames, what must outlive a
    /// turn.
    pub blocks: Vec<PoolSize>,
    /// Ask for transparent huge pages.
    pub huge_pages: bool,
}

impl PoolsConfig {
    /// Bytes of address space that the pools take.
    pub fn bytes(&self) -> usize {
        self.receive.bytes() + self.blocks.iter().map(|pool| pool.bytes()).sum::<usize>()
    }
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLevel {
    /// Bytes of one block.
    pub size: u32,
    /// Blocks in the pool.
    pub count: u32,
    /// Blocks without a hold.
    pub free: u32,
    /// Blocks used at least once since the last [`BufferPools::trim`]: the pool's resident part.
    pub touched: u32,
    /// Times that a block was wanted and none was free.
    pub exhausted: u64,
}

/// Some of the pools of one [`BufferPools`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSet(u32);

impl PoolSet {
    /// All pools.
    pub const ALL: PoolSet = PoolSet(u32::MAX);
    /// The receive pool.
    pub const RECEIVE: PoolSet = PoolSet(1);

    /// The block pool at `index`.
    const fn block(index: usize) -> PoolSet {
        PoolSet(2_u32.wrapping_shl(index as u32))
    }

    /// The pools of this set that are not in `other`.
    pub const fn without(self, other: PoolSet) -> PoolSet {
        PoolSet(self.0 & !other.0)
    }

    /// The pools of this set, each alone.
    pub fn each(self) -> impl Iterator<Item = PoolSet> {
        (0..u32::BITS).map(|bit| PoolSet(1 << bit)).filter(move |pool| pool.shares(self))
    }

    /// Whether no pool is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The pools of both.
    pub const fn with(self, other: PoolSet) -> PoolSet {
        PoolSet(self.0 | other.0)
    }

    const fn shares(self, other: PoolSet) -> bool {
        self.0 & other.0 != 0
    }
}

/// A push for a waiting connection finds room while the connection's queue holds at most one part
/// in so many of the free bytes of all blocks: the dynamic threshold of [`crate::Shares`], for what
/// the pieces keep from their pools.
pub(super) const WAITING_PART: usize = 4;

/// One pool of any owner, by which a thread that is short of blocks asks others for them. No two
/// pools that exist at a time have the same id, and while a block is held its pool's id is not used
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolId(usize);

impl PoolId {
    /// The id as a number, to be passed to other threads.
    pub const fn to_bits(self) -> usize {
        self.0
    }

    /// The id that [`PoolId::to_bits`] returned.
    pub const fn from_bits(bits: usize) -> PoolId {
        PoolId(bits)
    }
}

/// At most so many pools of other owners are known to be short by one [`BufferPools`].
pub const ASKED_MAX: usize = 16;

pub(super) struct Pool {
    pub(super) blocks: Blocks,
    exhausted: u64,
}

impl Pool {
    pub(super) fn take(&mut self) -> Option<Buffer> {
        let taken = self.blocks.take();
        self.exhausted += u64::from(taken.is_none());
        taken.map(Buffer::new)
    }

    /// Whether less than one part in `parts` is free.
    pub(super) fn is_below(&mut self, parts: u32) -> bool {
        if self.blocks.free_count() * parts < self.blocks.count() {
            self.blocks.reclaim();
        }
        self.blocks.free_count() * parts < self.blocks.count()
    }

    fn level(&mut self) -> PoolLevel {
        self.blocks.reclaim();
        PoolLevel {
            size: self.blocks.block_size(),
            count: self.blocks.count(),
            free: self.blocks.free_count(),
            touched: self.blocks.touched_count(),
            exhausted: self.exhausted,
        }
    }
}

/// A worker's pools: one to receive into, and blocks of rising size for the rest.
///
/// Owned by one thread; what is taken from it may be dropped on any. Nothing here allocates after
/// creation.
pub struct BufferPools {
    pub(super) receive: Pool,
    pub(super) blocks: Vec<Pool>,
    receive_low_water: u32,
    /// Receive buffers that a backend keeps with the kernel: taken, yet empty.
    receive_lent: u32,
    /// Receive buffers that the owner never gets: those that the owner of their memory always
    /// keeps, and those that a backend does.
    receive_reserve: u32,
    /// Pools of other owners that ask for their blocks.
    pub(super) asked: [Option<PoolId>; ASKED_MAX],
}

impl BufferPools {
    /// Bytes that a block takes in addition to its data: its header, and its entry in the free
    /// list.
    pub const BYTES_PER_BLOCK: usize = Blocks::HEADER_BYTES + size_of::<u32>();

    /// Reserves everything in one mapping.
    ///
    /// # Errors
    /// Those of `mmap(2)`; `InvalidInput` when sizes do not rise or a pool is empty.
    pub fn new(config: &PoolsConfig) -> io::Result<BufferPools> {
        BufferPools::map(config, None)
    }

    /// The same with a receive pool in foreign memory; the sizes of `memory` replace
    /// `config.receive`.
    ///
    /// # Errors
    /// As [`BufferPools::new`].
    pub fn over(config: &PoolsConfig, memory: LentMemory) -> io::Result<BufferPools> {
        let receive = PoolSize { size: memory.size(), count: memory.count() };
        BufferPools::map(&PoolsConfig { receive, ..config.clone() }, Some(memory))
    }

    fn map(config: &PoolsConfig, lent: Option<LentMemory>) -> io::Result<BufferPools> {
        let rising = config.blocks.windows(2).all(|pair| pair[0].size < pair[1].size);
        let empty =
            config.blocks.iter().chain([&config.receive]).any(|pool| pool.size == 0 || pool.count == 0);
        if !rising || empty || config.blocks.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "pool sizes must rise and no pool may be empty",
            ));
        }
        let own = if lent.is_some() { config.bytes() - config.receive.bytes() } else { config.bytes() };
        let arena = Arena::map(own, config.huge_pages)?;
        let mut offset = 0;
        let mut cut = |pool: PoolSize| {
            let blocks = Blocks::new(arena.clone(), offset, pool.size, pool.count);
            offset += pool.bytes();
            Pool { blocks, exhausted: 0 }
        };
        let receive_reserve = lent.as_ref().map_or(0, LentMemory::reserve);
        let receive = match lent {
            Some(memory) => Pool { blocks: Blocks::over(memory), exhausted: 0 },
            None => cut(config.receive),
        };
        let mut pools = BufferPools {
            receive_lent: receive.blocks.lent_count(),
            receive,
            blocks: config.blocks.iter().map(|pool| cut(*pool)).collect(),
            receive_low_water: 0,
            receive_reserve: 0,
            asked: [None; ASKED_MAX],
        };
        pools.reserve_receive(receive_reserve);
        Ok(pools)
    }

    /// Keeps `count` more receive buffers back: with them the backend can receive while the owner
    /// holds all others.
    pub fn reserve_receive(&mut self, count: u32) {
        self.receive_reserve += count;
        self.receive_low_water = self.receive_share() / 4;
    }

    /// At most so many receive buffers may be held by the owner.
    fn receive_share(&self) -> u32 {
        self.receive.blocks.count().saturating_sub(self.receive_reserve)
    }

    /// Free buffers of the owner's share, as far as is known without reclaiming.
    fn receive_stock(&self) -> u32 {
        (self.receive.blocks.free_count() + self.receive_lent).saturating_sub(self.receive_reserve)
    }

    /// Notes that bytes were refused because the owner holds its share of the buffers: a shortage
    /// unless some of the share is free by now.
    pub fn receive_refused(&mut self) {
        self.receive.blocks.reclaim();
        self.receive.exhausted += u64::from(self.receive_stock() == 0);
    }

    /// Takes blocks without a hold back; [`BufferPools::lend_receive`] lends them.
    pub fn reclaim_receive(&mut self) {
        self.receive.blocks.reclaim();
    }

    /// Lends a returned block to the owner of its memory; returns its number in [`LentMemory`].
    pub fn lend_receive(&mut self) -> Option<u32> {
        let index = self.receive.blocks.lend()?;
        self.receive_lent = self.receive.blocks.lent_count();
        Some(index)
    }

    /// Bytes that arrived in a lent block. `None` when the block was not lent: the owner of the
    /// memory has lost count.
    pub fn claim_receive(&mut self, filled: &Filled) -> Option<Buffer> {
        let span = self.receive.blocks.claim(filled)?;
        self.receive_lent = self.receive.blocks.lent_count();
        Some(Buffer::filled(span, filled.size()))
    }

    /// Takes an empty buffer to receive into; `None` when all are held: the caller pauses
    /// receiving.
    pub fn take_receive(&mut self) -> Option<Buffer> {
        self.receive.take()
    }

    /// Takes a buffer to lend to the kernel. It is no shortage that none is left to lend: bytes
    /// without a buffer are one, and [`BufferPools::receive_starved`] notes them.
    pub(crate) fn take_to_lend(&mut self) -> Option<Buffer> {
        self.receive.blocks.take().map(Buffer::new)
    }

    /// Notes that bytes came and the kernel had no buffer for them: a shortage unless one is free
    /// here. Returns whether it is.
    pub fn receive_starved(&mut self) -> bool {
        self.receive.blocks.reclaim();
        let is_shortage = self.receive.blocks.free_count() == 0;
        self.receive.exhausted += u64::from(is_shortage);
        is_shortage
    }

    /// Takes an empty buffer of at least `size` bytes: from the smallest pool that fits, otherwise
    /// from a larger one.
    pub fn take(&mut self, size: usize) -> Option<Buffer> {
        let fitting = self.blocks.iter_mut().filter(|pool| pool.blocks.block_size() as usize >= size);
        fitting.into_iter().find_map(Pool::take)
    }

    /// A copy of `bytes` in a block of the right size.
    pub fn copy(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let mut buffer = self.take(bytes.len())?;
        let copied = buffer.append(bytes);
        debug_assert_eq!(copied, bytes.len());
        Some(buffer)
    }

    /// Sets the pools of other owners that ask for their blocks, until the next such call:
    /// [`BufferPools::is_scarce`].
    pub fn set_asked(&mut self, pools: [Option<PoolId>; ASKED_MAX]) {
        self.asked = pools;
    }

    /// The pools of which fewer than a quarter is free, and the receive pool if fewer than half of
    /// its buffers are.
    pub fn scarce(&mut self) -> PoolSet {
        let scarce = self.below(WAITING_PART as u32);
        if self.receive_is_half_taken() { scarce.with(PoolSet::RECEIVE) } else { scarce }
    }

    /// Returns a buffer at once. Dropping it does the same, a little later.
    pub fn give_back(&mut self, buffer: Buffer) {
        let span = buffer.span;
        if span.block_size() == self.receive.blocks.block_size() {
            self.receive.blocks.give_back(span);
        }
    }

    /// Whether fewer than a quarter of the receive buffers are free: then waiting bytes are copied
    /// out of them.
    pub fn receive_is_low(&mut self) -> bool {
        if self.receive_stock() < self.receive_low_water {
            self.receive.blocks.reclaim();
        }
        self.receive_stock() < self.receive_low_water
    }

    /// Whether the owner holds its whole share of the receive buffers.
    pub fn receive_is_dry(&mut self) -> bool {
        if self.receive_stock() == 0 {
            self.receive.blocks.reclaim();
        }
        self.receive_stock() == 0
    }

    /// Whether fewer than half of the owner's share of receive buffers are free: then what waits
    /// for a peer leaves them, and on a backend that keeps what it sends where it was received
    /// small pieces in flight do.
    pub fn receive_is_half_taken(&mut self) -> bool {
        self.receive_is_below(2)
    }

    /// Sets the number of taken receive buffers that wait empty with the kernel: they count as
    /// free.
    pub(crate) fn set_receive_lent(&mut self, count: u32) {
        self.receive_lent = count;
    }

    /// Whether less than one part in `parts` of the owner's share is free.
    fn receive_is_below(&mut self, parts: u32) -> bool {
        if self.receive_stock() * parts < self.receive_share() {
            self.receive.blocks.reclaim();
        }
        self.receive_stock() * parts < self.receive_share()
    }

    /// The pools of which fewer than an eighth is free.
    pub fn short(&mut self) -> PoolSet {
        self.below(8)
    }

    /// The pools of which less than one part in `parts` is free.
    fn below(&mut self, parts: u32) -> PoolSet {
        let receive = self.receive_is_below(parts).then_some(PoolSet::RECEIVE);
        let blocks = self.blocks.iter_mut().enumerate();
        blocks.fold(receive.unwrap_or_default(), |below, (index, pool)| match pool.is_below(parts) {
            true => below.with(PoolSet::block(index)),
            false => below,
        })
    }

    /// The pools whose blocks have at least `size` bytes, which [`BufferPools::take`] tries: none
    /// when `size` exceeds them all.
    pub fn fitting(&self, size: usize) -> PoolSet {
        let blocks = self.blocks.iter().enumerate();
        let fitting = blocks.filter(|(_, pool)| pool.blocks.block_size() as usize >= size);
        fitting.fold(PoolSet::default(), |set, (index, _)| set.with(PoolSet::block(index)))
    }

    /// Bytes of the blocks in `pools`, as far as they belong to this owner.
    pub fn bytes_of(&self, pools: PoolSet) -> usize {
        let bytes = |pool: &Pool| pool.blocks.count() as usize * pool.blocks.block_size() as usize;
        let receive = if pools.shares(PoolSet::RECEIVE) { bytes(&self.receive) } else { 0 };
        let blocks = self.blocks.iter().enumerate().filter(|(index, _)| pools.shares(PoolSet::block(*index)));
        receive + blocks.map(|(_, pool)| bytes(pool)).sum::<usize>()
    }

    /// Bytes of free blocks, without those of the receive pool and without reclaiming.
    pub(super) fn free_block_bytes(&self) -> usize {
        let bytes = |pool: &Pool| pool.blocks.free_count() as usize * pool.blocks.block_size() as usize;
        self.blocks.iter().map(bytes).sum()
    }

    /// How many blocks [`BufferPools::take`] could return for `size` bytes; counts no further than
    /// `enough`.
    pub fn free_for(&mut self, size: usize, enough: u32) -> u32 {
        let mut free = 0;
        for pool in self.blocks.iter_mut().filter(|pool| pool.blocks.block_size() as usize >= size) {
            if free + pool.blocks.free_count() < enough {
                pool.blocks.reclaim();
            }
            free += pool.blocks.free_count();
            if free >= enough {
                break;
            }
        }
        free
    }

    /// The pool that [`BufferPools::take`] tries first for `size` bytes, if less than half of it is
    /// free.
    pub fn half_taken(&mut self, size: usize) -> PoolSet {
        let mut blocks = self.blocks.iter_mut().enumerate();
        let first = blocks.find(|(_, pool)| pool.blocks.block_size() as usize >= size);
        let below = first.and_then(|(index, pool)| pool.is_below(2).then_some(index));
        below.map_or(PoolSet::default(), PoolSet::block)
    }

    /// Whether the buffer's block belongs to one of these pools.
    pub fn is_of(&self, buffer: &Buffer, pools: PoolSet) -> bool {
        pools.shares(self.pool_at(buffer.span.pool_key()))
    }

    /// Whether the shared buffer's block belongs to one of these pools.
    pub fn is_shared_of(&self, buffer: &SharedBuffer, pools: PoolSet) -> bool {
        pools.shares(self.pool_at(buffer.span.pool_key()))
    }

    /// The pool with this key; none when it is another owner's.
    fn pool_at(&self, key: usize) -> PoolSet {
        if self.receive.blocks.pool_key() == key {
            return PoolSet::RECEIVE;
        }
        let found = self.blocks.iter().position(|pool| pool.blocks.pool_key() == key);
        found.map_or(PoolSet::default(), PoolSet::block)
    }

    /// The ids of the pools in `set`, by which other threads know them.
    pub fn ids(&self, set: PoolSet) -> impl Iterator<Item = PoolId> + '_ {
        let receive = set.shares(PoolSet::RECEIVE).then(|| self.receive.blocks.pool_key());
        let blocks =
            self.blocks.iter().enumerate().filter(move |(index, _)| set.shares(PoolSet::block(*index)));
        receive.into_iter().chain(blocks.map(|(_, pool)| pool.blocks.pool_key())).map(PoolId)
    }

    /// Blocks in all pools except the receive pool.
    pub fn block_count(&self) -> usize {
        self.blocks.iter().map(|pool| pool.blocks.count() as usize).sum()
    }

    /// The largest size that [`BufferPools::take`] can serve.
    pub fn block_size_max(&self) -> usize {
        self.blocks.last().map_or(0, |pool| pool.blocks.block_size() as usize)
    }

    /// Size of a receive buffer.
    pub fn receive_size(&self) -> usize {
        self.receive.blocks.block_size() as usize
    }

    /// How full the receive pool is.
    pub fn receive_level(&mut self) -> PoolLevel {
        let level = self.receive.level();
        PoolLevel { free: level.free + self.receive_lent, ..level }
    }

    /// How full the block pools are, by rising size.
    pub fn block_levels(&mut self) -> impl Iterator<Item = PoolLevel> + '_ {
        self.blocks.iter_mut().map(Pool::level)
    }

    /// Returns the memory of blocks without a hold to the system.
    pub fn trim(&mut self) {
        self.receive.blocks.trim();
        self.blocks.iter_mut().for_each(|pool| pool.blocks.trim());
    }

    /// Whether every block is in its pool: true after everything was dropped, or something leaked.
    pub fn is_full(&mut self) -> bool {
        let full = |level: PoolLevel| level.free == level.count;
        let receive = full(self.receive_level());
        self.blocks.iter_mut().all(|pool| full(pool.level())) && receive
    }
}

impl std::fmt::Debug for BufferPools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BufferPools(receive {} × {} B)", self.receive.blocks.count(), self.receive_size())
    }
}
