//! What holds of a worker between two turns.

use super::Worker;
use crate::session::Phase;
use netpoll::{Backend, Introspect};

impl<B: Backend> Worker<B> {
    /// Checks the whole shard.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn invariants(&self) {
        let handler = &self.handler;
        let shard = &handler.shard;
        shard.invariants();
        handler.outbox.invariants();
        let slots = 0..shard.sessions.slots();
        let live = slots.filter(|index| shard.sessions.at(*index).is_some()).count();
        let mut token_keys = [0; 256];
        for session in (0..shard.sessions.slots()).filter_map(|index| shard.sessions.at(index)) {
            token_keys[usize::from(session.key_number())] += 1;
            let (connection, waiting) = (session.connection, usize::from(session.flow.waiting()));
            assert_eq!(waiting, handler.turn.backlog.count(connection), "buffers of {connection:?} wait");
            assert_eq!(session.flow.is_behind(), waiting > 0, "{connection:?} is behind, or waits");
            let is_held = session.flow.is_due() && session.phase != Phase::Closing;
            let is_due = session.flow.is_finished() && handler.has_answers_due(connection);
            assert!(!is_held || is_due, "{connection:?} is kept for no answer");
        }
        for number in 1..=u8::MAX {
            let counted = handler.io.metrics.token_keys.of(number);
            assert_eq!(counted, token_keys[usize::from(number)], "sessions of the token key {number}");
        }
        // A backend may be done with a connection before it reports the end.
        assert!(handler.io.queues().connection_count() <= live, "a connection without a session");
    }
}
