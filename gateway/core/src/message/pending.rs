//! Tokens on their way through the verifier: how many of each address, and how many of each worker.
//!
//! A [`PendingLogin`] travels with its token and counts for as long as it lives. So a token that is
//! lost on the way, with a verdict that finds no room or a verifier that ends, is not counted for
//! ever.

use crate::sources::{Source, Sources};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one worker has sent to the verifier.
#[derive(Debug)]
pub struct PendingLogins {
    /// Of all workers.
    sources: Arc<Sources>,
    /// Of this worker.
    due: AtomicUsize,
}

impl PendingLogins {
    /// None yet; addresses are counted in `sources`.
    pub fn new(sources: Arc<Sources>) -> Arc<PendingLogins> {
        Arc::new(PendingLogins { sources, due: AtomicUsize::new(0) })
    }

    /// Counts one more of an address.
    pub fn begin(self: &Arc<PendingLogins>, source: Source) -> PendingLogin {
        let is_only = self.sources.add(source) <= 1;
        self.due.fetch_add(1, Ordering::Relaxed);
        PendingLogin { all: Arc::clone(self), source, is_only }
    }

    /// How many are under way.
    pub fn due(&self) -> usize {
        // What a dropped one did before is seen by the worker that sees its count gone.
        self.due.load(Ordering::Acquire)
    }
}

/// One token under way, counted until it is dropped.
pub struct PendingLogin {
    all: Arc<PendingLogins>,
    source: Source,
    is_only: bool,
}

impl PendingLogin {
    /// Whether its address had no other token under way when this one began.
    pub fn is_only(&self) -> bool {
        self.is_only
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        self.all.sources.remove(self.source);
        self.all.due.fetch_sub(1, Ordering::Release);
    }
}
