//! A worker that has had no connection for a while gives memory back.
//!
//! Tables and pools are reserved at the start and become resident as they are used, so after a
//! crowd has left everything would stay resident that it took. After [`QUIET_MIN`] each table that
//! is empty begins anew, as after the start. As the home of names and rooms with connections
//! elsewhere a worker has entries although it has no connection, so its tables are looked at again
//! and again; the backend's only once.

use super::Worker;
use super::lifecycle::IdleTrim;
use netpoll::Backend;
use std::time::Duration;

/// How long no connection must have been there, and how often tables are looked at from then on.
const QUIET_MIN: Duration = Duration::from_secs(5);

impl<B: Backend> Worker<B> {
    /// Returns memory when no connection has been there for [`QUIET_MIN`].
    pub(super) fn trim_when_idle(&mut self) {
        if !self.handler.shard.sessions.is_empty() {
            self.lifecycle.idle_trim = IdleTrim::default();
            return;
        }
        let now = self.handler.turn.now;
        let state = &mut self.lifecycle.idle_trim;
        let due = *state.due.get_or_insert(now + QUIET_MIN);
        if now >= due {
            state.due = Some(now + QUIET_MIN);
            if !std::mem::replace(&mut state.backend_is_trimmed, true) {
                self.trim_exits();
            }
            self.handler.shard.trim();
        }
    }

    /// Returns the memory of what is empty at once, unless a connection is there. For tests and
    /// simulations.
    pub fn trim(&mut self) {
        if self.handler.shard.sessions.is_empty() {
            self.trim_exits();
            self.handler.shard.trim();
        }
    }

    /// What is between the shard and others: its backend, its mailbox, its messages to others.
    fn trim_exits(&mut self) {
        self.handler.io.trim();
        self.batch.trim();
        self.inbox.trim();
        self.handler.outbox.trim();
        self.handler.held.trim();
        self.handler.turn.backlog.trim();
    }
}
