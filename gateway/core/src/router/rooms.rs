//! Rooms, in the two roles of a worker: as the host of members ([`HostedRooms`]), and as the home
//! of rooms ([`HomeRooms`]). The two share no state. A worker that has both roles for a room has a
//! record in each, and speaks to itself as to any other worker:
//!
//! ```text
//!   HostedRooms at each host                     HomeRooms at the room's home
//!   members, their count, the count reported ─── RoomMembers ────► which hosts have members, total
//!   the last total heard, whether it is ready ◄── RoomReady, RoomTotal ──┘
//!   fan-outs to the members ◄───────────────────── DeliverRoom ──── ToRoom ◄── origin
//! ```
//!
//! A member that joins a room of which the home does not know this host yet waits for the home's
//! answer: only then is it sure that the next message reaches it.

mod home;
mod host;
#[cfg(test)]
mod share_tests;
mod sizes;

pub use home::{HomeRoom, HomeRooms};
pub use host::{
    Awaiting, HostedRooms, JoinError, JoinLimit, MemberIndex, RoomIndex, RoomRefusal, SessionRooms,
};
pub use sizes::{GUARANTEED_ROOMS, RoomSizes, entries_for, hosted_max, records_for};
