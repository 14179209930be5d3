//! Bytes to frames over WebSocket: the upgrade, then messages of whole frames, unmasked where they lie.

use super::Handler;
use super::close::Goodbye;
use crate::memory::Level;
use crate::session::Phase;
use crate::settings::ListenerKind;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::{HEADER_SIZE, Peek};
use gateway_proto::websocket::handshake::{
    HandshakeError, HandshakeParse, HandshakeRules, Request, accept_response,
};
use gateway_proto::websocket::{Decoded, Kind, Limits, Opcode, Role, WebSocketError};
use netpoll::{Backend, Buffer, ConnectionId};
use std::io::Write as _;
use std::ops::Range;

/// Origins of one listener at most.
const ORIGINS_MAX: usize = 64;

/// Subprotocols of one listener at most.
pub(crate) const PROTOCOLS_MAX: usize = 16;

/// Bytes of a subprotocol's name at most: the answer to an upgrade, which names it, has 512.
pub const PROTOCOL_SIZE_MAX: usize = 128;

/// What a block holds besides the payload of a message: the header of its last fragment, or a control frame between two.
const BESIDE_A_MESSAGE: usize = 160;

/// The largest message that is put together in a block of `block` bytes.
pub const fn message_size_bound(block: usize) -> usize {
    block.saturating_sub(BESIDE_A_MESSAGE)
}

/// To an upgrade while new connections are refused for want of memory (RFC 9110 §15.6.4).
const NO_MEMORY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 46\r\n\r\nmemory is short: come back, or try another one";

/// To an upgrade request that did not come whole in time (RFC 9110 §15.5.9).
pub(super) const TOO_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 33\r\n\r\nno whole upgrade request in time.";

/// To an upgrade while this server cannot serve (RFC 9110 §15.6.4): it shuts down, or a buffer is not to be had.
pub(super) const NOT_NOW: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 55\r\n\r\nthis server can't serve now: come back in a few moments";

/// To a connection beyond `limits.connections_per_address_max`, before its request (RFC 6585 §4).
pub(super) const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 48\r\n\r\nthis address has as many connections as it may.\n";

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
    fn limits(&mut self, connection: ConnectionId) -> Option<Limits> {
        let block = self.io.pools().block_size_max();
        let session = self.shard.sessions.get(connection)?;
        let listener = &self.context.settings.listeners[usize::from(session.listener)];
        let mut size = listener.message_size_max.min(message_size_bound(block) as u64);
        if session.phase != Phase::Open && listener.kind == ListenerKind::WebSocket {
            size = size.min(u64::from(self.body_size_max(session.phase)) + HEADER_SIZE as u64);
        }
        Some(Limits {
            frame_payload_size_max: size,
            message_size_max: size,
            fragments_max: listener.fragments_max,
        })
    }

    // --- the upgrade -----------------------------------------------------------------------------------------------

    /// Bytes of the upgrade request.
    pub(crate) fn handshake_received(&mut self, connection: ConnectionId, buffer: Buffer) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
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
            Ok(HandshakeParse::Upgrade { .. }) if self.memory.state.level >= Level::Refuse => {
                self.io.metrics.memory_refusals.add(1);
                self.close(connection, Goodbye::Http(CloseCode::OVERLOAD, NO_MEMORY));
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
        if let Some(listener) =
            self.shard.sessions.get(connection).map(|session| usize::from(session.listener))
            && self.context.settings.listeners[listener].kind == ListenerKind::WebSocketEcho
        {
            self.shard.sessions.timers.cancel(connection.index()); // nobody logs in to an echo
            self.shard.sessions.unlist_unauthenticated(connection);
        }
        let bytes = self.with_block(connection, response.len(), |handler| handler.io.bytes(response));
        match bytes {
            Some(response) => self.send(connection, response),
            None => self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
        }
    }

    fn refuse_upgrade(&mut self, connection: ConnectionId, error: HandshakeError) {
        self.io.metrics.upgrade_failures.add(1);
        self.close(connection, Goodbye::Http(CloseCode::PROTOCOL_ERROR, error.response()));
    }

    /// Serves a page, in chunks of a block each; one that asks for them is told the limits of frames.
    fn page(&mut self, connection: ConnectionId, head: &str, content: &str) {
        let mut limits = [0; 64];
        let (before, after) = content.split_once(LIMITS_MARK).unwrap_or((content, ""));
        let limits = if after.is_empty() { "" } else { self.write_limits(connection, &mut limits) };
        let parts = [head, before, limits, after];
        for chunk in parts.iter().flat_map(|part| part.as_bytes().chunks(4096)) {
            match self.io.bytes(chunk) {
                Some(bytes) => self.send(connection, bytes),
                None => return self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
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
        let of = |phase| body.min(u64::from(self.body_size_max(phase)));
        let mut rest = &mut out[..];
        let (open, login) = (of(Phase::Open), of(Phase::Unauthenticated));
        let _ = write!(rest, "<meta name=\"limits\" content=\"{open} {login}\">");
        let left = rest.len();
        str::from_utf8(&out[..out.len() - left]).unwrap_or_default()
    }

    // --- messages --------------------------------------------------------------------------------------------------

    /// A stream of WebSocket frames, cut anywhere.
    pub(crate) fn websocket_received(&mut self, connection: ConnectionId, mut buffer: Buffer) {
        if !self.complete_carried_message(connection, &mut buffer) {
            return self.discard_until_close(connection, buffer.as_slice());
        }
        while !buffer.is_empty() {
            match self.takes_frames(connection) {
                Some(true) => {}
                Some(false) => return self.carry_stream(connection, buffer.as_slice(), buffer.len()),
                None => return self.discard_until_close(connection, buffer.as_slice()),
            }
            match self.decode(connection, buffer.as_mut_slice()) {
                None => return self.discard_until_close(connection, buffer.as_slice()),
                Some(Decoded::Incomplete { needed }) => {
                    let count = buffer.len();
                    let Some(buffer) = self.wait_for_block(connection, buffer, count) else { return };
                    self.io.metrics.straddles.add(1);
                    return self.carry_stream(connection, buffer.as_slice(), needed);
                }
                Some(Decoded::Frame { consumed, payload, kind }) => {
                    let rest = (consumed < buffer.len()).then(|| buffer.split_to(consumed));
                    match rest {
                        Some(frame) => self.websocket_frame(connection, frame, payload, kind),
                        None => return self.websocket_frame(connection, buffer, payload, kind),
                    }
                }
            }
        }
    }

    /// Keeps bytes of the stream until more come. Where the connection ends over that, they are looked at like those that still
    /// come.
    fn carry_stream(&mut self, connection: ConnectionId, bytes: &[u8], needed: usize) {
        self.carry(connection, bytes, needed);
        self.discard_until_close(connection, bytes);
    }

    fn decode(&mut self, connection: ConnectionId, bytes: &mut [u8]) -> Option<Decoded> {
        let limits = self.limits(connection)?;
        let session = self.shard.sessions.get_mut(connection)?;
        match session.framing.decoder()?.decode(bytes, &limits, Role::Server) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                self.websocket_error(connection, error);
                None
            }
        }
    }

    pub(crate) fn websocket_error(&mut self, connection: ConnectionId, error: WebSocketError) {
        self.close(connection, Goodbye::CloseFrame(error.close_code(), &error));
    }

    /// Completes the frame that began in earlier buffers with the front of this one; false when it is used up or the
    /// connection is ending.
    fn complete_carried_message(&mut self, connection: ConnectionId, buffer: &mut Buffer) -> bool {
        loop {
            let Some(takes) = self.takes_frames(connection) else { return false };
            let Some(limits) = self.limits(connection) else { return false };
            let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
            if session.carry.pending() == 0 {
                return !buffer.is_empty();
            }
            if !takes {
                self.carry(connection, buffer.as_slice(), buffer.len());
                return false;
            }
            let Some(decoder) = session.framing.decoder() else { return false };
            match decoder.decode(session.carry.pending_mut(), &limits, Role::Server) {
                Ok(Decoded::Frame { consumed, payload, kind }) => {
                    self.carried_frame(connection, consumed, payload, kind);
                }
                Ok(Decoded::Incomplete { needed }) => {
                    let missing = (needed - session.carry.pending()).min(buffer.len());
                    if missing == 0 {
                        return false;
                    }
                    let whole = buffer.split_to(buffer.len());
                    let Some(whole) = self.wait_for_block(connection, whole, missing) else { return false };
                    *buffer = whole;
                    self.carry(connection, &buffer.as_slice()[..missing], needed);
                    if self.takes_frames(connection).is_none() {
                        return false; // it did not get into the carry
                    }
                    buffer.advance(missing);
                }
                Err(error) => {
                    self.websocket_error(connection, error);
                    return false;
                }
            }
        }
    }

    /// A frame that was decoded in the carry.
    fn carried_frame(
        &mut self,
        connection: ConnectionId,
        consumed: usize,
        payload: Range<usize>,
        kind: Kind,
    ) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        if session.carry.assembled() == 0 {
            if let Some(frame) = session.carry.take(consumed) {
                self.websocket_frame(connection, frame, payload, kind);
            }
            return;
        }
        if let Kind::Data { last, .. } = kind {
            session.flow.charge(1);
            session.carry.keep_fragment(payload, consumed);
            if last {
                self.assembled_message(connection);
            }
            return;
        }
        let mut copy = [0; 125];
        let size = payload.len().min(copy.len());
        copy[..size].copy_from_slice(&session.carry.pending_mut()[payload][..size]);
        session.carry.skip(consumed);
        self.websocket_control(connection, &copy[..size], kind);
    }

    /// A frame that ends `buffer`.
    fn websocket_frame(
        &mut self,
        connection: ConnectionId,
        buffer: Buffer,
        payload: Range<usize>,
        kind: Kind,
    ) {
        match kind {
            Kind::Data { text: true, .. } => {
                self.close(
                    connection,
                    Goodbye::CloseFrame(CloseCode::UNSUPPORTED_DATA, &"frames come in binary messages"),
                );
            }
            Kind::Data { first: true, last: true, .. } => {
                self.message_frames(connection, buffer, payload.start)
            }
            Kind::Data { last, .. } => {
                self.io.metrics.straddles.add(1);
                self.count_fragment(connection);
                let fragment = &buffer.as_slice()[payload];
                let Some(size) = self.may_carry(connection, fragment.len()) else { return };
                self.grow_carry(connection, size, |carry, pools| carry.append_fragment(pools, fragment));
                if last {
                    self.assembled_message(connection);
                }
            }
            Kind::Ping | Kind::Pong | Kind::Close { .. } => {
                self.websocket_control(connection, &buffer.as_slice()[payload], kind);
            }
        }
    }

    fn assembled_message(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        let size = session.carry.assembled();
        if let Some(message) = session.carry.take(size) {
            self.message_frames(connection, message, 0);
        }
    }

    pub(crate) fn websocket_control(&mut self, connection: ConnectionId, payload: &[u8], kind: Kind) {
        if matches!(kind, Kind::Ping | Kind::Pong) && !self.admits_control(connection) {
            return;
        }
        match kind {
            Kind::Ping => match self.control_frame(connection, Opcode::Pong, payload) {
                Some(pong) => self.send(connection, pong),
                None => self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD)),
            },
            Kind::Close { code, .. } => self.close(connection, Goodbye::CloseAnswer(code)),
            Kind::Pong | Kind::Data { .. } => {}
        }
    }

    /// The frames of one message, which `buffer` ends with; the first begins at `start`. Those behind an Auth wait for
    /// its answer.
    pub(crate) fn message_frames(&mut self, connection: ConnectionId, mut buffer: Buffer, mut start: usize) {
        while start < buffer.len() {
            match self.takes_frames(connection) {
                Some(true) => {}
                Some(false) => return self.put_back(connection, &buffer.as_slice()[start..]),
                None => return,
            }
            match self.peek(connection, &buffer.as_slice()[start..]) {
                Some(Peek::Frame(header)) => {
                    let end = start + header.frame_size();
                    let rest = (end < buffer.len()).then(|| buffer.split_to(end));
                    match rest {
                        Some(frame) => self.frame(connection, header, frame, start + HEADER_SIZE),
                        None => return self.frame(connection, header, buffer, start + HEADER_SIZE),
                    }
                    start = 0;
                }
                Some(Peek::Incomplete { .. }) => {
                    let why = "a WebSocket message holds whole frames";
                    return self.close(connection, Goodbye::Closed(CloseCode::PROTOCOL_ERROR, &why));
                }
                None => return,
            }
        }
    }

    /// Keeps the rest of a message, in front of what has come since, until the login is answered.
    fn put_back(&mut self, connection: ConnectionId, rest: &[u8]) {
        if let Some(size) = self.may_carry(connection, rest.len()) {
            self.grow_carry(connection, size, |carry, pools| carry.put_back(pools, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_length_that_they_name() {
        for response in [NO_MEMORY, TOO_LATE, NOT_NOW, TOO_MANY] {
            let text = std::str::from_utf8(response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        }
    }
}
