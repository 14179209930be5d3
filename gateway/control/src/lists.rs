//! Bounds of the lists of connections and rooms, and the largest rooms of the last walks.

use super::reply::ApiError;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

/// Most requests for lists at a time, waiting ones included.
const LISTS_MAX: usize = 16;
/// At most this many of them ask workers at a time: each visit takes some microseconds of a worker,
/// for which its clients wait.
const LISTS_AT_A_TIME: usize = 2;

/// What bounds the lists of connections and rooms.
pub(super) struct Lists {
    pub(super) under_way: Semaphore,
    pub(super) turns: Semaphore,
    /// The last walks by kind of room, and the lock that makes them one at a time.
    pub(super) walks: AsyncMutex<Vec<Walk>>,
}

/// The largest rooms of a kind, as they were found.
pub(super) struct Walk {
    pub(super) kind: String,
    pub(super) at: Instant,
    pub(super) top: Arc<[(String, u32)]>,
}

impl Lists {
    pub(super) fn new() -> Lists {
        Lists {
            under_way: Semaphore::new(LISTS_MAX),
            turns: Semaphore::new(LISTS_AT_A_TIME),
            walks: AsyncMutex::default(),
        }
    }

    /// Waits until another list may ask workers.
    pub(super) async fn turn(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), ApiError> {
        let under_way = self.under_way.try_acquire().map_err(|_| ApiError::busy())?;
        let turn = self.turns.acquire().await.map_err(|_| ApiError::busy())?;
        Ok((under_way, turn))
    }
}
