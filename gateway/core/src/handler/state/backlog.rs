//! What one connection may have of a turn: frames beyond that wait for a later turn, behind what
//! others have brought meanwhile.
//!
//! ```text
//!   received ─► 64 frames; 16, once the turn has had 512 ─► handled ─ the rest ─┐
//!                                                                               ▼
//!   the connection is left unread ◄──────────────────────────────── the backlog, in order
//!                  └─ all that waited of it was handled ─► receive again        │
//!                                                 256 frames a turn ◄───────────┘
//! ```
//!
//! A receive buffer may hold a thousand frames, and a connection may have filled several before the
//! worker looks. Others then wait for a turn, not for all of these. The backlog is worked off one
//! buffer after the other, so that each returns as soon as it can: others receive into it.
//!
//! Bounds: half of the receive buffers wait; beyond that what was received is handled at once. All
//! that waits of a connection is handled before its end is. Before a login frames are not counted
//! here: there are few.

use netpoll::{Buffer, ConnectionId, Fifo};

/// Frames that one receive gets of a turn.
const FRAMES_PER_RECEIVE: u32 = 64;
/// What it gets when the turn has had [`FRAMES_PER_TURN`]: as much as a client asks at once.
const FRAMES_PER_RECEIVE_MIN: u32 = 16;
/// Frames of a turn after which a receive gets less.
const FRAMES_PER_TURN: u32 = 512;
/// Frames of the backlog that are handled in a turn.
pub(in crate::handler) const BACKLOG_PER_TURN: u32 = 256;
/// What one receive can leave: the rest of a WebSocket message, and the stream behind it.
pub(in crate::handler) const RESTS_MAX: usize = 2;

/// What is left of a receive.
#[derive(Debug)]
pub(in crate::handler) enum Rest {
    /// Bytes as they were received.
    Stream(Buffer),
    /// Whole frames of a WebSocket message.
    Message(Buffer),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(in crate::handler) waiting: Fifo<(ConnectionId, Rest)>,
    /// What the receive at hand leaves, in order.
    pub(in crate::handler) rests: [Option<Rest>; RESTS_MAX],
    waiting_max: usize,
    /// Frames that the receive at hand may have, and those that it has had.
    pub(in crate::handler) frames_max: u32,
    frames: u32,
    /// Frames that the receives of this turn have had.
    pub(in crate::handler) turn_frames: u32,
}

impl Backlog {
    /// Bytes that a place takes.
    const BYTES: usize = size_of::<(ConnectionId, Rest)>();

    const fn waiting_max(receive_buffers: u32) -> usize {
        receive_buffers as usize / 2
    }

    /// Bytes of the list of a worker with so many receive buffers.
    pub(crate) const fn bytes(receive_buffers: u32) -> usize {
        (Backlog::waiting_max(receive_buffers) + RESTS_MAX) * Backlog::BYTES
    }

    /// For a worker with so many receive buffers.
    pub(crate) fn new(receive_buffers: u32) -> Backlog {
        let waiting_max = Backlog::waiting_max(receive_buffers);
        Backlog {
            waiting: Fifo::with_capacity(waiting_max + RESTS_MAX),
            rests: [None, None],
            waiting_max,
            frames_max: u32::MAX,
            frames: 0,
            turn_frames: 0,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Buffers that wait, and how many may.
    pub(crate) fn level(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_max)
    }

    /// Returns the memory when nothing waits.
    pub(crate) fn trim(&mut self) {
        self.waiting.trim();
    }

    /// A turn begins.
    pub(in crate::handler) fn begin_turn(&mut self) {
        self.turn_frames = 0;
    }

    /// Buffers of a connection that wait, counted one by one; its session has their number.
    pub(crate) fn count(&self, connection: ConnectionId) -> usize {
        self.waiting.iter().filter(|(other, _)| *other == connection).count()
    }

    pub(in crate::handler) fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max
    }

    /// Whether the receive at hand has had its part.
    #[inline]
    pub(in crate::handler) fn is_used_up(&self) -> bool {
        self.frames >= self.frames_max
    }

    /// A frame is handled that counts as `cost`.
    #[inline]
    pub(in crate::handler) fn charge(&mut self, cost: u32) {
        self.frames = self.frames.saturating_add(cost);
    }

    /// A receive begins that may have so many frames.
    pub(in crate::handler) fn begin(&mut self, frames_max: u32) {
        (self.frames_max, self.frames) = (frames_max, 0);
    }

    /// It has ended; returns how many frames it has had.
    pub(in crate::handler) fn end(&mut self) -> u32 {
        self.frames_max = u32::MAX;
        std::mem::take(&mut self.frames)
    }

    /// What one more receive may have.
    pub(in crate::handler) fn share(&self) -> u32 {
        let left = FRAMES_PER_TURN.saturating_sub(self.turn_frames);
        left.clamp(FRAMES_PER_RECEIVE_MIN, FRAMES_PER_RECEIVE)
    }
}
