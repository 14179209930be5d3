//! Listeners: which of them an edge has announced, and the pause after a shortage.

use crate::ListenerId;
use crate::Timestamp;
use crate::sys::socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long accepting pauses after the system ran short of descriptors or memory.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

struct Listener {
    socket: OwnedFd,
    /// An edge came and `accept` has not returned EAGAIN since.
    ready: bool,
}

/// The listeners of one backend.
pub(super) struct Listeners {
    list: Vec<Listener>,
    accepting: bool,
    /// Accepting pauses until then; zero: it does not pause.
    paused_until: Timestamp,
}

impl Listeners {
    pub(super) fn new() -> Listeners {
        Listeners { list: Vec::with_capacity(8), accepting: true, paused_until: Timestamp::ZERO }
    }

    /// The id of the next listener; at most 255.
    pub(super) fn next_id(&self) -> io::Result<ListenerId> {
        Ok(ListenerId(u8::try_from(self.list.len()).map_err(|_| io::ErrorKind::QuotaExceeded)?))
    }

    /// Adds a listener, which has to be tried once before the first edge.
    pub(super) fn add(&mut self, socket: OwnedFd) {
        self.list.push(Listener { socket, ready: true });
    }

    pub(super) fn close(&mut self) {
        self.list.clear(); // a closed descriptor leaves the epoll instance by itself
    }

    pub(super) fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Notes the edge of a listener.
    pub(super) fn note_edge(&mut self, index: usize) {
        if let Some(listener) = self.list.get_mut(index) {
            listener.ready = true;
        }
    }

    /// Whether a listener may have a connection.
    pub(super) fn any_ready(&self) -> bool {
        self.list.iter().any(|listener| listener.ready)
    }

    /// Whether accepting pauses. Calls `now` only after a shortage.
    pub(super) fn is_paused(&self, now: impl FnOnce() -> Timestamp) -> bool {
        self.paused_until != Timestamp::ZERO && now() < self.paused_until
    }

    /// Accepts one connection from the first listener that has one; `None` when none has.
    pub(super) fn accept(&mut self) -> Option<(ListenerId, io::Result<(OwnedFd, SocketAddr)>)> {
        for (index, listener) in self.list.iter_mut().enumerate().filter(|(_, listener)| listener.ready) {
            match socket::accept(&listener.socket) {
                // accept(2): EAGAIN ends the edge.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                accepted => return Some((ListenerId(index as u8), accepted)),
            }
        }
        None
    }

    /// Handles an error of accept(2), or of what follows it. A shortage (EMFILE, ENFILE, ENOBUFS,
    /// ENOMEM) pauses all listeners, and is the one case that returns true. Any other error
    /// concerns only the connection at hand.
    pub(super) fn handle_error(&mut self, error: &io::Error, now: impl FnOnce() -> Timestamp) -> bool {
        let shortage = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let is_shortage = error.raw_os_error().is_some_and(|number| shortage.contains(&number));
        if is_shortage {
            self.paused_until = now() + ACCEPT_PAUSE;
        }
        is_shortage
    }
}
