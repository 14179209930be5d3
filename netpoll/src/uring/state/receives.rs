//! What receiving keeps beside the connections: those without a buffer, those with an end that
//! may have been missed, the hand that finds idle ones, and how many buffers are lent.

use crate::fifo::Fifo;
use crate::uring::lending::Lending;
use crate::{ConnectionId, Timestamp};
use std::time::Duration;

/// At most so many slots are looked at by one turn of the idle sweep.
const SWEEP_MAX: u128 = 1024;

/// A connection is looked at so long after its last bytes, at most twice that.
const LOOK_AFTER: Duration = Duration::from_millis(500);

/// All of it.
pub(in crate::uring) struct Receives {
    pub(in crate::uring) starved: Starved,
    pub(in crate::uring) sweep: Sweep,
    pub(in crate::uring) suspects: Suspects,
    pub(in crate::uring) lending: Lending,
    /// Buffers were lent that the kernel has not seen yet.
    pub(in crate::uring) relent: bool,
    /// Connections that waited for readability have become readable since the last look.
    pub(in crate::uring) readable: bool,
}

impl Receives {
    /// The state for so many connections and a ring with room for `lent_max` buffers, where idle
    /// connections are demoted after `idle_demote`.
    pub(in crate::uring) fn new(
        connections: usize,
        lent_max: usize,
        idle_demote: Option<Duration>,
    ) -> Receives {
        Receives {
            starved: Starved::new(connections),
            sweep: Sweep::new(idle_demote),
            suspects: Suspects::new(connections),
            lending: Lending::new(lent_max),
            relent: false,
            readable: false,
        }
    }
}

/// Connections that found no buffer.
pub(in crate::uring) struct Starved {
    /// They stand in line for one.
    pub(in crate::uring) line: Fifo<ConnectionId>,
    /// None of them could be fed at the last look.
    pub(in crate::uring) is_dry: bool,
}

impl Starved {
    fn new(connections: usize) -> Starved {
        Starved { line: Fifo::with_capacity(2 * connections), is_dry: false }
    }
}

/// Connections that have received and whose end may have been missed: those listed since the last
/// exchange, and those before.
pub(in crate::uring) struct Suspects {
    young: Vec<ConnectionId>,
    old: Vec<ConnectionId>,
    /// When the lists were exchanged.
    exchanged: Timestamp,
}

impl Suspects {
    fn new(connections: usize) -> Suspects {
        let list = || Vec::with_capacity(connections);
        Suspects { young: list(), old: list(), exchanged: Timestamp::ZERO }
    }

    /// Lists a connection; false when there is no room, because connections that closed while
    /// listed left their ids.
    pub(in crate::uring) fn list(&mut self, id: ConnectionId) -> bool {
        let has_room = self.young.len() < self.young.capacity();
        if has_room {
            self.young.push(id);
        }
        has_room
    }

    /// Makes those that were listed a moment ago the next to be looked at, if none is left.
    pub(in crate::uring) fn exchange(&mut self, now: impl FnOnce() -> Timestamp) {
        if !self.old.is_empty() || self.young.is_empty() {
            return;
        }
        let now = now();
        if now >= self.exchanged + LOOK_AFTER {
            self.exchanged = now;
            std::mem::swap(&mut self.young, &mut self.old);
        }
    }

    /// The next connection to be looked at.
    pub(in crate::uring) fn pop(&mut self) -> Option<ConnectionId> {
        self.old.pop()
    }

    /// Returns the memory of the lists to the system, as far as they are not in use.
    pub(in crate::uring) fn trim(&mut self) {
        crate::release_spare(&mut self.young);
        crate::release_spare(&mut self.old);
    }

    /// How long the next poll may wait at `now`, at most `wait`.
    pub(in crate::uring) fn allow(&self, now: Timestamp, wait: Duration) -> Duration {
        match (self.old.is_empty(), self.young.is_empty()) {
            (false, _) => Duration::ZERO,
            (true, false) => wait.min((self.exchanged + LOOK_AFTER).since(now)),
            (true, true) => wait,
        }
    }
}

/// The clock hand that finds idle connections: it passes every slot once in `period`, and a
/// connection that has not received between two passes is idle.
pub(in crate::uring) struct Sweep {
    pub(in crate::uring) period: Option<Duration>,
    pub(in crate::uring) hand: usize,
    /// When the hand reached its place.
    at: Timestamp,
}

impl Sweep {
    fn new(period: Option<Duration>) -> Sweep {
        Sweep { period: period.filter(|period| !period.is_zero()), hand: 0, at: Timestamp::ZERO }
    }

    /// How many slots of `count` the hand passes between its last move and `now`.
    pub(in crate::uring) fn advance(&mut self, period: Duration, now: Timestamp, count: usize) -> usize {
        let elapsed = now.since(self.at).as_nanos();
        let steps = elapsed * count as u128 / period.as_nanos();
        if steps > SWEEP_MAX.min(count as u128) {
            self.at = now; // late: it slows down instead of jumping
            return SWEEP_MAX.min(count as u128) as usize;
        }
        if steps > 0 {
            self.at = self.at + Duration::from_nanos((steps * period.as_nanos() / count as u128) as u64);
        }
        steps as usize
    }
}
