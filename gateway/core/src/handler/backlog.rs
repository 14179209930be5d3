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

use super::Handler;
use netpoll::{Backend, Buffer, ConnectionId, Fifo};

/// Frames that one receive gets of a turn.
const FRAMES_PER_RECEIVE: u32 = 64;
/// What it gets when the turn has had [`FRAMES_PER_TURN`]: as much as a client asks at once.
const FRAMES_PER_RECEIVE_MIN: u32 = 16;
/// Frames of a turn after which a receive gets less.
const FRAMES_PER_TURN: u32 = 512;
/// Frames of the backlog that are handled in a turn.
const BACKLOG_PER_TURN: u32 = 256;
/// What one receive can leave: the rest of a WebSocket message, and the stream behind it.
const RESTS_MAX: usize = 2;

/// What is left of a receive.
#[derive(Debug)]
pub(super) enum Rest {
    /// Bytes as they were received.
    Stream(Buffer),
    /// Whole frames of a WebSocket message.
    Message(Buffer),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: Fifo<(ConnectionId, Rest)>,
    /// What the receive at hand leaves, in order.
    rests: [Option<Rest>; RESTS_MAX],
    waiting_max: usize,
    /// Frames that the receive at hand may have, and those that it has had.
    frames_max: u32,
    frames: u32,
    /// Frames that the receives of this turn have had.
    turn_frames: u32,
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
    pub(super) fn begin_turn(&mut self) {
        self.turn_frames = 0;
    }

    /// Whether something waits of a connection.
    pub(crate) fn has(&self, connection: ConnectionId) -> bool {
        self.waiting.iter().any(|(other, _)| *other == connection)
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max
    }

    /// Whether the receive at hand has had its part.
    #[inline]
    pub(super) fn is_used_up(&self) -> bool {
        self.frames >= self.frames_max
    }

    /// A frame is handled that counts as `cost`.
    pub(super) fn charge(&mut self, cost: u32) {
        self.frames = self.frames.saturating_add(cost);
    }

    /// A receive begins that may have so many frames.
    fn begin(&mut self, frames_max: u32) {
        (self.frames_max, self.frames) = (frames_max, 0);
    }

    /// It has ended; returns how many frames it has had.
    fn end(&mut self) -> u32 {
        self.frames_max = u32::MAX;
        std::mem::take(&mut self.frames)
    }

    /// What one more receive may have.
    fn share(&self) -> u32 {
        let left = FRAMES_PER_TURN.saturating_sub(self.turn_frames);
        left.clamp(FRAMES_PER_RECEIVE_MIN, FRAMES_PER_RECEIVE)
    }
}

impl<B: Backend> Handler<B> {
    /// Keeps what is left of the receive at hand for a later turn.
    pub(super) fn leave_for_later(&mut self, rest: Rest) {
        let place = self.turn.backlog.rests.iter_mut().find(|place| place.is_none());
        debug_assert!(place.is_some(), "a receive leaves a message and a stream at most");
        if let Some(place) = place {
            *place = Some(rest);
        }
    }

    /// Handles what a connection has brought by `handle`, as far as it may now; the rest waits.
    pub(super) fn in_turn(&mut self, connection: ConnectionId, handle: impl FnOnce(&mut Self)) {
        if self.turn.backlog.frames_max != u32::MAX {
            return handle(self); // within a receive: its share is that one's
        }
        let share = if self.turn.backlog.has_room() { self.turn.backlog.share() } else { u32::MAX };
        self.turn.backlog.begin(share);
        handle(self);
        let frames = self.turn.backlog.end();
        self.turn.backlog.turn_frames = self.turn.backlog.turn_frames.saturating_add(frames);
        let mut waits = false;
        for place in 0..RESTS_MAX {
            let Some(rest) = self.turn.backlog.rests[place].take() else { break };
            self.turn.backlog.waiting.push_back((connection, rest));
            waits = true;
        }
        if waits {
            self.fall_behind(connection);
        }
    }

    /// Puts what was received of a connection behind what already waits of it; `None` when it does.
    /// Without room all that waits is handled first.
    pub(super) fn wait_behind(&mut self, connection: ConnectionId, buffer: Buffer) -> Option<Buffer> {
        if !self.turn.backlog.has_room() {
            self.catch_up(connection);
            return Some(buffer);
        }
        self.turn.backlog.waiting.push_back((connection, Rest::Stream(buffer)));
        None
    }

    fn fall_behind(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.set_behind(true);
        self.io.set_receiving(connection, false);
    }

    /// Nothing waits of the connection any more.
    fn end_wait(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get_mut(connection) else { return };
        session.flow.set_behind(false);
        if session.is_open() && !session.flow.is_unread() {
            self.io.set_receiving(connection, true);
        }
    }

    /// Handles a part of what waits.
    pub(crate) fn work_off(&mut self) {
        let mut left = BACKLOG_PER_TURN;
        while left > 0 {
            let Some((connection, rest)) = self.turn.backlog.waiting.pop_front() else { return };
            self.turn.backlog.begin(left);
            self.handle_rest(connection, rest);
            left = left.saturating_sub(self.turn.backlog.end().max(1));
            for place in (0..RESTS_MAX).rev() {
                if let Some(rest) = self.turn.backlog.rests[place].take() {
                    self.turn.backlog.waiting.push_front((connection, rest));
                }
            }
            if !self.turn.backlog.has(connection) {
                self.end_wait(connection);
            }
            self.handle_local();
        }
    }

    /// Handles all that waits of a connection.
    pub(super) fn catch_up(&mut self, connection: ConnectionId) {
        while let Some((_, rest)) = self.turn.backlog.waiting.remove_first(|(other, _)| *other == connection)
        {
            self.handle_rest(connection, rest);
            self.handle_local();
        }
        self.end_wait(connection);
    }
}
