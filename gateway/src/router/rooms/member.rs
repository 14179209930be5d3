//! A membership: one connection in one room, in 24 bytes. A million sessions in three rooms have three million.

use super::{NONE, RoomIndex};

/// What a new member waits for the home's answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Awaiting {
    /// Nothing: the membership is complete.
    Nothing,
    /// The reply to its Auth.
    Login,
    /// The reply to its Join.
    Join,
    /// The reply to its ChangeRoom.
    Change,
}

/// Rooms that a member's word can tell apart.
pub(super) const ROOMS_MAX: usize = 1 << 30;

/// One membership. Lists run through it: of its room, and of its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// The room in the lower 30 bits, what is awaited in the upper two.
    place: u32,
    /// Table index of the connection.
    pub(super) session: u32,
    pub(super) next_in_room: u32,
    pub(super) previous_in_room: u32,
    /// Next membership of the same connection, or the next free record.
    pub(super) next_in_session: u32,
    /// Of the request that waits.
    pub(super) sequence: i32,
}

const _: () = assert!(size_of::<Member>() == 24);

impl Member {
    /// The newest member of `room`, before `next`; awaits nothing.
    pub(super) fn new(room: RoomIndex, session: u32, next_in_room: u32, next_in_session: u32) -> Member {
        let place = room.0 & (ROOMS_MAX as u32 - 1);
        Member { place, session, next_in_room, previous_in_room: NONE, next_in_session, sequence: 0 }
    }

    /// The room.
    pub(super) fn room(&self) -> RoomIndex {
        RoomIndex(self.place & (ROOMS_MAX as u32 - 1))
    }

    /// What it waits with.
    pub(super) fn awaiting(&self) -> Awaiting {
        match self.place >> 30 {
            0 => Awaiting::Nothing,
            1 => Awaiting::Login,
            2 => Awaiting::Join,
            _ => Awaiting::Change,
        }
    }

    /// Notes what it waits with; returns what it waited with.
    pub(super) fn await_with(&mut self, awaiting: Awaiting) -> Awaiting {
        let before = self.awaiting();
        self.place = self.room().0 | (awaiting as u32) << 30;
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_keeps_its_room_and_what_it_waits_with_apart() {
        for room in [0, 5, ROOMS_MAX as u32 - 1] {
            let mut member = Member::new(RoomIndex(room), 1, NONE, NONE);
            assert_eq!((member.room(), member.awaiting()), (RoomIndex(room), Awaiting::Nothing));
            let mut before = Awaiting::Nothing;
            for awaiting in [Awaiting::Login, Awaiting::Join, Awaiting::Change, Awaiting::Nothing] {
                assert_eq!(member.await_with(awaiting), before);
                assert_eq!((member.room(), member.awaiting()), (RoomIndex(room), awaiting));
                before = awaiting;
            }
        }
    }
}
