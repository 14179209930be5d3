//! What bounds the lists of connections and rooms, and the largest rooms as they were found.

use super::reply::ApiError;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

/// Requests for lists under way at most, those that wait included.
const LISTS_MAX: usize = 16;
/// Of these, those that ask workers at a time: each visit takes a worker some microseconds that its
/// clients wait for.
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
