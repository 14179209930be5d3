//! Accepting: as much as an edge announced, at most half of a batch's room, with a pause after a
//! shortage.

use super::EpollBackend;
use crate::lifecycle::State;
use crate::sys::socket;
use crate::{Completion, Completions, ConnectError, ListenerId};
use std::io;
use std::time::Duration;

/// How long accepting pauses after the system ran short of descriptors or memory.
pub(super) const ACCEPT_REST: Duration = Duration::from_millis(20);

impl EpollBackend {
    pub(super) fn may_accept(&self) -> bool {
        self.accepting && self.common.table.len() < self.common.table.capacity()
    }

    pub(super) fn accept_all(&mut self, batch: &mut Completions) {
        if !self.may_accept() || self.clock.now() < self.accept_after {
            return;
        }
        // At most half of what is left: a storm of new connections must not keep existing ones from
        // receiving.
        let room_kept = batch.room() / 2;
        for position in 0..self.listeners.len() {
            while self.listeners[position].ready && self.may_accept() && batch.room() > room_kept {
                let accepted = self.accept_one(position, batch);
                if accepted.is_err_and(|error| self.accept_failed(position, &error)) {
                    return;
                }
            }
        }
    }

    fn accept_one(&mut self, position: usize, batch: &mut Completions) -> io::Result<()> {
        let (socket, peer) = socket::accept(&self.listeners[position].socket)?;
        let connection = self.insert(socket, State::Open).map_err(|error| match error {
            ConnectError::Io(error) => error,
            ConnectError::TableFull => io::ErrorKind::QuotaExceeded.into(), // excluded by `may_accept`
        })?;
        self.common.counters.accepts += 1;
        batch.push(Completion::Accepted { connection, listener: ListenerId(position as u8), peer });
        Ok(())
    }

    /// accept(2): EAGAIN ends the edge. A shortage (EMFILE, ENFILE, ENOBUFS, ENOMEM) pauses all
    /// listeners, and is the one case that returns true. Any other error concerns only the
    /// connection at hand.
    fn accept_failed(&mut self, position: usize, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.listeners[position].ready = false;
            return false;
        }
        self.common.counters.accept_errors += 1;
        let shortage = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let is_shortage = error.raw_os_error().is_some_and(|number| shortage.contains(&number));
        if is_shortage {
            self.accept_after = self.clock.now() + ACCEPT_REST;
        }
        is_shortage
    }
}
