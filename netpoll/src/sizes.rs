//! What a connection takes in a backend, part by part. A test of the gateway compares each figure
//! with docs/memory.md.

use crate::PIECE_BYTES;
use crate::connection_table::Entry;
use crate::lifecycle::{Life, Notice};
use crate::send_queue::SendQueue;
use crate::uring::Sent;
use crate::{BufferPools, ConnectionId, ConnectionTable, TimerWheel, epoll, uring};

/// Name and bytes.
pub const SIZES: &[(&str, usize)] = &[
    ("connection id", size_of::<ConnectionId>()),
    ("generation", size_of::<u32>()),
    ("send queue", size_of::<SendQueue>()),
    ("life", size_of::<Life>()),
    ("io_uring slot", size_of::<Entry<uring::Slot>>()),
    ("io_uring slot and generation", ConnectionTable::<uring::Slot>::BYTES_PER_SLOT),
    ("epoll slot", size_of::<Entry<epoll::Slot>>()),
    ("epoll slot and generation", ConnectionTable::<epoll::Slot>::BYTES_PER_SLOT),
    ("notice", size_of::<Notice>()),
    ("waiting connection", size_of::<crate::Waiting>()),
    ("send to be confirmed", size_of::<Sent>()),
    ("io_uring connection", uring::UringBackend::BYTES_PER_CONNECTION),
    ("epoll connection", epoll::EpollBackend::BYTES_PER_CONNECTION),
    ("timer", TimerWheel::BYTES_PER_TIMER),
    ("queued piece", PIECE_BYTES),
    ("block header", BufferPools::BYTES_PER_BLOCK),
];

const _: () = assert!(BufferPools::BYTES_PER_BLOCK == 32 + size_of::<u32>());
