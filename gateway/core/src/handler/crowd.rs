//! Admission of connections while many arrive.
//!
//! An address has so many connections at a time, over all workers
//! (`limits.connections_per_address_max`): further ones are refused. And while slots are short
//! connections that have not begun to log in within a second are reset, so silent connections keep
//! no newcomer out for long: of the address that has most of these first, the oldest of it. A
//! client that is merely slow keeps its slot beside an address that has many, also while those have
//! their second. Connections that have logged in, or have a token that is checked, keep theirs.

use super::Handler;
use super::goodbye::Goodbye;
use crate::session::{CoarseInstant, Session};
use crate::sources::Source;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};
use std::cmp::Reverse;
use std::net::SocketAddr;

/// One of so many slots is kept free for the next newcomer, as long as a connection can give its
/// own up.
const SLOTS_PER_SPARE: usize = 64;
/// A connection has a second to begin its login, however short slots are: several round trips of a
/// slow client.
const LOGIN_GRACE_TICKS: u32 = CoarseInstant::PER_SECOND;
/// A connection keeps its slot while another address has more than so many times as many, though
/// those have time left.
const SPARED_PART: usize = 8;
/// Connections that are looked at in a turn, the oldest ones; no more give up their slots.
const LOOKED_AT: usize = 256;

/// A connection that may have to give up its slot.
#[derive(Clone, Copy)]
struct Candidate {
    connection: ConnectionId,
    source: Source,
    /// It has had its time to begin.
    is_late: bool,
    /// Its place by age, the oldest first.
    place: u16,
    /// How many of its source there are that are not older.
    crowd: u16,
}

/// Sorts candidates into the order in which they go: as long as a source has more of them than
/// others, its oldest.
fn sort_by_crowd(candidates: &mut [Candidate]) {
    candidates.sort_unstable_by_key(|one| (one.source, one.place));
    for of_source in candidates.chunk_by_mut(|one, other| one.source == other.source) {
        let count = of_source.len() as u16;
        of_source.iter_mut().zip(0..).for_each(|(one, older)| one.crowd = count - older);
    }
    candidates.sort_unstable_by_key(|one| (Reverse(one.crowd), one.place));
}

impl<B: Backend> Handler<B> {
    /// Counts a new connection for its address; false when that has more than it may.
    pub(super) fn count_for_address(&self, peer: SocketAddr) -> bool {
        let Some((sources, max)) = &self.context.settings.shared.sources else { return true };
        sources.add(sources.source(peer.ip())) <= *max
    }

    /// Where a connection comes from, for quotas by address.
    pub(super) fn source(&self, connection: ConnectionId) -> Option<Source> {
        self.shard.sessions.get(connection).map(|session| self.source_of(session))
    }

    /// Where a session's connection comes from, for quotas by address.
    pub(super) fn source_of(&self, session: &Session) -> Source {
        self.context.settings.shared.verifying.source(session.peer().ip())
    }

    /// A connection is gone: its address has one less.
    pub(crate) fn leave_address(&self, connection: ConnectionId) {
        let session = self.shard.sessions.get(connection);
        if let (Some((sources, _)), Some(session)) = (&self.context.settings.shared.sources, session) {
            sources.remove(sources.source(session.peer().ip()));
        }
    }

    /// Keeps a part of the slots free for newcomers: while fewer are free, connections that have
    /// not begun to log in are reset, each not before [`LOGIN_GRACE_TICKS`], so that a burst of
    /// clients that log in at once loses none.
    pub(crate) fn relieve_slots(&mut self) {
        let sessions = &self.shard.sessions;
        let slots = self.context.settings.tables.connections_max;
        let spare = (slots / SLOTS_PER_SPARE).max(1);
        // Slots of connections that are closed already are as good as free.
        let closed = sessions.closing_count().saturating_sub(self.shard.lingering.count());
        let short = (sessions.live_count() - closed + spare).saturating_sub(slots);
        if short == 0 || !self.turn.takes_newcomers() {
            return;
        }
        let now = CoarseInstant::of(self.turn.now);
        let is_late = |session: &Session| now.ticks_since(session.opened_at) > LOGIN_GRACE_TICKS;
        if !sessions.oldest_unauthenticated().is_some_and(is_late) {
            return;
        }
        let unused = Candidate {
            connection: ConnectionId::new(0, 0),
            source: Source::default(),
            is_late: false,
            place: 0,
            crowd: 0,
        };
        let (mut candidates, mut count) = ([unused; LOOKED_AT], 0);
        for (session, candidate) in sessions.unauthenticated().zip(&mut candidates) {
            debug_assert!(!session.is_open());
            let source = self.context.settings.shared.verifying.source(session.peer().ip());
            let (connection, is_late, place) = (session.connection, is_late(session), count as u16);
            *candidate = Candidate { connection, source, is_late, place, crowd: 0 };
            count += 1;
        }
        sort_by_crowd(&mut candidates[..count]);
        let busiest = candidates[0].crowd;
        let goes =
            |one: &&Candidate| one.is_late && usize::from(one.crowd) * SPARED_PART >= usize::from(busiest);
        for candidate in candidates[..count].iter().filter(goes).take(short) {
            self.io.metrics.unauthenticated_evictions.add(1);
            // A last word would have to wait for the peer, and the slot with it.
            self.close(candidate.connection, Goodbye::Silent(CloseCode::OVERLOAD));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Sources;

    #[test]
    fn the_address_with_most_of_them_gives_way_first() {
        let sources = Sources::new(100);
        let of = |last: u8| sources.source([192, 0, 2, last].into());
        let from = [1, 2, 3, 3, 2, 3, 3, 4];
        let mut candidates: Vec<Candidate> = (0..)
            .zip(from)
            .map(|(place, last)| Candidate {
                connection: ConnectionId::new(place, 0),
                source: of(last),
                is_late: true,
                place: place as u16,
                crowd: 0,
            })
            .collect();
        sort_by_crowd(&mut candidates);
        let order: Vec<usize> = candidates.iter().map(|one| one.connection.index()).collect();
        // Address 3 has four, 2 has two; then each has one, and age decides.
        assert_eq!(order, [2, 3, 1, 5, 0, 4, 6, 7]);
    }
}
