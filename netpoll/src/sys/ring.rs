//! A bounded ring of numbers: any thread pushes, one pops, and none ever waits for another.
//!
//! A place is one word: the lap (how often the ring has gone round), and the number plus one, or 0
//! while the place is free. One exchange of the word puts a number in, so there is no moment at
//! which a place is taken and still empty. A thread that is preempted at any point holds up neither
//! the threads that push nor the one that pops:
//!
//! ```text
//!   push: place at tail is (lap, free)   ── exchange ─► (lap, number), tail + 1
//!                     is (lap, number)   another push filled it: tail + 1 for it, and try again
//!   pop:  place at head is (lap, number) ── store ────► (lap + 1, free), head + 1
//! ```
//!
//! `tail` may lie behind what has been pushed, never ahead of it: it says where to begin to look.
//! Places are filled in order, because a push moves on only past a place that it has seen filled.
//! (Vyukov's bounded queue has a sequence number in each place, too; there a push takes its place
//! first and fills it then.)

use super::zeroed::zeroed_slice;
use crate::sync::{AtomicU64, Ordering};

/// A count with cache lines of its own. Acquire and Release throughout: a push that finds a place
/// by the count has seen all pops that freed it, also those that other pushes have seen.
#[repr(align(128))]
struct Count(AtomicU64);

/// See the module's text.
pub(super) struct Ring {
    /// The places, a power of two; zeros at first, which means free in lap 0.
    places: Box<[AtomicU64]>,
    lap_shift: u32,
    tail: Count,
    /// Written only by the thread that pops.
    head: Count,
}

/// The content of a place: a lap, and a number plus one or 0.
const fn word(lap: u32, content: u32) -> u64 {
    (lap as u64) << 32 | content as u64
}

impl Ring {
    /// Bytes of a place; there are up to twice as many places as `capacity` says.
    pub(super) const PLACE_BYTES: usize = size_of::<u64>();

    /// A ring with room for `capacity` numbers, at least one.
    #[allow(unsafe_code)]
    pub(super) fn new(capacity: usize) -> Ring {
        let count = capacity.next_power_of_two();
        Ring {
            // SAFETY: memory of zeros is a zero.
            places: unsafe { zeroed_slice(count, || AtomicU64::new(0)) },
            lap_shift: count.trailing_zeros(),
            tail: Count(AtomicU64::new(0)),
            head: Count(AtomicU64::new(0)),
        }
    }

    /// The place at a position, and its lap.
    fn at(&self, position: u64) -> (&AtomicU64, u32) {
        let index = position as usize & (self.places.len() - 1);
        (&self.places[index], (position >> self.lap_shift) as u32)
    }

    /// Adds the newest number; false when there is no room.
    pub(super) fn push(&self, number: u32) -> bool {
        let mut tail = self.tail.0.load(Ordering::Acquire);
        loop {
            let (place, lap) = self.at(tail);
            // Release: what the number stands for was written before. Acquire: the thread that
            // filled the place has seen those before.
            let new = word(lap, number + 1);
            let filled = place.compare_exchange(word(lap, 0), new, Ordering::Release, Ordering::Acquire);
            if let Err(found) = filled
                && ((found >> 32) as u32).wrapping_sub(lap) > u32::MAX / 2
            {
                return false; // of the lap before, and not taken yet
            }
            // Counts one's own push or another's. The count may have moved on meanwhile.
            let moved = self.tail.0.compare_exchange(tail, tail + 1, Ordering::AcqRel, Ordering::Acquire);
            if filled.is_ok() {
                return true;
            }
            tail = moved.map_or_else(|now| now, |_| tail + 1);
        }
    }

    /// Takes the oldest number. For one thread at a time: two at once might both get it.
    pub(super) fn pop(&self) -> Option<u32> {
        let head = self.head.0.load(Ordering::Relaxed);
        let (place, lap) = self.at(head);
        // Acquire: pairs with the exchange of the push.
        let number = (place.load(Ordering::Acquire) as u32).checked_sub(1)?;
        // Stored before the number can be pushed again, which keeps the place of a push free.
        place.store(word(lap.wrapping_add(1), 0), Ordering::Release);
        self.head.0.store(head + 1, Ordering::Release);
        Some(number)
    }

    /// Whether there is nothing to pop, for the thread that pops.
    pub(super) fn is_empty(&self) -> bool {
        let (place, _) = self.at(self.head.0.load(Ordering::Relaxed));
        place.load(Ordering::Relaxed) as u32 == 0
    }

    /// The number of entries, as any thread sees it: some that are being pushed or popped may be
    /// missing or counted too much.
    pub(super) fn len(&self) -> usize {
        let head = self.head.0.load(Ordering::Acquire);
        let tail = self.tail.0.load(Ordering::Acquire);
        (tail.saturating_sub(head) as usize).min(self.places.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_in_order_lap_after_lap_whatever_the_capacity() {
        for capacity in [1, 2, 3, 7, 8] {
            let ring = Ring::new(capacity);
            let room = capacity.next_power_of_two() as u32;
            for round in 0..10 {
                assert!(ring.is_empty() && ring.pop().is_none());
                assert!((0..room).all(|number| ring.push(round + number)));
                assert!(!ring.push(99) && ring.len() == room as usize, "capacity {capacity}");
                assert_eq!(ring.pop(), Some(round));
                assert!(ring.push(round + room));
                assert!((1..=room).all(|number| ring.pop() == Some(round + number)));
            }
        }
    }

    /// The lap has 32 bits: the ring goes on when it wraps.
    #[test]
    fn a_ring_goes_on_when_its_laps_begin_anew() {
        let ring = Ring::new(2);
        let last = u64::from(u32::MAX) << 1;
        ring.tail.0.store(last, Ordering::Relaxed);
        ring.head.0.store(last, Ordering::Relaxed);
        ring.places.iter().for_each(|place| place.store(word(u32::MAX, 0), Ordering::Relaxed));
        for number in 0..8 {
            assert!(ring.push(number) && ring.push(number + 1) && !ring.push(9));
            assert_eq!((ring.pop(), ring.pop(), ring.pop()), (Some(number), Some(number + 1), None));
        }
    }
}
