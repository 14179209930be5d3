//! The WebSocket echo: for development and for conformance tests of the framing that production
//! uses.
//!
//! Messages of any size come back whole, so a message is gathered on the heap and fed out as the
//! peer takes it. This is the one part of a worker that allocates; listeners of this kind are for
//! development.
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
        while start < echo.input.len() && echo.closing.is_none() {
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
                // The bound on queues is lower than ours: later. Or it is gone, which its `Closed`
                // tells.
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
