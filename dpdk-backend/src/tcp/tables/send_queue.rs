//! Bytes that wait to be sent or acknowledged: lists of pieces in one store of fixed size.
//!
//! ```text
//!   head ───────────── cursor ───────────── tail
//!    in flight (kept for retransmission) │ unsent
//! ```
//!
//! The store and its lists are netpoll's ([`PieceStore`]). A queue adds the position up to which
//! its list was sent. The head is at `snd.una`: acknowledged bytes are dropped at once.

use crate::device::Payload;
use netpoll::{BufferPools, LastCopy, PieceList, PieceStore, Priority, Refusal, SharedBuffer, Shares};

/// No piece.
const NONE: u32 = PieceList::NONE;

/// One connection's queue.
///
/// Invariant: `cursor` and `cursor_offset` name the first unsent byte; `cursor` is [`NONE`] when
/// all is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    list: PieceList,
    cursor: u32,
    cursor_offset: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { list: PieceList::new(), cursor: NONE, cursor_offset: 0 }
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The piece with the first unsent byte, or [`PieceList::NONE`].
    pub(crate) fn first_unsent(&self) -> u32 {
        self.cursor
    }
}

/// The store of all queues ([`PieceStore`]). Bytes that wait to be acknowledged count like bytes
/// that wait to be sent.
#[derive(Debug)]
pub(crate) struct Pieces(PieceStore);

impl Pieces {
    /// A store for `queues` queues. They share `shared` pieces, beside one piece that is each
    /// queue's own.
    pub(crate) fn new(queues: usize, shared: usize) -> Pieces {
        Pieces(PieceStore::new(queues, shared))
    }

    /// Returns the memory of an empty store to the system.
    pub(crate) fn trim(&mut self) {
        self.0.trim();
    }

    /// Pieces in all queues.
    pub(crate) fn used(&self) -> usize {
        self.0.used()
    }

    /// The account of the shared pieces.
    pub(crate) fn shares(&self) -> Shares {
        self.0.shares()
    }

    /// Pieces in a queue.
    pub(crate) fn count(&self, queue: &Queue) -> usize {
        self.0.count(&queue.list)
    }

    /// Bytes of the blocks that the first pieces of a queue hold, as far as `is_counted` says
    /// ([`PieceStore::PIECES_COUNTED`]).
    pub(crate) fn block_bytes(&self, queue: &Queue, is_counted: impl Fn(&SharedBuffer) -> bool) -> usize {
        self.0.block_bytes(&queue.list, is_counted)
    }

    /// Appends `buffer`, which is not empty, in the form that `keep` returns. Adjacent pieces of
    /// one block are joined.
    ///
    /// # Errors
    /// The buffer, when the store has no piece for it, or `keep` does not take it into the queue.
    pub(crate) fn push(
        &mut self,
        queue: &mut Queue,
        buffer: SharedBuffer,
        priority: Priority,
        keep: impl FnOnce(SharedBuffer) -> Result<SharedBuffer, SharedBuffer>,
    ) -> Result<(), (Refusal, SharedBuffer)> {
        let at = self.0.push(&mut queue.list, buffer, priority, keep)?;
        if queue.cursor == NONE {
            (queue.cursor, queue.cursor_offset) = (at.index, at.offset);
        }
        Ok(())
    }

    fn size(&self, index: u32) -> u32 {
        self.0.get(index).map_or(0, |buffer| buffer.len() as u32)
    }

    /// Drops the first `count` bytes, which are acknowledged.
    pub(crate) fn acknowledge(&mut self, queue: &mut Queue, mut count: u32) {
        while count > 0 && !queue.list.is_empty() {
            let first = queue.list.first();
            let size = self.size(first);
            if count < size {
                self.0.advance(&mut queue.list, count as usize);
                if queue.cursor == first {
                    queue.cursor_offset = queue.cursor_offset.saturating_sub(count);
                }
                return;
            }
            count -= size;
            if queue.cursor == first {
                self.pass_cursor(queue);
            }
            self.0.pop(&mut queue.list);
        }
    }

    /// Marks the next `count` unsent bytes as sent.
    pub(crate) fn advance_cursor(&mut self, queue: &mut Queue, mut count: u32) {
        while count > 0 && queue.cursor != NONE {
            let left = self.size(queue.cursor) - queue.cursor_offset;
            if count < left {
                queue.cursor_offset += count;
                return;
            }
            count -= left;
            self.pass_cursor(queue);
        }
    }

    fn pass_cursor(&mut self, queue: &mut Queue) {
        (queue.cursor, queue.cursor_offset) = (self.0.next(queue.cursor), 0);
    }

    /// The first `size` unsent bytes.
    pub(crate) fn unsent(&self, queue: &Queue, size: u32) -> Payload<'_> {
        Payload::new(&self.0, queue.cursor, queue.cursor_offset, size)
    }

    /// `size` bytes from `snd.una + offset` on, for a retransmission.
    pub(crate) fn sent(&self, queue: &Queue, offset: u32, size: u32) -> Payload<'_> {
        let (mut index, mut offset) = (queue.list.first(), offset);
        while index != NONE && offset >= self.size(index) {
            offset -= self.size(index);
            index = self.0.next(index);
        }
        Payload::new(&self.0, index, offset, size)
    }

    /// Drops the unsent bytes.
    pub(crate) fn drop_unsent(&mut self, queue: &mut Queue) {
        if queue.cursor != NONE {
            self.0.truncate(&mut queue.list, queue.cursor, queue.cursor_offset);
            (queue.cursor, queue.cursor_offset) = (NONE, 0);
        }
    }

    /// Drops the pieces of which no byte has been sent; passes each to `dropped`, in order, and
    /// returns their bytes. While nothing is in flight the first piece stays: acknowledged bytes of
    /// it may have left the queue.
    pub(crate) fn drop_unbegun(&mut self, queue: &mut Queue, dropped: &mut dyn FnMut(&[u8])) -> u32 {
        if queue.cursor == NONE {
            return 0;
        }
        let has_begun = queue.cursor_offset > 0 || queue.cursor == queue.list.first();
        let last = if has_begun { queue.cursor } else { self.0.before(&queue.list, queue.cursor) };
        let mut size = 0;
        self.0.cut_behind(&mut queue.list, last, |piece| {
            size += piece.len() as u32;
            dropped(piece);
        });
        if !has_begun {
            queue.cursor = NONE;
        }
        size
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, queue: &mut Queue) {
        self.0.clear(&mut queue.list);
        *queue = Queue::default();
    }

    /// Copies small pieces, at most `pieces_max` from `from` on, out of larger blocks, because they
    /// stay until they are acknowledged. A piece that was copied for another connection in the same
    /// turn uses that copy. Returns the number of copies.
    pub(crate) fn move_out(&mut self, from: u32, pieces_max: usize, keeper: &mut Keeper<'_>) -> u64 {
        let mut copies = 0;
        self.0.change_from(from, pieces_max, |buffer| keeper.keep_sent(buffer, &mut copies));
        copies
    }

    /// The same for all pieces from `from` on of a queue that begins to wait for its peer.
    pub(crate) fn move_out_waiting(&mut self, from: u32, keeper: &mut Keeper<'_>) -> u64 {
        let mut copies = 0;
        self.0.change_from(from, usize::MAX, |buffer| keeper.keep(buffer, &mut copies));
        copies
    }
}

/// Copies pieces that stay for long.
pub(crate) struct Keeper<'a> {
    pub(crate) pools: &'a mut BufferPools,
    pub(crate) last: &'a mut LastCopy,
    pub(crate) copy_break: usize,
}

impl Keeper<'_> {
    fn keep_sent(&mut self, buffer: SharedBuffer, copies: &mut u64) -> SharedBuffer {
        self.last.keep_sent(buffer, self.pools, self.copy_break, copies)
    }

    pub(crate) fn keep(&mut self, buffer: SharedBuffer, copies: &mut u64) -> SharedBuffer {
        self.last.keep(buffer, self.pools, self.copy_break, copies)
    }

    pub(crate) fn keep_if_plenty(
        &mut self,
        buffer: SharedBuffer,
        copies: &mut u64,
    ) -> Result<SharedBuffer, SharedBuffer> {
        self.last.keep_if_plenty(buffer, self.pools, self.copy_break, copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::BackendConfig;

    fn text(payload: Payload<'_>) -> String {
        payload.map(|(buffer, range)| String::from_utf8_lossy(&buffer[range]).into_owned()).collect()
    }

    fn setup(parts: &[&str]) -> (BufferPools, Pieces, Queue) {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let (mut pieces, mut queue) = (Pieces::new(2, 7), Queue::default());
        for part in parts {
            pieces
                .push(&mut queue, pools.copy(part.as_bytes()).unwrap().freeze(), Priority::Reply, Ok)
                .unwrap();
        }
        (pools, pieces, queue)
    }

    #[test]
    fn sent_and_acknowledged_at_every_cut() {
        for sent in 0..=9_u32 {
            for acknowledged in 0..=sent {
                let (mut pools, mut pieces, mut queue) = setup(&["ab", "cdef", "ghi"]);
                assert_eq!(text(pieces.unsent(&queue, sent)), "abcdefghi"[..sent as usize]);
                pieces.advance_cursor(&mut queue, sent);
                pieces.acknowledge(&mut queue, acknowledged);
                let flight = sent - acknowledged;
                assert_eq!(
                    text(pieces.sent(&queue, 0, flight)),
                    "abcdefghi"[acknowledged as usize..sent as usize]
                );
                assert_eq!(text(pieces.unsent(&queue, 9 - sent)), "abcdefghi"[sent as usize..]);
                pieces.drop_unsent(&mut queue);
                assert_eq!(
                    text(pieces.sent(&queue, 0, flight)),
                    "abcdefghi"[acknowledged as usize..sent as usize]
                );
                assert_eq!(queue.is_empty(), flight == 0);
                pieces.acknowledge(&mut queue, flight);
                assert!(
                    queue.is_empty() && pieces.used() == 0 && pieces.shares().used() == 0 && pools.is_full()
                );
            }
        }
    }

    #[test]
    fn a_piece_that_has_begun_stays_whole_when_the_rest_is_dropped() {
        for sent in 0..=9_u32 {
            for acknowledged in 0..=sent {
                let (mut pools, mut pieces, mut queue) = setup(&["ab", "cdef", "ghi"]);
                pieces.advance_cursor(&mut queue, sent);
                pieces.acknowledge(&mut queue, acknowledged);
                let mut dropped = vec![];
                let size = pieces.drop_unbegun(&mut queue, &mut |bytes| dropped.extend_from_slice(bytes));
                // In flight nothing, or up to a boundary: what is next has not begun, but may have.
                let end = match (sent, sent == acknowledged) {
                    (0..=1, _) | (2, false) => 2,
                    (2, true) | (3..=5, _) | (6, false) => 6,
                    _ => 9,
                };
                assert_eq!(dropped, &b"abcdefghi"[end..]);
                assert_eq!(size as usize, dropped.len());
                pieces.push(&mut queue, pools.copy(b"last").unwrap().freeze(), Priority::Last, Ok).unwrap();
                let rest = ["abcdefghi"[sent as usize..end].to_owned(), "last".to_owned()].concat();
                assert_eq!(text(pieces.unsent(&queue, rest.len() as u32)), rest);
                pieces.clear(&mut queue);
                assert!(pieces.used() == 0 && pieces.shares().used() == 0 && pools.is_full());
            }
        }
    }

    #[test]
    fn neighbors_join_also_behind_the_cursor() {
        let (mut pools, mut pieces, mut queue) = setup(&[]);
        let mut buffer = pools.copy(b"onetwo").unwrap();
        pieces.push(&mut queue, buffer.split_to(3).freeze(), Priority::Reply, Ok).unwrap();
        pieces.advance_cursor(&mut queue, 3);
        pieces.push(&mut queue, buffer.freeze(), Priority::Reply, Ok).unwrap();
        assert_eq!(pieces.used(), 1);
        assert_eq!(text(pieces.unsent(&queue, 3)), "two");
        assert_eq!(text(pieces.sent(&queue, 1, 5)), "netwo");
    }

    #[test]
    fn a_small_piece_leaves_its_receive_buffer_once_for_all() {
        let (mut pools, mut pieces, mut queue) = setup(&[]);
        let mut other = Queue::default();
        let mut buffer = pools.take_receive().unwrap();
        buffer.append(b"small");
        let shared = buffer.freeze();
        pieces.push(&mut queue, shared.clone(), Priority::Reply, Ok).unwrap();
        pieces.push(&mut other, shared, Priority::Reply, Ok).unwrap();
        let mut last = LastCopy::default();
        let mut keeper = Keeper { pools: &mut pools, last: &mut last, copy_break: 64 };
        assert_eq!(pieces.move_out(queue.first_unsent(), 8, &mut keeper), 1);
        assert_eq!(pieces.move_out(other.first_unsent(), 8, &mut keeper), 0);
        last.clear();
        assert_eq!(
            (text(pieces.unsent(&queue, 5)), text(pieces.unsent(&other, 5))),
            ("small".into(), "small".into())
        );
        assert_eq!(pools.receive_level().free, pools.receive_level().count);
        assert_eq!(pools.block_levels().map(|level| level.count - level.free).sum::<u32>(), 1);
    }

    #[test]
    fn a_full_store_hands_the_buffer_back() {
        let (mut pools, mut pieces, mut queue) = setup(&["1", "2", "3", "4", "5", "6", "7", "8"]);
        let refused = pieces.push(&mut queue, pools.copy(b"9").unwrap().freeze(), Priority::Reply, Ok);
        let (refusal, buffer) = refused.unwrap_err();
        assert_eq!((refusal, &*buffer), (Refusal::Store, &b"9"[..]));
        let mut other = Queue::default();
        pieces.push(&mut other, buffer, Priority::Droppable, Ok).expect("an empty queue is sure of a piece");
        assert_eq!((pieces.count(&queue), pieces.count(&other)), (8, 1));
        pieces.advance_cursor(&mut queue, 3);
        pieces.acknowledge(&mut queue, 2);
        assert_eq!((pieces.count(&queue), pieces.shares().used()), (6, 5), "what is in flight counts");
        pieces.clear(&mut queue);
        pieces.clear(&mut other);
        assert!(pieces.used() == 0 && pieces.shares().used() == 0 && pools.is_full());
    }
}
