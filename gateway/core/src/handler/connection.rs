//! Connections that begin and end, and what the audit journal is sent of them.

use super::Handler;
use crate::message::{AuditEvent, AuditKind, ControlMessage};
use crate::metrics::EndReason;
use crate::session::User;
use netpoll::{Backend, CloseReason, ConnectionId};
use std::net::SocketAddr;

impl<B: Backend> Handler<B> {
    pub(crate) fn accepted(&mut self, connection: ConnectionId, listener: u8, peer: SocketAddr) {
        let framing = self.context.settings.listeners[usize::from(listener)].framing;
        let now = self.turn.now;
        self.shard.sessions.insert(connection, (listener, framing), peer, now);
        let deadline = now + self.policy.auth_timeout;
        self.shard.sessions.timers.set(connection.index(), deadline);
        if let Some(count) = self.io.metrics.accepts.get(usize::from(listener)) {
            count.add(1);
            self.io.metrics.connections[usize::from(listener)].increment();
        }
        self.admit(connection, peer);
    }

    pub(crate) fn closed(&mut self, connection: ConnectionId, reason: CloseReason) {
        if self.shard.sessions.get(connection).is_some_and(|session| session.flow.is_behind()) {
            self.catch_up(connection); // what came before the end is handled before it
        }
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let listener = usize::from(session.listener);
        let end = match session.close_code() {
            Some(code) => EndReason::Code(code),
            None => EndReason::Transport(reason),
        };
        // A connection that the server closed is not open any more, and was written down then; at a
        // stop the reason is `local`.
        if session.is_open() {
            self.audit(connection, AuditKind::Disconnected(reason));
        }
        self.leave(connection);
        self.forget_stop(connection);
        self.echo.remove(connection);
        self.stop_lingering(connection);
        self.leave_address(connection);
        self.shard.sessions.remove(&mut self.shard.texts, connection);
        self.io.metrics.count_end(end);
        if let Some(count) = self.io.metrics.connections.get(listener) {
            count.decrement();
        }
    }

    pub(crate) fn audit(&self, connection: ConnectionId, kind: AuditKind) {
        if self.context.settings.audit {
            self.tell_control(connection, kind);
        }
    }

    /// Tells the control thread of it, whether there is a journal or not.
    pub(crate) fn tell_control(&self, connection: ConnectionId, kind: AuditKind) {
        let mid = match self.shard.sessions.get(connection).map(|session| session.user()) {
            Some(User::Mid(mid)) => mid,
            _ => 0,
        };
        let event = AuditEvent { at: self.turn.now, address: self.address(connection), kind, mid };
        if !self.outbox.control(ControlMessage::Audit(event)) {
            self.io.metrics.audit_drops.add(1);
        }
    }
}
