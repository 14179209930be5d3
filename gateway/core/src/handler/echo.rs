//! The WebSocket echo: for development and for conformance tests of the framing that production
//! uses.
//!
//! Messages of any size come back whole, so a message is gathered on the heap and fed out as the
//! peer takes it. A large one is sent from where it was gathered, and a turn decodes a MiB, or one
//! frame: what takes a mask off 16 MiB, or copies them, holds all others up. This is the one part
//! of a worker that allocates; listeners of this kind are for development.
//!
//! At most [`MESSAGES_MAX`] of the largest messages' bytes in all echoes of a worker: beyond that
//! the echo that holds most ends with 3001. An echo is not read from while its answers wait, so one
//! that never reads holds one message and its answer.

use super::Handler;
use super::goodbye::Goodbye;
use super::state::echo::{Echo, KEPT_MAX, MESSAGES_MAX};
use crate::listener::Application;
use gateway_proto::codes::CloseCode;
use gateway_proto::websocket::{Decoded, Limits, Role};
use netpoll::{Backend, Buffer, ConnectionId, Priority, Queues, SendError};

/// Bytes that wait at the backend for one echo connection before more are handed over.
const QUEUED_MAX: usize = 256 << 10;
const CHUNK_SIZE: usize = 64 << 10;
/// Where not even a block of this size is to be had, there is no memory.
const CHUNK_SIZE_MIN: usize = 256;

impl<B: Backend> Handler<B> {
    /// Bytes of an echo connection.
    pub(crate) fn echo_received(&mut self, connection: ConnectionId, buffer: &Buffer) {
        let mut echo = self.echo.take(connection).unwrap_or_default();
        echo.input.extend_from_slice(buffer.as_slice());
        self.echo_on(connection, echo);
    }

    /// Goes on with what an echo connection has sent.
    fn echo_on(&mut self, connection: ConnectionId, mut echo: Echo) {
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
            self.context.settings.listeners.iter().filter(|one| one.application == Application::Echo);
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
        echo.waits = false;
        while start < echo.input.len() && echo.closing.is_none() {
            echo.waits = self.echo.is_late(&echo.input[start..]);
            if echo.waits {
                break;
            }
            let Some(session) = self.shard.sessions.get_mut(connection) else { return false };
            let listener = &self.context.settings.listeners[usize::from(session.listener)];
            let size = listener.message_size_max;
            let fragments_max = listener.fragments_max;
            let limits = Limits { frame_payload_size_max: size, message_size_max: size, fragments_max };
            let Some(decoder) = session.websocket_input.decoder() else { return false };
            match decoder.decode(&mut echo.input[start..], &limits, Role::Server) {
                Ok(Decoded::Incomplete { needed }) => {
                    echo.input.drain(..start);
                    let missing = needed.saturating_sub(echo.input.len());
                    echo.input.reserve(missing.min(1 << 20));
                    return true;
                }
                Ok(Decoded::Frame { consumed, payload, kind }) => {
                    let payload = start + payload.start..start + payload.end;
                    start = echo.frame(payload, start + consumed, &kind);
                    self.echo.charge(consumed);
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
        while let Some(unsent) = echo.unsent()
            && self.io.queues().queued_bytes(connection) < QUEUED_MAX
        {
            let Some(chunk) = self.echo_chunk(unsent) else {
                return self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
            };
            let size = chunk.len();
            match self.io.send(connection, chunk.freeze(), Priority::Reply) {
                Ok(()) => echo.advance(size),
                // The bound on queues is lower than ours: later. Or it is gone, which its `Closed`
                // tells.
                Err(SendError::Full(_) | SendError::Exhausted(_) | SendError::Closed(_)) => return,
            }
        }
        // Its end, too, comes behind what waits.
        let is_said = !echo.has_output() && !echo.waits;
        if is_said == echo.stopped {
            echo.stopped = !is_said;
            self.io.set_receiving(connection, is_said);
        }
        if let Some(code) = echo.closing.filter(|_| is_said) {
            self.close(connection, Goodbye::CloseAnswer(code));
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

    /// Goes on with the echoes that have more to say than their queues should hold, or of which
    /// input waits.
    pub(crate) fn pump_echoes(&mut self) {
        for connection in self.echo.begin_turn() {
            if let Some(echo) = self.echo.take(connection) {
                self.echo_on(connection, echo);
            }
        }
        if !self.echo.has_work() {
            return;
        }
        let mut all = std::mem::take(&mut self.echo);
        for (connection, echo) in all.all.iter_mut().filter(|(_, echo)| echo.has_output()) {
            all.held -= echo.held();
            self.echo_pump(*connection, echo);
            echo.trim();
            all.held += echo.held();
        }
        self.echo = all;
    }
}
