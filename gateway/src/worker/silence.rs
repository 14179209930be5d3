//! A worker that has had no connection for a while gives memory back.
//!
//! Tables and pools are reserved at the start and become resident as they are used, so after a crowd has left everything
//! would stay resident that it took. In a silence each table that is empty begins anew, as after the start. As the home of
//! names and rooms whose connections are elsewhere a worker has entries although it has no connection, so its tables are
//! looked at again and again; the backend's only once.

use super::{Shard, Worker};
use netpoll::{Backend, Timestamp};
use std::time::Duration;

/// How long no connection must have been there, and how often tables are looked at from then on.
const SILENCE: Duration = Duration::from_secs(5);

/// How far a silence has come. The default: somebody was there just now.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// When tables are looked at next.
    due: Option<Timestamp>,
    /// The backend has given back what it has.
    backend_is_trimmed: bool,
}

impl<B: Backend> Worker<B> {
    /// Gives memory back when a silence has lasted.
    pub(super) fn use_silence(&mut self) {
        if !self.shard.sessions.is_empty() {
            self.silence = Silence::default();
            return;
        }
        let next = self.pace.now + SILENCE;
        let due = *self.silence.due.get_or_insert(next);
        if self.pace.now >= due {
            self.silence.due = Some(next);
            if !std::mem::replace(&mut self.silence.backend_is_trimmed, true) {
                self.trim_ways();
            }
            self.shard.trim();
        }
    }

    /// Gives the memory of what is empty back at once, unless somebody is there. For tests and simulations.
    pub fn trim(&mut self) {
        if self.shard.sessions.is_empty() {
            self.trim_ways();
            self.shard.trim();
        }
    }

    /// What is between the shard and others: its backend, its mailbox, its messages to others.
    fn trim_ways(&mut self) {
        self.backend.trim();
        self.batch.trim();
        self.mailbox.trim();
        self.post.trim();
        self.held.trim();
    }
}

impl Shard {
    /// Gives the memory of tables that are empty back.
    fn trim(&mut self) {
        self.sessions.trim();
        self.texts.trim();
        self.rooms.trim();
        self.directory.trim();
        self.fanouts.trim();
        self.sums.trim();
        self.lingering.trim();
    }
}
