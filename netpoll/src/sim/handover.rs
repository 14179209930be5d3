//! Passing connections from one backend of a network to another.

use super::backend::SimBackend;
use super::core::Core;
use super::link::SocketId;
use super::slot::Slot;
use crate::{AdoptError, ConnectionId, Handover, Held, ReleaseError, Released, Timestamp};
use std::cell::RefCell;
use std::rc::Rc;

/// A socket without a backend. Dropping it closes it, as the end of its process would.
#[derive(Debug)]
pub struct SimSocket {
    network: Rc<RefCell<Core>>,
    /// `None` once it was adopted.
    id: Option<SocketId>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.network.borrow_mut().close(id);
        }
    }
}

impl Handover for SimBackend {
    type Socket = SimSocket;

    fn release(
        &mut self,
        connection: ConnectionId,
        bytes: &mut dyn FnMut(Held, &[u8]),
    ) -> Result<Released<SimSocket>, ReleaseError> {
        let (slot, phase, awaits_sent) = self.common.release(connection, bytes)?;
        self.network.borrow_mut().detach(slot.socket);
        let socket = SimSocket { network: Rc::clone(&self.network), id: Some(slot.socket) };
        Ok(Released { id: connection, phase, awaits_sent, socket })
    }

    fn adopt(
        &mut self,
        mut released: Released<SimSocket>,
        queued: &[u8],
    ) -> Result<(), (AdoptError, Released<SimSocket>)> {
        let Some(socket) = released.socket.id else { return Err((AdoptError::Slot, released)) };
        let slot = Slot::resumed(socket, released.phase);
        let sent_due = released.awaits_sent.then(|| Timestamp::from_nanos(self.network.borrow().now));
        if let Err((error, _)) = self.common.adopt(released.id, slot, queued, sent_due) {
            return Err((error, released));
        }
        released.socket.id = None;
        self.network.borrow_mut().attach(socket, self.number(), released.id);
        self.mark_dirty(released.id);
        self.want_turn();
        Ok(())
    }

    fn generation_bound(&self) -> u32 {
        self.common.table.generation_bound()
    }

    fn raise_generations(&mut self, bound: u32) {
        self.common.table.raise_generations(bound);
    }
}
