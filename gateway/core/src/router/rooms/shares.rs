//! How much of the rooms, memberships and names of rooms a connection gets.
//!
//! Each table of a worker has two parts (decision 0023):
//!
//! * The **guaranteed** part is as large as all connections times [`GUARANTEED_ROOMS`]. A connection's first rooms come from
//!   it, so nothing that others hold keeps a connection from them: there is a membership, a record and a cell of text for
//!   each.
//! * The **shared** part is for further rooms. A connection takes from it while it holds less than a quarter of what is free
//!   (Choudhury and Hahne 1998), all connections of its user together as far as their number is known here. So the
//!   connection with the most rooms is refused first, and one without a further room last.
//!
//! A room belongs to the shared part while it is a further room of any member, and to the guaranteed part else. The number
//! of rooms is thus at most that of guaranteed memberships and of shared rooms, whoever comes and goes: a room does not
//! become a further one when a member leaves. The first cell of a name comes with the record. The cells beyond it are
//! shared, whichever room it is.
//!
//! Only hosts refuse. A home has a record for whatever its hosts may hold ([`records_for`]).

use super::{MemberIndex, Room, RoomIndex, Rooms, SessionRooms};
use crate::session::text::TextStore;

/// Rooms that each connection can be in, whatever others hold.
pub const GUARANTEED_ROOMS: u8 = 2;

/// How many rooms a connection may be in.
#[derive(Clone, Copy, Debug)]
pub struct JoinLimit {
    /// When everything that it asked for is done.
    pub rooms_max: u8,
    /// Rooms that it leaves by then.
    pub leaving: u8,
    /// Connections of its user, itself included, as far as that is known: all of them count as one holder.
    pub sharers: u8,
}

impl JoinLimit {
    fn holders(self) -> usize {
        usize::from(self.sharers.max(1))
    }
}

/// The part of the tables that a membership comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One of the connection's first rooms.
    Guaranteed,
    /// A further one.
    Further,
}

/// Parts of what is free of which a holder may have one.
const PARTS: usize = 4;

/// Whether a holder of `held` may take `more`, where `left` are free.
fn is_fair(held: usize, more: usize, left: usize) -> bool {
    more <= left && PARTS * (held + more - 1) < left
}

/// Entries in use, and how many there may be.
#[derive(Clone, Copy, Debug)]
struct Level {
    used: usize,
    max: usize,
}

impl Level {
    fn left(self) -> usize {
        self.max.saturating_sub(self.used)
    }
}

/// What is taken of each part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Memberships that are one of their connections' guaranteed ones.
    guaranteed: Level,
    /// Other memberships.
    further: Level,
    /// Rooms that are a further one of any member.
    rooms: Level,
    /// Rooms with members here.
    hosted: usize,
}

impl Shares {
    /// Everything is shared.
    pub(super) fn of_all(memberships_max: usize, hosted_max: usize) -> Shares {
        Shares {
            guaranteed: Level { used: 0, max: 0 },
            further: Level { used: 0, max: memberships_max },
            rooms: Level { used: 0, max: hosted_max },
            hosted: 0,
        }
    }

    /// A membership in `room` was entered.
    pub(super) fn entered(&mut self, place: Place, room: &mut Room) {
        self.hosted += usize::from(room.local == 1);
        match place {
            Place::Guaranteed => self.guaranteed.used += 1,
            Place::Further => {
                self.further.used += 1;
                self.rooms.used += usize::from(room.further == 0);
                room.further += 1;
            }
        }
    }

    /// A membership in `room` has ended.
    pub(super) fn left(&mut self, place: Place, room: &mut Room) {
        self.hosted -= usize::from(room.local == 0);
        match place {
            Place::Guaranteed => self.guaranteed.used -= 1,
            Place::Further => self.no_longer_further(room),
        }
    }

    fn no_longer_further(&mut self, room: &mut Room) {
        self.further.used -= 1;
        room.further -= 1;
        self.rooms.used -= usize::from(room.further == 0);
    }
}

/// Records that a worker of `workers` needs where each hosts `hosted` rooms at most: for those, for the rooms of other hosts
/// whose home it is, and for rooms that have ended and wait for their fan-outs.
///
/// All other hosts together have `(workers - 1) * hosted` rooms at most, which a keyed hash spreads over the homes. Eight
/// standard deviations above the mean are never met.
pub fn records_for(hosted: usize, workers: usize) -> usize {
    let of_others = hosted * workers.saturating_sub(1) / workers.max(1);
    hosted + of_others + 8 * of_others.isqrt() + hosted / 32
}

/// Rooms with members on a worker at most, so that all homes have records for them: the inverse of [`records_for`].
pub fn hosted_max(rooms_max: usize, workers: usize) -> usize {
    let (mut most, mut too_many) = (rooms_max.min(1), rooms_max + 1);
    while most + 1 < too_many {
        let middle = most.midpoint(too_many);
        *(if records_for(middle, workers) <= rooms_max { &mut most } else { &mut too_many }) = middle;
    }
    most
}

/// The guaranteed part of a table of `max` entries: what so many connections need, but four fifths at most.
fn guaranteed_part(connections_max: usize, max: usize) -> usize {
    let needed = connections_max * usize::from(GUARANTEED_ROOMS);
    needed.min(max - max.div_ceil(5))
}

/// Entries that a table must have so that its guaranteed part is enough for so many connections.
pub fn entries_for(connections_max: usize) -> usize {
    (connections_max * usize::from(GUARANTEED_ROOMS) * 5).div_ceil(4)
}

impl Rooms {
    /// Guarantees [`GUARANTEED_ROOMS`] to each of so many connections, as far as the tables go. `names_max` are the rooms
    /// whose names have a cell.
    pub fn for_connections(mut self, connections_max: usize, names_max: usize) -> Rooms {
        let (memberships_max, hosted_max) = (self.shares.further.max, self.shares.rooms.max.min(names_max));
        let part = |max| guaranteed_part(connections_max, max);
        let guaranteed = part(memberships_max).min(part(hosted_max));
        self.shares.guaranteed.max = guaranteed;
        self.shares.further.max = memberships_max - guaranteed;
        self.shares.rooms.max = hosted_max - guaranteed;
        self
    }

    /// Where a membership of the connection in `room`, or in one without a record here, would come from; `None`: the
    /// connection has its share.
    pub(super) fn place_for(
        &self,
        room: Option<RoomIndex>,
        rooms: &SessionRooms,
        limit: JoinLimit,
    ) -> Option<Place> {
        let shares = &self.shares;
        let own = self.memberships(rooms).filter(|member| self.member(*member).is_guaranteed());
        if shares.guaranteed.left() > 0 && own.count() < usize::from(GUARANTEED_ROOMS) {
            return Some(Place::Guaranteed);
        }
        let keeps = rooms.count.saturating_sub(limit.leaving);
        let held = usize::from(keeps.saturating_sub(GUARANTEED_ROOMS)) * limit.holders();
        let is_shared = room.is_some_and(|room| self.rooms[room.0 as usize].further > 0);
        let has_record = is_shared || is_fair(held, 1, shares.rooms.left());
        (has_record && is_fair(held, 1, shares.further.left())).then_some(Place::Further)
    }

    /// Whether there is text for the name of a room that is new here. The first cell comes with the record; of the cells
    /// beyond it a connection has its share, those of all of its rooms counted.
    pub(super) fn has_text_for(
        &self,
        texts: &TextStore,
        key: &str,
        rooms: &SessionRooms,
        limit: JoinLimit,
    ) -> bool {
        let beyond = |cells: usize| cells.saturating_sub(1);
        let more = beyond(TextStore::cells_for(key));
        let names = self.memberships(rooms).map(|member| self.text(self.room_of(member)));
        more == 0 || {
            let held = names.map(|text| beyond(text.cells())).sum::<usize>() * limit.holders();
            is_fair(held, more, texts.room_cells_left())
        }
    }

    /// A guaranteed membership has ended: a further one of the same connection takes its place.
    pub(super) fn pass_guarantee(&mut self, rooms: &SessionRooms) {
        let heir = self.memberships(rooms).find(|member| !self.member(*member).is_guaranteed());
        let Some(MemberIndex(heir)) = heir else { return };
        let member = &mut self.members[heir as usize];
        member.set_guaranteed(true);
        self.shares.guaranteed.used += 1;
        self.shares.no_longer_further(&mut self.rooms[member.room().0 as usize]);
    }

    /// Used and all of what is shared: rooms, and memberships.
    pub fn shared_levels(&self) -> [(usize, usize); 2] {
        [self.shares.rooms, self.shares.further].map(|level| (level.used, level.max))
    }

    /// Memberships.
    pub fn memberships_len(&self) -> usize {
        self.shares.guaranteed.used + self.shares.further.used
    }

    /// The counts are those of the records, and none is above its part.
    pub(super) fn share_invariants(&self) {
        let Shares { guaranteed, further, rooms, hosted } = self.shares;
        let records = || self.rooms.iter().filter(|room| room.local > 0);
        assert_eq!(records().count(), hosted, "rooms with members here");
        assert_eq!(records().filter(|room| room.further > 0).count(), rooms.used, "shared rooms");
        let members = records().map(|room| room.further as usize).sum::<usize>();
        assert_eq!(members, further.used, "further memberships");
        for (level, what) in [(guaranteed, "guaranteed"), (further, "further"), (rooms, "rooms")] {
            assert!(level.used <= level.max, "{what}: {level:?}");
        }
        assert!(hosted <= guaranteed.max + rooms.max, "more rooms than their homes have records for");
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
