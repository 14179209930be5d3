//! The connections that have had their last word, in the order in which they did.

use crate::session::{Phase, Session, Sessions};
use netpoll::{ConnectionId, Timestamp, release_queue};
use std::collections::VecDeque;
use std::num::NonZeroU8;

/// Lingering connections that a worker keeps the order of at least.
const LISTED_MIN: usize = 64;

/// The lingering connections of a worker, those that have lingered for longest first. The entry of
/// a connection that has ended stays until it is the first.
#[derive(Debug)]
pub struct Lingering {
    entries: VecDeque<(ConnectionId, Timestamp)>,
    /// Connections that linger, listed or not.
    count: usize,
    listed_max: usize,
}

impl Lingering {
    /// How many of a worker's `connections_max` are listed at most.
    const fn bound(connections_max: usize) -> usize {
        let share = connections_max / 8;
        if share > LISTED_MIN { share } else { LISTED_MIN }
    }

    /// Bytes of the list for so many connections.
    pub const fn bytes(connections_max: usize) -> usize {
        Self::bound(connections_max) * size_of::<(ConnectionId, Timestamp)>()
    }

    /// Reserves the list for a worker of so many connections.
    pub fn with_capacity(connections_max: usize) -> Lingering {
        let listed_max = Self::bound(connections_max);
        Lingering { entries: VecDeque::with_capacity(listed_max), count: 0, listed_max }
    }

    /// Connections that linger.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Gives the memory back when no connection lingers.
    pub fn trim(&mut self) {
        if self.count == 0 {
            self.entries.clear();
            release_queue(&mut self.entries);
        }
    }

    /// A session begins to linger, for so many `moments` at most.
    pub(in crate::handler) fn begin(&mut self, session: &mut Session, now: Timestamp, moments: NonZeroU8) {
        session.lingers = Some(moments);
        self.count += 1;
        if self.entries.len() == self.listed_max {
            self.entries.pop_front(); // it ends by its time
        }
        self.entries.push_back((session.connection, now));
    }

    /// Takes the connection that has lingered for longest off the list, if it began `before` then.
    pub(in crate::handler) fn take_oldest(
        &mut self,
        sessions: &mut Sessions,
        before: Timestamp,
    ) -> Option<ConnectionId> {
        loop {
            let (connection, began) = *self.entries.front()?;
            match sessions.get_mut(connection).filter(|session| session.lingers.is_some()) {
                Some(_) if began >= before => return None,
                Some(session) => {
                    self.forget(session);
                    self.entries.pop_front();
                    return Some(connection);
                }
                None => drop(self.entries.pop_front()),
            }
        }
    }

    /// A moment of the session's is over: begins the next one. False when that was the last.
    pub(in crate::handler) fn extend(session: &mut Session) -> bool {
        let left = session.lingers.and_then(|moments| NonZeroU8::new(moments.get() - 1));
        session.lingers = left.or(session.lingers);
        left.is_some()
    }

    /// The session lingers no longer, if it did.
    pub(in crate::handler) fn forget(&mut self, session: &mut Session) {
        self.count -= usize::from(session.lingers.take().is_some());
    }

    /// As many linger as are counted, and all of them are closing.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self, sessions: &Sessions) {
        let all = (0..sessions.slots()).filter_map(|index| sessions.at(index));
        let lingering: Vec<_> = all.filter(|session| session.lingers.is_some()).collect();
        assert_eq!(lingering.len(), self.count, "lingering connections");
        assert!(self.entries.len() <= self.listed_max, "the list has outgrown its memory");
        for session in lingering {
            assert!(
                session.phase == Phase::Closing,
                "{:?} lingers in {:?}",
                session.connection,
                session.phase
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Framing;
    use std::net::SocketAddr;

    fn sessions(count: u32) -> (Sessions, Vec<ConnectionId>) {
        let mut sessions = Sessions::with_capacity(count as usize, 1, 0);
        let ids: Vec<_> = (0..count).map(|index| ConnectionId::new(index, 7)).collect();
        for id in &ids {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            sessions.insert(*id, (0, Framing::WebSocket), peer, Timestamp::ZERO).phase = Phase::Closing;
        }
        (sessions, ids)
    }

    #[test]
    fn the_one_that_has_lingered_for_longest_goes_first_and_none_too_soon() {
        let (mut sessions, ids) = sessions(400);
        let mut lingering = Lingering::with_capacity(16);
        let at = Timestamp::from_nanos;
        for (number, id) in ids[..4].iter().enumerate() {
            lingering.begin(sessions.get_mut(*id).unwrap(), at(100 + number as u64), NonZeroU8::MIN);
        }
        lingering.forget(sessions.get_mut(ids[0]).unwrap());
        lingering.forget(sessions.get_mut(ids[0]).unwrap()); // once
        assert_eq!(lingering.count(), 3);
        assert_eq!(lingering.take_oldest(&mut sessions, at(101)), None, "the first that is left began then");
        assert_eq!(lingering.take_oldest(&mut sessions, at(103)), Some(ids[1]));
        assert_eq!(lingering.take_oldest(&mut sessions, at(103)), Some(ids[2]));
        assert_eq!(lingering.take_oldest(&mut sessions, at(103)), None);
        assert_eq!(lingering.count(), 1);
        lingering.invariants(&sessions);
    }

    #[test]
    fn a_session_has_the_moments_that_it_was_given() {
        let (mut sessions, ids) = sessions(1);
        let mut lingering = Lingering::with_capacity(1);
        let session = sessions.get_mut(ids[0]).unwrap();
        lingering.begin(session, Timestamp::ZERO, NonZeroU8::new(3).unwrap());
        assert_eq!([(); 4].map(|()| Lingering::extend(session)), [true, true, false, false]);
        lingering.invariants(&sessions);
        lingering.forget(sessions.get_mut(ids[0]).unwrap());
        assert_eq!(lingering.count(), 0);
        assert!(!Lingering::extend(sessions.get_mut(ids[0]).unwrap()));
    }

    #[test]
    fn the_list_never_outgrows_its_memory() {
        let (mut sessions, ids) = sessions(1000);
        let mut lingering = Lingering::with_capacity(1000);
        let capacity = lingering.entries.capacity();
        for (number, id) in ids.iter().enumerate() {
            lingering.begin(sessions.get_mut(*id).unwrap(), Timestamp::ZERO, NonZeroU8::MIN);
            if number % 3 > 0 {
                lingering.forget(sessions.get_mut(*id).unwrap());
            }
            lingering.invariants(&sessions);
        }
        assert_eq!((lingering.count(), lingering.entries.capacity()), (334, capacity));
        let listed =
            std::iter::from_fn(|| lingering.take_oldest(&mut sessions, Timestamp::from_nanos(1))).count();
        assert_eq!(listed, 42, "of the last 125 a third");
        lingering.invariants(&sessions);
    }
}
