//! Numbers that arrive: each one once, in order. And numbers for requests, which their answers
//! bring back.
//!
//! A stream expects the next number. One above it leaves a gap, which is remembered; one below it
//! either fills a remembered gap (then it came late) or has come before. Memory is four bytes a
//! stream, which the owner keeps, and a bounded set of gaps.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// At most so many gaps are remembered; further ones are never filled.
const GAPS_MAX: usize = 1 << 16;

/// What a number is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The expected one.
    Next,
    /// Above the expected one, with so many missing before it.
    Ahead(u32),
    /// One that was missing.
    Late,
    /// One that has come before.
    Again,
}

/// The numbers that are missing from some streams.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Gaps {
    open: HashSet<(u32, u16, u32)>,
    forgotten: u64,
}

impl Gaps {
    /// Takes `number` of the stream of this receiver and slot, which expects `expected` next.
    pub(crate) fn take(&mut self, receiver: u32, slot: u16, expected: &mut u32, number: u32) -> Arrival {
        if number == *expected {
            *expected += 1;
            return Arrival::Next;
        }
        if number > *expected {
            let missing = number - *expected;
            let room = (GAPS_MAX - self.open.len()).min(missing as usize) as u32;
            // The newest are the likeliest to come yet.
            self.open.extend((number - room..number).map(|number| (receiver, slot, number)));
            self.forgotten += u64::from(missing - room);
            *expected = number + 1;
            return Arrival::Ahead(missing);
        }
        match self.open.remove(&(receiver, slot, number)) {
            true => Arrival::Late,
            false => Arrival::Again,
        }
    }

    /// The missing numbers, with their receivers and slots, as far as they are remembered.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = (u32, u16, u32)> {
        self.open.iter().copied()
    }

    /// How many numbers are missing.
    pub(crate) fn count(&self) -> u64 {
        self.open.len() as u64 + self.forgotten
    }
}

/// Distances between connections and between the streams of one, in tickets: multiples of the
/// golden ratio are far apart from one another.
const BETWEEN_CONNECTIONS: u32 = 0x9e37_79b9;
const BETWEEN_STREAMS: u32 = 0x85eb_ca6b;

/// The stream of heartbeats; the others are those of flows, by their index.
pub(crate) const BEATS: u8 = u8::MAX;

/// The sequence, in a frame's header, of request `number` on a stream of connection `global`. An
/// answer that comes to another connection, or on another stream, is far from all that were asked
/// there.
pub(crate) fn ticket(global: u32, stream: u8, number: u32) -> u32 {
    let own = global.wrapping_mul(BETWEEN_CONNECTIONS);
    own.wrapping_add(u32::from(stream).wrapping_mul(BETWEEN_STREAMS)).wrapping_add(number).wrapping_add(1)
}

/// The number behind a ticket of this connection and stream.
pub(crate) fn number_of(found: u32, global: u32, stream: u8) -> u32 {
    found.wrapping_sub(ticket(global, stream, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_known_on_its_own_stream_only() {
        for global in [0, 1, 2, 999_999] {
            for stream in [0, 1, BEATS] {
                let found = ticket(global, stream, 70);
                assert_eq!(number_of(found, global, stream), 70);
                assert!(number_of(found, global + 1, stream) > 1 << 20);
                assert!(number_of(found, global, stream.wrapping_add(1)) > 1 << 20);
            }
        }
    }

    #[test]
    fn a_number_far_ahead_costs_bounded_memory_and_is_counted_whole() {
        let (mut gaps, mut expected) = (Gaps::default(), 0);
        assert_eq!(gaps.take(0, 0, &mut expected, 3_000_000_000), Arrival::Ahead(3_000_000_000));
        assert_eq!((gaps.count(), gaps.open.len(), expected), (3_000_000_000, GAPS_MAX, 3_000_000_001));
        assert_eq!(gaps.take(0, 0, &mut expected, 2_999_999_999), Arrival::Late);
        assert_eq!(gaps.take(0, 0, &mut expected, 2_999_999_999), Arrival::Again);
        assert_eq!(gaps.take(0, 0, &mut expected, 3_000_000_001), Arrival::Next);
    }
}
