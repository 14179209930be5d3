//! Connections that have had their last word, and are kept for a moment so that it arrives.
//!
//! ```text
//!   TCP, HTTP    last word, FIN ─────────────► discard ─ the peer's FIN ─► gone
//!   WebSocket    last word, close frame ─► discard ─ the peer's close frame ─► FIN ─► discard ─ the peer's FIN ─► gone
//! ```
//!
//! A socket that is closed over unread bytes resets the connection, and the reset destroys what the peer has not read. A proxy
//! in between that sees FIN ends both of its sides in that way, while its client still writes. So a server discards what comes
//! until the peer's close frame and ends the connection first then (RFC 6455 §7.1.1, §7.1.2); a peer that has sent its close
//! frame writes no more. Over TCP there is no such frame, and a half-close is the most that can be said.
//!
//! A lingering connection keeps its place, which newcomers may need: for at most `WorkerSettings::linger`, and while the table of connections is
//! full those that have lingered for longest go, at most [`PLACES_PER_TURN`] a turn, none before [`LINGER_MIN`]. The order is
//! kept of at most an eighth of a worker's connections ([`Lingering::bound`]); further ones wait for their time.

use super::Handler;
use crate::session::{Framing, Phase, Session, Sessions};
use gateway_proto::websocket::CloseWatch;
use netpoll::{Backend, ConnectionId, Introspect, SendError, SharedBuffer, Timestamp, release_queue};
use std::collections::VecDeque;
use std::time::Duration;

/// How much of its time a connection lingers for the peer's close frame: a peer that knows of none still sees FIN before the end.
const fn close_frame_wait(linger: Duration) -> Duration {
    Duration::from_millis(linger.as_millis() as u64 * 3 / 4)
}

/// KiB that are discarded of a connection, each receive rounded up, before its peer's close frame
/// is awaited no longer: as much as a client may send at once by the default of
/// `rate.bytes_burst_max`. FIN follows, and from there on the backend discards, as far as time has
/// paid for that.
const DISCARDED_KIB_MAX: u16 = 1024;

/// How long a connection lingers at least: its last word has left by then, and has come to most peers.
const LINGER_MIN: Duration = Duration::from_millis(250);

/// How often that is looked at while the table is full.
const PLACES_EVERY: Duration = Duration::from_millis(20);

/// Lingering connections that are closed in a turn at most while newcomers wait for a place.
const PLACES_PER_TURN: usize = 8;

/// Lingering connections that a worker keeps the order of at least.
const LISTED_MIN: usize = 64;

/// Whether the peer is still to say its own last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its close frame, where it speaks WebSocket.
    Awaited,
    /// It has sent its close frame.
    Came,
}

/// The lingering connections of a worker, those that have lingered for longest first. An entry whose connection has gone stays
/// until it is the first.
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

    /// A session begins to linger.
    fn begin(&mut self, session: &mut Session, now: Timestamp) {
        session.lingers = true;
        self.count += 1;
        if self.entries.len() == self.listed_max {
            self.entries.pop_front(); // it ends by its time
        }
        self.entries.push_back((session.connection, now));
    }

    /// Takes the connection that has lingered for longest off the list, if it began `before` then.
    fn take_oldest(&mut self, sessions: &mut Sessions, before: Timestamp) -> Option<ConnectionId> {
        loop {
            let (connection, began) = *self.entries.front()?;
            match sessions.get_mut(connection).filter(|session| session.lingers) {
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

    /// The session lingers no longer, if it did.
    fn forget(&mut self, session: &mut Session) {
        self.count -= usize::from(std::mem::take(&mut session.lingers));
    }

    /// As many linger as are counted, and all of them are closing.
    ///
    /// # Panics
    /// When that does not hold.
    pub fn invariants(&self, sessions: &Sessions) {
        let all = (0..sessions.slots()).filter_map(|index| sessions.at(index));
        let lingering: Vec<_> = all.filter(|session| session.lingers).collect();
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

impl<B: Backend> Handler<B> {
    /// Says `last` and keeps the connection until the peer has had the time to take it. The session has been left.
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
                    self.io.set_receiving(connection, true); // or its close frame would never be seen
                    if let Some(session) = self.shard.sessions.get_mut(connection) {
                        session.framing = Framing::UntilClose(watch, 0);
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
            self.shard.lingering.begin(session, self.turn.now);
        }
    }

    /// What looks for the peer's close frame, when one is to come: it has been shown what was received and not decoded yet.
    pub(super) fn close_watch(&mut self, connection: ConnectionId, answer: Answer) -> Option<CloseWatch> {
        let session = self.shard.sessions.get_mut(connection)?;
        if answer == Answer::Came || !session.websocket || session.phase == Phase::Handshake {
            return None;
        }
        let mut watch = CloseWatch::default();
        let has_closed =
            watch.has_closed(session.carry.pending_mut()) || watch.has_closed(self.echo.pending(connection));
        (!has_closed).then_some(watch)
    }

    /// Bytes of a connection that is closing: they are discarded. Does nothing for one that is not, so what was received and
    /// not kept when its session ended can always be shown.
    pub(super) fn discard_until_close(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.framing.discard(bytes, DISCARDED_KIB_MAX) {
            self.stop_waiting_for_close(connection);
        }
    }

    /// FIN follows what is queued: the peer has answered, or had its time to.
    fn stop_waiting_for_close(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.framing = Framing::default();
        self.io.finish(connection, None);
        let linger = self.context.settings.linger;
        let rest = linger - close_frame_wait(linger);
        self.shard.sessions.timers.set(connection.index(), self.turn.now + rest);
    }

    /// The time of a closing connection is over: the one for its close frame, or all of it.
    pub(super) fn linger_is_over(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        match session.framing.close_watch() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn sessions(count: u32) -> (Sessions, Vec<ConnectionId>) {
        let mut sessions = Sessions::with_capacity(count as usize, 1, 0);
        let ids: Vec<_> = (0..count).map(|index| ConnectionId::new(index, 7)).collect();
        for id in &ids {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            sessions.insert(*id, (0, true), peer, Timestamp::ZERO).phase = Phase::Closing;
        }
        (sessions, ids)
    }

    #[test]
    fn the_one_that_has_lingered_for_longest_goes_first_and_none_too_soon() {
        let (mut sessions, ids) = sessions(400);
        let mut lingering = Lingering::with_capacity(16);
        let at = Timestamp::from_nanos;
        for (number, id) in ids[..4].iter().enumerate() {
            lingering.begin(sessions.get_mut(*id).unwrap(), at(100 + number as u64));
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
    fn the_list_never_outgrows_its_memory() {
        let (mut sessions, ids) = sessions(1000);
        let mut lingering = Lingering::with_capacity(1000);
        let capacity = lingering.entries.capacity();
        for (number, id) in ids.iter().enumerate() {
            lingering.begin(sessions.get_mut(*id).unwrap(), Timestamp::ZERO);
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
