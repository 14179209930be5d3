//! How much is discarded of what peers send after their connections' `finish`.
//!
//! At most [`BURST`] discards at once and [`PER_MS`] a millisecond, of all connections of a backend
//! together, each of at most 16 KiB: bursts of 4 MiB, then 64 MB/s. The first discard of a
//! connection is free. Until its turn a connection is left unread, so its peer's own window stops
//! it; the time that its owner gives it goes on. At most [`WAITING_MAX`] wait: further ones discard
//! without it, for one that is neither read nor in line would hide its peer's end. Peers that send
//! without a pause after their end so take a bounded part of the thread, and what an honest peer
//! had under way is discarded at once.
//!
//! ```text
//!   discarded ─► time has paid for one more ─────────────────► discard again
//!            └─► it has not ─► wait in line ── time ─────────► discard again
//!                          └─► the line is full ─────────► discard again, unpaid
//! ```

use crate::fifo::Fifo;
use crate::{ConnectionId, Timestamp};
use std::time::Duration;

/// Discards that a pause makes room for, at most.
const BURST: u64 = 256;
/// Discards that time pays for in a millisecond.
const PER_MS: u64 = 4;
/// Time that pays for one, in nanoseconds.
const EACH: u64 = 1_000_000 / PER_MS;
/// Connections that wait in line at most.
const WAITING_MAX: usize = 1024;

/// How long a poll waits at most while connections are in line.
const REST: Duration = Duration::from_millis(1);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Discards {
    /// Discards that are paid for.
    left: u64,
    /// Up to when time has paid, in nanoseconds.
    paid: u64,
    waiting: Fifo<ConnectionId>,
}

impl Discards {
    /// For a backend of so many connections.
    pub(crate) fn new(connections: usize) -> Discards {
        Discards { left: BURST, paid: 0, waiting: Fifo::with_capacity(connections.min(WAITING_MAX)) }
    }

    /// Takes one of the discards that are paid for at `now`; false when there is none.
    fn take(&mut self, now: Timestamp) -> bool {
        let now = now.as_nanos();
        let due = now.saturating_sub(self.paid) / EACH;
        self.left += due;
        self.paid += due * EACH;
        if self.left >= BURST {
            (self.left, self.paid) = (BURST, now);
        }
        let had = self.left > 0;
        self.left -= u64::from(had);
        had
    }

    /// Whether a connection goes on discarding at `now`; if not, it was put in line.
    pub(crate) fn goes_on(&mut self, id: ConnectionId, now: Timestamp) -> bool {
        self.take(now) || !self.wait_in_line(id)
    }

    /// Puts a connection in line; false when the line is full.
    fn wait_in_line(&mut self, id: ConnectionId) -> bool {
        let has_room = self.waiting.len() < self.waiting.capacity();
        if has_room {
            self.waiting.push_back(id);
        }
        has_room
    }

    /// The next in line, if its discard is paid for. It may have gone meanwhile.
    pub(crate) fn next(&mut self, now: impl FnOnce() -> Timestamp) -> Option<ConnectionId> {
        if self.waiting.is_empty() || !self.take(now()) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// How long a poll may wait that would wait for `wait`.
    pub(crate) fn allow(&self, wait: Duration) -> Duration {
        if self.waiting.is_empty() { wait } else { wait.min(REST) }
    }

    /// Gives the memory back when none is in line.
    pub(crate) fn trim(&mut self) {
        self.waiting.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_nanos(micros * 1000)
    }

    #[test]
    fn a_burst_is_there_and_then_time_pays() {
        let mut discards = Discards::new(8);
        let mut take_all = |now| (0..1000).take_while(|_| discards.take(now)).count();
        assert_eq!(take_all(at(0)), 256);
        assert_eq!(take_all(at(249)), 0);
        assert_eq!(take_all(at(250)), 1);
        assert_eq!(take_all(at(10_100)), 39);
        assert_eq!(take_all(at(10_250)), 1, "no part of a payment is lost");
        assert_eq!(take_all(at(60_000_000)), 256, "a long pause makes room for a burst");
    }

    #[test]
    fn those_in_line_go_in_order_and_the_line_is_bounded() {
        let mut discards = Discards::new(2);
        while discards.take(at(0)) {}
        let ids = [0, 1, 2].map(|index| ConnectionId::new(index, 1));
        assert_eq!(ids.map(|id| discards.wait_in_line(id)), [true, true, false]);
        assert!(discards.goes_on(ids[2], at(0)), "one that is not in line goes on, or its end is hidden");
        assert_eq!(discards.allow(Duration::from_secs(1)), REST);
        assert_eq!(discards.next(|| at(100)), None);
        assert_eq!([250, 260, 500].map(|now| discards.next(|| at(now))), [Some(ids[0]), None, Some(ids[1])]);
        assert_eq!(discards.allow(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
