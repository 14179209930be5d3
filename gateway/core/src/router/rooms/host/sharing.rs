//! How rooms and memberships that connections share are given out ([`super::shares`] has the
//! rules).

use super::super::sizes::GUARANTEED_ROOMS;
use super::shares::{JoinLimit, Place, Shares, guaranteed_part, is_fair};
use super::{HostedRooms, MemberIndex, RoomIndex, SessionRooms};
use crate::session::text::TextStore;

impl HostedRooms {
    /// Guarantees [`GUARANTEED_ROOMS`] to each of so many connections, as far as the tables go.
    /// `names_max` is the count of rooms that have a cell for their name.
    pub fn for_connections(mut self, connections_max: usize, names_max: usize) -> HostedRooms {
        let (memberships_max, hosted_max) = (self.shares.further.max, self.shares.rooms.max.min(names_max));
        let part = |max| guaranteed_part(connections_max, max);
        let guaranteed = part(memberships_max).min(part(hosted_max));
        self.shares.guaranteed.max = guaranteed;
        self.shares.further.max = memberships_max - guaranteed;
        self.shares.rooms.max = hosted_max - guaranteed;
        self
    }

    /// Where a membership of the connection in `room`, or in one without a record here, would come
    /// from; `None`: the connection has its share.
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

    /// Whether there is text for the name of a room that is new here. The first cell comes with the
    /// record; of the cells beyond it a connection has its share, those of all of its rooms
    /// counted.
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

    /// Entries used and in all of the shared parts: rooms, and memberships.
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

    /// How many rooms a connection leaves when all of its requests so far are answered, the one at
    /// hand included that enters a room `instead` of its first; and whether a ChangeRoom waits.
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
