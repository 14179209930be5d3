//! What waits to be sent, by connection: lists of pieces in one store of fixed size.
//!
//! A queue is 12 bytes in its connection's slot and owns nothing while it is empty. A piece is 24 bytes: a
//! reference into pooled memory, a link, and its number in its queue.
//!
//! The store has one piece for every queue that nothing else can take, and a part that all share ([`Shares`]): a queue that is
//! empty always takes a piece, whatever others hold.

use crate::{BufferPools, Priority, SharedBuffer};
use std::io::IoSlice;

const NONE: u32 = u32::MAX;

/// Most pieces that one vectored write carries (the kernel's limit, UIO_MAXIOV, is 1024; gains end long before).
pub(crate) const PIECES_PER_WRITE: usize = 64;

#[derive(Debug)]
struct Piece {
    /// `None` while the node is free.
    buffer: Option<SharedBuffer>,
    next: u32,
    /// Its number in its queue; they rise by one, and wrap.
    ordinal: u32,
}

/// Bytes of a queued piece.
pub const PIECE_BYTES: usize = size_of::<Piece>();

const _: () = assert!(PIECE_BYTES == 24);

/// Why a queue did not take a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue itself holds as much as it may.
    Queue,
    /// Other queues hold what it would need.
    Store,
}

/// The account of a store of pieces: one guaranteed piece a queue, which is not counted here, and a shared part.
///
/// A queue may take from the shared part while it holds less than a quarter of what is free: a dynamic threshold (Choudhury
/// and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). However many queues take all that they
/// may, N of them leave 1 part in (1 + N / 4) free, and each has the same. An eighth of the shared part is for replies alone, of
/// which a queue may hold [`Shares::REPLIES_MIN`] while any piece is free.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    shared: usize,
    used: usize,
}

impl Shares {
    /// What is free, divided by this, is what one queue may hold.
    const PART: usize = 4;
    /// The shared part, divided by this, is for replies alone.
    const RESERVE: usize = 8;
    /// Shared pieces that a queue of replies may hold while any is free. A queue that holds fewer is not what fills the store.
    pub const REPLIES_MIN: usize = 64;

    /// The account of a store with `shared` pieces beside those guaranteed.
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

    /// Takes a shared piece for a queue that is not empty and holds `held` pieces. `held` is asked for only when the store is so
    /// full that one queue could have too many.
    ///
    /// # Errors
    /// Whose fault it is that there is none for it.
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

    /// Gives a shared piece back.
    pub fn give_back(&mut self) {
        self.used -= 1;
    }
}

/// The store that all queues of a backend share.
#[derive(Debug)]
pub(crate) struct Pieces {
    nodes: Vec<Piece>,
    free: u32,
    used: usize,
    capacity: usize,
    shares: Shares,
}

/// One connection's queue.
///
/// Invariant: `head` and `tail` are both `NONE` or the ends of one list; `bytes` is the sum of its pieces, none empty.
#[derive(Debug)]
pub(crate) struct SendQueue {
    head: u32,
    tail: u32,
    bytes: u32,
}

impl SendQueue {
    pub(crate) const fn new() -> SendQueue {
        SendQueue { head: NONE, tail: NONE, bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

impl Pieces {
    /// A store for `queues` queues, which share `shared` pieces beside the one that each is sure of.
    pub(crate) fn new(queues: usize, shared: usize) -> Pieces {
        let capacity = queues + shared;
        assert!(capacity < NONE as usize);
        Pieces {
            nodes: Vec::with_capacity(capacity),
            free: NONE,
            used: 0,
            capacity,
            shares: Shares::new(shared),
        }
    }

    /// Gives the memory back when no queue has a piece.
    pub(crate) fn trim(&mut self) {
        if self.used == 0 {
            self.nodes.clear();
            self.free = NONE;
            crate::release_spare(&mut self.nodes);
        }
    }

    /// Pieces in all queues.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The account of the shared part.
    pub(crate) fn shares(&self) -> Shares {
        self.shares
    }

    /// Pieces in a queue.
    pub(crate) fn count(&self, queue: &SendQueue) -> usize {
        let ordinal = |index: u32| self.nodes.get(index as usize).map_or(0, |piece| piece.ordinal);
        if queue.is_empty() { 0 } else { ordinal(queue.tail).wrapping_sub(ordinal(queue.head)) as usize + 1 }
    }

    /// Appends `buffer`, in the form in which `keep` has it stay; neighbours in one block become one piece. An empty queue takes
    /// a piece of any size.
    ///
    /// # Errors
    /// The buffer, when the queue would exceed `bytes_max`, or when the store has no piece for it.
    pub(crate) fn push(
        &mut self,
        queue: &mut SendQueue,
        buffer: SharedBuffer,
        bytes_max: usize,
        priority: Priority,
        keep: impl FnOnce(SharedBuffer) -> SharedBuffer,
    ) -> Result<(), (Refusal, SharedBuffer)> {
        let size = buffer.len();
        if size == 0 {
            return Ok(());
        }
        let total = queue.bytes() + size;
        if (!queue.is_empty() && total > bytes_max) || total > u32::MAX as usize {
            return Err((Refusal::Queue, buffer));
        }
        let buffer = match self.join_tail(queue, buffer) {
            Ok(()) => {
                queue.bytes = total as u32;
                return Ok(());
            }
            Err(buffer) => buffer,
        };
        if !queue.is_empty() {
            let mut shares = self.shares;
            let taken = shares.take(priority, || self.count(queue));
            self.shares = shares;
            if let Err(refusal) = taken {
                return Err((refusal, buffer));
            }
        }
        let index = self.allocate(keep(buffer));
        match queue.tail {
            NONE => queue.head = index,
            tail => {
                let last = &mut self.nodes[tail as usize];
                last.next = index;
                let ordinal = last.ordinal.wrapping_add(1);
                self.nodes[index as usize].ordinal = ordinal;
            }
        }
        queue.tail = index;
        queue.bytes = total as u32;
        Ok(())
    }

    fn join_tail(&mut self, queue: &SendQueue, buffer: SharedBuffer) -> Result<(), SharedBuffer> {
        match self.nodes.get_mut(queue.tail as usize).and_then(|tail| tail.buffer.as_mut()) {
            Some(tail) => tail.try_join(buffer),
            None => Err(buffer),
        }
    }

    /// A node for `buffer`. There is one: the shared part has its account, and every queue its own.
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
        assert!(self.nodes.len() < self.capacity, "more queues than were declared");
        self.nodes.push(piece);
        self.nodes.len() as u32 - 1
    }

    /// The queue's first piece.
    pub(crate) fn front(&self, queue: &SendQueue) -> Option<&SharedBuffer> {
        self.nodes.get(queue.head as usize).and_then(|piece| piece.buffer.as_ref())
    }

    /// Whether the queue has exactly one piece.
    pub(crate) fn is_single(&self, queue: &SendQueue) -> bool {
        queue.head != NONE && queue.head == queue.tail
    }

    /// Writes the queue's first pieces to `slices` and returns how many they are.
    pub(crate) fn gather<'a>(&'a self, queue: &SendQueue, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, buffer) in slices.iter_mut().zip(self.iter(queue)) {
            *slice = IoSlice::new(buffer);
            count += 1;
        }
        count
    }

    /// The queue's pieces, first to last.
    pub(crate) fn iter(&self, queue: &SendQueue) -> impl Iterator<Item = &SharedBuffer> {
        let mut index = queue.head;
        std::iter::from_fn(move || {
            let piece = self.nodes.get(index as usize)?;
            index = piece.next;
            piece.buffer.as_ref()
        })
    }

    /// Drops the first `count` bytes: the socket has taken them.
    pub(crate) fn advance(&mut self, queue: &mut SendQueue, count: usize) {
        assert!(count <= queue.bytes(), "sent {count} of {} queued", queue.bytes());
        queue.bytes -= count as u32;
        let mut left = count;
        while left > 0 {
            let node = &mut self.nodes[queue.head as usize];
            let buffer = node.buffer.as_mut().expect("a listed piece has a buffer");
            if left < buffer.len() {
                buffer.advance(left);
                return;
            }
            left -= buffer.len();
            self.pop(queue);
        }
    }

    /// Takes the first piece off.
    pub(crate) fn pop(&mut self, queue: &mut SendQueue) -> Option<SharedBuffer> {
        let index = queue.head;
        let node = self.nodes.get_mut(index as usize)?;
        let buffer = node.buffer.take();
        queue.head = std::mem::replace(&mut node.next, self.free);
        match queue.head {
            NONE => queue.tail = NONE,
            _ => self.shares.give_back(),
        }
        self.free = index;
        self.used -= 1;
        buffer
    }

    /// Drops all pieces.
    pub(crate) fn clear(&mut self, queue: &mut SendQueue) {
        while self.pop(queue).is_some() {}
        queue.bytes = 0;
    }

    /// Moves small waiting pieces out of large blocks; returns how many were copied.
    pub(crate) fn retain(&mut self, queue: &SendQueue, pools: &mut BufferPools, copy_break: usize) -> u64 {
        let mut copies = 0;
        let mut index = queue.head;
        while let Some(node) = self.nodes.get_mut(index as usize) {
            if let Some(buffer) = node.buffer.take() {
                let (kept, copied) = pools.retain(buffer, copy_break);
                node.buffer = Some(kept);
                copies += u64::from(copied);
            }
            index = node.next;
        }
        copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendConfig;

    fn setup(shared: usize) -> (BufferPools, Pieces, SendQueue) {
        let pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        (pools, Pieces::new(1, shared), SendQueue::new())
    }

    fn piece(pools: &mut BufferPools, text: &str) -> SharedBuffer {
        pools.copy(text.as_bytes()).unwrap().freeze()
    }

    fn text(pieces: &Pieces, queue: &SendQueue) -> String {
        pieces.iter(queue).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[test]
    fn bytes_leave_in_order_wherever_the_cut_falls() {
        for cut in 0..=9 {
            let (mut pools, mut pieces, mut queue) = setup(8);
            for part in ["ab", "cdef", "", "ghi"] {
                pieces.push(&mut queue, piece(&mut pools, part), 100, Priority::Reply, |b| b).unwrap();
            }
            pieces.advance(&mut queue, cut);
            assert_eq!(text(&pieces, &queue), "abcdefghi"[cut..]);
            assert_eq!(queue.bytes(), 9 - cut);
            pieces.clear(&mut queue);
            assert!(queue.is_empty() && pieces.used() == 0 && pools.is_full());
        }
    }

    #[test]
    fn a_trimmed_store_is_as_new_and_one_in_use_stays() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        for round in 0..3 {
            for part in ["ab", "cd", "ef"] {
                pieces.push(&mut queue, piece(&mut pools, part), 100, Priority::Reply, |b| b).unwrap();
            }
            assert!(
                pieces.push(&mut queue, piece(&mut pools, "x"), 100, Priority::Reply, |b| b).is_err(),
                "round {round}"
            );
            pieces.trim();
            assert_eq!(text(&pieces, &queue), "abcdef");
            pieces.advance(&mut queue, 6);
            pieces.trim();
            assert!(queue.is_empty() && pools.is_full());
        }
    }

    #[test]
    fn neighbours_are_one_piece() {
        let (mut pools, mut pieces, mut queue) = setup(0);
        let mut buffer = pools.copy(b"onetwo").unwrap();
        let first = buffer.split_to(3).freeze();
        pieces.push(&mut queue, first, 100, Priority::Reply, |b| b).unwrap();
        pieces.push(&mut queue, buffer.freeze(), 100, Priority::Reply, |b| b).unwrap();
        assert!(pieces.is_single(&queue));
        assert_eq!(text(&pieces, &queue), "onetwo");
    }

    #[test]
    fn both_bounds_hand_the_buffer_back() {
        let (mut pools, mut pieces, mut queue) = setup(1);
        pieces.push(&mut queue, piece(&mut pools, "0123456789"), 4, Priority::Reply, |b| b).unwrap();
        assert!(
            pieces.push(&mut queue, piece(&mut pools, "x"), 4, Priority::Reply, |b| b).is_err(),
            "over the bytes"
        );
        pieces.push(&mut queue, piece(&mut pools, "y"), 100, Priority::Reply, |b| b).unwrap();
        assert!(
            pieces.push(&mut queue, piece(&mut pools, "z"), 100, Priority::Reply, |b| b).is_err(),
            "over the pieces"
        );
        pieces.advance(&mut queue, 10);
        pieces.push(&mut queue, piece(&mut pools, "z"), 100, Priority::Reply, |b| b).unwrap();
        assert_eq!(text(&pieces, &queue), "yz");
    }

    #[test]
    fn waiting_pieces_move_to_small_blocks() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(b"small");
        pieces.push(&mut queue, buffer.freeze(), 100, Priority::Reply, |b| b).unwrap();
        assert_eq!(pieces.retain(&queue, &mut pools, 512), 1);
        assert_eq!(text(&pieces, &queue), "small");
        assert_eq!(pools.receive_level().free, pools.receive_level().count);
    }

    /// Pushes pieces of a byte each until one is refused; returns how many the queue holds, and why it is not one more.
    fn fill(
        pools: &mut BufferPools,
        pieces: &mut Pieces,
        queue: &mut SendQueue,
        priority: Priority,
    ) -> (usize, Refusal) {
        let buffer = pools.copy(b"xy").unwrap().freeze();
        loop {
            // One byte of two, so that no two are neighbours.
            if let Err((refusal, _)) = pieces.push(queue, buffer.slice(0, 1), 1 << 20, priority, |b| b) {
                return (pieces.count(queue), refusal);
            }
        }
    }

    #[test]
    fn an_empty_queue_takes_a_piece_whatever_others_hold() {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let mut pieces = Pieces::new(100, 1000);
        let mut queues: Vec<SendQueue> = (0..100).map(|_| SendQueue::new()).collect();
        for _ in 0..100 {
            for queue in &mut queues[..20] {
                fill(&mut pools, &mut pieces, queue, Priority::Reply);
            }
        }
        assert!(pieces.shares().used() > 900, "{}", pieces.shares().used());
        for queue in &mut queues[20..] {
            let one = pools.copy(b"x").unwrap().freeze();
            pieces.push(queue, one, 1 << 20, Priority::Droppable, |b| b).unwrap();
        }
        queues.iter_mut().for_each(|queue| pieces.clear(queue));
        assert_eq!((pieces.used(), pieces.shares().used()), (0, 0));
    }

    #[test]
    fn queues_that_take_all_they_may_leave_a_part_to_others_and_have_the_same() {
        for hogs in [1, 4, 20, 100] {
            let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
            let mut pieces = Pieces::new(hogs, 80_000);
            let mut queues: Vec<SendQueue> = (0..hogs).map(|_| SendQueue::new()).collect();
            let buffer = pools.copy(b"xy").unwrap().freeze();
            let mut taken = true;
            while taken {
                taken = false;
                for queue in &mut queues {
                    taken |= pieces.push(queue, buffer.slice(0, 1), 1 << 20, Priority::Push, |b| b).is_ok();
                }
            }
            let counts: Vec<usize> = queues.iter().map(|queue| pieces.count(queue)).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 2, "{least} to {most}");
            // 70 000 are for pushes: N queues with a quarter of the rest each leave 1 part in 1 + N / 4.
            let left = 70_000 * 4 / (4 + hogs);
            let free = pieces.shares().max() - pieces.shares().used() - 10_000;
            assert!(free.abs_diff(left) <= hogs + 4, "{hogs} hogs leave {free}, not {left}");
        }
    }

    #[test]
    fn pushes_leave_an_eighth_to_replies_and_the_blame_is_where_it_belongs() {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let mut pieces = Pieces::new(12, 8000);
        let mut hogs: Vec<SendQueue> = (0..10).map(|_| SendQueue::new()).collect();
        for _ in 0..100 {
            for hog in &mut hogs {
                let (count, refusal) = fill(&mut pools, &mut pieces, hog, Priority::Push);
                assert!(count > 150 && refusal == Refusal::Queue);
            }
        }
        let mut replies = SendQueue::new();
        let (count, refusal) = fill(&mut pools, &mut pieces, &mut replies, Priority::Reply);
        assert!(count > 300 && refusal == Refusal::Queue, "{count}");
        // A store that replies of others have used up is not the fault of a queue that holds one.
        let mut small = Pieces::new(3, 100);
        let mut queues = [SendQueue::new(), SendQueue::new(), SendQueue::new()];
        let first = fill(&mut pools, &mut small, &mut queues[0], Priority::Reply);
        assert_eq!(first, (65, Refusal::Queue));
        let second = fill(&mut pools, &mut small, &mut queues[1], Priority::Reply);
        assert_eq!(second, (37, Refusal::Store), "36 of the shared part were left");
        let third = fill(&mut pools, &mut small, &mut queues[2], Priority::Reply);
        assert_eq!(third, (1, Refusal::Store));
    }
}
