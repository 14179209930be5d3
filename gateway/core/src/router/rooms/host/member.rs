//! A membership: one connection in one room, in 24 bytes. A million sessions in three rooms have
//! three million.

use super::room::{NONE, RoomIndex};
use super::shares::Place;

/// The request with which a new member waits for the home's answer.
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

/// Count of rooms that a member's word can distinguish.
pub(super) const ROOMS_MAX: usize = 1 << 29;
/// Bit of a membership that is guaranteed to its connection, whatever others hold.
const GUARANTEED: u32 = 1 << 29;
const AWAITING_SHIFT: u32 = 30;

/// One membership. Lists run through it: of its room, and of its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// The room in the lower 29 bits, [`GUARANTEED`], what is awaited in the upper two.
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
        match self.place >> AWAITING_SHIFT {
            0 => Awaiting::Nothing,
            1 => Awaiting::Login,
            2 => Awaiting::Join,
            _ => Awaiting::Change,
        }
    }

    /// Notes what it waits with; returns what it waited with.
    pub(super) fn await_with(&mut self, awaiting: Awaiting) -> Awaiting {
        let before = self.awaiting();
        let kept = self.place & !(u32::MAX << AWAITING_SHIFT);
        self.place = kept | (awaiting as u32) << AWAITING_SHIFT;
        before
    }

    /// Whether it is one of those that its connection has whatever others hold.
    pub(super) fn is_guaranteed(&self) -> bool {
        self.place & GUARANTEED != 0
    }

    /// Makes it one of those, or a further one.
    pub(super) fn set_guaranteed(&mut self, is_guaranteed: bool) {
        self.place = if is_guaranteed { self.place | GUARANTEED } else { self.place & !GUARANTEED };
    }

    /// From which part of the tables it is.
    pub(super) fn place(&self) -> Place {
        if self.is_guaranteed() { Place::Guaranteed } else { Place::Further }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_keeps_its_room_its_place_and_what_it_waits_with_apart() {
        for (room, guaranteed) in
            [0, 5, ROOMS_MAX as u32 - 1].into_iter().flat_map(|room| [(room, false), (room, true)])
        {
            let mut member = Member::new(RoomIndex(room), 1, NONE, NONE);
            assert!(!member.is_guaranteed(), "a new one is a further one");
            member.set_guaranteed(guaranteed);
            assert_eq!((member.room(), member.awaiting()), (RoomIndex(room), Awaiting::Nothing));
            let mut before = Awaiting::Nothing;
            for awaiting in [Awaiting::Login, Awaiting::Join, Awaiting::Change, Awaiting::Nothing] {
                assert_eq!(member.await_with(awaiting), before);
                assert_eq!((member.room(), member.awaiting()), (RoomIndex(room), awaiting));
                assert_eq!(member.is_guaranteed(), guaranteed);
                before = awaiting;
            }
            member.set_guaranteed(false);
            assert_eq!((member.room(), member.is_guaranteed()), (RoomIndex(room), false));
        }
    }
}
