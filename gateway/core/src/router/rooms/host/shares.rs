//! Shares of connections in the tables of rooms, memberships and names of rooms.
//!
//! Each table of a worker has two parts (decision 0023):
//!
//! * The **guaranteed** part is as large as all connections times [`GUARANTEED_ROOMS`]. A
//!   connection's first rooms come from it, so nothing that others hold keeps a connection from
//!   them: there is a membership, a record and a cell of text for each.
//! * The **shared** part is for further rooms. A connection takes from it while it holds less than
//!   a quarter of what is free (Choudhury and Hahne 1998), all connections of its user together as
//!   far as their number is known here. So the connection with the most rooms is refused first, and
//!   one without a further room last.
//!
//! A room belongs to the shared part while it is a further room of any member, and to the
//! guaranteed part else. The number of rooms is thus at most that of guaranteed memberships and of
//! shared rooms, whichever members come and go: a room does not become a further one when a member
//! leaves. The first cell of a name comes with the record. The cells beyond it are shared,
//! whichever room it is.
//!
//! Only hosts refuse. A home has a record for whatever its hosts may hold (`rooms::sizes`).

use super::super::sizes::GUARANTEED_ROOMS;
use super::room::Room;

/// How many rooms a connection may be in.
#[derive(Clone, Copy, Debug)]
pub struct JoinLimit {
    /// When everything that it asked for is done.
    pub rooms_max: u8,
    /// Rooms that it leaves by then.
    pub leaving: u8,
    /// Connections of its user, itself included, as far as that is known: all of them count as one
    /// holder.
    pub sharers: u8,
}

impl JoinLimit {
    pub(super) fn holders(self) -> usize {
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
pub(super) fn is_fair(held: usize, more: usize, left: usize) -> bool {
    more <= left && PARTS * (held + more - 1) < left
}

/// Entries in use, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) used: usize,
    pub(super) max: usize,
}

impl Level {
    pub(super) fn left(self) -> usize {
        self.max.saturating_sub(self.used)
    }
}

/// What is taken of each part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// Memberships that are one of their connections' guaranteed ones.
    pub(super) guaranteed: Level,
    /// Other memberships.
    pub(super) further: Level,
    /// Rooms that are a further one of any member.
    pub(super) rooms: Level,
    /// Rooms with members here.
    pub(super) hosted: usize,
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

    pub(super) fn no_longer_further(&mut self, room: &mut Room) {
        self.further.used -= 1;
        room.further -= 1;
        self.rooms.used -= usize::from(room.further == 0);
    }
}

/// The guaranteed part of a table of `max` entries: what so many connections need, but four fifths
/// at most.
pub(super) fn guaranteed_part(connections_max: usize, max: usize) -> usize {
    let needed = connections_max * usize::from(GUARANTEED_ROOMS);
    needed.min(max - max.div_ceil(5))
}
