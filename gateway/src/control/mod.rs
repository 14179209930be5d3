//! The control thread: everything that is not a client connection.

mod inspection;

pub use inspection::{ConnectionRow, Inspection, Query, ROWS_MAX, RoomRow, SLOTS_PER_VISIT_MAX};
