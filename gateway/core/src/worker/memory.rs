//! What a worker reserves at its start, as a sum of addends that name their owners.
//!
//! Reserved means address space: a page becomes resident when it is first used, so an empty worker
//! is small and grows with its connections up to the sum.

use crate::handler::{Backlog, Held, Lingering};
use crate::message::Message;
use crate::router::rooms::RoomSizes;
use crate::router::{Directory, FanoutPlaces, Fanouts, HomeRooms, HostedRooms, ReceiptCounts};
use crate::session::text::TextStore;
use crate::session::{PartialFrames, Sessions};
use crate::settings::TableSizes;
use netpoll::BackendConfig;

/// An addend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its owner, for people.
    pub owner: &'static str,
    /// Bytes of address space.
    pub bytes: usize,
}

/// Bytes of user space that one idle session with a user id and `rooms` memberships holds, in the
/// tables of the gateway and of its backend. A key of its own (of at most 36 bytes) takes
/// `KEY_BYTES` more; one that the server made, nothing.
pub const fn session_bytes(rooms: usize) -> usize {
    netpoll::CONNECTION_BYTES_MAX
        + Sessions::BYTES_PER_CONNECTION
        + Directory::BYTES_PER_NAME
        + rooms * HostedRooms::BYTES_PER_MEMBERSHIP
}

/// Bytes that a key takes which a client brought, at most 36 characters long.
const KEY_BYTES: usize = TextStore::CELL_BYTES + Directory::BYTES_PER_NAME;

// The budget of one idle authenticated connection (DESIGN: at most 512 bytes), with three rooms.
const _: () = assert!(session_bytes(3) + KEY_BYTES <= 512);

/// What a connection takes in the gateway, part by part, for docs/memory.md: name and bytes.
pub const SIZES: &[(&str, usize)] = &[
    ("session", size_of::<crate::session::Session>()),
    ("session: names", crate::session::FIELD_BYTES.names),
    ("session: bytes that have not come whole", crate::session::FIELD_BYTES.incoming),
    ("session: rooms", crate::session::FIELD_BYTES.rooms),
    ("session: times and sequence", crate::session::FIELD_BYTES.times),
    ("session: rate", crate::session::FIELD_BYTES.rate),
    ("session: peer", crate::session::FIELD_BYTES.peer),
    ("session: the rest", crate::session::FIELD_BYTES.rest),
    ("directory entry", Directory::BYTES_PER_NAME),
    ("directory record", Directory::BYTES_PER_RECORD),
    ("index entry", Directory::BYTES_PER_NAME - Directory::BYTES_PER_RECORD),
    ("further connection of a name", Directory::BYTES_PER_FURTHER),
    ("membership", HostedRooms::BYTES_PER_MEMBERSHIP),
    ("room at a host", HostedRooms::BYTES_PER_ROOM),
    ("room at its home, up to 64 workers", HomeRooms::bytes_per_room(64)),
    ("room at its home, 65 to 128 workers", HomeRooms::bytes_per_room(128)),
    ("text cell", TextStore::CELL_BYTES),
    ("partial frame entry", size_of::<netpoll::ConnectionId>()),
    ("key of its own", KEY_BYTES),
    ("idle session", session_bytes(0)),
    ("idle session in three rooms", session_bytes(3)),
    ("fan-out", Fanouts::BYTES_PER_FANOUT),
    ("outcome", ReceiptCounts::BYTES_PER_SUM),
    ("message", size_of::<Message>()),
    ("place in a mailbox", netpoll::mailbox_bytes::<Message>()),
];

/// What one worker reserves besides its pools and its mailbox.
pub fn memory_plan(tables: &TableSizes, workers: usize, backend: &BackendConfig) -> Vec<Reservation> {
    let addend = |owner, bytes| Reservation { owner, bytes };
    let rooms = RoomSizes::of(tables.rooms_max, workers);
    let blocks = backend.pools.blocks.iter().map(|pool| pool.count as usize).sum();
    vec![
        addend("connections", tables.connections_max * netpoll::CONNECTION_BYTES_MAX),
        addend("send queues", (tables.connections_max + backend.send_pieces_shared) * netpoll::PIECE_BYTES),
        addend(
            "sessions and timers",
            tables.connections_max * Sessions::BYTES_PER_CONNECTION
                + PartialFrames::bytes(blocks)
                + Lingering::bytes(tables.connections_max),
        ),
        addend("names", tables.text_cells_max * TextStore::CELL_BYTES),
        addend("directory", tables.names_max * (Directory::BYTES_PER_NAME + Directory::BYTES_PER_FURTHER)),
        addend(
            "rooms",
            rooms.hosted_records * HostedRooms::BYTES_PER_ROOM
                + rooms.home_records * HomeRooms::bytes_per_room(workers)
                + tables.memberships_max * HostedRooms::BYTES_PER_MEMBERSHIP,
        ),
        addend(
            "fan-outs",
            tables.fanouts().total() * Fanouts::BYTES_PER_FANOUT + FanoutPlaces::BYTES_PER_WORKER,
        ),
        addend("outcomes", tables.outcomes_max() * ReceiptCounts::BYTES_PER_SUM),
        // Messages that wait for room in others' mailboxes, the worker's messages to itself, the
        // senders that are left unread meanwhile, or until they read their answers, and what was
        // received and waits for a later turn.
        addend(
            "waiting messages",
            crate::outbox::reserved_bytes(tables.mailbox_capacity)
                + tables.mailbox_capacity * Held::BYTES_PER_POST
                + tables.connections_max * Held::BYTES_PER_CONNECTION
                + Backlog::bytes(backend.pools.receive.count),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_in_three_rooms_fits_its_budget() {
        // Exact, so that growth is a decision: user space for one idle authenticated connection.
        assert_eq!((session_bytes(0), KEY_BYTES), (327, 83));
        assert_eq!(session_bytes(3), 399);
    }

    #[test]
    fn the_plan_names_what_is_reserved() {
        let tables = TableSizes::for_connections(20_000, 4);
        let plan = memory_plan(&tables, 4, &BackendConfig::small(20_000));
        let total: usize = plan.iter().map(|addend| addend.bytes).sum();
        assert!(plan.iter().all(|addend| addend.bytes > 0 && !addend.owner.is_empty()));
        assert!(total < 64 << 20, "{total}");
    }
}
