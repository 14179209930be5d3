//! What a receiver that keeps up still gets of pushes to many, when others have filled its queue.
//!
//! A message to a user that finds its receiver's queue full is answered with an error. A push to a
//! room or to everyone that finds it full is lost for this receiver, and its sender does not learn
//! of it. Messages of users may take more of a queue than pushes to rooms: a flood of users at one
//! receiver would cut it off from its rooms, however well it reads. So a receiver gets small pushes
//! to many, while its socket takes bytes, from the part of its queue that is kept for replies,
//! [`BYTES_MAX`] a second at most.
//!
//! ```text
//!   a push to many is refused
//!     ├► the socket is slow, or such pushes alone have filled their part: dropped, as
//!     │  `[slow_consumer]` says
//!     └► users, or other connections, have filled the queue: within the reserve a copy is queued
//! ```
//!
//! The copy is in a block of its size, so what waits here keeps no receive buffer from others.
//!
//! Bounds: at most [`RECEIVERS_MAX`] receivers a worker have a record; for one more the one that
//! has needed the reserve least lately is forgotten.

use netpoll::{ConnectionId, Timestamp};

/// Bytes of pushes to many that a receiver gets at once, and in each second.
const BYTES_MAX: u32 = 16 << 10;
/// A push counts as so many bytes at least: the smallest block.
const BYTES_MIN: u32 = 256;
/// A larger push gets nothing of it.
pub(crate) const PUSH_SIZE_MAX: usize = 4 << 10;
/// Receivers of a worker with a record of their own.
const RECEIVERS_MAX: usize = 32;

/// What one receiver has left, and since when.
#[derive(Clone, Copy, Debug)]
struct Left {
    connection: ConnectionId,
    bytes: u32,
    at: Timestamp,
}

impl Left {
    /// Time has given some back.
    fn at(self, now: Timestamp) -> Left {
        let millis = now.since(self.at).as_millis().min(1000) as u32;
        if millis == 0 {
            return self;
        }
        let bytes = (self.bytes + BYTES_MAX / 1000 * millis).min(BYTES_MAX);
        Left { bytes: if millis == 1000 { BYTES_MAX } else { bytes }, at: now, ..self }
    }
}

/// The reserves of a worker's receivers.
#[derive(Debug)]
pub(crate) struct Reserve(Vec<Left>);

impl Reserve {
    /// Without receivers.
    pub(crate) fn new() -> Reserve {
        Reserve(Vec::with_capacity(RECEIVERS_MAX))
    }

    /// Whether the receiver gets a push of `size` bytes; then they are taken.
    pub(crate) fn take(&mut self, connection: ConnectionId, size: usize, now: Timestamp) -> bool {
        let Ok(size) = u32::try_from(size.max(BYTES_MIN as usize)) else { return false };
        let mut left = match self.0.iter().position(|one| one.connection == connection) {
            Some(known) => self.0.swap_remove(known).at(now),
            None => Left { connection, bytes: BYTES_MAX, at: now },
        };
        if self.0.len() == RECEIVERS_MAX {
            let oldest = (0..self.0.len()).min_by_key(|index| self.0[*index].at).unwrap_or_default();
            self.0.swap_remove(oldest);
        }
        let has = left.bytes >= size;
        left.bytes -= if has { size } else { 0 };
        self.0.push(left);
        has
    }
}

/// What deliveries keep from one to the next.
#[derive(Debug)]
pub(in crate::handler) struct Delivery {
    /// Connections found too slow while something was iterated over; closed right after.
    pub(in crate::handler) slow: Vec<ConnectionId>,
    /// What flooded receivers still get of pushes to many.
    pub(in crate::handler) reserve: Reserve,
}

impl Delivery {
    /// Notes at most so many slow connections at a time.
    pub(in crate::handler) fn with_capacity(slow_max: usize) -> Delivery {
        Delivery { slow: Vec::with_capacity(slow_max), reserve: Reserve::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn connection(number: u32) -> ConnectionId {
        ConnectionId::new(number, 1)
    }

    /// How many pushes of `size` bytes it gets of a thousand at once.
    fn burst(reserve: &mut Reserve, number: u32, size: usize, millis: u64) -> usize {
        (0..1000).filter(|_| reserve.take(connection(number), size, at(millis))).count()
    }

    #[test]
    fn a_receiver_gets_its_part_at_once_and_again_each_second() {
        let mut reserve = Reserve::new();
        assert_eq!(burst(&mut reserve, 1, 1024, 0), 16);
        assert_eq!(burst(&mut reserve, 1, 1024, 0), 0);
        assert_eq!(burst(&mut reserve, 2, 1, 0), 64, "a small one counts as the smallest block");
        assert_eq!(burst(&mut reserve, 1, 1024, 500), 7);
        assert_eq!(burst(&mut reserve, 1, 1024, 5000), 16, "no more than that, however long it was");
    }

    #[test]
    fn receivers_beyond_the_bound_take_the_place_of_those_that_need_it_least() {
        let mut reserve = Reserve::new();
        for number in 0..RECEIVERS_MAX as u32 {
            assert_eq!(burst(&mut reserve, number, 1024, u64::from(number)), 16);
        }
        let capacity = reserve.0.capacity();
        assert_eq!(burst(&mut reserve, 99, 1024, 40), 16);
        assert_eq!(burst(&mut reserve, 31, 1024, 41), 0, "the newest is remembered");
        assert_eq!(burst(&mut reserve, 0, 1024, 41), 16, "the oldest is not");
        assert_eq!((reserve.0.len(), reserve.0.capacity()), (RECEIVERS_MAX, capacity));
    }
}
