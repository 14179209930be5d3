//! Segments ahead of a gap: a sorted list of buffers per connection, with bounds for one connection
//! and for all.
//!
//! A stored segment stays as it is, and a new one is cut to the part that is new. Overlaps are
//! therefore resolved in favor of the bytes that were received first.

use crate::tcp::seq::{at_or_before, before};
use crate::wire::tcp::SACK_BLOCKS_MAX;
use netpoll::{Buffer, FixedSlab, Slot};

/// A kept segment.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    buffer: Option<Buffer>,
    sequence: u32,
    next: Slot<Kept>,
}

impl Kept {
    fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.buffer.as_ref().map_or(0, Buffer::len) as u32)
    }
}

/// A connection's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfOrder {
    head: Slot<Kept>,
    /// The start of the latest segment: RFC 2018 wants its block first.
    latest: u32,
    count: u16,
}

impl Default for OutOfOrder {
    fn default() -> OutOfOrder {
        OutOfOrder { head: Slot::NONE, latest: 0, count: 0 }
    }
}

/// The result of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    /// Kept, whole or in part.
    Kept,
    /// Nothing of it was new: this range was stored before.
    Duplicate(u32, u32),
    /// No room.
    Full,
}

impl OutOfOrder {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Stores `buffer`, which begins at `sequence`, unless it has nothing new or there is no room.
    pub(crate) fn insert(
        &mut self,
        store: &mut FixedSlab<Kept>,
        mut sequence: u32,
        mut buffer: Buffer,
        count_max: u16,
    ) -> Insertion {
        let whole = (sequence, sequence.wrapping_add(buffer.len() as u32));
        let (mut previous, mut next) = (Slot::NONE, self.head);
        while let Some(kept) = store.get(next).filter(|kept| at_or_before(kept.sequence, sequence)) {
            (previous, next) = (next, kept.next);
        }
        if let Some(kept) = store.get(previous) {
            let covered = crate::tcp::seq::ahead(sequence, kept.end());
            if covered as usize >= buffer.len() {
                self.latest = kept.sequence;
                return Insertion::Duplicate(whole.0, whole.1);
            }
            buffer.advance(covered as usize);
            sequence = sequence.wrapping_add(covered);
        }
        if let Some(kept) = store.get(next) {
            let room = kept.sequence.wrapping_sub(sequence);
            if room == 0 {
                self.latest = kept.sequence;
                return Insertion::Duplicate(whole.0, whole.1);
            }
            // Bytes behind the next segment are sent again if they are new.
            buffer.truncate(room as usize);
        }
        if self.count >= count_max {
            return Insertion::Full;
        }
        let Ok(index) = store.insert(Kept { buffer: Some(buffer), sequence, next }) else {
            return Insertion::Full;
        };
        match store.get_mut(previous) {
            Some(kept) => kept.next = index,
            None => self.head = index,
        }
        self.count += 1;
        self.latest = sequence;
        Insertion::Kept
    }

    /// Takes the next segment that continues the stream at `rcv_nxt`, cut to the new part.
    pub(crate) fn take_next(&mut self, store: &mut FixedSlab<Kept>, rcv_nxt: u32) -> Option<Buffer> {
        loop {
            let kept = store.get(self.head).filter(|kept| at_or_before(kept.sequence, rcv_nxt))?;
            let old = rcv_nxt.wrapping_sub(kept.sequence) as usize;
            let mut buffer = self.pop(store)?;
            if old < buffer.len() {
                buffer.advance(old);
                return Some(buffer);
            }
        }
    }

    /// Whether a segment continues the stream at `rcv_nxt`.
    pub(crate) fn continues(&self, store: &FixedSlab<Kept>, rcv_nxt: u32) -> bool {
        store.get(self.head).is_some_and(|kept| at_or_before(kept.sequence, rcv_nxt))
    }

    fn pop(&mut self, store: &mut FixedSlab<Kept>) -> Option<Buffer> {
        if self.head.is_none() {
            return None;
        }
        let kept = store.remove(self.head);
        self.head = kept.next;
        self.count -= 1;
        kept.buffer
    }

    /// The runs of contiguous segments as SACK blocks, at most `room` of them. The one with the
    /// latest segment is first (RFC 2018, 4).
    pub(crate) fn blocks(
        &self,
        store: &FixedSlab<Kept>,
        room: usize,
    ) -> ([(u32, u32); SACK_BLOCKS_MAX], usize) {
        let mut blocks = [(0, 0); SACK_BLOCKS_MAX];
        let room = room.min(SACK_BLOCKS_MAX);
        let (mut count, mut index) = (0, self.head);
        while let Some(kept) = store.get(index) {
            let mut run = (kept.sequence, kept.end());
            index = kept.next;
            while let Some(more) = store.get(index).filter(|more| more.sequence == run.1) {
                run.1 = more.end();
                index = more.next;
            }
            let has_latest = at_or_before(run.0, self.latest) && before(self.latest, run.1);
            if has_latest && room > 0 {
                blocks.copy_within(0..room - 1, 1);
                blocks[0] = run;
                count = (count + 1).min(room);
            } else if count < room {
                blocks[count] = run;
                count += 1;
            }
        }
        (blocks, count)
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self, store: &mut FixedSlab<Kept>) {
        while self.pop(store).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::sim::Rng;
    use netpoll::{BackendConfig, BufferPools};

    fn buffer(pools: &mut BufferPools, start: u32, size: u32) -> Buffer {
        let bytes: Vec<u8> = (start..start + size).map(|at| at as u8).collect();
        pools.copy(&bytes).unwrap()
    }

    #[test]
    fn any_pieces_in_any_order_make_the_stream() {
        let mut rng = Rng::new(8);
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        for _ in 0..500 {
            let (mut store, mut list) = (FixedSlab::new(64), OutOfOrder::default());
            let mut stream = Vec::new();
            for _ in 0..200 {
                let start = 1 + rng.below(100) as u32;
                let size = 1 + rng.below(20) as u32;
                list.insert(&mut store, start, buffer(&mut pools, start, size), 64);
                let (blocks, count) = list.blocks(&store, 4);
                let has_latest = |block: &(u32, u32)| block.0 <= list.latest && list.latest < block.1;
                assert!(count > 0 && has_latest(&blocks[0]), "{blocks:?}");
            }
            let mut next = 1;
            loop {
                match list.take_next(&mut store, next) {
                    Some(part) => {
                        stream.extend_from_slice(part.as_slice());
                        next += part.len() as u32;
                    }
                    None if list.is_empty() => break,
                    None => {
                        stream.push(next as u8);
                        next += 1;
                    }
                }
            }
            assert!(stream.iter().zip(1..).all(|(byte, at)| *byte == at as u8));
            assert!(store.is_empty());
        }
        assert!(pools.is_full());
    }

    #[test]
    fn the_bound_holds_and_duplicates_are_told() {
        let mut pools = BufferPools::new(&BackendConfig::small(1).pools).unwrap();
        let (mut store, mut list) = (FixedSlab::new(64), OutOfOrder::default());
        assert_eq!(list.insert(&mut store, 10, buffer(&mut pools, 10, 5), 1), Insertion::Kept);
        assert_eq!(list.insert(&mut store, 10, buffer(&mut pools, 10, 5), 1), Insertion::Duplicate(10, 15));
        assert_eq!(list.insert(&mut store, 30, buffer(&mut pools, 30, 5), 1), Insertion::Full);
        list.clear(&mut store);
        assert!(pools.is_full() && store.is_empty());
    }
}
