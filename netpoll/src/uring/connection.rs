//! The beginning and the end of a connection.
//!
//! Closing a direct descriptor does not close its socket while an operation on it is armed. So an
//! end is two kinds of submission together: a cancellation for each operation in flight, then the
//! close of the descriptor. The socket is closed, and FIN leaves, when the last of their
//! completions is posted. The slot is freed, and `Closed` reported, when all completions have been
//! seen: from then on no completion of this generation can come.
//!
//! A shutdown is one of those operations. The kernel passes it to a worker thread, which looks the
//! slot up only when it runs: on a loaded machine after the connection has gone. If the slot were
//! not kept until then, the shutdown would end the sending side of the next connection in it.

use super::UringBackend;
use super::receive::reason_of;
use super::slot::{Slot, Todo};
use crate::lifecycle::{Finish, Notice, State};
use crate::sys::socket;
use crate::sys::uring::{Event, tag};
use crate::{CloseReason, Completions, ConnectError, ConnectionId, SharedBuffer};
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
        if self.live_count() >= self.connections_max {
            return Err(ConnectError::TableFull);
        }
        let Some(id) = self.common.table.vacant_id() else { return Err(ConnectError::TableFull) };
        if !self.ring.reserve(1) {
            return Err(ConnectError::Io(io::ErrorKind::WouldBlock.into()));
        }
        let socket = socket::client(local, remote).map_err(ConnectError::Io)?;
        self.ring.install(id.index() as u32, socket.as_fd()).map_err(ConnectError::Io)?;
        let mut slot = Slot::new(State::Connecting);
        slot.in_flight.add(tag::CONNECT);
        self.common.table.insert(slot).map_err(|_| ConnectError::TableFull)?;
        self.ring.connect(id, remote);
        Ok(id)
    }

    pub(super) fn note_connect(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::CONNECT);
        if slot.life.state == State::Connecting {
            if event.result < 0 {
                return self.end(event.id, reason_of(event.result));
            }
            slot.life.state = State::Open;
            self.common.notices.push_back(Notice::Connected(event.id));
            self.mark(event.id, Todo::RECEIVE);
            self.mark(event.id, Todo::SEND);
        }
        self.report_end_if_last(event.id);
    }

    pub(super) fn begin_finish(&mut self, id: ConnectionId, last: Option<SharedBuffer>) {
        match self.common.finish(id, last) {
            Finish::Ignored => {}
            Finish::End => self.end(id, CloseReason::Local),
            Finish::Flush => {
                self.mark(id, Todo::SEND);
                self.mark(id, Todo::RECEIVE); // one that found no buffer needs none from here on
            }
        }
    }

    /// Drops what is queued and queues the close.
    pub(super) fn end(&mut self, id: ConnectionId, reason: CloseReason) {
        if self.common.end(id, reason) {
            self.mark(id, Todo::CLOSE);
        }
    }

    /// Cancels what is in flight and closes the descriptor, in one submission.
    pub(super) fn submit_close(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        for tag in [tag::RECEIVE, tag::READABLE, tag::WRITABLE, tag::CONNECT] {
            if slot.in_flight.has(tag) {
                self.ring.cancel(id, tag);
            }
        }
        slot.life.state = State::Closing;
        slot.in_flight.add(tag::CLOSE);
        self.ring.close(id);
    }

    pub(super) fn note_close(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        debug_assert!(event.result == 0, "closing {:?} returned {}", event.id, event.result);
        slot.in_flight.remove(tag::CLOSE);
        self.report_end_if_last(event.id);
    }

    /// Handles the result of a shutdown: FIN was sent, or the peer has reset, or the descriptor was
    /// closed in the meantime.
    pub(super) fn note_shutdown(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::SHUTDOWN);
        match -event.result {
            ..=0 => {}
            libc::ENOTCONN => self.end(event.id, CloseReason::PeerReset),
            _ => self.end(event.id, reason_of(event.result)),
        }
        self.report_end_if_last(event.id);
    }

    /// Reports the end of a closing connection when its last completion has come.
    pub(super) fn report_end_if_last(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get(id) else { return };
        if slot.life.state == State::Closing && slot.in_flight.is_empty() {
            self.common.notices.push_back(Notice::Closed(id, slot.life.reason()));
        }
    }

    pub(super) fn report_notices(&mut self, batch: &mut Completions) {
        while !batch.is_full() {
            let Some(notice) = self.common.next_notice() else { return };
            if let Notice::Closed(id, _) = notice {
                self.common.table.remove(id);
            }
            batch.push(notice.into());
        }
    }
}
