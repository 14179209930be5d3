//! What waits to be sent on one connection: a list of pieces in the shared store
//! ([`crate::PieceStore`]), and its bytes.
//!
//! A queue is 12 bytes in its connection's slot and owns nothing while it is empty.

use crate::piece_store::{PieceList, PieceStore, Refusal};
use crate::{BufferPools, Priority, SharedBuffer};
use std::io::IoSlice;

/// At most so many pieces are carried by one vectored write. The kernel's limit, UIO_MAXIOV, is
/// 1024; gains end long before.
pub(crate) const PIECES_PER_WRITE: usize = 64;

/// One connection's queue.
///
/// Invariant: `bytes` is the sum of its pieces, none empty.
#[derive(Debug)]
pub(crate) struct SendQueue {
    list: PieceList,
    bytes: u32,
}

impl SendQueue {
    pub(crate) const fn new() -> SendQueue {
        SendQueue { list: PieceList::new(), bytes: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn list(&self) -> &PieceList {
        &self.list
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Whether the queue has exactly one piece.
    pub(crate) fn is_single(&self) -> bool {
        self.list.is_single()
    }

    /// Appends `buffer`, in the form that `keep` returns. An empty queue takes a piece of any size.
    ///
    /// # Errors
    /// The buffer, when the queue would exceed `bytes_max`, when the store has no piece for it, or
    /// when `keep` refuses it.
    pub(crate) fn push(
        &mut self,
        store: &mut PieceStore,
        buffer: SharedBuffer,
        bytes_max: usize,
        priority: Priority,
        keep: impl FnOnce(SharedBuffer) -> Result<SharedBuffer, SharedBuffer>,
    ) -> Result<(), (Refusal, SharedBuffer)> {
        let size = buffer.len();
        if size == 0 {
            return Ok(());
        }
        let total = self.bytes() + size;
        if (!self.is_empty() && total > bytes_max) || total > u32::MAX as usize {
            return Err((Refusal::Queue, buffer));
        }
        store.push(&mut self.list, buffer, priority, keep)?;
        self.bytes = total as u32;
        Ok(())
    }

    /// Appends a copy of an answer to the last piece of a queue that waits
    /// ([`BufferPools::append_waiting`]); false when it is to be pushed.
    pub(crate) fn append_answer(
        &mut self,
        store: &mut PieceStore,
        answer: &SharedBuffer,
        bytes_max: usize,
        (pools, copy_break): (&mut BufferPools, usize),
    ) -> bool {
        let total = self.bytes() + answer.len();
        if total > bytes_max || total > u32::MAX as usize {
            return false;
        }
        let last = store.last_mut(&self.list);
        let gathered = last.is_some_and(|last| pools.append_waiting(last, answer, copy_break));
        self.bytes = if gathered { total as u32 } else { self.bytes };
        gathered
    }

    /// The queue's first piece.
    pub(crate) fn front<'s>(&self, store: &'s PieceStore) -> Option<&'s SharedBuffer> {
        store.get(self.list.first())
    }

    /// Writes the queue's first pieces to `slices` and returns how many they are.
    pub(crate) fn gather<'s>(&self, store: &'s PieceStore, slices: &mut [IoSlice<'s>]) -> usize {
        let mut count = 0;
        for (slice, buffer) in slices.iter_mut().zip(store.iter(&self.list)) {
            *slice = IoSlice::new(buffer);
            count += 1;
        }
        count
    }

    /// Drops the first `count` bytes: the socket has taken them.
    pub(crate) fn advance(&mut self, store: &mut PieceStore, count: usize) {
        assert!(count <= self.bytes(), "sent {count} of {} queued", self.bytes());
        self.bytes -= count as u32;
        store.advance(&mut self.list, count);
    }

    /// Drops all pieces.
    pub(crate) fn clear(&mut self, store: &mut PieceStore) {
        store.clear(&mut self.list);
        self.bytes = 0;
    }

    /// Drops the pieces behind those that hold the first `kept` bytes, and behind the first piece
    /// in any case; passes the bytes of each to `dropped`, in order.
    pub(crate) fn cut_behind(&mut self, store: &mut PieceStore, kept: usize, dropped: &mut dyn FnMut(&[u8])) {
        let size = |store: &PieceStore, index| store.get(index).map_or(0, |piece| piece.len());
        let mut last = self.list.first();
        let mut bytes = size(store, last);
        while bytes < kept && store.next(last) != PieceList::NONE {
            last = store.next(last);
            bytes += size(store, last);
        }
        if last != PieceList::NONE {
            store.cut_behind(&mut self.list, last, |piece| dropped(piece));
            self.bytes = bytes as u32;
        }
    }

    /// Moves waiting pieces to blocks of their size ([`BufferPools::retain_waiting`]); returns how
    /// many were copied.
    pub(crate) fn retain(&self, store: &mut PieceStore, pools: &mut BufferPools, copy_break: usize) -> u64 {
        let mut copies = 0;
        store.change(&self.list, |buffer| {
            let (kept, copied) = pools.retain_waiting(buffer, copy_break);
            copies += u64::from(copied);
            kept
        });
        copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendConfig;

    fn setup(shared: usize) -> (BufferPools, PieceStore, SendQueue) {
        let pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        (pools, PieceStore::new(1, shared), SendQueue::new())
    }

    fn piece(pools: &mut BufferPools, text: &str) -> SharedBuffer {
        pools.copy(text.as_bytes()).unwrap().freeze()
    }

    fn text(pieces: &PieceStore, queue: &SendQueue) -> String {
        pieces.iter(queue.list()).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
    }

    #[test]
    fn bytes_leave_in_order_wherever_the_cut_falls() {
        for cut in 0..=9 {
            let (mut pools, mut pieces, mut queue) = setup(8);
            for part in ["ab", "cdef", "", "ghi"] {
                queue.push(&mut pieces, piece(&mut pools, part), 100, Priority::Reply, Ok).unwrap();
            }
            queue.advance(&mut pieces, cut);
            assert_eq!(text(&pieces, &queue), "abcdefghi"[cut..]);
            assert_eq!(queue.bytes(), 9 - cut);
            queue.clear(&mut pieces);
            assert!(queue.is_empty() && pieces.used() == 0 && pools.is_full());
        }
    }

    #[test]
    fn a_trimmed_store_is_as_new_and_one_in_use_stays() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        for round in 0..3 {
            for part in ["ab", "cd", "ef"] {
                queue.push(&mut pieces, piece(&mut pools, part), 100, Priority::Reply, Ok).unwrap();
            }
            assert!(
                queue.push(&mut pieces, piece(&mut pools, "x"), 100, Priority::Reply, Ok).is_err(),
                "round {round}"
            );
            pieces.trim();
            assert_eq!(text(&pieces, &queue), "abcdef");
            queue.advance(&mut pieces, 6);
            pieces.trim();
            assert!(queue.is_empty() && pools.is_full());
        }
    }

    #[test]
    fn neighbors_are_one_piece() {
        let (mut pools, mut pieces, mut queue) = setup(0);
        let mut buffer = pools.copy(b"onetwo").unwrap();
        let first = buffer.split_to(3).freeze();
        queue.push(&mut pieces, first, 100, Priority::Reply, Ok).unwrap();
        queue.push(&mut pieces, buffer.freeze(), 100, Priority::Reply, Ok).unwrap();
        assert!(queue.is_single());
        assert_eq!(text(&pieces, &queue), "onetwo");
    }

    #[test]
    fn both_bounds_hand_the_buffer_back() {
        let (mut pools, mut pieces, mut queue) = setup(1);
        queue.push(&mut pieces, piece(&mut pools, "0123456789"), 4, Priority::Reply, Ok).unwrap();
        assert!(
            queue.push(&mut pieces, piece(&mut pools, "x"), 4, Priority::Reply, Ok).is_err(),
            "over the bytes"
        );
        queue.push(&mut pieces, piece(&mut pools, "y"), 100, Priority::Reply, Ok).unwrap();
        assert!(
            queue.push(&mut pieces, piece(&mut pools, "z"), 100, Priority::Reply, Ok).is_err(),
            "over the pieces"
        );
        queue.advance(&mut pieces, 10);
        queue.push(&mut pieces, piece(&mut pools, "z"), 100, Priority::Reply, Ok).unwrap();
        assert_eq!(text(&pieces, &queue), "yz");
    }

    #[test]
    fn a_cut_keeps_whole_pieces_and_gives_the_rest_back() {
        for kept in 0..=9 {
            let (mut pools, mut pieces, mut queue) = setup(8);
            for part in ["ab", "cdef", "ghi"] {
                queue.push(&mut pieces, piece(&mut pools, part), 100, Priority::Reply, Ok).unwrap();
            }
            let mut dropped = vec![];
            queue.cut_behind(&mut pieces, kept, &mut |bytes| dropped.push(bytes.to_vec()));
            let expected = match kept {
                0..=2 => "ab",
                3..=6 => "abcdef",
                _ => "abcdefghi",
            };
            assert_eq!((text(&pieces, &queue), queue.bytes()), (expected.to_owned(), expected.len()));
            assert_eq!(dropped.concat(), &b"abcdefghi"[expected.len()..]);
            assert_eq!((pieces.used(), pieces.shares().used()), (3 - dropped.len(), 2 - dropped.len()));
            queue.push(&mut pieces, piece(&mut pools, "!"), 100, Priority::Reply, Ok).unwrap();
            assert_eq!(text(&pieces, &queue), expected.to_owned() + "!");
            queue.clear(&mut pieces);
            queue.cut_behind(&mut pieces, kept, &mut |_| panic!("nothing is queued"));
            assert!(pieces.used() == 0 && pieces.shares().used() == 0 && pools.is_full());
        }
    }

    #[test]
    fn waiting_pieces_move_to_small_blocks() {
        let (mut pools, mut pieces, mut queue) = setup(2);
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(b"small");
        queue.push(&mut pieces, buffer.freeze(), 100, Priority::Reply, Ok).unwrap();
        assert_eq!(queue.retain(&mut pieces, &mut pools, 512), 1);
        assert_eq!(text(&pieces, &queue), "small");
        assert_eq!(pools.receive_level().free, pools.receive_level().count);
    }
}
