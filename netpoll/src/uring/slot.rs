//! What the io_uring backend keeps of one connection.

use crate::CloseReason;
use crate::send_queue::SendQueue;

/// Where a connection is in its life.
///
/// ```text
///   Reserved ─► Open ─► Finishing ─► Finished ─► Ended ─► Closing    finish: queue, FIN, wait for the peer's FIN
///   Connecting ─┘└────► PeerFinished ──────────► Ended ─► Closing    the peer's FIN came first: queue, then gone
/// ```
///
/// `Ended` waits for the submission of its close, `Closing` for the last completion of the operations in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Kept free for an accept in flight.
    Reserved,
    Connecting,
    Open,
    Finishing,
    Finished,
    PeerFinished,
    Ended,
    Closing,
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

    pub(super) fn is_over(self) -> bool {
        matches!(self, State::Ended | State::Closing)
    }
}

/// A set of things to do for a connection at the next submission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Todo(u8);

impl Todo {
    /// Arm the receive.
    pub(super) const RECEIVE: Todo = Todo(1);
    /// Send what is queued.
    pub(super) const SEND: Todo = Todo(1 << 1);
    /// Wait for room to send.
    pub(super) const WAIT_WRITABLE: Todo = Todo(1 << 2);
    /// Cancel the receive, to wait for readability instead.
    pub(super) const DEMOTE: Todo = Todo(1 << 3);
    /// Wait for readability.
    pub(super) const WAIT_READABLE: Todo = Todo(1 << 4);
    /// Send FIN.
    pub(super) const SHUTDOWN: Todo = Todo(1 << 5);
    /// Cancel what is in flight and close.
    pub(super) const CLOSE: Todo = Todo(1 << 6);

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, what: Todo) -> bool {
        self.0 & what.0 != 0
    }

    pub(super) fn add(&mut self, what: Todo) {
        self.0 |= what.0;
    }
}

/// The set of operations in flight that will still complete, by their tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight(u8);

impl InFlight {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, tag: u8) -> bool {
        self.0 & 1 << tag != 0
    }

    pub(super) fn add(&mut self, tag: u8) {
        debug_assert!(!self.has(tag), "operation {tag} armed twice");
        self.0 |= 1 << tag;
    }

    pub(super) fn remove(&mut self, tag: u8) {
        self.0 &= !(1 << tag);
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) todo: Todo,
    pub(super) in_flight: InFlight,
    /// What to say in the end.
    pub(super) reason: CloseReason,
    /// Something was received since the idle sweep came by.
    pub(super) active: bool,
    /// The receive is being cancelled to wait for readability.
    pub(super) demoting: bool,
    /// Readable, so a receive was armed, which has not brought anything yet: demoting it now could go on for ever.
    pub(super) promoting: bool,
    /// The socket took less than was offered; room to send will end this.
    pub(super) send_waits: bool,
    /// Report `Sent` when the queue is empty again.
    pub(super) sent_after_wait: bool,
    /// Bytes of the send that is not confirmed yet; 0: none.
    pub(super) offered: u32,
    /// Which send that is.
    pub(super) serial: u32,
    pub(super) queue: SendQueue,
}

const _: () = assert!(size_of::<Slot>() <= 32);

impl Slot {
    pub(super) fn new(state: State) -> Slot {
        Slot {
            state,
            todo: Todo::default(),
            in_flight: InFlight::default(),
            reason: CloseReason::PeerClosed,
            active: true,
            demoting: false,
            promoting: false,
            send_waits: false,
            sent_after_wait: false,
            offered: 0,
            serial: 0,
            queue: SendQueue::new(),
        }
    }
}
