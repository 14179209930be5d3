//! A room's fan-outs: how many there are, and the members that the one under way has still to visit.

use super::{NONE, RoomIndex, Rooms};

fn count(number: &mut u16, more: bool) {
    *number = if more { number.saturating_add(1) } else { number.saturating_sub(1) };
}

impl Rooms {
    /// First and last fan-out of the room.
    pub(in crate::router) fn fanouts(&mut self, room: RoomIndex) -> &mut (u32, u32) {
        &mut self.rooms[room.0 as usize].fanouts
    }

    pub(in crate::router) fn count_queued(&mut self, room: RoomIndex, more: bool) {
        count(&mut self.rooms[room.0 as usize].queued, more);
    }

    /// Fan-outs of the room.
    pub fn queued(&self, room: RoomIndex) -> u32 {
        u32::from(self.rooms[room.0 as usize].queued)
    }

    /// One more of the room's pushes, or one less, waits behind its share of the fan-outs.
    pub fn count_heavy(&mut self, room: RoomIndex, more: bool) {
        count(&mut self.rooms[room.0 as usize].heavy, more);
    }

    /// Whether the room has its share of the fan-outs, or pushes that wait behind it.
    pub fn has_share(&self, room: RoomIndex, share: u32) -> bool {
        self.queued(room) >= share || self.rooms[room.0 as usize].heavy > 0
    }

    /// Begins to visit the members of the room.
    pub(in crate::router) fn begin_visit(&mut self, room: RoomIndex) {
        let record = &mut self.rooms[room.0 as usize];
        record.cursor = record.members;
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
