//! Connections that are left unread while their own answers wait for them to read.
//!
//! ```text
//!   a receive was handled ─► more waits than its answers may fill? ─► the socket is left unread
//!   an answer finds the queue full ─► queued all the same ───────────────┤  what was received goes on
//!                                                                        ▼
//!      a seventh less waits ─► receive again     the socket has taken nothing for a time ─► 3008
//! ```
//!
//! A sender is slowed down before it is closed: a burst that its rate allows may be larger than its
//! queue, and io_uring has received more of it ahead. What has been received is handled.
//!
//! Bounds: answers fill seven eighths of `limits.send_queue_bytes_max`, which is more than pushes
//! may, so a receiver that others flood is still read. While its socket refuses bytes, also at most
//! twice what others may have waiting for it ([`netpoll::BufferPools::waiting_bytes_max`]), and no
//! receive buffer while fewer than half of these are free. Beyond
//! that only the answers to what had been received before the socket was left unread, which
//! receive buffers bound; at [`QUEUES_MAX`] times the queue the connection is closed.

use super::Handler;
use crate::metrics::SlowReason;
use crate::session::Session;
use netpoll::{Backend, ConnectionId, PoolSet, Priority, Queues, SendError, SharedBuffer};

/// Connections that are left unread for their answers and looked at in a turn at most. One that has
/// read all of them does not wait for that.
const LOOKS_PER_TURN: usize = 64;

/// Queues that answers fill at most. io_uring receives 512 KiB ahead at first, 2 MiB at most with
/// the default 128 receive buffers, and the default queue is 1 MiB.
const QUEUES_MAX: usize = 4;

impl<B: Backend> Handler<B> {
    /// Bytes that may wait for a connection when it is received from.
    fn answer_bytes_max(&mut self, connection: ConnectionId) -> usize {
        let queue = self.context.settings.send_queue_bytes_max;
        let most = queue - queue / 8;
        match self.io.queues().is_waiting(connection) {
            true => most.min(2 * self.io.pools().waiting_bytes_max()),
            false => most,
        }
    }

    /// Leaves a connection unread while too much waits for it. Called after each receive.
    pub(super) fn await_uptake(&mut self, connection: ConnectionId) {
        let queued = self.io.queues().queued_bytes(connection);
        // Of an empty queue nothing else has to be known.
        if queued > 0 && (queued > self.answer_bytes_max(connection) || self.is_wasteful(connection)) {
            self.hold_for_answers(connection);
        }
    }

    /// Whether receive buffers are scarce and the connection keeps some for a socket that refuses
    /// bytes: no block was free for what waits.
    fn is_wasteful(&mut self, connection: ConnectionId) -> bool {
        self.io.queues().is_waiting(connection)
            && self.io.pools().receive_is_half_taken()
            && self.io.queues().queued_blocks(connection, PoolSet::RECEIVE) > 0
    }

    /// Leaves a connection unread until it has read of what waits for it. False when it is ending.
    fn hold_for_answers(&mut self, connection: ConnectionId) -> bool {
        let session = self.shard.sessions.get_mut(connection);
        let Some(session) = session.filter(|session| session.is_open()) else { return false };
        if session.flow.awaits_uptake() {
            return true;
        }
        session.flow.set_awaits_uptake(true);
        self.held.uptake.push(connection.index());
        self.io.metrics.answer_stopped.increment();
        self.io.metrics.answer_stops.add(1);
        self.io.set_receiving(connection, false);
        true
    }

    /// An answer has found the queue full: it is queued behind what its connection will be left
    /// unread for. False when the connection is ending, because it takes nothing.
    pub(super) fn overfill(&mut self, connection: ConnectionId, answer: SharedBuffer) -> bool {
        let queue = self.context.settings.send_queue_bytes_max;
        let is_bounded = self.io.queues().queued_bytes(connection) <= QUEUES_MAX * queue;
        if is_bounded && !self.is_stalled(connection) && self.hold_for_answers(connection) {
            match self.io.send(connection, answer, Priority::Last) {
                Ok(()) | Err(SendError::Closed(_)) => return true,
                Err(SendError::Full(_) | SendError::Exhausted(_)) => {}
            }
        }
        self.close_slow(connection, SlowReason::Replies);
        false
    }

    fn is_stalled(&self, connection: ConnectionId) -> bool {
        self.io.queues().stalled_for(connection, self.turn.now) >= self.policy.slow_consumer_timeout
    }

    /// Looks at some of the connections that are left unread for their answers.
    pub(super) fn look_at_uptake(&mut self) {
        for _ in 0..LOOKS_PER_TURN.min(self.held.uptake.len()) {
            let Some(slot) = self.held.uptake.pop() else { return };
            let connection = self.shard.sessions.at(slot).map(|session| session.connection);
            if connection.is_some_and(|connection| self.still_awaits_uptake(connection)) {
                self.held.uptake.push(slot);
            }
        }
    }

    /// Looks at a connection that is left unread for its answers: it is received from again, or
    /// closed, or stays. True when it stays.
    pub(crate) fn still_awaits_uptake(&mut self, connection: ConnectionId) -> bool {
        let awaits_uptake = |session: &Session| session.flow.awaits_uptake();
        if !self.shard.sessions.get(connection).is_some_and(awaits_uptake) {
            return false;
        }
        let most = self.answer_bytes_max(connection);
        let is_read = self.io.queues().queued_bytes(connection) <= most - most / 7;
        if self.turn.is_stopping() || (is_read && !self.is_wasteful(connection)) {
            self.end_uptake_wait(connection);
            self.receive_again(connection);
            return false;
        }
        if self.is_stalled(connection) {
            self.close_slow(connection, SlowReason::Replies);
            return false;
        }
        true
    }

    /// Notes that a connection is no longer left unread for its answers.
    pub(super) fn end_uptake_wait(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.flow.set_awaits_uptake(false) {
            self.io.metrics.answer_stopped.decrement();
        }
    }
}
