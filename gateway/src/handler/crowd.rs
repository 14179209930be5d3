//! Who comes in while many do.
//!
//! An address has so many connections at a time, over all workers (`limits.connections_per_address_max`): further ones are
//! refused. And while slots are short the oldest connections that have not begun to log in within a second are reset, so silent
//! connections keep no newcomer out for long. Connections that have logged in, or whose token is looked at, keep theirs.

use super::websocket::TOO_MANY;
use crate::session::{Instant16, Session};
use crate::settings::ListenerKind;
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};
use std::net::SocketAddr;

/// One of so many slots is kept free for the next newcomer, as long as somebody can give one up.
const SLOTS_PER_SPARE: usize = 64;
/// A connection has a second to begin its login, however short slots are: several round trips of a slow client.
const LOGIN_GRACE_TICKS: u32 = Instant16::PER_SECOND;
/// Connections that give up their slots in a turn at most.
const EVICTIONS_PER_TURN: usize = 256;

impl<B: Backend> Worker<B> {
    /// Counts a new connection for its address, and refuses it when that has as many as it may.
    pub(crate) fn admit_from_address(&mut self, connection: ConnectionId, peer: SocketAddr) {
        let Some((sources, max)) = &self.context.settings.sources else { return };
        if sources.add(sources.source(peer.ip())) <= *max {
            return;
        }
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let is_tcp = self.listener_kind(session) == ListenerKind::Tcp;
        self.metrics.address_refusals.add(1);
        if !self.pace.refusals.admit(self.pace.now) {
            self.abort(connection, CloseCode::OVERLOAD);
        } else if is_tcp {
            self.end(connection, CloseCode::OVERLOAD, "this address has as many connections as it may");
        } else {
            self.metrics.upgrade_failures.add(1);
            self.last_bytes(connection, TOO_MANY, CloseCode::OVERLOAD);
        }
    }

    /// A connection is gone: its address has one less.
    pub(crate) fn leave_address(&self, connection: ConnectionId) {
        let session = self.shard.sessions.get(connection);
        if let (Some((sources, _)), Some(session)) = (&self.context.settings.sources, session) {
            sources.remove(sources.source(session.peer().ip()));
        }
    }

    /// Keeps a part of the slots free for newcomers: while fewer are free, the oldest connections that have not begun to log in
    /// are reset, each not before [`LOGIN_GRACE_TICKS`], so that a burst of clients that log in at once loses none.
    pub(crate) fn relieve_slots(&mut self) {
        let slots = self.context.settings.tables.connections_max;
        let spare = (slots / SLOTS_PER_SPARE).max(1);
        let now = Instant16::of(self.pace.now);
        let short = (self.shard.sessions.live_count() + spare).saturating_sub(slots);
        if short == 0 || !self.takes_newcomers() {
            return;
        }
        for _ in 0..short.min(EVICTIONS_PER_TURN) {
            let Some(oldest) = self.shard.sessions.oldest_unauthenticated() else { return };
            if now.ticks_since(oldest.opened_at) <= LOGIN_GRACE_TICKS {
                return;
            }
            debug_assert!(!Session::is_open(oldest));
            let connection = oldest.connection;
            self.metrics.unauthenticated_evictions.add(1);
            // A last word would have to wait for the peer, and the slot with it.
            self.abort(connection, CloseCode::OVERLOAD);
        }
    }
}
