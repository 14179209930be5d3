//! A record of what happened: a hash of everything and a ring of the last events.

use crate::Timestamp;
use std::collections::VecDeque;
use std::fmt;

/// One event of a simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent {
    /// The moment, on the virtual clock.
    pub at: Timestamp,
    /// The kind of event.
    pub what: &'static str,
    /// The place: a connection of the network (its two ends are `2n` and `2n + 1`), or a backend's
    /// number.
    pub place: u32,
    /// The amount: bytes, or a position.
    pub amount: u32,
}

impl fmt::Debug for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} ns {:<11} {:>5} {:>7}", self.at.as_nanos(), self.what, self.place, self.amount)
    }
}

#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    ring: VecDeque<TraceEvent>,
    capacity: usize,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, ring: VecDeque::new(), capacity: 0 }
    }

    pub(super) fn keep(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.ring.truncate(capacity);
    }

    pub(super) fn record(&mut self, now: u64, what: &'static str, place: u32, amount: u32) {
        // One word names the event well enough: the first bytes of the text tell the kinds apart.
        let text = what.as_bytes();
        let kind = u64::from(text[0]) << 16 | u64::from(text[1]) << 8 | text.len() as u64;
        for word in [now ^ kind << 40, u64::from(place) << 32 | u64::from(amount)] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        if self.capacity > 0 {
            if self.ring.len() == self.capacity {
                self.ring.pop_front();
            }
            self.ring.push_back(TraceEvent { at: Timestamp::from_nanos(now), what, place, amount });
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> Vec<TraceEvent> {
        self.ring.iter().copied().collect()
    }
}
