//! Who comes in while many do.
//!
//! An address has so many connections at a time, over all workers (`limits.connections_per_address_max`): further ones are
//! refused. And while slots are short the oldest connection that has not begun to log in gives its slot to the newest, so whoever
//! connects and says nothing keeps nobody out. Connections that have logged in, or whose token is looked at, keep theirs.

use crate::session::Session;
use crate::settings::ListenerKind;
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};
use std::net::SocketAddr;

/// One of so many slots is kept free for the next newcomer, as long as somebody can give one up.
const SLOTS_PER_SPARE: usize = 64;

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
        if is_tcp && self.pace.refusals.admit(self.pace.now) {
            self.end(connection, CloseCode::OVERLOAD, "this address has as many connections as it may");
        } else {
            self.abort(connection, CloseCode::OVERLOAD);
        }
    }

    /// A connection is gone: its address has one less.
    pub(crate) fn leave_address(&self, connection: ConnectionId) {
        let session = self.shard.sessions.get(connection);
        if let (Some((sources, _)), Some(session)) = (&self.context.settings.sources, session) {
            sources.remove(sources.source(session.peer().ip()));
        }
    }

    /// While slots are short the oldest connection that has not begun to log in goes, so that there is one for the next.
    pub(crate) fn make_room_besides(&mut self, newcomer: ConnectionId) {
        let slots = self.context.settings.tables.connections_max;
        let spare = (slots / SLOTS_PER_SPARE).max(1);
        if self.shard.sessions.live_count() + spare <= slots {
            return;
        }
        let Some(oldest) = self.shard.sessions.oldest_unauthenticated(newcomer) else { return };
        debug_assert!(self.shard.sessions.get(oldest).is_some_and(|session| !Session::is_open(session)));
        self.metrics.unauthenticated_evictions.add(1);
        // A last word would have to wait for the peer, and the slot with it.
        self.abort(oldest, CloseCode::OVERLOAD);
    }
}
