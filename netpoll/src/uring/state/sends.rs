//! Sends between submission and confirmation.

use crate::{ConnectionId, SendStoreLevel};

#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(in crate::uring) id: ConnectionId,
    pub(in crate::uring) serial: u32,
}

/// Sends between submission and confirmation. `send` says how they are confirmed.
pub(in crate::uring) struct Sends {
    fresh: Vec<Sent>,
    confirming: Vec<Sent>,
    /// The number of completions reaped, in all, at which those in `confirming` are certain.
    mark: u64,
    serial: u32,
    /// Something follows once the sends in the lists are confirmed. The ring must not wait until
    /// then.
    awaited: bool,
    /// Completions were reaped that the owner has not had yet: it may have something to send to a
    /// peer that has finished.
    holds_ends: bool,
}

impl Sends {
    pub(in crate::uring) fn new(connections: usize) -> Sends {
        Sends {
            fresh: Vec::with_capacity(2 * connections),
            confirming: Vec::with_capacity(2 * connections),
            mark: 0,
            serial: 0,
            awaited: false,
            holds_ends: false,
        }
    }

    /// Begins the next round of submissions. Sends of earlier rounds must be confirmed before the
    /// ring may wait: the owner has had a turn since, and any of their connections may have more to
    /// send.
    pub(in crate::uring) fn begin_round(&mut self) {
        self.awaited = !self.fresh.is_empty() || !self.confirming.is_empty();
    }

    /// Notes whether completions were reaped that the owner has not had yet.
    pub(in crate::uring) fn hold_ends(&mut self, hold: bool) {
        self.holds_ends = hold;
    }

    /// Whether ends that follow from peers' FINs are held back.
    pub(in crate::uring) fn holds_ends(&self) -> bool {
        self.holds_ends
    }

    /// Whether the ring must not wait, because something is to follow a send that is not confirmed.
    pub(in crate::uring) fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// How many sends are tracked, and how many there may be.
    pub(in crate::uring) fn level(&self) -> SendStoreLevel {
        SendStoreLevel {
            used: self.fresh.len() + self.confirming.len(),
            max: self.fresh.capacity() + self.confirming.capacity(),
        }
    }

    /// Returns the memory of the lists to the system, as far as they are not in use.
    pub(in crate::uring) fn trim(&mut self) {
        crate::release_spare(&mut self.fresh);
        crate::release_spare(&mut self.confirming);
    }

    /// Whether no further send can be tracked before the next confirmation.
    pub(in crate::uring) fn is_full(&self) -> bool {
        self.fresh.len() == self.fresh.capacity()
    }

    /// Whether sends were listed since the last ones began to be confirmed.
    pub(in crate::uring) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The ring must not wait before the sends in the lists are confirmed: something follows them.
    pub(in crate::uring) fn await_confirmation(&mut self) {
        self.awaited = true;
    }

    /// All sends are confirmed.
    pub(in crate::uring) fn all_confirmed(&mut self) {
        self.awaited = false;
    }

    /// Lists a send of a connection, and returns its serial number.
    pub(in crate::uring) fn track(&mut self, id: ConnectionId) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.fresh.push(Sent { id, serial: self.serial });
        self.serial
    }

    /// The number of completions reaped, in all, at which the sends being confirmed are certain;
    /// `None` when there are none.
    pub(in crate::uring) fn certain_at(&self) -> Option<u64> {
        (!self.confirming.is_empty()).then_some(self.mark)
    }

    /// One of the sends that are certain.
    pub(in crate::uring) fn pop_certain(&mut self) -> Option<Sent> {
        self.confirming.pop()
    }

    /// Confirms the fresh sends from here on; they are certain once `mark` completions have been
    /// reaped.
    pub(in crate::uring) fn begin_confirming(&mut self, mark: u64) {
        debug_assert!(self.confirming.is_empty());
        std::mem::swap(&mut self.fresh, &mut self.confirming);
        self.mark = mark;
    }
}
