//! The control thread: everything that is not a client connection.

mod inspection;

pub use inspection::{ConnectionRow, Inspection, Query, ROWS_MAX, RoomRow, SLOTS_PER_VISIT_MAX};

/// Pools that the control thread encodes pushes into.
pub(crate) fn pools_config(frame_body_size_max: u32) -> netpoll::PoolsConfig {
    let receive = netpoll::PoolSize { size: 64, count: 1 };
    netpoll::PoolsConfig {
        receive,
        blocks: crate::config::blocks(frame_body_size_max, 16_384),
        huge_pages: false,
    }
}
