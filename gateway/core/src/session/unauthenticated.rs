//! The connections that have not begun to log in, in the order in which they came.
//!
//! A connection that sends nothing holds a slot. While slots are short the oldest of these are
//! evicted for new connections. The list runs through the sessions, by two numbers that mean
//! something else after the login; a connection leaves it when its token is looked at or its names
//! are entered, and at its end.

use super::ends::{NONE, UNLISTED};
use super::{Phase, Session, Sessions};
use netpoll::ConnectionId;

impl Sessions {
    /// Connections that have not begun to log in.
    pub fn unauthenticated_count(&self) -> usize {
        self.unauthenticated.count
    }

    /// The oldest connection that has not begun to log in.
    pub fn oldest_unauthenticated(&self) -> Option<&Session> {
        self.slots.get(self.unauthenticated.oldest as usize)
    }

    /// The connections that have not begun to log in, the oldest first.
    pub fn unauthenticated(&self) -> impl Iterator<Item = &Session> {
        let next = |session: &&Session| self.slots.get(session.pair[1] as usize);
        std::iter::successors(self.oldest_unauthenticated(), next)
    }

    pub(super) fn list_unauthenticated(&mut self, slot: usize) {
        let older = std::mem::replace(&mut self.unauthenticated.newest, slot as u32);
        self.slots[slot].pair = [older, NONE];
        match self.slots.get_mut(older as usize) {
            Some(older) => older.pair[1] = slot as u32,
            None => self.unauthenticated.oldest = slot as u32,
        }
        self.unauthenticated.count += 1;
    }

    /// Removes a connection from the list, if it is there; an echo's too, which needs no login.
    pub fn unlist_unauthenticated(&mut self, connection: ConnectionId) {
        let Some(session) = self.get_mut(connection) else { return };
        let is_before = matches!(session.phase, Phase::Handshake | Phase::Unauthenticated);
        if !is_before || session.pair == UNLISTED {
            return;
        }
        let [older, newer] = std::mem::replace(&mut session.pair, UNLISTED);
        match self.slots.get_mut(older as usize) {
            Some(older) => older.pair[1] = newer,
            None => self.unauthenticated.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.pair[0] = older,
            None => self.unauthenticated.newest = older,
        }
        self.unauthenticated.count -= 1;
    }

    /// The list goes both ways and has exactly the connections that have not begun to log in.
    pub(super) fn unauthenticated_invariants(&self) {
        let (mut before, mut slot, mut count) = (NONE, self.unauthenticated.oldest, 0);
        while let Some(session) = self.slots.get(slot as usize) {
            let is_before = matches!(session.phase, Phase::Handshake | Phase::Unauthenticated);
            assert!(is_before, "{:?} in {:?} is listed", session.connection, session.phase);
            assert_eq!(session.pair[0], before, "the list of unauthenticated connections goes both ways");
            count += 1;
            assert!(count <= self.unauthenticated.count, "unauthenticated connections go round in circles");
            (before, slot) = (slot, session.pair[1]);
        }
        assert_eq!(
            (before, count),
            (self.unauthenticated.newest, self.unauthenticated.count),
            "ends of the list"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Framing;
    use crate::session::text::TextStore;
    use netpoll::Timestamp;

    #[test]
    fn the_oldest_is_found_whoever_left_from_the_middle() {
        let mut sessions = Sessions::with_capacity(8, 1, 1);
        let mut texts = TextStore::with_capacity(8, 2, 0);
        let id = |index| ConnectionId::new(index, 0);
        let peer = "192.0.2.1:7".parse().unwrap();
        for index in 0..5 {
            sessions.insert(id(index), (0, Framing::Tcp), peer, Timestamp::ZERO);
        }
        let order: Vec<_> = sessions.unauthenticated().map(|session| session.connection).collect();
        assert_eq!(order, (0..5).map(id).collect::<Vec<_>>());
        let oldest =
            |sessions: &Sessions| sessions.oldest_unauthenticated().map(|session| session.connection);
        assert_eq!(oldest(&sessions), Some(id(0)));
        sessions.set_logging_in(id(1), Phase::Verifying);
        sessions.remove(&mut texts, id(0));
        sessions.unauthenticated_invariants();
        assert_eq!(oldest(&sessions), Some(id(2)));
        sessions.remove(&mut texts, id(4));
        sessions.set_logging_in(id(2), Phase::Verifying);
        assert_eq!((oldest(&sessions), sessions.unauthenticated_count()), (Some(id(3)), 1));
        sessions.insert(id(0), (0, Framing::WebSocket), peer, Timestamp::ZERO);
        assert_eq!(oldest(&sessions), Some(id(3)), "the slot is another connection's");
        sessions.unauthenticated_invariants();
    }
}
