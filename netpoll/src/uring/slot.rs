//! What the io_uring backend keeps of one connection.

use crate::lifecycle::{self, Life, State};
use crate::sys::uring::tag;

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
    /// Ask whether the connection has ended.
    pub(super) const LOOK: Todo = Todo(1 << 7);

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

/// How an idle connection comes to wait in a cheaper way, and back.
///
/// ```text
///   Active ── swept ──► Quiet ── swept once more ──► Demoting: the receive is being cancelled;
///     ▲  ▲                │                             │  ▲   then it waits for readability
///     │  └──── bytes ─────┘                    readable │  │ swept, or nothing came
///     │                                                 ▼  │
///     │                                              Sampling: one receive, then it waits again
///     │                                                 │ bytes
///     └── bytes ── Promoting: receives again ◄─ readable ── Sampled
/// ```
///
/// Starved is apart: a receive found no buffer. While connections are starved, each receives once
/// when a buffer is free for it, and stands in line again.
///
/// Stopped is apart: the owner has stopped receiving. An operation that ends then is not armed
/// again until the owner resumes. One that stood in line for a buffer keeps its place
/// (StoppedInLine) until its turn comes; one that did not goes to the end of the line, if there is
/// one.
///
/// Where there is demotion, an accepted connection begins as Demoting, with nothing to cancel.
///
/// So a client that only sends a heartbeat now and then costs a receive and a wait each time, and a
/// client that sends more than once in a period gets the multishot receive back. A Promoting
/// connection has not received anything yet: demoting it then could go on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idling {
    Active,
    Quiet,
    Demoting,
    Sampling,
    Sampled,
    Promoting,
    Starved,
    Stopped,
    StoppedInLine,
}

impl Idling {
    /// Whether the next receive ends with its first buffer.
    pub(super) fn receives_once(self) -> bool {
        matches!(self, Idling::Sampling | Idling::Starved)
    }

    /// Whether the owner has stopped receiving.
    pub(super) fn is_stopped(self) -> bool {
        matches!(self, Idling::Stopped | Idling::StoppedInLine)
    }
}

/// Whether a connection's end may have been missed (`receive`, "Ends without an event").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    None,
    /// The connection has received, and will be looked at.
    Listed,
    /// The connection has received again since it was listed.
    Renewed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) life: Life,
    pub(super) todo: Todo,
    pub(super) in_flight: InFlight,
    pub(super) idling: Idling,
    pub(super) suspicion: Suspicion,
    /// Bytes of the send that is not confirmed yet; 0: there is none.
    pub(super) offered: u32,
    /// The serial number of that send.
    pub(super) serial: u32,
}

const _: () = assert!(size_of::<Slot>() <= 32);

impl Slot {
    /// Whether the socket is left unread: the owner has stopped receiving, and has not finished.
    pub(super) fn is_left_unread(&self) -> bool {
        self.idling.is_stopped() && self.life.state == State::Open
    }

    /// Whether the connection receives and stands in line for a buffer: the receive that found none
    /// has ended, and the next one is not due.
    pub(super) fn is_in_line(&self) -> bool {
        self.idling.receives_once() && !self.in_flight.has(tag::RECEIVE) && !self.todo.has(Todo::RECEIVE)
    }

    /// Whether a receive in flight is to end: a stop may have been taken back in the same turn.
    pub(super) fn ends_receive(&self) -> bool {
        self.life.state != State::Open || self.idling.is_stopped() || self.idling == Idling::Demoting
    }

    pub(super) fn new(state: State) -> Slot {
        Slot {
            life: Life::new(state),
            todo: Todo::default(),
            in_flight: InFlight::default(),
            idling: Idling::Active,
            suspicion: Suspicion::None,
            offered: 0,
            serial: 0,
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
        self.idling.is_stopped()
    }
}
