//! The store of pieces that all send queues of a backend share, and the lists in it.
//!
//! A piece is 24 bytes: a reference into pooled memory, a link, and its number in its list. A
//! [`PieceList`] is two indexes and owns nothing while it is empty. The payload exists once,
//! however many lists refer to it.
//!
//! The store has one piece for each list, which no other list can take, and a part that all share
//! ([`Shares`]): an empty list always takes a piece, whatever other lists hold.

use crate::{BufferPools, Priority, SharedBuffer};

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Piece {
    /// `None` while the node is free.
    buffer: Option<SharedBuffer>,
    next: u32,
    /// The piece's number in its list; numbers rise by one, and wrap.
    ordinal: u32,
}

/// Bytes of a queued piece.
pub const PIECE_BYTES: usize = size_of::<Piece>();

const _: () = assert!(PIECE_BYTES == 24);

/// Why a queue did not take a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue itself is at its bound.
    Queue,
    /// Other queues hold what it would need.
    Store,
}

/// The account of a store of pieces: one guaranteed piece a queue, which is not counted here, and a
/// shared part.
///
/// A queue may take from the shared part while it holds less than a quarter of what is free: a
/// dynamic threshold (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
/// packet switches", 1998). However many queues take all that they may, N of them leave 1 part in
/// (1 + N / 4) free, and each has the same. An eighth of the shared part is for replies alone; a
/// queue may hold [`Shares::REPLIES_MIN`] of it while any piece is free.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    shared: usize,
    used: usize,
}

impl Shares {
    /// One queue may hold what is free, divided by this.
    const PART: usize = 4;
    /// The shared part, divided by this, is for replies alone.
    const RESERVE: usize = 8;
    /// Shared pieces that a queue of replies may hold while any is free. A queue that holds fewer
    /// does not fill the store.
    pub const REPLIES_MIN: usize = 64;

    /// The account of a store with `shared` pieces in addition to the guaranteed ones.
    pub fn new(shared: usize) -> Shares {
        Shares { shared, used: 0 }
    }

    /// Shared pieces in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Shared pieces in all.
    pub fn max(&self) -> usize {
        self.shared
    }

    /// Takes a shared piece for a queue that is not empty and holds `held` pieces. Calls `held`
    /// only when the store is so full that one queue could have too many.
    ///
    /// # Errors
    /// Which side is at its bound: the queue or the store.
    pub fn take(&mut self, priority: Priority, held: impl FnOnce() -> usize) -> Result<(), Refusal> {
        let free = self.shared - self.used;
        let limit = match priority {
            Priority::Last | Priority::Reply if free == 0 => 0,
            Priority::Last | Priority::Reply => free.div_ceil(Shares::PART).max(Shares::REPLIES_MIN),
            Priority::Push | Priority::Droppable => {
                free.saturating_sub(self.shared / Shares::RESERVE).div_ceil(Shares::PART)
            }
        };
        // No queue holds more shared pieces than all do.
        if self.used >= limit {
            let held = held().saturating_sub(1);
            if held >= limit {
                let is_own = held >= Shares::REPLIES_MIN;
                return Err(if is_own { Refusal::Queue } else { Refusal::Store });
            }
        }
        self.used += 1;
        Ok(())
    }

    /// Returns a shared piece.
    pub fn give_back(&mut self) {
        self.used -= 1;
    }
}

/// One queue's pieces.
///
/// Invariant: both are `NONE`, or the ends of one list in one store; no piece of it is empty.
#[derive(Clone, Copy, Debug)]
pub struct PieceList {
    head: u32,
    tail: u32,
}

impl PieceList {
    /// An index that names no piece.
    pub const NONE: u32 = NONE;

    /// A list without pieces.
    pub const fn new() -> PieceList {
        PieceList { head: NONE, tail: NONE }
    }

    /// Whether the list has no piece.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Whether the list has exactly one piece.
    pub fn is_single(&self) -> bool {
        self.head != NONE && self.head == self.tail
    }

    /// The index of the first piece, or [`PieceList::NONE`].
    #[inline]
    pub fn first(&self) -> u32 {
        self.head
    }
}

impl Default for PieceList {
    fn default() -> PieceList {
        PieceList::new()
    }
}

/// Where in a list the bytes of a push begin: a piece, and the bytes in it before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushedAt {
    /// Index of the piece.
    pub index: u32,
    /// Bytes of the piece that were there before.
    pub offset: u32,
}

/// The store of pieces. See the module's text.
#[derive(Debug)]
pub struct PieceStore {
    nodes: Vec<Piece>,
    free: u32,
    used: usize,
    capacity: usize,
    shares: Shares,
}

/// The number of pieces in a list that counts as short.
const SHORT_LIST: usize = 32;

impl PieceStore {
    /// At most so many pieces of a list are looked at by [`PieceStore::block_bytes`].
    pub const PIECES_COUNTED: usize = 1024;

    /// A store for `lists` lists, which share `shared` pieces in addition to the guaranteed one of
    /// each.
    ///
    /// # Panics
    /// If a 32-bit index does not name them all.
    pub fn new(lists: usize, shared: usize) -> PieceStore {
        let capacity = lists + shared;
        assert!(capacity < NONE as usize);
        let nodes = Vec::with_capacity(capacity);
        PieceStore { nodes, free: NONE, used: 0, capacity, shares: Shares::new(shared) }
    }

    /// Returns the memory to the system when no list has a piece.
    pub fn trim(&mut self) {
        if self.used == 0 {
            self.nodes.clear();
            self.free = NONE;
            crate::release_spare(&mut self.nodes);
        }
    }

    /// Pieces in all lists.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The account of the shared part.
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// Pieces in a list.
    pub fn count(&self, list: &PieceList) -> usize {
        let ordinal = |index: u32| self.nodes.get(index as usize).map_or(0, |piece| piece.ordinal);
        if list.is_empty() { 0 } else { ordinal(list.tail).wrapping_sub(ordinal(list.head)) as usize + 1 }
    }

    /// Appends `buffer`, which is not empty, in the form that `keep` returns. Neighbors in one
    /// block become one piece. Returns where the bytes begin.
    ///
    /// # Errors
    /// The buffer, when the store has no piece for it, or `keep` refuses it.
    #[inline]
    pub fn push(
        &mut self,
        list: &mut PieceList,
        buffer: SharedBuffer,
        priority: Priority,
        keep: impl FnOnce(SharedBuffer) -> Result<SharedBuffer, SharedBuffer>,
    ) -> Result<PushedAt, (Refusal, SharedBuffer)> {
        let buffer = match self.join_tail(list, buffer) {
            Ok(offset) => return Ok(PushedAt { index: list.tail, offset }),
            Err(buffer) => buffer,
        };
        let mut shares = self.shares;
        if !list.is_empty()
            && let Err(refusal) = shares.take(priority, || self.count(list))
        {
            return Err((refusal, buffer));
        }
        let kept = keep(buffer).map_err(|buffer| (Refusal::Queue, buffer))?;
        self.shares = shares;
        let index = self.allocate(kept);
        match list.tail {
            NONE => list.head = index,
            tail => {
                let last = &mut self.nodes[tail as usize];
                last.next = index;
                let ordinal = last.ordinal.wrapping_add(1);
                self.nodes[index as usize].ordinal = ordinal;
            }
        }
        list.tail = index;
        Ok(PushedAt { index, offset: 0 })
    }

    /// The last piece of a list.
    pub(crate) fn last_mut(&mut self, list: &PieceList) -> Option<&mut SharedBuffer> {
        self.nodes.get_mut(list.tail as usize).and_then(|tail| tail.buffer.as_mut())
    }

    /// Joins `buffer` to the last piece; returns the size that the piece had before.
    fn join_tail(&mut self, list: &PieceList, buffer: SharedBuffer) -> Result<u32, SharedBuffer> {
        let Some(tail) = self.last_mut(list) else { return Err(buffer) };
        let before = tail.len() as u32;
        tail.try_join(buffer)?;
        Ok(before)
    }

    /// A node for `buffer`. There always is one: the shared part has its account, and every list
    /// its own.
    fn allocate(&mut self, buffer: SharedBuffer) -> u32 {
        let piece = Piece { buffer: Some(buffer), next: NONE, ordinal: 0 };
        self.used += 1;
        let index = self.free;
        if index != NONE {
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            *node = piece;
            return index;
        }
        assert!(self.nodes.len() < self.capacity, "more lists than were declared");
        self.nodes.push(piece);
        self.nodes.len() as u32 - 1
    }

    /// The piece at `index`.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&SharedBuffer> {
        self.nodes.get(index as usize).and_then(|node| node.buffer.as_ref())
    }

    /// The index of the piece behind the one at `index`, or [`PieceList::NONE`].
    #[inline]
    pub fn next(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).map_or(NONE, |node| node.next)
    }

    /// The list's pieces, first to last.
    pub fn iter(&self, list: &PieceList) -> impl Iterator<Item = &SharedBuffer> {
        let mut index = list.head;
        std::iter::from_fn(move || {
            let piece = self.nodes.get(index as usize)?;
            index = piece.next;
            piece.buffer.as_ref()
        })
    }

    /// Drops the first `count` bytes of the list.
    ///
    /// # Panics
    /// If the list is shorter.
    #[inline]
    pub fn advance(&mut self, list: &mut PieceList, mut count: usize) {
        while count > 0 {
            let node = &mut self.nodes[list.head as usize];
            let buffer = node.buffer.as_mut().expect("a listed piece has a buffer");
            if count < buffer.len() {
                buffer.advance(count);
                return;
            }
            count -= buffer.len();
            self.pop(list);
        }
    }

    /// Removes the first piece.
    #[inline]
    pub fn pop(&mut self, list: &mut PieceList) -> Option<SharedBuffer> {
        let index = list.head;
        let node = self.nodes.get_mut(index as usize)?;
        let buffer = node.buffer.take();
        list.head = std::mem::replace(&mut node.next, self.free);
        match list.head {
            NONE => list.tail = NONE,
            _ => self.shares.give_back(),
        }
        self.free = index;
        self.used -= 1;
        buffer
    }

    /// Drops all pieces.
    pub fn clear(&mut self, list: &mut PieceList) {
        while self.pop(list).is_some() {}
    }

    /// Drops all bytes behind the first `size` of the piece at `index`, which the list has.
    /// Searches for the piece before that when `size` is 0.
    pub fn truncate(&mut self, list: &mut PieceList, index: u32, size: u32) {
        let last = if size > 0 { index } else { self.before(list, index) };
        if last == NONE {
            return self.clear(list);
        }
        if size > 0
            && let Some(buffer) = self.nodes[last as usize].buffer.as_mut()
        {
            *buffer = buffer.slice(0, size as usize);
        }
        self.cut_behind(list, last, |_| {});
    }

    /// Drops the pieces behind the one at `index`, which the list has; passes each to `dropped`, in
    /// order.
    pub fn cut_behind(&mut self, list: &mut PieceList, index: u32, mut dropped: impl FnMut(&SharedBuffer)) {
        let rest = std::mem::replace(&mut self.nodes[index as usize].next, NONE);
        let mut cut = PieceList { head: rest, tail: list.tail };
        list.tail = index;
        // The first piece of a list is the one that was not taken from the shared part, and the
        // list keeps its own.
        if !cut.is_empty() {
            self.shares.give_back();
        }
        while let Some(piece) = self.pop(&mut cut) {
            dropped(&piece);
        }
    }

    /// The piece before the one at `index`, or [`PieceList::NONE`] when that is the first.
    pub fn before(&self, list: &PieceList, index: u32) -> u32 {
        let (mut last, mut at) = (NONE, list.head);
        while at != index {
            (last, at) = (at, self.next(at));
        }
        last
    }

    /// Replaces each piece of a list by what `change` makes of it; sizes stay.
    pub fn change(&mut self, list: &PieceList, change: impl FnMut(SharedBuffer) -> SharedBuffer) {
        self.change_from(list.head, usize::MAX, change);
    }

    /// The same for at most `pieces_max` pieces, from the one at `index` on.
    pub fn change_from(
        &mut self,
        mut index: u32,
        pieces_max: usize,
        mut change: impl FnMut(SharedBuffer) -> SharedBuffer,
    ) {
        for _ in 0..pieces_max {
            let Some(node) = self.nodes.get_mut(index as usize) else { return };
            index = node.next;
            node.buffer = node.buffer.take().map(&mut change);
        }
    }

    /// Bytes of the blocks that the first [`PieceStore::PIECES_COUNTED`] pieces of a list hold, as
    /// far as `is_counted` says so: each block once, however many of the pieces lie in it.
    pub fn block_bytes(&self, list: &PieceList, is_counted: impl Fn(&SharedBuffer) -> bool) -> usize {
        // One decision asks thousands of lists, most of them short: clearing the large array would
        // be most of the work.
        match self.count(list) {
            0..=SHORT_LIST => self.block_bytes_of_first::<SHORT_LIST>(list, is_counted),
            _ => self.block_bytes_of_first::<{ PieceStore::PIECES_COUNTED }>(list, is_counted),
        }
    }

    /// The same for the first `N` pieces.
    fn block_bytes_of_first<const N: usize>(
        &self,
        list: &PieceList,
        is_counted: impl Fn(&SharedBuffer) -> bool,
    ) -> usize {
        let (mut blocks, mut count) = ([(0, 0); N], 0);
        for piece in self.iter(list).take(blocks.len()).filter(|piece| is_counted(piece)) {
            let block = (piece.block(), piece.block_size());
            // Most pieces of a block follow one another.
            if count == 0 || blocks[count - 1] != block {
                blocks[count] = block;
                count += 1;
            }
        }
        let blocks = &mut blocks[..count];
        blocks.sort_unstable();
        let first = |position: &usize| *position == 0 || blocks[*position] != blocks[*position - 1];
        (0..count).filter(first).map(|position| blocks[position].1).sum()
    }
}

/// The buffer that was copied last for a waiting queue, and its copy: what goes to many such queues
/// is copied once. Lives for a turn.
#[derive(Debug, Default)]
pub struct LastCopy(Option<(SharedBuffer, SharedBuffer)>);

impl LastCopy {
    /// `buffer`, or a copy of it where [`BufferPools::retain_waiting`] makes one, because it stays
    /// for as long as the peer is slow. Adds to `copies` when one was made.
    pub fn keep(
        &mut self,
        buffer: SharedBuffer,
        pools: &mut BufferPools,
        copy_break: usize,
        copies: &mut u64,
    ) -> SharedBuffer {
        self.keep_by(buffer, copies, |buffer| pools.retain_waiting(buffer, copy_break))
    }

    /// The same by [`BufferPools::retain`], for what was sent and stays until it is acknowledged.
    pub fn keep_sent(
        &mut self,
        buffer: SharedBuffer,
        pools: &mut BufferPools,
        copy_break: usize,
        copies: &mut u64,
    ) -> SharedBuffer {
        self.keep_by(buffer, copies, |buffer| pools.retain(buffer, copy_break))
    }

    fn keep_by(
        &mut self,
        buffer: SharedBuffer,
        copies: &mut u64,
        retain: impl FnOnce(SharedBuffer) -> (SharedBuffer, bool),
    ) -> SharedBuffer {
        if let Some((original, copy)) = &self.0
            && original.as_ptr() == buffer.as_ptr()
            && original.len() == buffer.len()
        {
            return copy.clone();
        }
        let (kept, copied) = retain(buffer.clone());
        if copied {
            *copies += 1;
            self.0 = Some((buffer, kept.clone()));
        }
        kept
    }

    /// The same for what goes to a queue of a peer that has refused bytes and did not ask for this:
    /// it does not hold a block that is scarce ([`BufferPools::is_scarce`]).
    ///
    /// # Errors
    /// The buffer, when it would hold such a block.
    pub fn keep_if_plenty(
        &mut self,
        buffer: SharedBuffer,
        pools: &mut BufferPools,
        copy_break: usize,
        copies: &mut u64,
    ) -> Result<SharedBuffer, SharedBuffer> {
        let pool = buffer.pool();
        let kept = self.keep(buffer, pools, copy_break, copies);
        // A copy lies in a pool that has enough.
        if kept.pool() == pool && pools.is_scarce(&kept) { Err(kept) } else { Ok(kept) }
    }

    /// Returns both to their pools.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests;
