//! Why a connection's socket is left unread.

/// Why a socket is left unread: a set of reasons; and whether there is more to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unread(u8);

impl Unread {
    /// Its connection is above its rate.
    pub(super) const STOPPED: u8 = 1;
    /// What waits for other workers has to become less.
    pub(super) const HELD: u8 = 1 << 1;
    /// Some of what was received waits for a later turn.
    pub(super) const BEHIND: u8 = 1 << 2;
    /// The peer has ended its side, and answers that others make are due.
    pub(super) const DUE: u8 = 1 << 3;
    /// Its answers wait for the client to read.
    pub(super) const UPTAKE: u8 = 1 << 4;
    /// No reason: the peer has ended its side.
    pub(super) const FINISHED: u8 = 1 << 7;

    #[inline]
    pub(super) fn has(self, reason: u8) -> bool {
        self.0 & reason != 0
    }

    /// Adds a reason or takes it away; false when that is nothing new.
    pub(super) fn set(&mut self, reason: u8, holds: bool) -> bool {
        let is_new = self.has(reason) != holds;
        self.0 ^= if is_new { reason } else { 0 };
        is_new
    }
}
