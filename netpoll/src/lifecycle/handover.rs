//! Connections that leave for a successor or come from a predecessor, with their queues.

use super::{Common, Notice, Slot};
use crate::{AdoptError, Buffer, ConnectionId, Held, Phase, Priority, ReleaseError, Timestamp};

impl<S: Slot> Common<S> {
    /// Takes a connection out of the table and passes its queue to `bytes`; returns whether `Sent`
    /// is due besides. It is not reported here any more.
    pub(crate) fn release(
        &mut self,
        id: ConnectionId,
        bytes: &mut dyn FnMut(Held, &[u8]),
    ) -> Result<(S, Phase, bool), ReleaseError> {
        let Some(life) = self.table.get(id).map(Slot::life) else { return Err(ReleaseError::Gone) };
        let phase = life.phase()?;
        if self.notices.iter().any(|notice| matches!(notice, Notice::Connected(other) if *other == id)) {
            return Err(ReleaseError::Connecting);
        }
        let is_due = |notice: &Notice| matches!(notice, Notice::Sent(other) if *other == id);
        let awaits_sent = life.awaits_sent() && (life.is_waiting() || self.notices.iter().any(is_due));
        self.pieces.iter(life.queue.list()).for_each(|piece| bytes(Held::Queued, piece));
        self.stop_waiting(id);
        let Some(mut slot) = self.table.remove(id) else { return Err(ReleaseError::Gone) };
        slot.life_mut().queue.clear(&mut self.pieces);
        Ok((slot, phase, awaits_sent))
    }

    /// Puts a connection into the table under its id, with `queued` as its queue. `Sent` is due
    /// where `sent_due` has the present. Returns the connection when there is no room.
    pub(crate) fn adopt(
        &mut self,
        id: ConnectionId,
        mut slot: S,
        queued: &[u8],
        sent_due: Option<Timestamp>,
    ) -> Result<(), (AdoptError, S)> {
        let size_max = self.pools.block_size_max().max(1);
        let life = slot.life_mut();
        let pushed = queued.chunks(size_max).all(|chunk| {
            let piece = self.pools.copy(chunk).map(Buffer::freeze);
            piece.is_some_and(|piece| {
                life.queue.push(&mut self.pieces, piece, usize::MAX, Priority::Last, Ok).is_ok()
            })
        });
        if !pushed {
            life.queue.clear(&mut self.pieces);
            return Err((AdoptError::Memory, slot));
        }
        self.table.insert_at(id, slot).map_err(|mut slot| {
            slot.life_mut().queue.clear(&mut self.pieces);
            (AdoptError::Slot, slot)
        })?;
        match sent_due {
            Some(now) if !queued.is_empty() => {
                self.now = now;
                self.begin_waiting(id);
            }
            Some(_) => self.notices.push_back(Notice::Sent(id)),
            None => {}
        }
        Ok(())
    }
}
