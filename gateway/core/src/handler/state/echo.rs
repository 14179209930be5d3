//! The echo connections of a worker, and what they hold.

use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::{HEADER_SIZE_MAX, Kind, Opcode, emit_header};
use netpoll::ConnectionId;
use std::collections::HashMap;

/// Bytes of the echoes of a worker, in messages of `message_size_max`: one that is complete lies in
/// input, message and answer, and vectors that grow have up to twice the room.
pub const MESSAGES_MAX: u64 = 4;
/// What an echo with nothing to do may keep of its vectors.
pub(in crate::handler) const KEPT_MAX: usize = 64 << 10;
#[derive(Debug, Default)]
pub(in crate::handler) struct Echo {
    /// Bytes not decoded yet.
    pub(in crate::handler) input: Vec<u8>,
    /// The message so far.
    pub(in crate::handler) message: Vec<u8>,
    pub(in crate::handler) text: bool,
    /// Bytes to send, and how many of them the backend has.
    pub(in crate::handler) output: Vec<u8>,
    pub(in crate::handler) sent: usize,
    /// It is not read from, for its answers wait.
    pub(in crate::handler) stopped: bool,
    /// The close frame's code, once everything is said.
    pub(in crate::handler) closing: Option<Option<CloseCode>>,
}

/// The echo connections of a worker.
#[derive(Debug, Default)]
pub struct EchoConnections {
    pub(in crate::handler) all: HashMap<ConnectionId, Echo>,
    /// Bytes of all their vectors.
    pub(in crate::handler) held: usize,
}

impl EchoConnections {
    /// Whether something waits to be said.
    pub fn has_output(&self) -> bool {
        self.all.values().any(|echo| !echo.output.is_empty())
    }

    pub(in crate::handler) fn take(&mut self, connection: ConnectionId) -> Option<Echo> {
        let echo = self.all.remove(&connection)?;
        self.held -= echo.held();
        Some(echo)
    }

    pub(in crate::handler) fn put(&mut self, connection: ConnectionId, mut echo: Echo) {
        echo.trim();
        self.held += echo.held();
        self.all.insert(connection, echo);
    }

    /// The one that holds most.
    pub(in crate::handler) fn largest(&self) -> Option<ConnectionId> {
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

impl Echo {
    /// Bytes of its vectors.
    pub(in crate::handler) fn held(&self) -> usize {
        self.input.capacity() + self.message.capacity() + self.output.capacity()
    }

    /// Gives back what a large message has left behind.
    pub(in crate::handler) fn trim(&mut self) {
        for bytes in [&mut self.input, &mut self.message, &mut self.output] {
            if bytes.is_empty() && bytes.capacity() > KEPT_MAX {
                bytes.shrink_to(KEPT_MAX);
            }
        }
    }

    pub(in crate::handler) fn frame(&mut self, payload: std::ops::Range<usize>, kind: &Kind) {
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
