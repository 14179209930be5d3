//! What the simulated backend keeps of one connection.

use super::link::SocketId;
use crate::CloseReason;
use crate::send_queue::SendQueue;

/// Where a connection is in its life.
///
/// ```text
///   Connecting ─► Open ─► Finishing ─► Finished ─► Ended     finish: queue, FIN, wait for the peer's FIN
///                  └────► PeerFinished ──────────► Ended     the peer's FIN came first: queue, then gone
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Open,
    Finishing,
    Finished,
    PeerFinished,
    Ended,
}

impl State {
    pub(super) fn receives(self) -> bool {
        matches!(self, State::Open | State::Finishing | State::Finished)
    }

    pub(super) fn sends(self) -> bool {
        matches!(self, State::Open | State::Finishing | State::PeerFinished)
    }

    pub(super) fn takes_sends(self) -> bool {
        matches!(self, State::Connecting | State::Open | State::PeerFinished)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) socket: SocketId,
    pub(super) state: State,
    /// In the ready list.
    pub(super) in_ready: bool,
    /// In the dirty list.
    pub(super) in_dirty: bool,
    /// The socket took less than was offered; the next news of it ends this.
    pub(super) send_waits: bool,
    /// Report `Sent` when the queue is empty again.
    pub(super) sent_after_wait: bool,
    /// The owner has said `finish`.
    pub(super) finishing: bool,
    pub(super) queue: SendQueue,
}

impl Slot {
    pub(super) fn new(socket: SocketId, state: State) -> Slot {
        Slot {
            socket,
            state,
            in_ready: false,
            in_dirty: false,
            send_waits: false,
            sent_after_wait: false,
            finishing: false,
            queue: SendQueue::new(),
        }
    }

    /// Why the connection ends when both sides have: an owner that finished did it, whoever came first.
    pub(super) fn reason_of_fin(&self) -> CloseReason {
        if self.finishing { CloseReason::Local } else { CloseReason::PeerClosed }
    }
}
