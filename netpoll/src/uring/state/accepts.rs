//! The listeners and their accepts.

use crate::sys::socket;
use crate::sys::uring::ring::AcceptId;
use crate::{ConnectionId, Timestamp};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long accepting pauses after the system ran short of descriptors or memory.
pub(in crate::uring) const ACCEPT_REST: Duration = Duration::from_millis(20);

/// An accept, which its listener reuses.
#[derive(Clone, Copy, Debug)]
pub(in crate::uring) enum Accept {
    Idle,
    InFlight(ConnectionId),
    Cancelled(ConnectionId),
    /// Completed, and waiting for room.
    Parked(ConnectionId),
}

pub(in crate::uring) struct Listener {
    /// `None` when the listener is closed.
    pub(in crate::uring) socket: Option<OwnedFd>,
    pub(in crate::uring) accepts: Box<[Accept]>,
    /// Positions of the idle accepts.
    pub(in crate::uring) idle: Vec<u32>,
}

impl Listener {
    /// Accepts in flight or parked.
    pub(in crate::uring) fn in_use(&self) -> usize {
        self.accepts.len() - self.idle.len()
    }

    fn has_none_in_flight(&self) -> bool {
        self.accepts.iter().all(|accept| matches!(accept, Accept::Idle | Accept::Parked(_)))
    }
}

/// The listeners and their accepts.
pub(in crate::uring) struct Accepts {
    pub(in crate::uring) listeners: Vec<Listener>,
    /// At most so many accepts are in flight or parked.
    pub(in crate::uring) in_flight_max: usize,
    pub(in crate::uring) accepting: bool,
    /// The listeners are to be closed.
    pub(in crate::uring) closing: bool,
    /// Accepts in flight are to be cancelled.
    pub(in crate::uring) stopping: bool,
    /// No accept is armed until all are cancelled and the table has started over.
    pub(in crate::uring) renewing: bool,
    /// The ring had no room for an accept that was to be armed.
    pub(in crate::uring) unarmed: bool,
    /// Accepting pauses until then; zero: it does not pause.
    pub(in crate::uring) after: Timestamp,
    /// Slots of the table that belong to accepts, in flight or parked.
    pub(in crate::uring) reserved: usize,
    pub(in crate::uring) parked: VecDeque<AcceptId>,
}

impl Accepts {
    pub(in crate::uring) fn new(in_flight_max: usize) -> Accepts {
        Accepts {
            listeners: Vec::with_capacity(8),
            in_flight_max,
            accepting: true,
            closing: false,
            stopping: false,
            renewing: false,
            unarmed: false,
            after: Timestamp::ZERO,
            reserved: 0,
            parked: VecDeque::new(),
        }
    }

    pub(in crate::uring) fn is_resting(&self) -> bool {
        self.accepting && self.after != Timestamp::ZERO
    }

    pub(in crate::uring) fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
        self.stopping = !accepting;
    }

    /// Stops listening; accepts in flight are cancelled by the next turns.
    pub(in crate::uring) fn begin_closing(&mut self) {
        self.closing = true;
        // Cancelled operations hold the socket a little longer than its descriptor does, so it has
        // to stop listening by itself.
        let sockets = self.listeners.iter().filter_map(|listener| listener.socket.as_ref());
        sockets.for_each(socket::stop_listening);
        self.set_accepting(false);
    }

    /// Closes the sockets of listeners without accepts in flight. A submission names its listener
    /// by descriptor number, so the number stays in use until then.
    pub(in crate::uring) fn close_quiet_listeners(&mut self) {
        let quiet = self.listeners.iter_mut().filter(|listener| listener.has_none_in_flight());
        quiet.for_each(|listener| listener.socket = None);
    }
}
