//! What the simulated backend keeps of one connection.

use super::link::SocketId;
use crate::Phase;
use crate::lifecycle::{self, Life, State};

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: SocketId,
    pub(super) life: Life,
    /// The connection is in the ready list, or in line to discard.
    pub(super) in_ready: bool,
    /// The connection is in the dirty list.
    pub(super) in_dirty: bool,
    /// The owner has stopped receiving.
    pub(super) stopped: bool,
}

impl Slot {
    /// Whether the socket is left unread: the owner has stopped receiving, and has not finished.
    pub(super) fn is_left_unread(&self) -> bool {
        self.stopped && self.life.state == State::Open
    }

    pub(super) fn new(socket: SocketId, state: State) -> Slot {
        Slot::living(socket, Life::new(state))
    }

    /// An adopted connection.
    pub(super) fn resumed(socket: SocketId, phase: Phase) -> Slot {
        Slot::living(socket, Life::resumed(phase))
    }

    fn living(socket: SocketId, life: Life) -> Slot {
        Slot { socket, life, in_ready: false, in_dirty: false, stopped: false }
    }
}

impl lifecycle::Slot for Slot {
    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}
