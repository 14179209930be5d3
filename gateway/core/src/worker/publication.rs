//! When metrics are written next.

use netpoll::Timestamp;

/// When metrics are written next, and since when accepting has been paused.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) due: Timestamp,
    /// When the last turn ended with accepting paused, because the table is full.
    pub(super) full_at: Option<Timestamp>,
}

impl Publication {
    pub(super) fn new(now: Timestamp) -> Publication {
        Publication { due: now, full_at: None }
    }
}
