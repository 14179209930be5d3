//! What bystanders noticed: counts, latencies and a few words about each kind, for one window of
//! time after another.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Kinds of notes that a window keeps; more are counted under `other`.
const NOTES_MAX: usize = 24;

/// Counts of a window. Everything from `lost` on must be zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Messages and heartbeats sent.
    pub(crate) sent: u64,
    /// Messages received, of bystanders and of the control port's callers.
    pub(crate) received: u64,
    /// Logins of newcomers that succeeded in time.
    pub(crate) logins: u64,
    /// Requests to the control port that were answered correctly.
    pub(crate) requests: u64,
    /// Messages of abuses: a bystander may receive them, and must survive them.
    pub(crate) noise: u64,
    pub(crate) lost: u64,
    /// Doubled, or out of order.
    pub(crate) misordered: u64,
    /// Later than [`LATE`].
    pub(crate) late: u64,
    /// Pushes that only a service may send, replies to nothing, malformed bytes.
    pub(crate) forged: u64,
    /// Requests that were answered with an error.
    pub(crate) refused: u64,
    /// Requests without a reply within [`LATE`].
    pub(crate) unanswered: u64,
    /// Connections that ended.
    pub(crate) closed: u64,
    /// Logins that failed or took longer than [`LATE`].
    pub(crate) logins_failed: u64,
    /// Requests to the control port that failed or took longer than [`LATE`].
    pub(crate) requests_failed: u64,
}

/// A message, a reply, a login or a request that takes longer than this counts as failed. Generous:
/// a loaded machine alone does not reach it.
pub(crate) const LATE: Duration = Duration::from_secs(10);

impl Counts {
    /// Whether a bystander noticed anything.
    pub(crate) fn noticed(&self) -> bool {
        self.closed + self.missing() + self.logins_failed + self.requests_failed > 0
    }

    /// Messages and replies that are missing or wrong.
    pub(crate) fn missing(&self) -> u64 {
        self.lost + self.misordered + self.late + self.forged + self.refused + self.unanswered
    }
}

/// One window.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) counts: Counts,
    /// What was noticed, in words, and how often.
    pub(crate) notes: BTreeMap<String, u64>,
    /// Microseconds from a message's sending to its receipt.
    pub(crate) messages: Histogram<u64>,
    /// Microseconds from connect to the login's reply.
    pub(crate) logins: Histogram<u64>,
    /// Microseconds of requests to the control port.
    pub(crate) requests: Histogram<u64>,
}

impl Window {
    fn new() -> Window {
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds are valid");
        Window {
            counts: Counts::default(),
            notes: BTreeMap::new(),
            messages: histogram(),
            logins: histogram(),
            requests: histogram(),
        }
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        let known = self.notes.contains_key(&what) || self.notes.len() < NOTES_MAX;
        *self.notes.entry(if known { what } else { "other".into() }).or_insert(0) += 1;
    }

    pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
        histogram.saturating_record(time.as_micros() as u64);
    }
}

/// The window that is open; shared by the thread of the bystanders and the suite.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Mutex<Window>>);

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger(Arc::new(Mutex::new(Window::new())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ends the window and begins the next one.
    pub(crate) fn take(&self) -> Window {
        std::mem::replace(&mut *self.lock(), Window::new())
    }
}
