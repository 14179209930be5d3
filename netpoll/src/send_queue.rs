//! What waits to be sent, by connection: lists of pieces in one store of fixed size.
//!
//! A queue is 16 bytes in its connection's slot and owns nothing while it is empty. A piece is 24 bytes: a
//! reference into pooled memory and a link.

use crate::{BufferPools, SharedBuffer};
use std::io::IoSlice;

const NONE: u32 = u32::MAX;

/// Most pieces that one vectored write carries (the kernel's limit, UIO_MAXIOV, is 1024; gains end long before).
pub(crate) const PIECES_PER_WRITE: usize = 64;

#[derive(Debug)]
struct Piece {
    /// `None` while the node is free.
    buffer: Option<SharedBuffer>,
    next: u32,
}

/// Bytes of a queued piece.
pub const PIECE_BYTES: usize = size_of::<Piece>();

const _: () = assert!(PIECE_BYTES == 24);

/// The store that all queues of a backend share.
#[derive(Debug)]
pub(crate) struct Pieces {
    nodes: Vec<Piece>,
    free: u32,
    used: usize,
    capacity: usize,
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
    pub(crate) fn with_capacity(capacity: usize) -> Pieces {
        assert!(capacity < NONE as usize);
        Pieces { nodes: Vec::with_capacity(capacity), free: NONE, used: 0, capacity }
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

    /// Appends `buffer`; neighbours in one block become one piece. Hands it back when the store is full or the
    /// queue would exceed `bytes_max`. An empty queue takes a piece of any size.
    pub(crate) fn push(
        &mut self,
        queue: &mut SendQueue,
        buffer: SharedBuffer,
        bytes_max: usize,
    ) -> Result<(), SharedBuffer> {
        let size = buffer.len();
        if size == 0 {
            return Ok(());
        }
        let total = queue.bytes() + size;
        if (!queue.is_empty() && total > bytes_max) || total > u32::MAX as usize {
            return Err(buffer);
        }
        let buffer = match self.join_tail(queue, buffer) {
            Ok(()) => {
                queue.bytes = total as u32;
                return Ok(());
            }
            Err(buffer) => buffer,
        };
        let index = self.allocate(buffer)?;
        match queue.tail {
            NONE => queue.head = index,
            tail => self.nodes[tail as usize].next = index,
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

    fn allocate(&mut self, buffer: SharedBuffer) -> Result<u32, SharedBuffer> {
        let index = self.free;
        if index != NONE {
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            *node = Piece { buffer: Some(buffer), next: NONE };
        } else if self.nodes.len() < self.capacity {
            self.nodes.push(Piece { buffer: Some(buffer), next: NONE });
            self.used += 1;
            return Ok(self.nodes.len() as u32 - 1);
        } else {
            return Err(buffer);
        }
        self.used += 1;
        Ok(index)
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
        if queue.head == NONE {
            queue.tail = NONE;
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

    fn setup(capacity: usize) -> (BufferPools, Pieces, SendQueue) {
        let pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        (pools, Pieces::with_capacity(capacity), SendQueue::new())
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
                pieces.push(&mut queue, piece(&mut pools, part), 100).unwrap();
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
        let (mut pools, mut pieces, mut queue) = setup(3);
        for round in 0..3 {
            for part in ["ab", "cd", "ef"] {
                pieces.push(&mut queue, piece(&mut pools, part), 100).unwrap();
            }
            assert!(pieces.push(&mut queue, piece(&mut pools, "x"), 100).is_err(), "round {round}");
            pieces.trim();
            assert_eq!(text(&pieces, &queue), "abcdef");
            pieces.advance(&mut queue, 6);
            pieces.trim();
            assert!(queue.is_empty() && pools.is_full());
        }
    }

    #[test]
    fn neighbours_are_one_piece() {
        let (mut pools, mut pieces, mut queue) = setup(1);
        let mut buffer = pools.copy(b"onetwo").unwrap();
        let first = buffer.split_to(3).freeze();
        pieces.push(&mut queue, first, 100).unwrap();
        pieces.push(&mut queue, buffer.freeze(), 100).unwrap();
        assert!(pieces.is_single(&queue));
        assert_eq!(text(&pieces, &queue), "onetwo");
    }

    #[test]
    fn both_bounds_hand_the_buffer_back() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        pieces.push(&mut queue, piece(&mut pools, "0123456789"), 4).unwrap();
        assert!(pieces.push(&mut queue, piece(&mut pools, "x"), 4).is_err(), "over the bytes");
        pieces.push(&mut queue, piece(&mut pools, "y"), 100).unwrap();
        assert!(pieces.push(&mut queue, piece(&mut pools, "z"), 100).is_err(), "over the pieces");
        pieces.advance(&mut queue, 10);
        pieces.push(&mut queue, piece(&mut pools, "z"), 100).unwrap();
        assert_eq!(text(&pieces, &queue), "yz");
    }

    #[test]
    fn waiting_pieces_move_to_small_blocks() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(b"small");
        pieces.push(&mut queue, buffer.freeze(), 100).unwrap();
        assert_eq!(pieces.retain(&queue, &mut pools, 512), 1);
        assert_eq!(text(&pieces, &queue), "small");
        assert_eq!(pools.receive_level().free, pools.receive_level().count);
    }
}
