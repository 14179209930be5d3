//! Connections that hold a block for an incomplete frame: candidates to close when blocks run
//! short, oldest first, and those with a time to complete their frame.
//!
//! A list in no order; each carry knows when it began. An entry stays when its carry is used up,
//! and is dropped when it is next looked at; `Carry::is_listed` keeps a connection from being in
//! the list twice. Carries hold a block each, so a capacity of twice as many entries as there are
//! blocks makes dropping the stale ones cheap.

use super::{CoarseInstant, Phase, Session, Sessions};
use netpoll::{Buffer, ConnectionId, release_spare};

/// See the module.
#[derive(Debug)]
pub struct PartialFrames {
    entries: Vec<ConnectionId>,
    capacity: usize,
    /// The next entry that [`Sessions::overdue_partial_frame`] looks at.
    cursor: usize,
}

impl PartialFrames {
    /// Bytes of the list for so many blocks.
    pub const fn bytes(blocks: usize) -> usize {
        Self::capacity(blocks) * size_of::<ConnectionId>()
    }

    const fn capacity(blocks: usize) -> usize {
        2 * blocks + 16
    }

    /// A list for the carries that so many blocks allow.
    pub fn with_capacity(blocks: usize) -> PartialFrames {
        let capacity = Self::capacity(blocks);
        PartialFrames { entries: Vec::with_capacity(capacity), capacity, cursor: 0 }
    }
}

impl PartialFrames {
    /// Drops the remaining entries when there are no sessions, and releases the memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.cursor = 0;
        release_spare(&mut self.entries);
    }
}

/// Whether the entry's session still carries something.
fn carries(session: Option<&Session>) -> bool {
    session.is_some_and(|session| !session.carry.is_empty())
}

impl Sessions {
    /// A connection has begun to carry.
    pub fn list_partial_frame(&mut self, connection: ConnectionId, now: CoarseInstant) {
        let Some(session) = self.get_mut(connection) else { return };
        let is_listed = session.carry.is_listed();
        session.carry.begin(now);
        if is_listed {
            return;
        }
        if self.partial_frames.entries.len() == self.partial_frames.capacity {
            self.drop_stale();
        }
        debug_assert!(
            self.partial_frames.entries.len() < self.partial_frames.capacity,
            "more carries than blocks"
        );
        self.partial_frames.entries.push(connection);
    }

    fn drop_stale(&mut self) {
        let mut entries = std::mem::take(&mut self.partial_frames.entries);
        entries.retain(|connection| {
            let keeps = carries(self.get(*connection));
            if !keeps && let Some(session) = self.get_mut(*connection) {
                session.carry.unlist();
            }
            keeps
        });
        self.partial_frames.entries = entries;
        self.partial_frames.cursor = 0;
    }

    /// The connection to close first among those that carry and for which `may_go` holds: the
    /// oldest that has not logged in, or else the oldest that has.
    pub fn first_partial_frame(&mut self, may_go: impl Fn(&Session) -> bool) -> Option<ConnectionId> {
        self.drop_stale();
        let sessions = self.partial_frames.entries.iter().filter_map(|connection| self.get(*connection));
        let is_open = |session: &Session| session.phase == Phase::Open;
        let order = |one: &&Session, other: &&Session| {
            is_open(one).cmp(&is_open(other)).then(one.carry.since().compare(other.carry.since()))
        };
        sessions.filter(|session| may_go(session)).min_by(order).map(|session| session.connection)
    }

    /// Bytes of the blocks that connections hold for frames that have not come whole, of those for
    /// which `counts` holds.
    pub fn carried_bytes(&self, counts: impl Fn(&Session) -> bool) -> usize {
        let sessions = self.partial_frames.entries.iter().filter_map(|connection| self.get(*connection));
        let blocks = sessions.filter(|session| counts(session)).filter_map(|session| session.carry.block());
        blocks.map(Buffer::capacity).sum()
    }

    /// Looks at the next `count` entries at most and returns the first connection that is logged in
    /// and carries something that began before `deadline`. Call again until `None`.
    pub fn overdue_partial_frame(
        &mut self,
        deadline: CoarseInstant,
        count: &mut usize,
    ) -> Option<ConnectionId> {
        while *count > 0 {
            *count -= 1;
            let Some(connection) = self.partial_frames.entries.get(self.partial_frames.cursor).copied()
            else {
                self.partial_frames.cursor = 0;
                *count = 0;
                return None;
            };
            match self.get(connection) {
                Some(session) if !session.carry.is_empty() => {
                    // While its socket is left unread the rest of the frame can't come.
                    let may_come = session.phase == Phase::Open && !session.flow.is_unread();
                    let is_overdue = may_come && session.carry.since().compare(deadline).is_lt();
                    self.partial_frames.cursor += 1;
                    if is_overdue {
                        return Some(connection);
                    }
                }
                _ => {
                    self.partial_frames.entries.swap_remove(self.partial_frames.cursor);
                    if let Some(session) = self.get_mut(connection) {
                        session.carry.unlist();
                    }
                }
            }
        }
        None
    }

    /// Whether a connection may carry something.
    pub fn has_partial_frames(&self) -> bool {
        !self.partial_frames.entries.is_empty()
    }

    /// Every connection that carries is in the list, once.
    ///
    /// # Panics
    /// When that does not hold.
    pub(super) fn partial_frame_invariants(&self) {
        let mut listed = 0;
        for session in &self.slots {
            let is_listed = session.carry.is_listed();
            assert!(session.carry.is_empty() || is_listed, "{:?} carries unseen", session.connection);
            listed += usize::from(is_listed);
        }
        let entries = self.partial_frames.entries.iter().filter_map(|connection| self.get(*connection));
        let live = entries.filter(|session| session.phase != Phase::Closing).count();
        assert_eq!(live, listed, "entries of live connections, and sessions that are listed");
    }
}
