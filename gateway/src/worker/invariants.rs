//! What holds of a shard between two turns: each part's own invariants, and that the parts agree.

use super::{Shard, Worker};
use crate::session::User;
use netpoll::Backend;

impl Shard {
    /// Checks everything; takes time with the tables' size.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn invariants(&self) {
        self.sessions.invariants();
        self.texts.invariants();
        self.rooms.invariants();
        self.directory.invariants();
        self.fanouts.invariants(self.rooms.fanout_heads());
        self.sums.invariants();
        let (mut memberships, mut cells) = (0, self.rooms.texts().map(|text| text.cells()).sum::<usize>());
        for session in (0..self.sessions.slots()).filter_map(|index| self.sessions.at(index)) {
            let connection = session.connection;
            let mut count = 0;
            for member in self.rooms.memberships(&session.rooms) {
                assert_eq!(
                    self.rooms.session_of(member),
                    connection.index() as u32,
                    "{connection:?}'s member"
                );
                count += 1;
            }
            assert_eq!(count, usize::from(session.rooms.count), "rooms of {connection:?}");
            if let Some(primary) = session.rooms.primary {
                let has = self.rooms.memberships(&session.rooms).any(|member| member == primary);
                assert!(has, "{connection:?} is not in its first room");
            }
            memberships += count;
            cells += session.key.cells() + session.grants().cells();
            if let User::Uid(uid) = session.user() {
                cells += uid.cells();
            }
        }
        assert_eq!(memberships, self.rooms.memberships_len(), "memberships of sessions and of rooms");
        assert_eq!(cells, self.texts.used_cells(), "texts of sessions and rooms, and cells in use");
        self.lingering.invariants(&self.sessions);
    }
}

impl<B: Backend> Worker<B> {
    /// Checks the whole shard.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn invariants(&self) {
        self.shard.invariants();
        self.post.invariants();
        let slots = 0..self.shard.sessions.slots();
        let live = slots.filter(|index| self.shard.sessions.at(*index).is_some()).count();
        let mut token_keys = [0; 256];
        for session in (0..self.shard.sessions.slots()).filter_map(|index| self.shard.sessions.at(index)) {
            token_keys[usize::from(session.key_number())] += 1;
        }
        for number in 1..=u8::MAX {
            let counted = self.metrics.token_keys.of(number);
            assert_eq!(counted, token_keys[usize::from(number)], "sessions of the token key {number}");
        }
        // A backend may be done with a connection before it reports the end.
        assert!(self.backend.connection_count() <= live, "a connection without a session");
    }
}
