//! Connections that have had their last word, and are kept for a moment so that it arrives.
//!
//! ```text
//!   TCP, HTTP    last word, FIN ─► discard ─ the peer's FIN ─► gone
//!   WebSocket    last word, close frame ─► discard ─ the peer's close frame ─► FIN ─┐
//!                                          discard ◄────────────────────────────────┘
//!                                             └─ the peer's FIN ─► gone
//! ```
//!
//! A socket that is closed over unread bytes resets the connection, and the reset destroys what the
//! peer has not read. A proxy in between that sees FIN ends both of its sides in that way, while
//! its client still writes. So a server discards what comes until the peer's close frame and ends
//! the connection first then (RFC 6455 §7.1.1, §7.1.2); a peer that has sent its close frame writes
//! no more. Over TCP there is no such frame, and a half-close is the most that can be said.
//!
//! A receiver that was closed as too slow has taken nothing for a while, so its last word may wait
//! in front of a socket that is full: it has [`SLOW_MOMENTS`] as long as that lasts and the table
//! of connections has room. What waited before the word was dropped (`super::unsent`).
//!
//! A lingering connection keeps its place, which newcomers may need: for at most
//! `WorkerSettings::linger`, or as many moments, and while the table of connections is full those
//! that have lingered for longest go, at most [`PLACES_PER_TURN`] a turn, none before
//! [`LINGER_MIN`]. The order is kept of at most an eighth of a worker's connections
//! ([`Lingering::bound`]); further ones wait for their time.

use super::Handler;
use super::goodbye::Answer;
use super::state::lingering::Lingering;
use crate::listener::Framing;
use crate::session::{Phase, WebSocketInput};
use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::CloseWatch;
use netpoll::{Backend, ConnectionId, Introspect, Queues, SendError, SharedBuffer, Timestamp};
use std::num::NonZeroU8;
use std::time::Duration;

/// How much of its time a connection lingers for the peer's close frame: a peer that knows of none
/// still sees FIN before the end.
const fn close_frame_wait(linger: Duration) -> Duration {
    Duration::from_millis(linger.as_millis() as u64 * 3 / 4)
}

/// KiB that are discarded of a connection, each receive rounded up, before its peer's close frame
/// is awaited no longer: as much as a client may send at once by the default of
/// `rate.bytes_burst_max`. FIN follows, and from there on the backend discards, as far as time has
/// paid for that.
const DISCARDED_KIB_MAX: u16 = 1024;

/// For how many times `WorkerSettings::linger` a receiver that was closed as too slow may linger
/// while its socket takes nothing: a client that was away for a moment learns why it was closed.
const SLOW_MOMENTS: NonZeroU8 = NonZeroU8::new(5).unwrap();

/// How long a connection lingers at least: its last word has left by then, and has come to most
/// peers.
const LINGER_MIN: Duration = Duration::from_millis(250);

/// How often that is looked at while the table is full.
const PLACES_EVERY: Duration = Duration::from_millis(20);

/// Lingering connections that are closed in a turn at most while newcomers wait for a place.
const PLACES_PER_TURN: usize = 8;

impl<B: Backend> Handler<B> {
    /// Says `last` and keeps the connection until the peer has had the time to take it. The session
    /// has been left.
    pub(super) fn linger(
        &mut self,
        connection: ConnectionId,
        last: Option<SharedBuffer>,
        watch: Option<CloseWatch>,
    ) {
        let mut wait = self.context.settings.linger;
        match (last, watch) {
            (Some(last), Some(watch)) => match self.io.send_last(connection, last) {
                Ok(()) => {
                    wait = close_frame_wait(wait);
                    // Or its close frame would never be seen.
                    self.io.set_receiving(connection, true);
                    if let Some(session) = self.shard.sessions.get_mut(connection) {
                        session.websocket_input = WebSocketInput::UntilClose(watch, 0);
                    }
                }
                Err(SendError::Full(last) | SendError::Exhausted(last) | SendError::Closed(last)) => {
                    self.io.finish(connection, Some(last));
                }
            },
            (last, _) => self.io.finish(connection, last),
        }
        self.shard.sessions.timers.set(connection.index(), self.turn.now + wait);
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            let is_slow = session.close_code() == Some(CloseCode::SLOW_CONSUMER);
            let moments = if is_slow { SLOW_MOMENTS } else { NonZeroU8::MIN };
            self.shard.lingering.begin(session, self.turn.now, moments);
        }
    }

    /// What looks for the peer's close frame, when one is to come: it has been shown what was
    /// received and not decoded yet.
    pub(super) fn close_watch(&mut self, connection: ConnectionId, answer: Answer) -> Option<CloseWatch> {
        let session = self.shard.sessions.get_mut(connection)?;
        if answer == Answer::Came || session.framing == Framing::Tcp || session.phase == Phase::Handshake {
            return None;
        }
        let mut watch = CloseWatch::default();
        let has_closed =
            watch.has_closed(session.carry.pending_mut()) || watch.has_closed(self.echo.pending(connection));
        (!has_closed).then_some(watch)
    }

    /// Bytes of a connection that is closing: they are discarded. Does nothing for one that is not,
    /// so what was received and not kept when its session ended can always be shown.
    pub(super) fn discard_until_close(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.websocket_input.discard(bytes, DISCARDED_KIB_MAX) {
            self.stop_waiting_for_close(connection);
        }
    }

    /// FIN follows what is queued: the peer has answered, or had its time to.
    fn stop_waiting_for_close(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.websocket_input = WebSocketInput::default();
        self.io.finish(connection, None);
        let linger = self.context.settings.linger;
        let rest = linger - close_frame_wait(linger);
        self.shard.sessions.timers.set(connection.index(), self.turn.now + rest);
    }

    /// The time of a closing connection is over: the one for its close frame, or all of it.
    pub(super) fn linger_is_over(&mut self, connection: ConnectionId) {
        let queues = self.io.queues();
        // Places that newcomers wait for are not kept for those that take nothing.
        let waits = queues.queued_bytes(connection) > 0 && !queues.is_full() && self.turn.takes_newcomers();
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if waits && Lingering::extend(session) {
            let next = self.turn.now + self.context.settings.linger;
            return self.shard.sessions.timers.set(connection.index(), next);
        }
        match session.websocket_input.close_watch() {
            Some(_) => self.stop_waiting_for_close(connection),
            None => self.io.close(connection),
        }
    }

    /// The connection has gone, or is closed without further ado.
    pub(crate) fn stop_lingering(&mut self, connection: ConnectionId) {
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            self.shard.lingering.forget(session);
        }
    }

    /// While newcomers may wait for a place, those that have lingered for longest make some.
    pub(crate) fn give_up_places(&mut self) {
        if self.shard.lingering.count() == 0 || !self.io.queues().is_full() {
            return;
        }
        let nanos = self.turn.now.as_nanos().saturating_sub(LINGER_MIN.as_nanos() as u64);
        for _ in 0..PLACES_PER_TURN {
            let before = Timestamp::from_nanos(nanos);
            let lingering = &mut self.shard.lingering;
            let Some(oldest) = lingering.take_oldest(&mut self.shard.sessions, before) else { return };
            self.io.metrics.linger_evictions.add(1);
            self.io.close(oldest);
        }
    }

    /// How long the worker may wait before a lingering connection may have to make room.
    pub(crate) fn until_places(&self, wait: Duration) -> Duration {
        let may_give = self.shard.lingering.count() > 0 && self.io.queues().is_full();
        if may_give { wait.min(PLACES_EVERY) } else { wait }
    }
}
