//! A room's fan-outs: their count, and the members that the one under way still has to visit.

use super::{HostedRooms, NONE, RoomIndex};

impl HostedRooms {
    /// First and last fan-out of the room.
    pub(in crate::router) fn fanouts(&mut self, room: RoomIndex) -> &mut (u32, u32) {
        &mut self.rooms[room.0 as usize].fanouts
    }

    /// Begins to visit the members of the room.
    pub(in crate::router) fn begin_visit(&mut self, room: RoomIndex) {
        let record = &mut self.rooms[room.0 as usize];
        record.cursor = record.members;
    }

    /// Where the visit is.
    pub(in crate::router) fn cursor(&self, room: RoomIndex) -> u32 {
        self.rooms[room.0 as usize].cursor
    }

    /// Goes on with the visit where it was before: no member has come or gone since.
    pub(in crate::router) fn set_cursor(&mut self, room: RoomIndex, cursor: u32) {
        self.rooms[room.0 as usize].cursor = cursor;
    }

    /// The session of the next member to visit.
    pub(in crate::router) fn visit(&mut self, room: RoomIndex) -> Option<u32> {
        let record = &mut self.rooms[room.0 as usize];
        let member = self.members.get(record.cursor as usize)?;
        record.cursor = member.next_in_room;
        Some(member.session)
    }

    /// The room has no more fan-outs.
    pub(in crate::router) fn fanouts_done(&mut self, room: RoomIndex) {
        self.rooms[room.0 as usize].cursor = NONE;
        self.free_if_unused(room);
    }
}
