//! The WebSocket echo: for development and for conformance tests of the framing that production uses.
//!
//! Messages of any size come back whole, so a message is gathered on the heap and fed out as the peer takes it. This is
//! the one part of a worker that allocates; listeners of this kind are for development.
//!
//! At most [`MESSAGES_MAX`] of the largest messages' bytes in all echoes of a worker: beyond that the echo that holds most ends
//! with 3001. An echo whose answers wait is not read from, so one that never reads holds one message and its answer.

use super::Handler;
use super::close::Goodbye;
use crate::settings::ListenerKind;
use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::{Decoded, HEADER_SIZE_MAX, Kind, Limits, Opcode, Role, emit_header};
use netpoll::{Backend, Buffer, ConnectionId, Priority, Queues, SendError};
use std::collections::HashMap;

/// Bytes that wait at the backend for one echo connection before more are handed over.
const QUEUED_MAX: usize = 256 << 10;
const CHUNK_SIZE: usize = 64 << 10;
/// Bytes of the echoes of a worker, in messages of `message_size_max`: one that is complete lies in input, message and answer, and
/// vectors that grow have up to twice the room.
pub const MESSAGES_MAX: u64 = 4;
/// What an echo with nothing to do may keep of its vectors.
const KEPT_MAX: usize = 64 << 10;
/// Where not even a block of this size is to be had, there is no memory.
const CHUNK_SIZE_MIN: usize = 256;

#[derive(Debug, Default)]
struct Echo {
    /// Bytes not decoded yet.
    input: Vec<u8>,
    /// The message so far.
    message: Vec<u8>,
    text: bool,
    /// Bytes to send, and how many of them the backend has.
    output: Vec<u8>,
    sent: usize,
    /// It is not read from, for its answers wait.
    stopped: bool,
    /// The close frame's code, once everything is said.
    closing: Option<Option<CloseCode>>,
}

/// The echo connections of a worker.
#[derive(Debug, Default)]
pub struct EchoConnections {
    all: HashMap<ConnectionId, Echo>,
    /// Bytes of all their vectors.
    held: usize,
}

impl EchoConnections {
    /// Whether something waits to be said.
    pub fn has_output(&self) -> bool {
        self.all.values().any(|echo| !echo.output.is_empty())
    }

    fn take(&mut self, connection: ConnectionId) -> Option<Echo> {
        let echo = self.all.remove(&connection)?;
        self.held -= echo.held();
        Some(echo)
    }

    fn put(&mut self, connection: ConnectionId, mut echo: Echo) {
        echo.trim();
        self.held += echo.held();
        self.all.insert(connection, echo);
    }

    /// The one that holds most.
    fn largest(&self) -> Option<ConnectionId> {
        self.all.iter().max_by_key(|(_, echo)| echo.held()).map(|(connection, _)| *connection)
    }

    /// Bytes of a connection that are not decoded yet.
    pub fn pending(&self, connection: ConnectionId) -> &[u8] {
        self.all.get(&connection).map_or(&[], |echo| &echo.input)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, connection: ConnectionId) {
        self.take(connection);
    }
}

impl<B: Backend> Handler<B> {
    /// Bytes of an echo connection.
    pub(crate) fn echo_received(&mut self, connection: ConnectionId, buffer: &Buffer) {
        let mut echo = self.echo.take(connection).unwrap_or_default();
        echo.input.extend_from_slice(buffer.as_slice());
        let open = self.echo_decode(connection, &mut echo);
        if open {
            self.echo_pump(connection, &mut echo);
            self.echo.put(connection, echo);
            self.bound_echoes();
        }
    }

    /// Ends the echoes that hold most while all together hold too much.
    fn bound_echoes(&mut self) {
        let echoes =
            self.context.settings.listeners.iter().filter(|one| one.kind == ListenerKind::WebSocketEcho);
        let size_max = echoes.map(|listener| listener.message_size_max).max().unwrap_or(0);
        let bytes_max = usize::try_from(size_max.saturating_mul(MESSAGES_MAX)).unwrap_or(usize::MAX);
        while self.echo.held > bytes_max.max(MESSAGES_MAX as usize * KEPT_MAX) {
            let Some(connection) = self.echo.largest() else { return };
            let reason = "the echoes hold too much; send smaller messages, or fewer at once";
            self.close(connection, Goodbye::Closed(CloseCode::OVERLOAD, &reason));
            self.echo.take(connection);
        }
    }

    /// Decodes what is there; false when the connection is ending.
    fn echo_decode(&mut self, connection: ConnectionId, echo: &mut Echo) -> bool {
        let mut start = 0;
        while start < echo.input.len() && echo.closing.is_none() {
            let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
            let listener = &self.context.settings.listeners[usize::from(session.listener)];
            let size = listener.message_size_max;
            let fragments_max = listener.fragments_max;
            let limits = Limits { frame_payload_size_max: size, message_size_max: size, fragments_max };
            let Some(decoder) = session.framing.decoder() else { return false };
            match decoder.decode(&mut echo.input[start..], &limits, Role::Server) {
                Ok(Decoded::Incomplete { needed }) => {
                    echo.input.drain(..start);
                    let missing = needed.saturating_sub(echo.input.len());
                    echo.input.reserve(missing.min(1 << 20));
                    return true;
                }
                Ok(Decoded::Frame { consumed, payload, kind }) => {
                    let payload = start + payload.start..start + payload.end;
                    echo.frame(payload, &kind);
                    start += consumed;
                }
                Err(error) => {
                    self.echo_pump(connection, echo);
                    self.close(connection, Goodbye::CloseFrame(error.close_code(), &error));
                    self.discard_until_close(connection, &echo.input[start..]);
                    return false;
                }
            }
        }
        echo.input.drain(..start);
        true
    }

    /// Hands over as much as the backend should have; ends the connection when everything was said.
    fn echo_pump(&mut self, connection: ConnectionId, echo: &mut Echo) {
        if self.is_over(connection) {
            return; // its last word has been said
        }
        while echo.sent < echo.output.len() && self.io.queues().queued_bytes(connection) < QUEUED_MAX {
            let Some(chunk) = self.echo_chunk(&echo.output[echo.sent..]) else {
                return self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
            };
            let size = chunk.len();
            match self.io.send(connection, chunk.freeze(), Priority::Reply) {
                Ok(()) => echo.sent += size,
                // The bound on queues is lower than ours: later. Or it is gone, which its `Closed` tells.
                Err(SendError::Full(_) | SendError::Exhausted(_) | SendError::Closed(_)) => return,
            }
        }
        let is_said = echo.sent == echo.output.len();
        if is_said == echo.stopped {
            echo.stopped = !is_said;
            self.io.set_receiving(connection, is_said);
        }
        if is_said {
            echo.output.clear();
            echo.sent = 0;
            if let Some(code) = echo.closing {
                self.close(connection, Goodbye::CloseAnswer(code));
            }
        }
    }

    /// The front of `output` in a block, as large as there is one.
    fn echo_chunk(&mut self, output: &[u8]) -> Option<Buffer> {
        let mut size = output.len().min(CHUNK_SIZE);
        loop {
            match self.io.pools().copy(&output[..size]) {
                None if size > CHUNK_SIZE_MIN => size /= 2,
                chunk => return chunk,
            }
        }
    }

    /// Goes on with the echoes that have more to say than their queues should hold.
    pub(crate) fn pump_echoes(&mut self) {
        if !self.echo.has_output() {
            return;
        }
        let mut all = std::mem::take(&mut self.echo);
        for (connection, echo) in all.all.iter_mut().filter(|(_, echo)| !echo.output.is_empty()) {
            all.held -= echo.held();
            self.echo_pump(*connection, echo);
            echo.trim();
            all.held += echo.held();
        }
        self.echo = all;
    }
}

impl Echo {
    /// Bytes of its vectors.
    fn held(&self) -> usize {
        self.input.capacity() + self.message.capacity() + self.output.capacity()
    }

    /// Gives back what a large message has left behind.
    fn trim(&mut self) {
        for bytes in [&mut self.input, &mut self.message, &mut self.output] {
            if bytes.is_empty() && bytes.capacity() > KEPT_MAX {
                bytes.shrink_to(KEPT_MAX);
            }
        }
    }

    fn frame(&mut self, payload: std::ops::Range<usize>, kind: &Kind) {
        match *kind {
            Kind::Data { text, first, last } => {
                if first {
                    self.text = text;
                }
                self.message.extend_from_slice(&self.input[payload]);
                if last {
                    let message = std::mem::take(&mut self.message);
                    let opcode = if self.text { Opcode::Text } else { Opcode::Binary };
                    self.push(opcode, &message);
                    self.message = message;
                    self.message.clear();
                }
            }
            Kind::Ping => {
                let ping = self.input[payload].to_vec();
                self.push(Opcode::Pong, &ping);
            }
            Kind::Pong => {}
            Kind::Close { code, .. } => self.closing = Some(code),
        }
    }

    fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut header = [0; HEADER_SIZE_MAX];
        let size = emit_header(opcode, true, payload.len() as u64, &mut header).unwrap_or(0);
        self.output.extend_from_slice(&header[..size]);
        self.output.extend_from_slice(payload);
    }
}
