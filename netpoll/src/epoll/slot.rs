//! What the epoll backend keeps of one connection.

use crate::lifecycle::{self, Life, State};
use crate::send_queue::PIECES_PER_WRITE;
use crate::sys::socket;
use crate::{Phase, PieceStore};
use std::io::{self, IoSlice};
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

impl Slot {
    /// Offers the socket the front of the queue in one call. Returns the bytes offered and the
    /// result.
    pub(super) fn write_front(&self, pieces: &PieceStore) -> (usize, io::Result<usize>) {
        match self.life.queue.front(pieces) {
            Some(only) if self.life.queue.is_single() => (only.len(), socket::send(&self.socket, only)),
            _ => {
                let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
                let count = self.life.queue.gather(pieces, &mut slices);
                let offered = slices[..count].iter().map(|slice| slice.len()).sum();
                (offered, socket::send_vectored(&self.socket, &slices[..count]))
            }
        }
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
