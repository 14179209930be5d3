//! How much of the rooms, memberships and text a connection gets, so that nobody fills what all share.
//!
//! A connection gets no more of a table than a part of what is left of it. A first membership is kept for each connection, and
//! all hosts together can't have more rooms than their homes have place for.

use super::{Rooms, SessionRooms};
use crate::session::text::TextStore;

const NONE: u32 = super::NONE;

/// How many rooms a connection may be in.
#[derive(Clone, Copy, Debug)]
pub struct JoinLimit {
    /// When everything that it asked for is done.
    pub rooms_max: u8,
    /// Rooms that it leaves by then.
    pub leaving: u8,
}

/// Parts of what is left of a table; whoever holds more than one of them gets no more.
const SHARES: usize = 16;

/// Whether a connection that holds `held` of a table may have `more`, of which `left` are left. Its share shrinks with what is
/// left, so that whoever takes all it can get leaves something to others, and whoever has nothing yet is refused last.
fn is_fair(held: usize, more: usize, left: usize) -> bool {
    more <= left && held + more <= (left / SHARES).max(1)
}

/// Rooms with members on a worker at most. All hosts together can then have as many different rooms as their homes have place
/// for, with some to spare, for names are spread over homes by hash: no home must refuse one.
pub(super) const fn hosted_max(rooms_max: usize, workers: usize) -> usize {
    if workers <= 1 {
        return rooms_max;
    }
    let even = rooms_max * workers / (2 * workers - 1);
    let max = even - even / 8;
    if max == 0 { 1 } else { max }
}

impl Rooms {
    /// Keeps a membership for each of so many connections, as far as half of them all go: whoever is in no room can enter one,
    /// however many memberships others have.
    pub fn for_connections(mut self, connections_max: usize) -> Rooms {
        let memberships_max = self.members.capacity();
        self.shared_members = memberships_max - connections_max.min(memberships_max / 2);
        self
    }

    /// Whether there is a membership for a connection that is in `keeps` rooms besides.
    pub(super) fn has_membership_for(&self, keeps: usize) -> bool {
        let is_free = self.free_member != NONE || self.members.len() < self.members.capacity();
        let reserve = self.members.capacity() - self.shared_members;
        let shared_used = self.members_used - self.members_first.min(reserve);
        is_free && (keeps == 0 || is_fair(keeps - 1, 1, self.shared_members.saturating_sub(shared_used)))
    }

    /// Whether a connection that is in `keeps` rooms besides may have a room that nobody here is in yet.
    pub(super) fn has_room_for(
        &self,
        texts: &TextStore,
        key: &str,
        keeps: usize,
        rooms: &SessionRooms,
    ) -> bool {
        let (cells, cells_left) = (TextStore::cells_for(key), texts.room_cells_left());
        let rooms_left = self.hosted_max.saturating_sub(self.hosted);
        let (own, own_cells) = if keeps == 0 { (0, 0) } else { self.held_alone(rooms) };
        is_fair(own, 1, rooms_left) && is_fair(own_cells, cells, cells_left)
    }

    /// Rooms that a connection is in alone on this worker, so that they are here for it only, and the cells of their keys.
    pub fn held_alone(&self, rooms: &SessionRooms) -> (usize, usize) {
        let records = self.memberships(rooms).map(|member| &self.rooms[self.room_of(member).0 as usize]);
        let alone = records.filter(|room| room.local == 1);
        alone.fold((0, 0), |(count, cells), room| (count + 1, cells + room.text.cells()))
    }

    /// Used and all: rooms with members here, and memberships that connections share.
    pub fn shared_levels(&self) -> [(usize, usize); 2] {
        let reserve = self.members.capacity() - self.shared_members;
        let shared_used = self.members_used - self.members_first.min(reserve);
        [(self.hosted, self.hosted_max), (shared_used, self.shared_members)]
    }

    /// ChangeRooms of a connection that wait for their homes.
    pub fn changes(&self, rooms: &SessionRooms) -> u8 {
        self.memberships(rooms).filter(|member| self.awaits_change(*member)).count() as u8
    }

    /// How many rooms a connection leaves when all of its requests so far are answered, the one at hand included that enters a
    /// room `instead` of its first; and whether a ChangeRoom waits.
    pub fn leaving(&self, rooms: &SessionRooms, instead: bool) -> (u8, bool) {
        let changes = self.changes(rooms);
        let leaves_first =
            rooms.primary.is_some_and(|first| !self.awaits_change(first)) && !rooms.keeps_first;
        match (changes, instead) {
            (0, true) => (u8::from(rooms.primary.is_some()), false),
            (0, false) => (0, false),
            (changes, true) => (changes + u8::from(leaves_first), true),
            (changes, false) => (changes - 1 + u8::from(leaves_first), true),
        }
    }
}
