//! The tables of one worker: connections, texts, rooms, names, fan-outs.

use crate::address::Fingerprint;
use crate::address::WorkerId;
use crate::handler::Lingering;
use crate::router::rooms::RoomSizes;
use crate::router::{Directory, FanoutPlaces, Fanouts, HomeRooms, HostedRooms, ReceiptCounts};
use crate::session::text::TextStore;
use crate::session::{Sessions, User};
use crate::settings::TableSizes;
use netpoll::Backend;
use std::sync::Arc;

/// The tables of one worker: its connections' sessions, and its part of the directory of names and
/// rooms.
#[derive(Debug)]
pub struct Shard {
    /// Connections.
    pub sessions: Sessions,
    /// Keys, user ids, names of rooms.
    pub texts: TextStore,
    /// Rooms with members here.
    pub hosted_rooms: HostedRooms,
    /// Rooms with their home here.
    pub home_rooms: HomeRooms,
    /// Users and keys with their home here.
    pub directory: Directory,
    /// Messages on their way to many.
    pub fanouts: Fanouts,
    /// Outcomes that hosts report one by one.
    pub receipts: ReceiptCounts,
    /// Connections kept for a moment after their last word.
    pub lingering: Lingering,
}

impl Shard {
    /// Reserves all tables.
    pub(crate) fn with_capacity<B: Backend>(
        (me, places): (WorkerId, Arc<FanoutPlaces>),
        tables: &TableSizes,
        workers: usize,
        backend: &mut B,
    ) -> Shard {
        // A backend has more indexes than connections where some are for accepts in flight.
        let connections = tables.connections_max;
        let rooms = RoomSizes::of(tables.rooms_max, workers);
        let texts = TextStore::with_capacity(tables.text_cells_max, 2 * connections, rooms.hosted_max);
        Shard {
            sessions: Sessions::with_capacity(
                backend.index_bound(),
                tables.accept_sets_max,
                backend.pools().block_count(),
            ),
            home_rooms: HomeRooms::with_capacity(rooms.home_records, workers),
            hosted_rooms: HostedRooms::with_capacity(rooms, tables.memberships_max)
                .for_connections(connections, texts.room_names_max()),
            texts,
            directory: Directory::with_capacity(tables.names_max),
            fanouts: Fanouts::with_capacity(tables.fanouts(), me, places),
            receipts: ReceiptCounts::with_capacity(tables.outcomes_max()),
            lingering: Lingering::with_capacity(tables.connections_max),
        }
    }

    /// Members of the room on all workers, as far as this one knows: its home counts what hosts
    /// have reported, and a host what the home has sent it, and its own. `None` where it is
    /// neither.
    pub(crate) fn room_total(&self, name: Fingerprint) -> Option<u32> {
        let hosted = self.hosted_rooms.find(name).map(|room| self.hosted_rooms.total(room));
        let home = self.home_rooms.find(name).map(|room| self.home_rooms.total(room));
        hosted.max(home)
    }

    /// Returns the memory of tables that are empty.
    pub(crate) fn trim(&mut self) {
        self.sessions.trim();
        self.texts.trim();
        self.hosted_rooms.trim();
        self.home_rooms.trim();
        self.directory.trim();
        self.fanouts.trim();
        self.receipts.trim();
        self.lingering.trim();
    }

    /// Checks everything; takes time with the tables' size.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn invariants(&self) {
        self.sessions.invariants();
        self.texts.invariants();
        self.hosted_rooms.invariants();
        self.home_rooms.invariants();
        self.directory.invariants();
        self.fanouts.invariants(self.hosted_rooms.fanout_heads());
        self.receipts.invariants();
        let (mut memberships, mut cells) =
            (0, self.hosted_rooms.texts().map(|text| text.cells()).sum::<usize>());
        for session in (0..self.sessions.slots()).filter_map(|index| self.sessions.at(index)) {
            let connection = session.connection;
            let mut count = 0;
            for member in self.hosted_rooms.memberships(session.rooms()) {
                assert_eq!(
                    self.hosted_rooms.session_of(member),
                    connection.index() as u32,
                    "{connection:?}'s member"
                );
                count += 1;
            }
            assert_eq!(count, usize::from(session.rooms().count), "rooms of {connection:?}");
            if let Some(primary) = session.rooms().primary {
                let has = self.hosted_rooms.memberships(session.rooms()).any(|member| member == primary);
                assert!(has, "{connection:?} is not in its first room");
            }
            memberships += count;
            cells += session.key.cells() + session.grants().cells();
            if let User::Uid(uid) = session.user() {
                cells += uid.cells();
            }
        }
        assert_eq!(memberships, self.hosted_rooms.memberships_len(), "memberships of sessions and of rooms");
        assert_eq!(cells, self.texts.used_cells(), "texts of sessions and rooms, and cells in use");
        self.lingering.invariants(&self.sessions);
    }
}
