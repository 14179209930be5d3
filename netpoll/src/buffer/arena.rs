//! The mapping that buffers live in, and the two kinds of hold on a piece of it.
//!
//! An [`Arena`] is an anonymous mapping. [`Blocks`] cuts a part of it into blocks of one size. A
//! block in use is held through [`Span`]s (exclusive: each byte belongs to at most one span) and
//! [`SharedSpan`]s (read-only, counted). The last hold to be dropped puts the block on its pool's
//! `returned` stack, from any thread and without a lock. Only the pool's owner takes blocks, so the
//! stack is pushed by many threads and emptied by one (`swap` of the whole stack: no ABA).
//!
//! ```text
//!   owner:      take ── free list ── empty? swap(returned) ──► free list
//!   any thread: drop the last hold ─────────► push on `returned`
//! ```
//!
//! A pool may also be cut from foreign memory, such as a network card's ([`LentMemory`]). Its
//! blocks are with the memory's owner until they are claimed with bytes in them, and are lent back
//! after they have returned to the pool:
//!
//! ```text
//!   lent ── claim (filled) ──► held ── drop ──► returned ── lend ──► lent
//! ```
//!
//! The reference count is a `u32` of our own: an mbuf's 16-bit count overflows at 65 535 receivers
//! of one payload.
//!
//! This file holds all `unsafe` of the buffers. Its safety rests on three invariants:
//! 1. a block's memory and header outlive every hold (`Blocks::drop` leaks them when a hold is
//!    still out);
//! 2. exclusive spans of one block never overlap one another or a shared span (they are only made
//!    by taking a whole block with no other hold, by splitting a span in two, and by freezing one;
//!    a shared span grows only while it is its block's sole hold);
//! 3. the whole mapping is initialized memory (anonymous mappings are zeroed; the owner of lent
//!    memory promises it).
#![allow(unsafe_code)]

mod lent;

pub use lent::{Filled, LentMemory};

use crate::sync::{Access, AtomicU32, Ordering};
use crate::sys::pages;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::any::Any;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of an arena's start when huge pages are asked for, and of its size.
pub const HUGE_PAGE_SIZE: usize = 2 << 20;
const PAGE_SIZE: usize = 4096;

/// An anonymous private mapping, zeroed, resident only where touched.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    size: usize,
    /// The mapping: more than `size`, so that `base` could be aligned.
    mapped: (NonNull<u8>, usize),
}

// SAFETY: the mapping is plain memory; spans decide which code may touch which byte.
unsafe impl Send for Arena {}
// SAFETY: as above; `Arena` itself offers no access to the bytes.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps at least `size` bytes. With `huge_pages`, asks for transparent huge pages
    /// (`madvise(2)`, `MADV_HUGEPAGE`): fewer TLB misses, and 2 MiB resident at the first touch of
    /// each.
    ///
    /// # Errors
    /// `ENOMEM` when the address space or the overcommit limit does not allow it.
    pub fn map(size: usize, huge_pages: bool) -> io::Result<Arc<Arena>> {
        let size = size.max(1).next_multiple_of(if huge_pages { HUGE_PAGE_SIZE } else { PAGE_SIZE });
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // The kernel aligns to pages; the surplus is never touched, so it costs addresses only.
        let whole = size + if huge_pages { HUGE_PAGE_SIZE - PAGE_SIZE } else { 0 };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, protection, flags) }?;
        let start: NonNull<u8> = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let alignment = if huge_pages { HUGE_PAGE_SIZE } else { PAGE_SIZE };
        let skipped = start.addr().get().next_multiple_of(alignment) - start.addr().get();
        // SAFETY: `skipped` is below a huge page, by which the mapping is longer than `size`; 0
        // where pages are aligned.
        let base = unsafe { start.add(skipped) };
        if huge_pages {
            // SAFETY: the range was mapped just above. The advice changes no byte; a kernel without
            // THP refuses it.
            let _ = unsafe { madvise(base.as_ptr().cast(), size, Advice::LinuxHugepage) };
        }
        Ok(Arc::new(Arena { base, size, mapped: (start, whole) }))
    }

    /// Bytes that buffers may take.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the range was mapped in `map`; every `Blocks` over it holds an `Arc` of it, so
        // none is left.
        let _ = unsafe { munmap(self.mapped.0.as_ptr().cast(), self.mapped.1) };
    }
}

const NONE: u32 = u32::MAX;
/// Stands in place of a count of holds: the block is with the owner of its memory.
const LENT: u32 = u32::MAX;

/// The header of a block, apart from its data so that the data stays contiguous and aligned.
struct Block {
    holds: AtomicU32,
    /// Next block on the `returned` stack; meaningful only while the block is on it.
    next: AtomicU32,
    index: u32,
    size: u32,
    data: NonNull<u8>,
    returns: NonNull<ReturnStack>,
    /// A model's note of each use of the bytes.
    access: Access,
}

/// The part of a pool that a hold needs when it is dropped.
struct ReturnStack {
    /// Top of the stack of returned blocks, by index.
    returned: AtomicU32,
}

impl ReturnStack {
    /// A stack on the heap that is freed by hand.
    fn leaked() -> NonNull<ReturnStack> {
        NonNull::from(Box::leak(Box::new(ReturnStack { returned: AtomicU32::new(NONE) })))
    }
}

/// The blocks of one pool: `count` blocks of `size` bytes, taken by one owner, returned from any
/// thread.
pub(super) struct Blocks {
    /// Headers of the blocks that have been used; the others have never been touched, and have none
    /// yet. The vector never grows beyond its capacity, so headers stay where they are.
    headers: Vec<Block>,
    /// Leaked, and freed at the end: holds point to it while `Blocks` moves, which a `Box` would
    /// not allow.
    returns: NonNull<ReturnStack>,
    /// Indexes of blocks without a hold, the warmest last.
    free: Vec<u32>,
    count: u32,
    size: u32,
    /// Where the first block of an arena begins. `None` for blocks in lent memory, which all have
    /// headers from the start.
    data: Option<NonNull<u8>>,
    /// Blocks that are with the owner of their memory.
    lent: u32,
    /// Keeps the memory alive; leaked with it.
    memory: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: the raw pointers lead into `memory` and `returns`, which `Blocks` owns or leaks; spans
// decide the access to the data, and `free` is reached through `&mut self` only.
unsafe impl Send for Blocks {}

impl Blocks {
    /// Bytes of a block's header.
    pub(super) const HEADER_BYTES: usize = size_of::<Block>();

    /// Cuts `count` blocks of `size` bytes from `arena`, beginning at `offset`.
    ///
    /// # Panics
    /// If they do not fit the arena; pools are laid out from one sum.
    pub(super) fn new(arena: Arc<Arena>, offset: usize, size: u32, count: u32) -> Blocks {
        let end = offset + size as usize * count as usize;
        assert!(end <= arena.size && count < NONE, "blocks end at {end}, arena at {}", arena.size);
        let returns = ReturnStack::leaked();
        // SAFETY: the blocks lie inside the mapping, as asserted above.
        let data = unsafe { arena.base.add(offset) };
        let room = count as usize;
        Blocks {
            headers: Vec::with_capacity(room),
            returns,
            free: Vec::with_capacity(room),
            count,
            size,
            data: Some(data),
            lent: 0,
            memory: Some(arena),
        }
    }

    /// The blocks of `memory`, which are all with its owner.
    pub(super) fn over(memory: LentMemory) -> Blocks {
        let LentMemory { blocks, size, owner, .. } = memory;
        let returns = ReturnStack::leaked();
        let block = |(index, data): (usize, &NonNull<u8>)| Block {
            holds: AtomicU32::new(LENT),
            next: AtomicU32::new(NONE),
            index: index as u32,
            size,
            data: *data,
            returns,
            access: Access::default(),
        };
        let headers: Vec<Block> = blocks.iter().enumerate().map(block).collect();
        let (count, free) = (headers.len() as u32, Vec::with_capacity(headers.len()));
        Blocks { headers, returns, free, count, size, data: None, lent: count, memory: Some(owner) }
    }

    /// Lends a block to the owner of its memory: one that has returned, and was reclaimed.
    pub(super) fn lend(&mut self) -> Option<u32> {
        let index = self.free.pop()?;
        let before = self.headers[index as usize].holds.swap(LENT, Ordering::Relaxed);
        assert!(before == 0, "block {index} lent while held {before} times");
        self.lent += 1;
        Some(index)
    }

    /// The filled bytes of a lent block and the room behind them. `None` when the block is not lent
    /// or does not have so many bytes.
    pub(super) fn claim(&mut self, filled: &Filled) -> Option<Span> {
        let header = self.headers.get(filled.index as usize)?;
        let is_inside = filled.start.checked_add(filled.size)? <= header.size;
        if !is_inside || header.holds.load(Ordering::Relaxed) != LENT {
            return None;
        }
        header.holds.store(1, Ordering::Relaxed);
        self.lent -= 1;
        Some(Span { block: Hold(NonNull::from(header)), start: filled.start, end: header.size })
    }

    /// Blocks that are with the owner of their memory.
    pub(super) fn lent_count(&self) -> u32 {
        self.lent
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn block_size(&self) -> u32 {
        self.size
    }

    /// A number that only this pool has among those that live: blocks' holds are compared with it.
    pub(super) fn pool_key(&self) -> usize {
        self.returns.as_ptr().addr()
    }

    /// Blocks without a hold, as far as this owner has reclaimed them ([`Blocks::reclaim`]).
    pub(super) fn free_count(&self) -> u32 {
        self.free.len() as u32 + (self.count - self.touched_count())
    }

    /// Blocks used at least once since the last [`Blocks::trim`]: what is resident.
    pub(super) fn touched_count(&self) -> u32 {
        self.headers.len() as u32
    }

    /// Takes a whole block; `None` when all are held.
    pub(super) fn take(&mut self) -> Option<Span> {
        if self.free.is_empty() {
            self.reclaim();
        }
        let index = self.free.pop().or_else(|| self.touch())?;
        let header = &self.headers[index as usize];
        let before = header.holds.swap(1, Ordering::Relaxed);
        assert!(before == 0, "block {index} taken while held {before} times");
        Some(Span { block: Hold(NonNull::from(header)), start: 0, end: header.size })
    }

    /// Makes the header of a block that has never been used; `None` when all have been used.
    fn touch(&mut self) -> Option<u32> {
        let index = self.touched_count();
        if index == self.count {
            return None;
        }
        let data = self.block(self.data?, index);
        let (holds, next) = (AtomicU32::new(0), AtomicU32::new(NONE));
        let returns = self.returns;
        let (size, access) = (self.size, Access::default());
        self.headers.push(Block { holds, next, index, size, data, returns, access });
        Some(index)
    }

    /// Where block `index` begins, in an arena where the first one begins at `first`.
    fn block(&self, first: NonNull<u8>, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.count);
        // SAFETY: the block lies inside the mapping, as asserted in `new`.
        unsafe { first.add(index as usize * self.size as usize) }
    }

    /// Returns the memory of blocks without a hold to the system, as far as it is whole pages. Lent
    /// memory is left to its owner.
    pub(super) fn trim(&mut self) {
        let Some(start) = self.data else { return };
        self.reclaim();
        // From here on the first blocks are taken first, and the last ones may count as never used.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        let mut end = self.free.len();
        while end > 0 {
            let first = self.free[end - 1];
            let run = self.free[..end].iter().rev().zip(first..).take_while(|(index, at)| *index == at);
            let length = run.count();
            let data = self.block(start, first);
            // SAFETY: private anonymous memory, of neighboring blocks without a hold: not even
            // `returned` leads to them.
            unsafe { pages::release(data, length * self.size as usize) };
            end -= length;
        }
        let touched = self.touched_count();
        let untouched =
            self.free.iter().zip((0..touched).rev()).take_while(|(index, at)| *index == at).count();
        self.free.drain(..untouched);
        self.headers.truncate(touched as usize - untouched);
        crate::release_spare(&mut self.headers);
        crate::release_spare(&mut self.free);
    }

    /// Moves the returned blocks to the free list.
    pub(super) fn reclaim(&mut self) {
        // Acquire pairs with the Release of `Hold::drop`: the last holder's accesses happened
        // before. SAFETY: freed in `drop` at the earliest.
        let returns = unsafe { self.returns.as_ref() };
        let mut index = returns.returned.swap(NONE, Ordering::Acquire);
        while index != NONE {
            self.free.push(index);
            index = self.headers[index as usize].next.load(Ordering::Relaxed);
        }
    }

    /// Returns a span without the detour over the stack, when it is the block's only hold.
    pub(super) fn give_back(&mut self, span: Span) {
        let block = span.block.header();
        let sole = block.holds.load(Ordering::Acquire) == 1;
        if !sole || block.returns != self.returns {
            return; // dropping the span does the right thing
        }
        let index = block.index;
        block.holds.store(0, Ordering::Relaxed);
        std::mem::forget(span);
        self.free.push(index);
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.reclaim();
        // A block is on a list only after its last holder's final access, so with all on lists none
        // is in use.
        if self.free_count() + self.lent != self.count() {
            std::mem::forget(self.memory.take());
            std::mem::forget(std::mem::take(&mut self.headers));
            return; // and `returns` stays, for those holds to return to
        }
        // SAFETY: made by `ReturnStack::leaked`, and freed here only; no hold is left that could
        // reach it.
        drop(unsafe { Box::from_raw(self.returns.as_ptr()) });
    }
}

/// One count on a block.
struct Hold(NonNull<Block>);

// SAFETY: a `Hold` is a counted reference; the count and the return stack are atomic.
unsafe impl Send for Hold {}
// SAFETY: `&Hold` reads only immutable fields and the atomic count.
unsafe impl Sync for Hold {}

impl Hold {
    #[inline]
    fn header(&self) -> &Block {
        // SAFETY: headers outlive every hold (invariant 1).
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn data(&self, start: u32, end: u32) -> NonNull<[u8]> {
        let block = self.header();
        debug_assert!(start <= end && end <= block.size);
        // SAFETY: `start` lies inside the block, by the ranges that spans keep.
        let data = unsafe { block.data.add(start as usize) };
        NonNull::slice_from_raw_parts(data, (end - start) as usize)
    }
}

impl Clone for Hold {
    #[inline]
    fn clone(&self) -> Hold {
        // Relaxed, as in `Arc`: a new hold is made from an existing one.
        let before = self.header().holds.fetch_add(1, Ordering::Relaxed);
        if before > i32::MAX as u32 {
            std::process::abort(); // 2^31 holds are a leak; wrapping would be unsound
        }
        Hold(self.0)
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        let block = self.header();
        // A sole hold has no other to race with: a load and a store are cheaper than a locked
        // subtraction.
        if block.holds.load(Ordering::Acquire) == 1 {
            block.holds.store(0, Ordering::Relaxed);
        } else if block.holds.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // SAFETY: `returns` lives until every block is back on a list (invariant 1), and this one
        // is not yet.
        let returns = unsafe { block.returns.as_ref() };
        let mut top = returns.returned.load(Ordering::Relaxed);
        loop {
            block.next.store(top, Ordering::Relaxed);
            match returns.returned.compare_exchange_weak(
                top,
                block.index,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

/// An exclusive, writable range of a block.
pub(super) struct Span {
    block: Hold,
    start: u32,
    end: u32,
}

impl Span {
    /// Returns the memory behind the first `used` bytes to the system, as far as it is whole pages.
    pub(super) fn release(&mut self, used: u32) {
        let rest = self.block.data(self.start + used, self.end);
        // SAFETY: private anonymous memory; the range is this span's alone (invariant 2), alive
        // (1), and `&mut self` the only way to it. Zeros are initialized memory (3).
        unsafe { pages::release(rest.cast(), rest.len()) };
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }

    /// The pool that the block returns to, as in [`Blocks::pool_key`].
    pub(super) fn pool_key(&self) -> usize {
        self.block.header().returns.as_ptr().addr()
    }

    pub(super) fn block_size(&self) -> u32 {
        self.block.header().size
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        self.block.header().access.read();
        // SAFETY: the range is this span's alone (invariant 2), initialized (3), alive (1).
        unsafe { self.block.data(self.start, self.end).as_ref() }
    }

    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.block.header().access.write();
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { self.block.data(self.start, self.end).as_mut() }
    }

    /// Cuts the first `at` bytes off into a span of their own. Both parts stay exclusive.
    #[inline]
    pub(super) fn split_to(&mut self, at: u32) -> Span {
        assert!(at <= self.len(), "split at {at} of {}", self.len());
        let middle = self.start + at;
        let head = Span { block: self.block.clone(), start: self.start, end: middle };
        self.start = middle;
        head
    }

    /// Gives up the first `count` bytes.
    #[inline]
    pub(super) fn advance(&mut self, count: u32) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        self.start += count;
    }

    /// Gives up writing; from here on the range may be referenced any number of times.
    #[inline]
    pub(super) fn freeze(self) -> SharedSpan {
        SharedSpan { block: self.block, start: self.start, end: self.end }
    }
}

/// A read-only, counted range of a block.
#[derive(Clone)]
pub(super) struct SharedSpan {
    block: Hold,
    start: u32,
    end: u32,
}

const _: () = assert!(size_of::<SharedSpan>() == 16);

impl SharedSpan {
    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        self.block.header().access.read();
        // SAFETY: a frozen range is never written (invariant 2); initialized (3), alive (1).
        unsafe { self.block.data(self.start, self.end).as_ref() }
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }

    /// The pool that the block returns to, as in [`Blocks::pool_key`].
    pub(super) fn pool_key(&self) -> usize {
        self.block.header().returns.as_ptr().addr()
    }

    /// The block, as a number, and its size: what the hold keeps from its pool.
    pub(super) fn block(&self) -> (usize, u32) {
        (self.block.0.addr().get(), self.block.header().size)
    }

    #[inline]
    pub(super) fn advance(&mut self, count: u32) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        self.start += count;
    }

    #[inline]
    pub(super) fn truncate(&mut self, len: u32) {
        assert!(len <= self.len(), "truncate to {len} of {}", self.len());
        self.end = self.start + len;
    }

    /// Copies `bytes` behind this range. False when the block has no room there, or another hold.
    pub(super) fn try_append(&mut self, bytes: &[u8]) -> bool {
        let block = self.block.header();
        // Acquire, as in the drop of a hold: what others wrote to the block lies before this.
        let is_sole = block.holds.load(Ordering::Acquire) == 1;
        if !is_sole || bytes.len() > (block.size - self.end) as usize {
            return false;
        }
        let end = self.end + bytes.len() as u32;
        block.access.write();
        // SAFETY: the block has no other hold and `&mut self` is the only way to this one, so no
        // span covers the range (invariant 2); it is initialized (3) and alive (1).
        unsafe { self.block.data(self.end, end).as_mut() }.copy_from_slice(bytes);
        self.end = end;
        true
    }

    /// Joins `next` when it continues this range in the same block; otherwise returns it.
    #[inline]
    pub(super) fn try_join(&mut self, next: SharedSpan) -> Result<(), SharedSpan> {
        if self.block.0 != next.block.0 || self.end != next.start {
            return Err(next);
        }
        self.end = next.end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
