//! The tables of one worker: connections, texts, rooms, names, fan-outs.

use crate::address::WorkerId;
use crate::handler::Lingering;
use crate::router::{Directory, FanoutPlaces, Fanouts, ReceiptCounts, Rooms, rooms};
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
    /// Rooms.
    pub rooms: Rooms,
    /// Users and keys whose home this is.
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
        let names_max = rooms::hosted_max(tables.rooms_max, workers);
        let texts = TextStore::with_capacity(tables.text_cells_max, 2 * connections, names_max);
        Shard {
            sessions: Sessions::with_capacity(
                backend.index_bound(),
                tables.accept_sets_max,
                backend.pools().block_count(),
            ),
            rooms: Rooms::with_capacity(tables.rooms_max, tables.memberships_max, workers)
                .for_connections(connections, texts.room_names_max()),
            texts,
            directory: Directory::with_capacity(tables.names_max),
            fanouts: Fanouts::with_capacity(tables.fanouts(), me, places),
            receipts: ReceiptCounts::with_capacity(tables.sums_max()),
            lingering: Lingering::with_capacity(tables.connections_max),
        }
    }

    /// Returns the memory of tables that are empty.
    pub(crate) fn trim(&mut self) {
        self.sessions.trim();
        self.texts.trim();
        self.rooms.trim();
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
        self.rooms.invariants();
        self.directory.invariants();
        self.fanouts.invariants(self.rooms.fanout_heads());
        self.receipts.invariants();
        let (mut memberships, mut cells) = (0, self.rooms.texts().map(|text| text.cells()).sum::<usize>());
        for session in (0..self.sessions.slots()).filter_map(|index| self.sessions.at(index)) {
            let connection = session.connection;
            let mut count = 0;
            for member in self.rooms.memberships(session.rooms()) {
                assert_eq!(
                    self.rooms.session_of(member),
                    connection.index() as u32,
                    "{connection:?}'s member"
                );
                count += 1;
            }
            assert_eq!(count, usize::from(session.rooms().count), "rooms of {connection:?}");
            if let Some(primary) = session.rooms().primary {
                let has = self.rooms.memberships(session.rooms()).any(|member| member == primary);
                assert!(has, "{connection:?} is not in its first room");
            }
            memberships += count;
            cells += session.key.cells() + session.grants().cells();
            if let User::Uid(uid) = session.user() {
                cells += uid.cells();
            }
        }
        assert_eq!(memberships, self.rooms.memberships_len(), "memberships of sessions and of rooms");
        assert_eq!(cells, self.texts.used_cells(), "texts of sessions and rooms, and cells in use");
        self.lingering.invariants(&self.sessions);
    }
}
