//! The beginning and the end of a connection.
//!
//! Closing a direct descriptor does not close its socket while an operation on it is armed. So an end is two kinds of
//! submission together: a cancellation for each operation in flight, then the close of the descriptor; the socket goes,
//! and FIN leaves, when the last of their completions is posted. The slot is freed, and `Closed` reported, when all
//! have been seen: from then on nothing of this generation can come.

use super::receive::reason_of;
use super::slot::{Slot, State, Todo};
use super::{Notice, UringBackend};
use crate::sys::socket;
use crate::sys::uring::{Event, tag};
use crate::{CloseReason, Completion, Completions, ConnectError, ConnectionId, SharedBuffer};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

impl UringBackend {
    /// Makes the socket as a plain descriptor, moves it into the table, and queues the connect.
    pub(super) fn begin_connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if self.live_count() >= self.limits.connections_max {
            return Err(ConnectError::TableFull);
        }
        let Some(id) = self.connections.vacant_id() else { return Err(ConnectError::TableFull) };
        if !self.ring.reserve(1) {
            return Err(ConnectError::Io(io::ErrorKind::WouldBlock.into()));
        }
        let socket = socket::client(local, remote).map_err(ConnectError::Io)?;
        self.ring.install(id.index() as u32, socket.as_fd()).map_err(ConnectError::Io)?;
        let mut slot = Slot::new(State::Connecting);
        slot.in_flight.add(tag::CONNECT);
        self.connections.insert(slot).map_err(|_| ConnectError::TableFull)?;
        self.ring.connect(id, remote);
        Ok(id)
    }

    pub(super) fn note_connect(&mut self, event: Event) {
        let Some(slot) = self.connections.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::CONNECT);
        if slot.state == State::Connecting {
            if event.result < 0 {
                return self.end(event.id, reason_of(event.result));
            }
            slot.state = State::Open;
            self.notices.push_back(Notice::Connected(event.id));
            self.mark(event.id, Todo::RECEIVE);
            self.mark(event.id, Todo::SEND);
        }
        self.settle(event.id);
    }

    pub(super) fn begin_finish(&mut self, id: ConnectionId, last: Option<SharedBuffer>) {
        let Some(slot) = self.connections.get_mut(id).filter(|slot| slot.state.takes_sends()) else {
            return;
        };
        if let Some(last) = last {
            // A full store of pieces loses the farewell, not the close.
            let _ = self.sends.pieces.push(&mut slot.queue, last, usize::MAX);
        }
        slot.reason = CloseReason::Local;
        match slot.state {
            State::Connecting => return self.end(id, CloseReason::Local),
            State::Open => slot.state = State::Finishing,
            _ => {} // the peer has finished already: gone when the queue is empty
        }
        self.mark(id, Todo::SEND);
    }

    /// Drops what is queued and puts the close on its way.
    pub(super) fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state.is_over() || slot.state == State::Reserved {
            return;
        }
        slot.state = State::Ended;
        slot.reason = reason;
        self.sends.pieces.clear(&mut slot.queue);
        self.mark(id, Todo::CLOSE);
    }

    /// Cancels what is in flight and closes the descriptor, in one submission.
    pub(super) fn submit_close(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        for tag in [tag::RECEIVE, tag::READABLE, tag::WRITABLE, tag::CONNECT] {
            if slot.in_flight.has(tag) {
                self.ring.cancel(id, tag);
            }
        }
        slot.state = State::Closing;
        slot.in_flight.add(tag::CLOSE);
        self.ring.close(id);
    }

    pub(super) fn note_close(&mut self, event: Event) {
        let Some(slot) = self.connections.get_mut(event.id) else { return };
        debug_assert!(event.result == 0, "closing {:?} returned {}", event.id, event.result);
        slot.in_flight.remove(tag::CLOSE);
        self.settle(event.id);
    }

    /// After a completion: reports the end if it was the last one.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get(id) else { return };
        if slot.state == State::Closing && slot.in_flight.is_empty() {
            self.notices.push_back(Notice::Closed(id, slot.reason));
        }
    }

    pub(super) fn report_notices(&mut self, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(notice) = self.notices.pop_front() else { return };
            match notice {
                Notice::Connected(connection) => batch.push(Completion::Connected { connection }),
                Notice::Sent(connection) => {
                    if self.connections.get(connection).is_some_and(|slot| slot.state == State::Open) {
                        batch.push(Completion::Sent { connection });
                    }
                }
                Notice::Closed(connection, reason) => {
                    self.connections.remove(connection);
                    batch.push(Completion::Closed { connection, reason });
                }
            }
        }
    }
}
