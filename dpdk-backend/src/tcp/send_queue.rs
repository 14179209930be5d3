//! What waits to be sent or acknowledged: lists of pieces in one store of fixed size.
//!
//! ```text
//!   head ───────────── cursor ───────────── tail
//!    in flight (kept for retransmission) │ unsent
//! ```
//!
//! A piece is 24 bytes: a counted reference into pooled memory and a link. The payload itself exists once, however many
//! connections it goes to. The head begins at `snd_una`: what is acknowledged is dropped at once.

use super::slab::NONE;
use netpoll::{BufferPools, Priority, Refusal, SharedBuffer, Shares};

#[derive(Debug)]
struct Piece {
    /// `None` while the node is free.
    buffer: Option<SharedBuffer>,
    next: u32,
    /// Its number in its queue; they rise by one, and wrap.
    ordinal: u32,
}

/// One connection's queue.
///
/// Invariant: `cursor` and `cursor_offset` name the first unsent byte; `cursor` is [`NONE`] when all is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    cursor: u32,
    cursor_offset: u32,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { head: NONE, tail: NONE, cursor: NONE, cursor_offset: 0 }
    }
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// The store of all queues: one piece for each that nothing else can take, and a part that all share ([`Shares`]). What waits to
/// be acknowledged counts like what waits to be sent.
#[derive(Debug)]
pub(crate) struct Pieces {
    nodes: Vec<Piece>,
    free: u32,
    used: usize,
    capacity: usize,
    shares: Shares,
}

impl Pieces {
    pub(crate) const BYTES_PER_PIECE: usize = size_of::<Piece>();

    /// A store for `queues` queues, which share `shared` pieces beside the one that each is sure of.
    pub(crate) fn new(queues: usize, shared: usize) -> Pieces {
        let capacity = queues + shared;
        assert!(capacity < NONE as usize);
        let shares = Shares::new(shared);
        Pieces { nodes: Vec::with_capacity(capacity), free: NONE, used: 0, capacity, shares }
    }

    /// Gives the memory of an empty store back.
    pub(crate) fn trim(&mut self) {
        if self.used == 0 {
            self.nodes.clear();
            self.free = NONE;
            netpoll::release_spare(&mut self.nodes);
        }
    }

    /// Pieces in all queues.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The account of the shared part.
    pub(crate) fn shares(&self) -> Shares {
        self.shares
    }

    /// Pieces in a queue.
    pub(crate) fn count(&self, queue: &Queue) -> usize {
        let ordinal = |index: u32| self.nodes.get(index as usize).map_or(0, |piece| piece.ordinal);
        if queue.is_empty() { 0 } else { ordinal(queue.tail).wrapping_sub(ordinal(queue.head)) as usize + 1 }
    }

    /// Appends `buffer`, which is not empty; neighbours in one block become one piece.
    ///
    /// # Errors
    /// The buffer, when the store has no piece for it.
    pub(crate) fn push(
        &mut self,
        queue: &mut Queue,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), (Refusal, SharedBuffer)> {
        let buffer = match self.join_tail(queue, buffer) {
            Ok(()) => return Ok(()),
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
        let index = self.allocate(buffer);
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
        if queue.cursor == NONE {
            (queue.cursor, queue.cursor_offset) = (index, 0);
        }
        Ok(())
    }

    fn join_tail(&mut self, queue: &mut Queue, buffer: SharedBuffer) -> Result<(), SharedBuffer> {
        let tail = self.nodes.get_mut(queue.tail as usize).and_then(|tail| tail.buffer.as_mut());
        let Some(tail) = tail else { return Err(buffer) };
        let before = tail.len() as u32;
        tail.try_join(buffer)?;
        if queue.cursor == NONE {
            (queue.cursor, queue.cursor_offset) = (queue.tail, before);
        }
        Ok(())
    }

    /// A node for `buffer`. There is one: the shared part has its account, and every queue its own.
    fn allocate(&mut self, buffer: SharedBuffer) -> u32 {
        let piece = Piece { buffer: Some(buffer), next: NONE, ordinal: 0 };
        self.used += 1;
        if self.free != NONE {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            *node = piece;
            return index;
        }
        assert!(self.nodes.len() < self.capacity, "more queues than were declared");
        self.nodes.push(piece);
        self.nodes.len() as u32 - 1
    }

    fn release(&mut self, index: u32) -> u32 {
        let node = &mut self.nodes[index as usize];
        node.buffer = None;
        let next = std::mem::replace(&mut node.next, self.free);
        self.free = index;
        self.used -= 1;
        next
    }

    fn size(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).and_then(|node| node.buffer.as_ref()).map_or(0, |b| b.len() as u32)
    }

    fn next(&self, index: u32) -> u32 {
        self.nodes.get(index as usize).map_or(NONE, |node| node.next)
    }

    /// Drops the first `count` bytes: they are acknowledged, so they have been sent.
    pub(crate) fn acknowledge(&mut self, queue: &mut Queue, mut count: u32) {
        while count > 0 && queue.head != NONE {
            let size = self.size(queue.head);
            if count < size {
                if let Some(buffer) = self.nodes[queue.head as usize].buffer.as_mut() {
                    buffer.advance(count as usize);
                }
                if queue.cursor == queue.head {
                    queue.cursor_offset = queue.cursor_offset.saturating_sub(count);
                }
                return;
            }
            count -= size;
            if queue.cursor == queue.head {
                self.pass_cursor(queue);
            }
            self.release_head(queue);
        }
    }

    fn release_head(&mut self, queue: &mut Queue) {
        queue.head = self.release(queue.head);
        match queue.head {
            NONE => queue.tail = NONE,
            _ => self.shares.give_back(),
        }
    }

    /// Declares the next `count` unsent bytes sent.
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
        (queue.cursor, queue.cursor_offset) = (self.next(queue.cursor), 0);
    }

    /// The first `size` unsent bytes.
    pub(crate) fn unsent(&self, queue: &Queue, size: u32) -> Payload<'_> {
        Payload { store: Some(self), index: queue.cursor, offset: queue.cursor_offset, left: size }
    }

    /// `size` bytes from `offset` behind `snd_una` on, for a retransmission.
    pub(crate) fn sent(&self, queue: &Queue, offset: u32, size: u32) -> Payload<'_> {
        let (mut index, mut offset) = (queue.head, offset);
        while index != NONE && offset >= self.size(index) {
            offset -= self.size(index);
            index = self.next(index);
        }
        Payload { store: Some(self), index, offset, left: size }
    }

    /// Drops what has not been sent.
    pub(crate) fn drop_unsent(&mut self, queue: &mut Queue) {
        let Some(node) = self.nodes.get_mut(queue.cursor as usize) else { return };
        let mut index = queue.cursor;
        if queue.cursor_offset > 0 {
            if let Some(buffer) = node.buffer.as_mut() {
                *buffer = buffer.slice(0, queue.cursor_offset as usize);
            }
            queue.tail = queue.cursor;
            index = std::mem::replace(&mut node.next, NONE);
        } else if queue.cursor == queue.head {
            (queue.head, queue.tail) = (NONE, NONE);
        } else {
            let mut last = queue.head;
            while self.next(last) != queue.cursor {
                last = self.next(last);
            }
            self.nodes[last as usize].next = NONE;
            queue.tail = last;
        }
        let mut is_guaranteed = queue.head == NONE; // the last to go is the one that was not taken from the shared part
        while index != NONE {
            index = self.release(index);
            if !std::mem::take(&mut is_guaranteed) {
                self.shares.give_back();
            }
        }
        (queue.cursor, queue.cursor_offset) = (NONE, 0);
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, queue: &mut Queue) {
        self.drop_unsent(queue);
        while queue.head != NONE {
            self.release_head(queue);
        }
        *queue = Queue::default();
    }

    /// Moves small pieces, of the first few, out of blocks as large as a receive buffer: they stay until they are
    /// acknowledged. A piece that was moved for the connection before is moved to the same copy. Returns how many copies were
    /// made.
    pub(crate) fn move_out(
        &mut self,
        queue: &Queue,
        pools: &mut BufferPools,
        copy_break: usize,
        moved: &mut Moved,
    ) -> u64 {
        let mut copies = 0;
        let mut index = queue.head;
        for _ in 0..PIECES_LOOKED_AT {
            let Some(node) = self.nodes.get_mut(index as usize) else { break };
            index = node.next;
            let Some(buffer) = node.buffer.as_mut() else { continue };
            let is_small = buffer.len() <= copy_break && buffer.len() * 2 <= buffer.block_size();
            if !is_small || buffer.block_size() < pools.receive_size() {
                continue;
            }
            if let Some(copy) = moved.of(buffer) {
                *buffer = copy;
            } else if let Some(copy) = pools.copy(buffer) {
                let copy = copy.freeze();
                copies += 1;
                if copy.block_size() < buffer.block_size() {
                    let original = std::mem::replace(buffer, copy.clone());
                    *moved = Moved(Some((original, copy)));
                }
            }
        }
        copies
    }
}

/// Pieces of a queue that [`Pieces::move_out`] looks at.
const PIECES_LOOKED_AT: usize = 8;

/// The piece that was moved last, and its copy: a fan-out moves its payload once. Cleared with the turn.
#[derive(Debug, Default)]
pub(crate) struct Moved(Option<(SharedBuffer, SharedBuffer)>);

impl Moved {
    fn of(&self, buffer: &SharedBuffer) -> Option<SharedBuffer> {
        let (original, copy) = self.0.as_ref()?;
        let is_same = original.as_ptr() == buffer.as_ptr() && original.len() == buffer.len();
        is_same.then(|| copy.clone())
    }

    /// Lets both go.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

/// A range of a queue, piece by piece: what a frame carries. Copying it copies no byte of it.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    store: Option<&'a Pieces>,
    index: u32,
    offset: u32,
    left: u32,
}

impl<'a> Payload<'a> {
    /// No payload.
    pub const EMPTY: Payload<'static> = Payload { store: None, index: NONE, offset: 0, left: 0 };

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Payload<'a> {
    /// The piece's buffer, and the range of it that is meant.
    type Item = (&'a SharedBuffer, std::ops::Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let node = self.store?.nodes.get(self.index as usize)?;
        let buffer = node.buffer.as_ref()?;
        let start = self.offset as usize;
        let size = (buffer.len() - start).min(self.left as usize);
        self.left -= size as u32;
        (self.index, self.offset) = (node.next, 0);
        Some((buffer, start..start + size))
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
            pieces.push(&mut queue, pools.copy(part.as_bytes()).unwrap().freeze(), Priority::Reply).unwrap();
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
                    queue.is_empty() && pieces.used() == 0 && pieces.shares.used() == 0 && pools.is_full()
                );
            }
        }
    }

    #[test]
    fn neighbours_join_also_behind_the_cursor() {
        let (mut pools, mut pieces, mut queue) = setup(&[]);
        let mut buffer = pools.copy(b"onetwo").unwrap();
        pieces.push(&mut queue, buffer.split_to(3).freeze(), Priority::Reply).unwrap();
        pieces.advance_cursor(&mut queue, 3);
        pieces.push(&mut queue, buffer.freeze(), Priority::Reply).unwrap();
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
        pieces.push(&mut queue, shared.clone(), Priority::Reply).unwrap();
        pieces.push(&mut other, shared, Priority::Reply).unwrap();
        let mut moved = Moved::default();
        assert_eq!(pieces.move_out(&queue, &mut pools, 64, &mut moved), 1);
        assert_eq!(pieces.move_out(&other, &mut pools, 64, &mut moved), 0);
        moved.clear();
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
        let refused = pieces.push(&mut queue, pools.copy(b"9").unwrap().freeze(), Priority::Reply);
        let (refusal, buffer) = refused.unwrap_err();
        assert_eq!((refusal, &*buffer), (Refusal::Store, &b"9"[..]));
        let mut other = Queue::default();
        pieces.push(&mut other, buffer, Priority::Droppable).expect("an empty queue is sure of a piece");
        assert_eq!((pieces.count(&queue), pieces.count(&other)), (8, 1));
        pieces.advance_cursor(&mut queue, 3);
        pieces.acknowledge(&mut queue, 2);
        assert_eq!((pieces.count(&queue), pieces.shares.used()), (6, 5), "what is in flight counts");
        pieces.clear(&mut queue);
        pieces.clear(&mut other);
        assert!(pieces.used() == 0 && pieces.shares.used() == 0 && pools.is_full());
    }
}
