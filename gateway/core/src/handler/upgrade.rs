//! The upgrade to WebSocket, and what a listener serves to those that ask for something else.

use super::Handler;
use super::framing::message_size_bound;
use super::goodbye::Goodbye;
use crate::session::Phase;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::HEADER_SIZE;
use gateway_proto::websocket::handshake::{
    HandshakeError, HandshakeParse, HandshakeRules, Request, accept_response,
};
use netpoll::{Backend, Buffer, ConnectionId};
use std::io::Write as _;

/// Origins of one listener at most.
const ORIGINS_MAX: usize = 64;

/// Subprotocols of one listener at most.
pub(crate) const PROTOCOLS_MAX: usize = 16;

/// Bytes of a subprotocol's name at most: the answer to an upgrade, which names it, has 512.
pub const PROTOCOL_SIZE_MAX: usize = 128;

macro_rules! page_head {
    ($kind:literal) => {
        concat!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: ",
            $kind,
            "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        )
    };
}

/// What a listener with a demo page serves besides WebSocket: path, head and content.
const PAGES: [(&str, &str, &str); 2] = [
    ("/", page_head!("text/html; charset=utf-8"), include_str!("../../../assets/demo.html")),
    ("/favicon.ico", page_head!("image/svg+xml"), include_str!("../../../assets/icon.svg")),
];

/// Where a page has it, the limits of frames are written.
const LIMITS_MARK: &str = "<!-- limits -->";

impl<B: Backend> Handler<B> {
    /// Bytes of the upgrade request.
    pub(crate) fn handshake_received(&mut self, connection: ConnectionId, buffer: Buffer) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if let Some(refusal) = session.websocket_input.refusal() {
            return self.answer_refused(connection, refusal);
        }
        let request = match session.carry.is_empty() {
            true => buffer,
            false => {
                let needed = self.head_size_max(connection);
                self.carry(connection, buffer.as_slice(), needed);
                let Some(session) = self.shard.sessions.get_mut(connection) else { return };
                let pending = session.carry.pending();
                let Some(request) = session.carry.take(pending) else { return };
                request
            }
        };
        self.handshake(connection, request);
    }

    /// The largest head that the connection's listener takes.
    fn head_size_max(&self, connection: ConnectionId) -> usize {
        let listener = self.shard.sessions.get(connection).map(|session| usize::from(session.listener));
        let listener = listener.and_then(|listener| self.context.settings.listeners.get(listener));
        listener.map_or(0, |listener| listener.head_size_max)
    }

    fn handshake(&mut self, connection: ConnectionId, mut request: Buffer) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let listener = &self.context.settings.listeners[usize::from(session.listener)];
        let mut origins = [""; ORIGINS_MAX];
        let count = listener.origins.len().min(ORIGINS_MAX);
        origins.iter_mut().zip(&listener.origins).for_each(|(slot, origin)| *slot = origin);
        let mut protocols = [""; PROTOCOLS_MAX];
        let spoken = listener.protocols.len().min(PROTOCOLS_MAX);
        protocols.iter_mut().zip(&listener.protocols).for_each(|(slot, protocol)| *slot = protocol);
        let rules = HandshakeRules {
            path: &listener.path,
            origins: &origins[..count],
            protocols: &protocols[..spoken],
            head_size_max: listener.head_size_max,
        };
        match Request::parse(request.as_slice(), &rules) {
            Ok(HandshakeParse::Incomplete) => {
                let needed = listener.head_size_max;
                self.carry(connection, request.as_slice(), needed);
            }
            Ok(HandshakeParse::Upgrade { consumed, request: upgrade }) => {
                let mut response = [0; 512];
                let size = accept_response(upgrade.key, upgrade.protocol, &mut response).unwrap_or(0);
                self.upgrade(connection, &response[..size]);
                request.advance(consumed);
                if !request.is_empty() {
                    self.received(connection, request);
                }
            }
            Ok(HandshakeParse::Plain { head, .. }) => {
                let page = PAGES.iter().find(|(path, ..)| listener.demo_page && head.path == *path);
                let with_body = head.method == "GET";
                match page {
                    Some((_, head, content)) => {
                        self.page(connection, head, if with_body { content } else { "" })
                    }
                    None => self.refuse_upgrade(connection, HandshakeError::NotUpgrade),
                }
            }
            Err(error) => self.refuse_upgrade(connection, error),
        }
    }

    fn upgrade(&mut self, connection: ConnectionId, response: &[u8]) {
        if let Some(session) = self.shard.sessions.get_mut(connection) {
            session.phase = Phase::Unauthenticated;
        }
        if self.shard.sessions.get(connection).is_some_and(|session| self.is_echo(session)) {
            self.shard.sessions.timers.cancel(connection.index()); // an echo needs no login
            self.shard.sessions.unlist_unauthenticated(connection);
        }
        let bytes = self.with_block(connection, response.len(), |handler| handler.io.bytes(response));
        match bytes {
            Some(response) => {
                self.send(connection, response);
            }
            None => self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
        }
    }

    fn refuse_upgrade(&mut self, connection: ConnectionId, error: HandshakeError) {
        self.io.metrics.upgrade_failures.add(1);
        self.close(connection, Goodbye::Http(CloseCode::PROTOCOL_ERROR, error.response()));
    }

    /// Serves a page, in chunks of a block each; one that asks for the limits of frames gets them.
    fn page(&mut self, connection: ConnectionId, head: &str, content: &str) {
        let mut limits = [0; 64];
        let (before, after) = content.split_once(LIMITS_MARK).unwrap_or((content, ""));
        let limits = if after.is_empty() { "" } else { self.write_limits(connection, &mut limits) };
        let parts = [head, before, limits, after];
        for chunk in parts.iter().flat_map(|part| part.as_bytes().chunks(4096)) {
            let Some(bytes) = self.io.bytes(chunk) else {
                return self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
            };
            if !self.send(connection, bytes) {
                return;
            }
        }
        self.close(connection, Goodbye::Http(CloseCode::NORMAL, &[]));
    }

    /// Bytes of a frame's body that a client of this listener may send, and of its login's.
    fn write_limits<'a>(&mut self, connection: ConnectionId, out: &'a mut [u8; 64]) -> &'a str {
        let bound = message_size_bound(self.io.pools().block_size_max()) as u64;
        let listener = self.shard.sessions.get(connection).map_or(0, |session| usize::from(session.listener));
        let message = self.context.settings.listeners[listener].message_size_max.min(bound);
        let body = message.saturating_sub(HEADER_SIZE as u64);
        let settings = &self.context.settings;
        let open = body.min(u64::from(settings.frame_body_size_max));
        let login = open.min(u64::from(settings.auth_body_size_max));
        let mut rest = &mut out[..];
        let _ = write!(rest, "<meta name=\"limits\" content=\"{open} {login}\">");
        let left = rest.len();
        str::from_utf8(&out[..out.len() - left]).unwrap_or_default()
    }
}
