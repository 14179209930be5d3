//! What the epoll backend keeps of one connection.

use crate::Phase;
use crate::lifecycle::{self, Life, State};
use std::os::fd::OwnedFd;

/// One connection.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) socket: OwnedFd,
    pub(super) life: Life,
    /// The connection is in the ready list, or in line to discard.
    pub(super) in_ready: bool,
    /// The connection is in the dirty list.
    pub(super) in_dirty: bool,
    /// The peer's FIN (or an error) lies behind the bytes still to be received.
    pub(super) peer_done: bool,
    /// The owner has stopped receiving.
    pub(super) stopped: bool,
}

const _: () = assert!(size_of::<Slot>() <= 28);

impl Slot {
    /// Whether the socket is left unread: the owner has stopped receiving, and has not finished.
    pub(super) fn is_left_unread(&self) -> bool {
        self.stopped && self.life.state == State::Open
    }

    pub(super) fn new(socket: OwnedFd, state: State) -> Slot {
        Slot::living(socket, Life::new(state))
    }

    /// An adopted connection.
    pub(super) fn resumed(socket: OwnedFd, phase: Phase) -> Slot {
        Slot::living(socket, Life::resumed(phase))
    }

    fn living(socket: OwnedFd, life: Life) -> Slot {
        Slot { socket, life, in_ready: false, in_dirty: false, peer_done: false, stopped: false }
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
