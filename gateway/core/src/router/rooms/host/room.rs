//! The record of a hosted room, and what a session keeps of its rooms.

use crate::address::Fingerprint;
use crate::session::text::TextId;

pub(super) const NONE: u32 = u32::MAX;

/// A room with a record at this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomIndex(pub u32);

/// A membership: one connection in one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberIndex(pub u32);

#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) name: Fingerprint,
    pub(super) text: TextId,
    /// First member; while the record is free, the next free record.
    pub(super) members: u32,
    pub(super) local: u32,
    /// Members for which the room is not one of their guaranteed ones.
    pub(super) further: u32,
    /// The count that was sent to the home last.
    pub(super) reported: u32,
    /// The home's total that came here last.
    pub(super) total: u32,
    /// The first member that the fan-out under way has not served.
    pub(super) cursor: u32,
    /// Number of this host's appearance in the room that the home must answer.
    pub(super) appearance: u32,
    /// First and last fan-out of this room, by index in `Fanouts`.
    pub(super) fanouts: (u32, u32),
    pub(super) flags: Flags,
}

const _: () = assert!(size_of::<Room>() == 64);

/// Bits of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) const NONE: Flags = Flags(0);
    pub(super) const IN_USE: Flags = Flags(1);
    /// The home knows of members here.
    pub(super) const READY: Flags = Flags(2);
    /// In the list of rooms with a local count to send to the home.
    pub(super) const COUNT_DIRTY: Flags = Flags(4);

    /// Whether any of `flags` is set.
    pub(super) fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }

    /// Sets a flag or clears it; returns whether it was set.
    pub(super) fn set(&mut self, flag: Flags, on: bool) -> bool {
        let was = self.has(flag);
        self.0 = if on { self.0 | flag.0 } else { self.0 & !flag.0 };
        was
    }
}

/// A connection's memberships: a list, and which of them is goim's one room.
#[derive(Clone, Copy, Debug)]
pub struct SessionRooms {
    pub(super) head: u32,
    /// The room of Auth and ChangeRoom; heartbeats report its size.
    pub primary: Option<MemberIndex>,
    /// Memberships.
    pub count: u8,
    /// Why the room of its Auth frame was not entered, if it was not; an Error follows the reply.
    pub refused: Option<RoomRefusal>,
    /// The first room was joined again while a ChangeRoom that leaves it waits for its home: it is
    /// kept.
    pub keeps_first: bool,
}

impl SessionRooms {
    /// None.
    pub const EMPTY: SessionRooms =
        SessionRooms { head: NONE, primary: None, count: 0, refused: None, keeps_first: false };
}

/// Why the room of a login was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomRefusal {
    /// A table is full.
    Full,
    /// The client may not enter it.
    Forbidden,
}

/// Why a connection cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It is in the room already.
    Already(MemberIndex),
    /// It is in as many rooms as it may.
    TooMany,
    /// This worker's tables are full.
    Full,
}
