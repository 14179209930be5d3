//! Segments in flight: when each was sent, and what is known of it. 20 bytes per segment, in one
//! store.
//!
//! A connection's list covers `snd.una..snd.nxt` without gaps, in order. A FIN takes one sequence
//! number more than the segment has bytes.

use netpoll::{FixedSlab, Slot};

/// What is known of a segment: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentFacts(u8);

impl SegmentFacts {
    /// Selectively acknowledged.
    pub(crate) const SACKED: SegmentFacts = SegmentFacts(1);
    /// Considered lost, and not sent again since.
    pub(crate) const LOST: SegmentFacts = SegmentFacts(2);
    /// Sent more than once.
    pub(crate) const RETRANSMITTED: SegmentFacts = SegmentFacts(4);
    /// Carries the FIN.
    pub(crate) const FIN: SegmentFacts = SegmentFacts(8);
    const NONE: SegmentFacts = SegmentFacts(0);

    /// Only the FIN, or nothing.
    pub(crate) fn fin(is_last: bool) -> SegmentFacts {
        if is_last { SegmentFacts::FIN } else { SegmentFacts::NONE }
    }

    /// Both sets.
    pub(crate) const fn or(self, other: SegmentFacts) -> SegmentFacts {
        SegmentFacts(self.0 | other.0)
    }

    fn clear(&mut self, other: SegmentFacts) {
        self.0 &= !other.0;
    }
}

/// One segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SentSegment {
    pub(crate) sequence: u32,
    /// The time at which it was last sent, in microseconds.
    pub(crate) sent_us: u32,
    pub(crate) next: Slot<SentSegment>,
    /// Payload bytes.
    pub(crate) size: u16,
    pub(crate) facts: SegmentFacts,
}

const _: () = assert!(size_of::<SentSegment>() == 16);

impl SentSegment {
    /// Sequence numbers of the segment: its bytes, and one for a FIN.
    pub(crate) fn span(&self) -> u32 {
        u32::from(self.size) + u32::from(self.has(SegmentFacts::FIN))
    }

    pub(crate) fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.span())
    }

    #[inline]
    pub(crate) fn has(&self, facts: SegmentFacts) -> bool {
        self.facts.0 & facts.0 != 0
    }
}

/// A connection's segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) head: Slot<SentSegment>,
    pub(crate) tail: Slot<SentSegment>,
    /// Sequence numbers that are selectively acknowledged.
    pub(crate) sacked: u32,
    /// Sequence numbers that are considered lost and were not sent again.
    pub(crate) lost: u32,
    /// Segments that are selectively acknowledged.
    pub(crate) sacked_count: u32,
    /// Segments in the list.
    pub(crate) count: u32,
}

impl Default for Flight {
    fn default() -> Flight {
        Flight { head: Slot::NONE, tail: Slot::NONE, sacked: 0, lost: 0, sacked_count: 0, count: 0 }
    }
}

impl Flight {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Appends a segment that was sent for the first time. Returns false when the store is full.
    #[must_use]
    pub(crate) fn push(&mut self, store: &mut FixedSlab<SentSegment>, segment: SentSegment) -> bool {
        let Ok(index) = store.insert(SentSegment { next: Slot::NONE, ..segment }) else { return false };
        match store.get_mut(self.tail) {
            Some(last) => last.next = index,
            None => self.head = index,
        }
        self.tail = index;
        self.count += 1;
        true
    }

    /// Removes the first segment.
    pub(crate) fn pop(&mut self, store: &mut FixedSlab<SentSegment>) -> Option<SentSegment> {
        if self.head.is_none() {
            return None;
        }
        let segment = store.remove(self.head);
        self.head = segment.next;
        if self.head.is_none() {
            self.tail = Slot::NONE;
        }
        self.count -= 1;
        self.forget(&segment);
        Some(segment)
    }

    /// Subtracts a segment from the sums.
    fn forget(&mut self, segment: &SentSegment) {
        if segment.has(SegmentFacts::SACKED) {
            self.sacked -= segment.span();
            self.sacked_count -= 1;
        }
        if segment.has(SegmentFacts::LOST) {
            self.lost -= segment.span();
        }
    }

    /// Cuts the first `count` bytes off the first segment, which is acknowledged in part.
    pub(crate) fn trim(&mut self, store: &mut FixedSlab<SentSegment>, count: u32) {
        let Some(segment) = store.get_mut(self.head) else { return };
        let count = count.min(u32::from(segment.size));
        segment.sequence = segment.sequence.wrapping_add(count);
        segment.size -= count as u16;
        if segment.has(SegmentFacts::SACKED) {
            self.sacked -= count;
        }
        if segment.has(SegmentFacts::LOST) {
            self.lost -= count;
        }
    }

    /// Splits a segment so that it has at most `size` bytes. The rest follows it, with the same
    /// facts. Returns false when the store is full.
    pub(crate) fn split(
        &mut self,
        store: &mut FixedSlab<SentSegment>,
        index: Slot<SentSegment>,
        size: u16,
    ) -> bool {
        let whole = store[index];
        if whole.size <= size {
            return true;
        }
        let rest = SentSegment {
            sequence: whole.sequence.wrapping_add(u32::from(size)),
            size: whole.size - size,
            ..whole
        };
        let Ok(rest) = store.insert(rest) else { return false };
        self.count += 1;
        let first = &mut store[index];
        first.size = size;
        first.facts.clear(SegmentFacts::FIN);
        first.next = rest;
        if self.tail == index {
            self.tail = rest;
        }
        if whole.has(SegmentFacts::SACKED) {
            self.sacked_count += 1;
        }
        true
    }

    /// Marks a segment as selectively acknowledged.
    pub(crate) fn mark_sacked(&mut self, segment: &mut SentSegment) {
        if segment.has(SegmentFacts::LOST) {
            self.lost -= segment.span();
        }
        segment.facts.clear(SegmentFacts::LOST);
        segment.facts = segment.facts.or(SegmentFacts::SACKED);
        self.sacked += segment.span();
        self.sacked_count += 1;
    }

    /// Marks a segment as lost, unless it was delivered.
    pub(crate) fn mark_lost(&mut self, segment: &mut SentSegment) -> bool {
        if segment.has(SegmentFacts::LOST.or(SegmentFacts::SACKED)) {
            return false;
        }
        segment.facts = segment.facts.or(SegmentFacts::LOST);
        self.lost += segment.span();
        true
    }

    /// Notes that a lost segment has been sent again.
    pub(crate) fn note_sent_again(&mut self, segment: &mut SentSegment, now_us: u32) {
        self.lost -= segment.span();
        segment.facts.clear(SegmentFacts::LOST);
        segment.facts = segment.facts.or(SegmentFacts::RETRANSMITTED);
        segment.sent_us = now_us;
    }

    /// Marks everything that was not delivered as lost.
    pub(crate) fn mark_all_lost(&mut self, store: &mut FixedSlab<SentSegment>) {
        let mut index = self.head;
        while let Some(segment) = store.get_mut(index) {
            self.mark_lost(segment);
            index = segment.next;
        }
    }

    /// Clears selective acknowledgements: the peer has discarded the data (RFC 2018, 8).
    pub(crate) fn forget_sacked(&mut self, store: &mut FixedSlab<SentSegment>) {
        let mut index = self.head;
        while let Some(segment) = store.get_mut(index) {
            segment.facts.clear(SegmentFacts::SACKED);
            index = segment.next;
        }
        (self.sacked, self.sacked_count) = (0, 0);
    }

    /// The first lost segment at or behind `from`.
    pub(crate) fn next_lost(
        &self,
        store: &FixedSlab<SentSegment>,
        from: Slot<SentSegment>,
    ) -> Option<Slot<SentSegment>> {
        let mut index = from;
        while let Some(segment) = store.get(index) {
            if segment.has(SegmentFacts::LOST) {
                return Some(index);
            }
            index = segment.next;
        }
        None
    }

    /// Frees everything.
    pub(crate) fn clear(&mut self, store: &mut FixedSlab<SentSegment>) {
        while self.pop(store).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(store: &mut FixedSlab<SentSegment>) -> Flight {
        let mut flight = Flight::default();
        for number in 0..3 {
            let facts = SegmentFacts::fin(number == 2);
            assert!(flight.push(
                store,
                SentSegment { sequence: number * 10, size: 10, facts, ..SentSegment::default() }
            ));
        }
        flight
    }

    #[test]
    fn sums_follow_the_marks() {
        let mut store = FixedSlab::new(8);
        let mut flight = flight(&mut store);
        flight.mark_all_lost(&mut store);
        assert_eq!((flight.lost, flight.sacked), (31, 0));
        let second = store[flight.head].next;
        let mut segment = store[second];
        flight.mark_sacked(&mut segment);
        store[second] = segment;
        assert_eq!((flight.lost, flight.sacked, flight.sacked_count), (21, 10, 1));
        flight.trim(&mut store, 4);
        assert_eq!(flight.lost, 17);
        flight.clear(&mut store);
        assert_eq!((flight.lost, flight.sacked, flight.sacked_count, store.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_split_keeps_the_fin_at_the_end() {
        let mut store = FixedSlab::new(8);
        let mut flight = flight(&mut store);
        let last = flight.tail;
        assert!(flight.split(&mut store, last, 4));
        assert_eq!((store[last].span(), store[flight.tail].span()), (4, 7));
        assert_eq!(store[flight.tail].sequence, 24);
        assert!(store[flight.tail].has(SegmentFacts::FIN) && !store[last].has(SegmentFacts::FIN));
    }
}
