//! Levels of the stores that connections share, and the thresholds from which clients are sent
//! elsewhere.
//!
//! A store is a table or pool of fixed size on one worker. Each worker writes its levels a few
//! times a second; the control thread reads them for `/metrics` and `/readyz`. A store that is new
//! gets a line in [`Store`] and one call of
//! [`StoreGauges::set`] in `worker/publish.rs`, and a row in ARCHITECTURE's table "Shared stores".

use super::counter::Gauge;

/// A store that connections of one worker share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Store {
    /// Places for connections.
    Connections,
    /// Pieces of send queues.
    SendPieces,
    /// Buffers to receive into.
    ReceiveBuffers,
    /// Blocks, of the size of which the fewest are free.
    Blocks,
    /// Rooms with a member on the worker.
    Rooms,
    /// Memberships of the worker's connections.
    Memberships,
    /// Users and keys with their home on the worker.
    Names,
    /// Cells of text for keys, user ids and names of rooms.
    Text,
    /// Different accept sets.
    AcceptSets,
    /// Places for fan-outs.
    Fanouts,
    /// Outcomes that hosts report one by one.
    Outcomes,
    /// Messages in the worker's mailbox.
    Mailbox,
    /// Rooms that are a further one of any member, beyond those that each connection is guaranteed.
    SharedRooms,
    /// Memberships beyond those that each connection is guaranteed.
    SharedMemberships,
    /// Cells of text beyond the first one of each text.
    SharedText,
    /// Clients' requests that wait for room in other workers' mailboxes.
    Outbox,
    /// What was sent and is not known to have arrived: segments on dpdk; on io_uring sends that the
    /// kernel has not confirmed.
    Segments,
    /// Received buffers with frames that wait for a later turn.
    Backlog,
    /// Rooms with their home on the worker.
    HomeRooms,
}

impl Store {
    /// All stores, in the order of their numbers.
    pub const ALL: [Store; 19] = [
        Store::Connections,
        Store::SendPieces,
        Store::ReceiveBuffers,
        Store::Blocks,
        Store::Rooms,
        Store::Memberships,
        Store::Names,
        Store::Text,
        Store::AcceptSets,
        Store::Fanouts,
        Store::Outcomes,
        Store::Mailbox,
        Store::SharedRooms,
        Store::SharedMemberships,
        Store::SharedText,
        Store::Outbox,
        Store::Segments,
        Store::Backlog,
        Store::HomeRooms,
    ];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Store::Connections => "connections",
            Store::SendPieces => "send_pieces",
            Store::ReceiveBuffers => "receive_buffers",
            Store::Blocks => "blocks",
            Store::Rooms => "rooms",
            Store::Memberships => "memberships",
            Store::Names => "names",
            Store::Text => "text",
            Store::AcceptSets => "accept_sets",
            Store::Fanouts => "fanouts",
            Store::Outcomes => "outcomes",
            Store::Mailbox => "mailbox",
            Store::SharedRooms => "shared_rooms",
            Store::SharedMemberships => "shared_memberships",
            Store::SharedText => "shared_text",
            Store::Outbox => "outbox",
            Store::Segments => "segments",
            Store::Backlog => "backlog",
            Store::HomeRooms => "home_rooms",
        }
    }

    /// From how many percent on the store is nearly full, which the log and the journal say; `None`
    /// where that is no news: what a full one refuses is one request, or it empties by itself.
    pub const fn nearly_full_percent(self) -> Option<u64> {
        match self {
            // A worker may hold as many as were planned, so only the last place counts.
            Store::Connections => Some(100),
            // Pushes leave an eighth to replies, so the rest is full below that.
            Store::SendPieces => Some(85),
            Store::ReceiveBuffers | Store::Blocks => Some(90),
            // Sized by the connections: full tables of a worker with all of its connections are as
            // planned.
            Store::Rooms | Store::HomeRooms | Store::Memberships | Store::Names | Store::Text => Some(97),
            // Workers leave an eighth to the control thread.
            Store::Mailbox => Some(85),
            Store::Outbox | Store::Fanouts => Some(90),
            Store::SharedText => Some(97),
            // Connections are refused a further room there; their first ones are guaranteed.
            Store::SharedRooms | Store::SharedMemberships => None,
            // Connections wait for their own acknowledgements.
            Store::Segments => None,
            Store::AcceptSets | Store::Outcomes => None,
            // A full one refuses nothing, and empties by itself.
            Store::Backlog => None,
        }
    }

    /// On how many of `workers` the store has to be nearly full before new clients are better
    /// served elsewhere; `None`: it never keeps a new client out.
    pub const fn workers_until_unready(self, workers: usize) -> Option<usize> {
        match self {
            // A client that the kernel gives to a full worker waits in its backlog, and no client
            // chooses its worker.
            Store::Connections => Some(1),
            // What is beyond the parts that each connection is guaranteed.
            Store::SharedRooms | Store::SharedMemberships | Store::SharedText => None,
            _ if self.nearly_full_percent().is_none() => None,
            // A few connections of one worker can do that, and it relieves itself; most clients go
            // to others.
            _ => Some(workers / 2 + 1),
        }
    }

    /// What `/readyz` says while the store is nearly full.
    pub const fn unready_reason(self) -> &'static str {
        match self {
            Store::Connections => "all places for connections of a worker are taken (limits.connections_max)",
            Store::SendPieces => {
                "the store of pieces to send is nearly full (limits.send_pieces_per_worker_max)"
            }
            Store::ReceiveBuffers => {
                "nearly all receive buffers are held (memory.receive_buffers_per_worker)"
            }
            Store::Blocks => "nearly all blocks of one size are held",
            Store::Rooms => "the table of rooms is nearly full (limits.rooms_per_worker_max)",
            Store::HomeRooms => {
                "the table of rooms at their home is nearly full (limits.rooms_per_worker_max)"
            }
            Store::Memberships => {
                "the table of memberships is nearly full (limits.memberships_per_worker_max)"
            }
            Store::Names => "the directory of users and keys is nearly full (limits.connections_max)",
            Store::Text => "the table of text is nearly full (limits.text_bytes_per_worker_max)",
            Store::AcceptSets => "the table of accept sets is full",
            Store::Fanouts => {
                "pushes to rooms wait in numbers: clients do not take what they are sent as fast as it comes"
            }
            Store::Outcomes => "the table of outcomes is full",
            Store::SharedRooms => {
                "a worker has nearly as many further rooms as it may (limits.rooms_per_worker_max)"
            }
            Store::SharedMemberships => {
                "a worker has nearly as many further memberships as it may (limits.memberships_per_worker_max)"
            }
            Store::SharedText => {
                "the text that rooms and long names share is nearly used up (limits.text_bytes_per_worker_max)"
            }
            Store::Outbox => {
                "clients' requests wait in numbers for a worker whose mailbox is full (limits.mailbox_messages_max)"
            }
            Store::Segments => "the store of segments in flight is nearly full",
            Store::Mailbox => "a worker's mailbox is nearly full (limits.mailbox_messages_max)",
            Store::Backlog => "much of what was received waits for a later turn",
        }
    }
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLevel {
    /// Entries in use.
    pub used: u64,
    /// Entries that the store has; 0: the worker has no such store.
    pub max: u64,
}

impl StoreLevel {
    /// Whether at least `percent` of the entries are in use.
    pub const fn is_at(self, percent: u64) -> bool {
        self.max > 0 && self.used as u128 * 100 >= self.max as u128 * percent as u128
    }

    /// Share in use, from 0.
    pub fn share(self) -> f64 {
        self.used as f64 / self.max.max(1) as f64
    }
}

/// The levels of one worker's stores, readable from any thread.
#[derive(Debug, Default)]
pub struct StoreGauges {
    used: [Gauge; Store::ALL.len()],
    max: [Gauge; Store::ALL.len()],
}

impl StoreGauges {
    /// Writes the level of a store.
    pub fn set(&self, store: Store, used: usize, max: usize) {
        self.used[store as usize].set(used as u64);
        self.max[store as usize].set(max as u64);
    }

    /// The level of a store that was written last.
    pub fn level(&self, store: Store) -> StoreLevel {
        StoreLevel { used: self.used[store as usize].get(), max: self.max[store as usize].get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_is_at_the_place_of_its_number() {
        for (index, store) in Store::ALL.into_iter().enumerate() {
            assert_eq!(store as usize, index, "{store:?}");
        }
        let mut labels = Store::ALL.map(Store::label).to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Store::ALL.len());
    }

    #[test]
    fn a_level_is_compared_without_rounding() {
        let level = |used, max| StoreLevel { used, max };
        assert!(level(9, 10).is_at(90) && !level(89, 99).is_at(90) && level(90, 100).is_at(90));
        assert!(!level(0, 0).is_at(90), "a worker without the store is not full");
        assert!(level(u64::MAX, u64::MAX).is_at(100));
    }
}
