//! Invariants of the hosted rooms between two messages.

use super::{Flags, HostedRooms, NONE, Room, RoomIndex};

impl HostedRooms {
    /// The invariants in the module's text, and that every record is in exactly one list.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn invariants(&self) {
        self.table.invariants();
        let mut members = 0;
        let mut rooms = 0;
        for (index, room) in self.rooms.iter().enumerate().filter(|(_, room)| room.flags.has(Flags::IN_USE)) {
            rooms += 1;
            assert_eq!(self.find(room.name), Some(RoomIndex(index as u32)), "a room is found by its name");
            members += self.member_list(index as u32);
            self.counts(index);
            assert!(room.cursor == NONE || room.fanouts.0 != NONE, "room {index} is visited for no fan-out");
            assert_eq!(
                room.fanouts.0 == NONE,
                room.fanouts.1 == NONE,
                "first and last fan-out of room {index}"
            );
        }
        assert_eq!(rooms, self.table.len(), "rooms in use and names of rooms");
        assert_eq!(members, self.memberships_len(), "members of all rooms and memberships");
        self.share_invariants();
        let free = self.free_list(self.rooms.len(), self.free_room, |index| self.rooms[index].members);
        assert_eq!(rooms + free, self.rooms.len(), "rooms in use and free ones");
        let next = |index: usize| self.members[index].next_in_session;
        let free = self.free_list(self.members.len(), self.free_member, next);
        assert_eq!(members + free, self.members.len(), "members in use and free ones");
        let is_dirty = |room: &Room| room.flags.has(Flags::COUNT_DIRTY);
        let listed = self.count_dirty.iter().map(|room| &self.rooms[room.0 as usize]);
        assert!(listed.clone().all(is_dirty), "a listed room has its flag");
        let in_use = self.rooms.iter().filter(|room| room.flags.has(Flags::IN_USE));
        let flagged = in_use.filter(|room| is_dirty(room)).count();
        assert_eq!(listed.len(), flagged, "a flagged room is listed, once");
    }

    /// The list goes both ways, is as long as `local` says, and has only members of the room.
    fn member_list(&self, room: u32) -> usize {
        let (mut previous, mut index, mut count) = (NONE, self.rooms[room as usize].members, 0);
        let mut further = 0;
        while let Some(member) = self.members.get(index as usize) {
            assert_eq!((member.room().0, member.previous_in_room), (room, previous), "member {index}");
            further += u32::from(!member.is_guaranteed());
            count += 1;
            assert!(count <= self.memberships_len(), "the members of room {room} go round in circles");
            (previous, index) = (index, member.next_in_room);
        }
        let record = &self.rooms[room as usize];
        assert_eq!((count, further), (record.local as usize, record.further), "members of room {room}");
        count
    }

    /// A record has a reason to be there.
    fn counts(&self, index: usize) {
        let room = &self.rooms[index];
        let needed = room.local > 0 || room.fanouts.0 != NONE || room.flags.has(Flags::COUNT_DIRTY);
        assert!(needed, "room {index} is of no use");
        assert_eq!(room.local == 0, room.text.is_none(), "the key of room {index}");
    }

    fn free_list(&self, bound: usize, first: u32, next: impl Fn(usize) -> u32) -> usize {
        let (mut index, mut count) = (first, 0);
        while index != NONE {
            count += 1;
            assert!(count <= bound, "a free list goes round in circles");
            index = next(index as usize);
        }
        count
    }
}
