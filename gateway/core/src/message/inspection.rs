//! A list that the control thread asks a worker to fill: connections or rooms.
//!
//! ```text
//!   control: Inspection::new(…) with all its room ── Message::Inspect ──► worker: rows, finish
//!   control: answers the request     ◄── ControlMessage::Inspected ──────────┘
//! ```
//!
//! The box is made and freed by the control thread. The worker only writes rows of fixed size into
//! room that is there already, so inspecting allocates nothing. A worker looks at no more than
//! [`SLOTS_PER_VISIT_MAX`] slots of its table a visit and says where it stopped: the control thread
//! comes back for the rest, and no turn grows with the table.

use crate::address::{Address, Fingerprint, WorkerId};
use crate::inline_text::InlineText;
use netpoll::ConnectionId;
use std::net::SocketAddr;

/// Slots of a worker's tables that one visit looks at, at most.
pub const SLOTS_PER_VISIT_MAX: usize = 8 * 1024;

/// Rows of one inspection at most.
pub const ROWS_MAX: usize = 1000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Connections in the order of their slots, from slot `from` on.
    Connections {
        /// The first slot to look at.
        from: usize,
        /// Only those of this user.
        user: Option<Fingerprint>,
        /// Only the one with this key.
        key: Option<Fingerprint>,
    },
    /// One connection.
    Connection(ConnectionId),
    /// Rooms in the order of their slots, from slot `from` on.
    Rooms {
        /// The first slot to look at.
        from: usize,
    },
    /// One room.
    Room(Fingerprint),
}

/// A connection, as its worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRow {
    /// Which connection.
    pub address: Address,
    /// Number of its listener, in the order of the settings.
    pub listener: u8,
    /// Whether it has logged in.
    pub authenticated: bool,
    /// goim's user id; 0: none.
    pub mid: i64,
    /// User id as text; empty: none.
    pub uid: InlineText<128>,
    /// Connection key; empty: none.
    pub key: InlineText<128>,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Time since it was accepted.
    pub connected_ms: u64,
    /// Time since it was last heard of.
    pub idle_ms: u64,
    /// Rooms that it is in.
    pub rooms: u32,
    /// Bytes queued that its socket has not taken.
    pub queued_bytes: u64,
    /// Operations that it accepts.
    pub accepts: u32,
}

/// A room, as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub struct RoomRow {
    /// The room.
    pub room: Fingerprint,
    /// Its key; empty on a worker that has no members and so never heard it.
    pub name: InlineText<255>,
    /// Members on this worker.
    pub local_members: u32,
    /// Members everywhere, as far as this worker knows; exact at the room's home.
    pub total_members: u32,
}

/// A question to one worker, and room for its answer.
#[derive(Debug)]
pub struct Inspection {
    /// Number of the request.
    ticket: u64,
    /// The worker that is asked.
    worker: WorkerId,
    query: Query,
    /// Capacity `limit` for queries about connections, else 0; never grows.
    connections: Vec<ConnectionRow>,
    /// Capacity `limit` for queries about rooms, else 0; never grows.
    rooms: Vec<RoomRow>,
    /// Rows at most.
    limit: usize,
    /// Where the next visit goes on.
    next: Option<usize>,
}

impl Inspection {
    /// A question with room for `limit` rows (at most [`ROWS_MAX`]).
    pub fn new(ticket: u64, worker: WorkerId, query: Query, limit: usize) -> Box<Inspection> {
        let limit = limit.min(ROWS_MAX);
        let (connections, rooms) = match query {
            Query::Connections { .. } => (limit, 0),
            Query::Connection(_) => (limit.min(1), 0),
            Query::Rooms { .. } => (0, limit),
            Query::Room(_) => (0, limit.min(1)),
        };
        Box::new(Inspection {
            ticket,
            worker,
            query,
            connections: Vec::with_capacity(connections),
            rooms: Vec::with_capacity(rooms),
            limit: connections.max(rooms),
            next: None,
        })
    }

    /// Number of the request.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// The worker that was asked.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// What is asked.
    pub fn query(&self) -> Query {
        self.query
    }

    /// Whether no further row fits.
    pub fn is_full(&self) -> bool {
        self.connections.len().max(self.rooms.len()) >= self.limit
    }

    /// Adds a connection. Returns false, and keeps nothing, when it is full or asks for rooms.
    pub fn push_connection(&mut self, row: ConnectionRow) -> bool {
        let fits = self.connections.len() < self.connections.capacity().min(self.limit);
        if fits {
            self.connections.push(row);
        }
        fits
    }

    /// Adds a room. Returns false, and keeps nothing, when it is full or asks for connections.
    pub fn push_room(&mut self, row: RoomRow) -> bool {
        let fits = self.rooms.len() < self.rooms.capacity().min(self.limit);
        if fits {
            self.rooms.push(row);
        }
        fits
    }

    /// Says where the next visit has to go on; `None` when there is nothing more.
    pub fn finish(&mut self, next: Option<usize>) {
        self.next = next;
    }

    /// Where the next visit goes on.
    pub fn next(&self) -> Option<usize> {
        self.next
    }

    /// The connections found.
    pub fn connections(&self) -> &[ConnectionRow] {
        &self.connections
    }

    /// The rooms found.
    pub fn rooms(&self) -> &[RoomRow] {
        &self.rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Fingerprints;

    #[test]
    fn rows_never_grow_the_room_that_was_reserved() {
        let room = Fingerprints::new((1, 2)).room("a");
        let mut inspection = Inspection::new(7, WorkerId(1), Query::Rooms { from: 0 }, 2);
        let row = RoomRow { room, name: InlineText::truncated("a"), local_members: 1, total_members: 1 };
        let capacity = inspection.rooms.capacity();
        assert!(inspection.push_room(row) && !inspection.is_full());
        assert!(inspection.push_room(row) && inspection.is_full());
        assert!(!inspection.push_room(row));
        assert_eq!(inspection.rooms.capacity(), capacity);
        inspection.finish(Some(3));
        assert_eq!((inspection.rooms().len(), inspection.next()), (2, Some(3)));
    }
}
