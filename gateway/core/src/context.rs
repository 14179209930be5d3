//! What a worker knows from its start on, and what a reload may change.

use crate::address::{Fingerprints, WorkerId};
use crate::session::flow::{Allowance, Flow};
use crate::settings::{Reloadable, WorkerSettings};
use std::ops::Deref;
use std::sync::Arc;

/// What stays the same for a worker from start to end.
#[derive(Debug)]
pub struct Context {
    /// The worker's number.
    pub id: WorkerId,
    /// Its settings; of what a reload may change, `Policy` has the present values.
    pub settings: WorkerSettings,
    /// How names become fingerprints: the same on all workers.
    pub names: Fingerprints,
    /// Milliseconds since 1970 at the zero of the backend's clock.
    pub unix_start_ms: u64,
}

/// The present values of what a reload may change.
#[derive(Debug)]
pub(crate) struct Policy {
    values: Arc<Reloadable>,
    /// What a connection may send that shares its user's rate with no other.
    lone_allowance: Allowance,
}

impl Policy {
    /// In force from now on.
    pub(crate) fn new(values: Arc<Reloadable>) -> Policy {
        let lone_allowance = Allowance::new(&values.rate, 1);
        Policy { values, lone_allowance }
    }

    /// What a connection with this flow may send.
    #[inline]
    pub(crate) fn allowance(&self, flow: &Flow) -> Allowance {
        flow.allowance(&self.values.rate, &self.lone_allowance)
    }

    /// The values, to be held while the worker is borrowed.
    pub(crate) fn values(&self) -> Arc<Reloadable> {
        Arc::clone(&self.values)
    }
}

impl Deref for Policy {
    type Target = Reloadable;

    fn deref(&self) -> &Reloadable {
        &self.values
    }
}
