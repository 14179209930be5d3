//! The echo connections of a worker, and what they hold.

use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::{HEADER_SIZE_MAX, Kind, Opcode, emit_header};
use netpoll::ConnectionId;
use std::collections::{HashMap, VecDeque};

/// Bytes of the echoes of a worker, in messages of `message_size_max`: one that is complete lies in
/// input, message and answer, and vectors that grow have up to twice the room.
pub const MESSAGES_MAX: u64 = 4;
/// What an echo with nothing to do may keep of its vectors.
pub(in crate::handler) const KEPT_MAX: usize = 64 << 10;
/// Bytes of whole frames that are decoded in a turn before the others wait: their masks are taken
/// off, byte by byte.
const DECODED_PER_TURN: usize = 1 << 20;

/// Bytes to send; those in front of `sent` the backend has.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

#[derive(Debug, Default)]
pub(in crate::handler) struct Echo {
    /// Bytes not decoded yet.
    pub(in crate::handler) input: Vec<u8>,
    /// The message so far, behind room for the header of the answer; empty between messages.
    message: Vec<u8>,
    text: bool,
    /// What is to be sent. A large message is sent from where it was received, or gathered.
    output: VecDeque<Outgoing>,
    /// It is not read from, for its answers wait.
    pub(in crate::handler) stopped: bool,
    /// The turn had decoded enough: its input waits for the next one.
    pub(in crate::handler) waits: bool,
    /// The close frame's code, once everything is said.
    pub(in crate::handler) closing: Option<Option<CloseCode>>,
}

/// The echo connections of a worker.
#[derive(Debug, Default)]
pub struct EchoConnections {
    pub(in crate::handler) all: HashMap<ConnectionId, Echo>,
    /// Bytes of all their vectors.
    pub(in crate::handler) held: usize,
    /// Bytes of the frames that were decoded in this turn.
    decoded: usize,
}

impl EchoConnections {
    /// Whether something waits to be said, or decoded.
    pub fn has_work(&self) -> bool {
        self.all.values().any(|echo| echo.waits || echo.has_output())
    }

    /// A frame of so many bytes was decoded.
    pub(in crate::handler) fn charge(&mut self, size: usize) {
        self.decoded += size;
    }

    /// Whether the turn has decoded enough, so that `input`, if it is much, waits.
    pub(in crate::handler) fn is_late(&self, input: &[u8]) -> bool {
        self.decoded >= DECODED_PER_TURN && input.len() > KEPT_MAX
    }

    /// Begins a turn: returns those of which input waits.
    pub(in crate::handler) fn begin_turn(&mut self) -> Vec<ConnectionId> {
        self.decoded = 0;
        self.all.iter().filter(|(_, echo)| echo.waits).map(|(connection, _)| *connection).collect()
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
        let output: usize = self.output.iter().map(|one| one.bytes.capacity()).sum();
        let output = output + self.output.capacity() * size_of::<Outgoing>();
        self.input.capacity() + self.message.capacity() + output
    }

    /// Gives back what a large message has left behind.
    pub(in crate::handler) fn trim(&mut self) {
        for bytes in [&mut self.input, &mut self.message] {
            if bytes.is_empty() && bytes.capacity() > KEPT_MAX {
                bytes.shrink_to(KEPT_MAX);
            }
        }
    }

    /// Whether something is to be sent.
    pub(in crate::handler) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// What is to be sent next.
    pub(in crate::handler) fn unsent(&self) -> Option<&[u8]> {
        self.output.front().map(|front| &front.bytes[front.sent..])
    }

    /// The backend has so many bytes of it.
    pub(in crate::handler) fn advance(&mut self, size: usize) {
        let Some(front) = self.output.front_mut() else { return };
        front.sent += size;
        if front.sent == front.bytes.len() {
            self.output.pop_front();
        }
    }

    /// A frame whose payload lies there in the input, of which the first `end` bytes have been
    /// handled then. Takes these off the input, now or later: returns where the next frame begins.
    pub(in crate::handler) fn frame(
        &mut self,
        payload: std::ops::Range<usize>,
        end: usize,
        kind: &Kind,
    ) -> usize {
        match *kind {
            Kind::Data { text, first: true, last: true } if payload.len() > KEPT_MAX => {
                return self.send_from_input(opcode(text), payload, end);
            }
            Kind::Data { text, first: true, last: true } => self.copy_out(opcode(text), payload),
            Kind::Data { text, first, last } => {
                if first {
                    self.text = text;
                    self.message.resize(HEADER_SIZE_MAX, 0);
                }
                self.message.extend_from_slice(&self.input[payload]);
                if last {
                    let message = std::mem::take(&mut self.message);
                    self.send(opcode(self.text), message, HEADER_SIZE_MAX);
                }
            }
            Kind::Ping => self.copy_out(Opcode::Pong, payload),
            Kind::Pong => {}
            Kind::Close { code, .. } => self.closing = Some(code),
        }
        end
    }

    /// Sends a payload from where it was received; the input goes on behind it.
    fn send_from_input(&mut self, opcode: Opcode, payload: std::ops::Range<usize>, end: usize) -> usize {
        let rest = self.input.split_off(end);
        let bytes = std::mem::replace(&mut self.input, rest);
        debug_assert_eq!(bytes.len(), payload.end, "a frame ends with its payload");
        self.send(opcode, bytes, payload.start);
        0
    }

    /// Sends a copy of a small payload, together with those before it.
    fn copy_out(&mut self, opcode: Opcode, payload: std::ops::Range<usize>) {
        let mut header = [0; HEADER_SIZE_MAX];
        let size = emit_header(opcode, true, payload.len() as u64, &mut header).unwrap_or(0);
        let room = KEPT_MAX.saturating_sub(size + payload.len());
        if self.output.back().is_none_or(|back| back.bytes.len() > room) {
            self.output.push_back(Outgoing::default());
        }
        let Some(back) = self.output.back_mut() else { return };
        back.bytes.extend_from_slice(&header[..size]);
        back.bytes.extend_from_slice(&self.input[payload]);
    }

    /// Sends the payload that begins at `start` of `bytes`, behind room for a header: that of a
    /// client, which is longer, or of its size.
    fn send(&mut self, opcode: Opcode, mut bytes: Vec<u8>, start: usize) {
        let mut header = [0; HEADER_SIZE_MAX];
        let size = emit_header(opcode, true, (bytes.len() - start) as u64, &mut header).unwrap_or(0);
        let sent = start.saturating_sub(size);
        bytes[sent..start].copy_from_slice(&header[..start - sent]);
        self.output.push_back(Outgoing { bytes, sent });
    }
}

const fn opcode(text: bool) -> Opcode {
    if text { Opcode::Text } else { Opcode::Binary }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_proto::websocket::{MASKED_HEADER_SIZE_MAX, split_frame};

    fn said(echo: &mut Echo) -> Vec<(Opcode, Vec<u8>)> {
        let mut said = vec![];
        while let Some(bytes) = echo.unsent() {
            let (mut rest, size) = (bytes, bytes.len());
            while let Some((opcode, payload, behind)) = split_frame(rest) {
                said.push((opcode, payload.to_vec()));
                rest = behind;
            }
            assert!(rest.is_empty());
            echo.advance(size);
        }
        said
    }

    #[test]
    fn a_large_message_is_sent_from_where_it_lies() {
        let size = 1 << 20;
        let mut echo = Echo { input: vec![7; MASKED_HEADER_SIZE_MAX + size], ..Echo::default() };
        echo.input.extend_from_slice(b"next");
        let payload = MASKED_HEADER_SIZE_MAX..MASKED_HEADER_SIZE_MAX + size;
        let at = echo.input[payload.clone()].as_ptr();
        let kind = Kind::Data { text: true, first: true, last: true };
        assert_eq!(echo.frame(payload.clone(), payload.end, &kind), 0);
        assert_eq!(echo.input, b"next");
        let unsent = echo.unsent().unwrap();
        assert_eq!(unsent[unsent.len() - size..].as_ptr(), at, "no byte is copied");
        assert_eq!(said(&mut echo), [(Opcode::Text, vec![7; size])]);
        assert!(!echo.has_output());
    }

    #[test]
    fn small_messages_leave_together() {
        let mut echo = Echo { input: vec![7; 1000], ..Echo::default() };
        let kind = Kind::Data { text: false, first: true, last: true };
        (0..1000).for_each(|at| assert_eq!(echo.frame(at..at + 1, at + 1, &kind), at + 1));
        assert_eq!(echo.output.len(), 1);
        assert_eq!(said(&mut echo), vec![(Opcode::Binary, vec![7]); 1000]);
    }

    #[test]
    fn messages_come_back_in_order_however_they_were_sent() {
        let mut echo = Echo { input: b"abcdef".to_vec(), ..Echo::default() };
        let part = |first, last| Kind::Data { text: false, first, last };
        assert_eq!(echo.frame(0..1, 1, &part(true, true)), 1);
        assert_eq!(echo.frame(1..2, 2, &part(true, false)), 2);
        assert_eq!(echo.frame(2..3, 3, &Kind::Ping), 3, "between the parts of a message");
        assert_eq!(echo.frame(3..5, 5, &part(false, false)), 5);
        assert_eq!(echo.frame(5..6, 6, &part(false, true)), 6);
        let binary = |text: &[u8]| (Opcode::Binary, text.to_vec());
        assert_eq!(said(&mut echo), [binary(b"a"), (Opcode::Pong, b"c".to_vec()), binary(b"bdef")]);
        let empty = part(true, true);
        assert_eq!(echo.frame(6..6, 6, &empty), 6);
        assert_eq!(said(&mut echo), [binary(b"")]);
    }
}
