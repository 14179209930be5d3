//! Passing connections to another epoll instance: in this process, or in one that was sent the
//! descriptors.

use super::slot::Slot;
use super::{EpollBackend, INTEREST, TAG_CONNECTION};
use crate::{AdoptError, ConnectionId, Handover, Held, ReleaseError, Released};
use rustix::event::epoll::{self, EventData};
use std::os::fd::OwnedFd;

impl Handover for EpollBackend {
    /// The descriptor. It belongs to the table of this thread: on a thread with one of its own it
    /// is sent to the successor from this thread, by SCM_RIGHTS.
    type Socket = OwnedFd;

    fn release(
        &mut self,
        connection: ConnectionId,
        bytes: &mut dyn FnMut(Held, &[u8]),
    ) -> Result<Released<OwnedFd>, ReleaseError> {
        let (slot, phase, awaits_sent) = self.common.release(connection, bytes)?;
        // The descriptor stays open, so it does not leave the set by itself.
        let removed = epoll::delete(&self.epoll, &slot.socket);
        debug_assert!(removed.is_ok(), "{removed:?}");
        Ok(Released { id: connection, phase, awaits_sent, socket: slot.socket })
    }

    fn adopt(
        &mut self,
        released: Released<OwnedFd>,
        queued: &[u8],
    ) -> Result<(), (AdoptError, Released<OwnedFd>)> {
        let Released { id, phase, awaits_sent, socket } = released;
        let data = EventData::new_u64(id.pack(TAG_CONNECTION));
        if let Err(error) = epoll::add(&self.epoll, &socket, data, INTEREST) {
            return Err((AdoptError::Io(error.into()), Released { id, phase, awaits_sent, socket }));
        }
        let sent_due = awaits_sent.then(|| self.clock.now());
        if let Err((error, slot)) = self.common.adopt(id, Slot::resumed(socket, phase), queued, sent_due) {
            let _ = epoll::delete(&self.epoll, &slot.socket);
            return Err((error, Released { id, phase, awaits_sent, socket: slot.socket }));
        }
        // The first poll reports what the socket has already; the queue is to leave at once.
        self.mark_dirty(id);
        Ok(())
    }

    fn generation_bound(&self) -> u32 {
        self.common.table.generation_bound()
    }

    fn raise_generations(&mut self, bound: u32) {
        self.common.table.raise_generations(bound);
    }
}
