//! Routing of messages: the directory of users and keys, rooms, and the slicing of fan-outs.
//!
//! State is sharded by name: each user, key and room has a home worker that knows which workers
//! host its connections. See [`crate::message`] for the conversation between them.

pub mod directory;
pub mod fanout;
mod index_table;
pub mod places;
mod receipt_counts;
pub mod rooms;

pub use directory::{ClaimError, Directory};
pub use fanout::Fanouts;
pub use places::FanoutPlaces;
pub use receipt_counts::ReceiptCounts;
pub use rooms::{HomeRooms, HostedRooms};
