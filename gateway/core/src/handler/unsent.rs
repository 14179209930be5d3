//! What a receiver that is closed as too slow is not sent any more.
//!
//! ```text
//!   socket │ a piece that has begun │ sends that have not ──► dropped, and counted
//!                                   └─ the last word takes their place
//! ```
//!
//! A receiver that takes nothing has up to a queue of bytes in front of its last word, which would
//! not come through in its time, and an end in the middle of a frame says nothing. Every send of a
//! client's connection is whole frames, so dropping whole sends leaves the stream well framed.
//!
//! Other ends drop nothing: what was accepted for a receiver that keeps up comes before its last
//! word. Echoes are sent in chunks of messages, and keep them.

use super::Handler;
use crate::listener::Framing;
use crate::metrics::WorkerMetrics;
use crate::session::Session;
use gateway_proto::frame::{Frames, Header, Operation};
use gateway_proto::websocket::split_frame;
use netpoll::{Backend, ConnectionId};
use std::sync::Arc;

/// The lowest operation of pushes. An answer of the bus may have it, too, with the sequence of its
/// request.
const PUSH_MIN: i32 = 1000;

impl<B: Backend> Handler<B> {
    /// Drops what is queued for a logged-in client and has not begun to leave, and counts it.
    pub(super) fn drop_unsent(&mut self, connection: ConnectionId) {
        let takes_frames = |session: &&Session| session.is_open() && !self.is_echo(session);
        let Some(session) = self.shard.sessions.get(connection).filter(takes_frames) else { return };
        let framing = session.framing;
        let metrics = Arc::clone(&self.io.metrics);
        self.io.drop_unsent(connection, &mut |bytes| count(&metrics, framing, bytes));
    }
}

/// Counts the frames of a piece.
fn count(metrics: &WorkerMetrics, framing: Framing, bytes: &[u8]) {
    if framing == Framing::Tcp {
        return count_frames(metrics, bytes);
    }
    let mut rest = bytes;
    while let Some((opcode, payload, behind)) = split_frame(rest) {
        if !opcode.is_control() {
            count_frames(metrics, payload);
        }
        rest = behind;
    }
    debug_assert!(rest.is_empty(), "a piece is whole WebSocket frames");
}

/// Counts frames that follow one another; those in an envelope each for itself.
fn count_frames(metrics: &WorkerMetrics, bytes: &[u8]) {
    for frame in Frames::new(bytes, u32::MAX) {
        match frame {
            Ok((header, body)) if header.operation == Operation::RAW => count_frames(metrics, body),
            Ok((header, _)) if is_push(header) => metrics.unsent_pushes.add(1),
            Ok(_) => metrics.unsent_answers.add(1),
            Err(error) => debug_assert!(false, "a piece is whole frames: {error}"),
        }
    }
}

fn is_push(header: Header) -> bool {
    header.operation == Operation::DELIVER || (header.operation.0 >= PUSH_MIN && header.sequence == 0)
}
