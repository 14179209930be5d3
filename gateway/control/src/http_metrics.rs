//! Counters of the control thread, and the last exposition.

use super::exposition::{HttpSnapshot, ReloadSnapshot};
use super::http::{Budget, End, HeadError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Route, method, status.
type RequestKey = (&'static str, &'static str, u16);

/// Counts of the HTTP server and of the control thread.
pub struct HttpMetrics {
    /// Permits for requests under way.
    pub(super) requests: Arc<Semaphore>,
    /// Connections open.
    pub(super) connections: AtomicUsize,
    /// Connections closed to make room for new ones.
    pub(super) evictions: AtomicU64,
    /// Times that no connection could be accepted.
    pub(super) accept_errors: AtomicU64,
    /// Heads that were refused, by reason.
    bad_heads: [AtomicU64; HeadError::ALL.len()],
    /// Connections that ended, by reason.
    ends: [AtomicU64; End::ALL.len()],
    /// Requests and nanoseconds by route, method and status: closed sets.
    counts: Mutex<BTreeMap<RequestKey, (u64, u64)>>,
    /// Reloads that were applied, and that were refused.
    reloads: [AtomicU64; 2],
    /// Whether the last one was applied, and when it was, in seconds since 1970.
    last_reload: Mutex<(bool, u64)>,
    /// Messages from workers.
    pub(super) messages: AtomicU64,
}

impl HttpMetrics {
    pub(super) fn new(requests: Arc<Semaphore>) -> HttpMetrics {
        HttpMetrics {
            requests,
            connections: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            bad_heads: Default::default(),
            ends: Default::default(),
            counts: Mutex::default(),
            reloads: [AtomicU64::new(0), AtomicU64::new(0)],
            last_reload: Mutex::new((true, seconds_now())),
            messages: AtomicU64::new(0),
        }
    }

    pub(super) fn count(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counts.entry((route, method, status)).or_default();
        entry.0 += 1;
        entry.1 += took.as_nanos() as u64;
    }

    pub(super) fn count_bad_head(&self, error: HeadError) {
        self.bad_heads[error as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_end(&self, end: End) {
        self.ends[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reload(&self, applied: bool) {
        self.reloads[usize::from(!applied)].fetch_add(1, Ordering::Relaxed);
        let mut last = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (applied, if applied { seconds_now() } else { last.1 });
    }

    /// All but the reloads, with the bound of connections and the two budgets, of requests and
    /// answers.
    pub(super) fn http(&self, connections_max: usize, [input, answers]: [&Budget; 2]) -> HttpSnapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = counts.iter().map(|((route, method, status), (count, nanos))| {
            ((*route).to_owned(), *method, *status, *count, *nanos as f64 / 1e9)
        });
        HttpSnapshot {
            requests: rows.collect(),
            connections: self.connections.load(Ordering::Relaxed),
            connections_max,
            evictions: load(&self.evictions),
            accept_errors: load(&self.accept_errors),
            bad_heads: HeadError::ALL.map(|one| (one.label(), load(&self.bad_heads[one as usize]))).into(),
            ends: End::ALL.map(|one| (one.label(), load(&self.ends[one as usize]))).into(),
            held: [("requests", input.used(), input.max()), ("answers", answers.used(), answers.max())],
        }
    }

    /// The reloads.
    pub(super) fn reload(&self) -> ReloadSnapshot {
        let (success, at) = *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |index: usize| self.reloads[index].load(Ordering::Relaxed);
        ReloadSnapshot { success, at, applied: count(0), refused: count(1) }
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Share of the control thread's time that making expositions may take.
const SCRAPE_SHARE: u32 = 4;
/// Time that may be spent on them at once, when none was made for a while.
const SCRAPE_CREDIT_MAX: Duration = Duration::from_millis(250);

/// The last exposition, and whether another one is due: callers that ask more often than
/// [`SCRAPE_SHARE`] allows share the last.
#[derive(Debug, Default)]
pub(super) struct Scrapes(Mutex<Scraped>);

#[derive(Debug, Default)]
struct Scraped {
    last: Option<Bytes>,
    /// Time spent, less what has come back since.
    spent: Duration,
    at: Option<Instant>,
}

impl Scrapes {
    /// The last one, unless another one may be made.
    pub(super) fn shared(&self, now: Instant) -> Option<Bytes> {
        let mut scraped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let back = scraped.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)) / SCRAPE_SHARE;
        (scraped.spent, scraped.at) = (scraped.spent.saturating_sub(back), Some(now));
        scraped.last.clone().filter(|_| scraped.spent >= SCRAPE_CREDIT_MAX)
    }

    /// Another one was made, in this time; `None` when it could not be kept.
    pub(super) fn made(&self, text: Option<Bytes>, took: Duration) -> Option<Bytes> {
        let mut scraped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        scraped.spent += took;
        scraped.last = text.or_else(|| scraped.last.take());
        scraped.last.clone()
    }
}
