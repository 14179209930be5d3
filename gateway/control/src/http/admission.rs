//! Places of HTTP connections: how many there are, and which connection is closed for another.
//!
//! ```text
//!   accept ─► fewer than connections_max? ─ yes ─► a place
//!                     │ no
//!                     ├─► a connection idle or too slow for a second ─► closed; its place passes on
//!                     └─► none ─► a spare place: health and metrics, in half of them
//!                                 one request with a valid key; all else: 503 `busy`
//! ```
//!
//! A connection that is in use keeps its place. It is in use while a request arrives, or its answer
//! is taken, at [`PACE_MIN`] or faster, and while the request is handled. So a probe is answered
//! whatever holds the places: silent peers, peers that send or read slowly, or as many requests as
//! there are places.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Spare places beyond `control.connections_max`, used when all others are taken.
pub(crate) const SPARE_PLACES: usize = 8;

/// Time for which a connection keeps its place after it has begun something.
const GRACE: Duration = Duration::from_secs(1);
/// The same for one that has not sent a byte yet: a probe must not wait for a second behind silent
/// peers.
const GRACE_UNHEARD: Duration = Duration::from_millis(100);

/// Bytes a second below which a peer is too slow to keep a place that another one needs.
const PACE_MIN: u64 = 4 << 10;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Doing {
    /// Waits for the first byte of a request.
    Idle,
    /// Receives a request's head or body.
    Receiving,
    /// Is being answered.
    Handling,
    /// Waits for the peer to take an answer.
    Sending,
}

/// Requests that a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// All.
    All,
    /// Health, metrics, and callers with a key: callers without one must not lock a service out by
    /// holding all places.
    Keyed,
    /// Health and metrics.
    Probes,
}

/// A connection's place, released when [`Taken`] is dropped.
pub(super) struct Place {
    number: u64,
    admission: Arc<Admission>,
    /// What is served here; one request only, unless it is all.
    pub(super) serves: Serves,
    doing: AtomicU8,
    /// Since when, in milliseconds since the start.
    since_ms: AtomicU64,
    /// Bytes moved since then.
    moved: AtomicU64,
    /// Whether a byte has ever come.
    is_heard: AtomicBool,
    /// Bytes of shared budgets that it holds.
    held: AtomicUsize,
    /// Whether it was chosen to be closed.
    evicted: AtomicBool,
    evict: Notify,
}

/// All places.
pub(crate) struct Admission {
    started: Instant,
    places_max: usize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: HashMap<u64, Arc<Place>>,
    /// Of these, the spare ones.
    spare: usize,
}

impl Admission {
    pub(crate) fn new(places_max: usize) -> Arc<Admission> {
        Arc::new(Admission { started: Instant::now(), places_max, places: Mutex::default() })
    }

    /// Admits a connection. Returns its place, and whether another connection is closed for it;
    /// `None` when even the spare places are in use.
    pub(super) fn take(self: &Arc<Admission>) -> Option<(Taken, bool)> {
        let now = self.now_ms();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut evicted = false;
        if places.taken.len() - places.spare >= self.places_max {
            evicted = places.evict(now, |place| !place.is_spare());
        }
        let is_spare = places.taken.len() - places.spare >= self.places_max;
        if is_spare && places.spare >= SPARE_PLACES {
            // A spare place is answered at once, so it is soon free, or its peer does not read.
            if !places.evict(now, |place| place.is_spare()) {
                return None;
            }
            evicted = true;
        }
        let serves = match is_spare {
            false => Serves::All,
            true if places.spare < SPARE_PLACES / 2 => Serves::Keyed,
            true => Serves::Probes,
        };
        places.spare += usize::from(is_spare);
        places.next += 1;
        let place = Arc::new(Place {
            number: places.next,
            admission: Arc::clone(self),
            serves,
            doing: AtomicU8::new(Doing::Receiving as u8),
            since_ms: AtomicU64::new(now),
            moved: AtomicU64::new(0),
            is_heard: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        });
        places.taken.insert(place.number, Arc::clone(&place));
        Some((Taken(place), evicted))
    }

    /// Closes the connection that holds most of the shared budgets among those that are too slow;
    /// false when there is none.
    pub(crate) fn relieve(&self) -> bool {
        let now = self.now_ms();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let slow = places
            .taken
            .values()
            .filter(|place| place.held.load(Ordering::Relaxed) > 0 && place.is_slow(now));
        let most = slow.max_by_key(|place| place.held.load(Ordering::Relaxed)).map(|place| place.number);
        most.and_then(|number| places.leave(number)).map(|place| place.notify_evicted()).is_some()
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Places {
    /// Evicts a connection: too slow ones before idle ones, and of each kind the one that has been
    /// so for longest. Out of the table at once, so that none is chosen twice; its task ends as
    /// soon as it runs.
    fn evict(&mut self, now: u64, of: impl Fn(&Place) -> bool) -> bool {
        let slow = self.taken.values().filter(|place| of(place) && place.is_slow(now));
        let rank =
            |place: &&Arc<Place>| (place.doing() == Doing::Idle, place.since_ms.load(Ordering::Relaxed));
        let number = slow.min_by_key(rank).map(|place| place.number);
        number.and_then(|number| self.leave(number)).map(|place| place.notify_evicted()).is_some()
    }

    fn leave(&mut self, number: u64) -> Option<Arc<Place>> {
        let place = self.taken.remove(&number)?;
        self.spare -= usize::from(place.is_spare());
        Some(place)
    }
}

impl Place {
    /// Whether it is one of [`SPARE_PLACES`].
    pub(super) fn is_spare(&self) -> bool {
        self.serves != Serves::All
    }

    pub(super) fn doing(&self) -> Doing {
        match self.doing.load(Ordering::Relaxed) {
            0 => Doing::Idle,
            1 => Doing::Receiving,
            2 => Doing::Handling,
            _ => Doing::Sending,
        }
    }

    /// Whether it may be closed for another: it has been idle for [`GRACE`], or moves less than
    /// [`PACE_MIN`].
    fn is_slow(&self, now_ms: u64) -> bool {
        let elapsed = now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed));
        let doing = self.doing();
        let grace = if self.is_heard.load(Ordering::Relaxed) { GRACE } else { GRACE_UNHEARD };
        let is_behind = self.moved.load(Ordering::Relaxed) < elapsed * PACE_MIN / 1000;
        doing != Doing::Handling && elapsed >= grace.as_millis() as u64 && (doing == Doing::Idle || is_behind)
    }

    fn notify_evicted(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.evict.notify_one();
    }

    /// What the connection does from now on.
    pub(super) fn begins(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
        self.since_ms.store(self.admission.now_ms(), Ordering::Relaxed);
        self.moved.store(0, Ordering::Relaxed);
    }

    /// So many bytes came, or were taken.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        self.is_heard.store(true, Ordering::Relaxed);
    }

    /// Bytes of shared budgets that it holds from now on.
    pub(super) fn holds(&self, bytes: usize) {
        self.held.store(bytes, Ordering::Relaxed);
    }

    /// Whether its place was given to another connection.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Ends when the place is needed for another connection.
    pub(super) async fn evicted(&self) {
        while !self.is_evicted() {
            self.evict.notified().await;
        }
    }
}

/// A place that is taken for as long as this lives.
pub(super) struct Taken(pub(super) Arc<Place>);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut places = self.0.admission.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.leave(self.0.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(admission: &Arc<Admission>) -> (Taken, bool) {
        admission.take().unwrap_or_else(|| panic!("no place"))
    }

    /// What the connection does, and for how long already, in milliseconds. The start is long ago.
    fn does(taken: &Taken, doing: Doing, for_ms: u64, moved: u64) {
        taken.0.begins(doing);
        taken.0.since_ms.store(taken.0.admission.now_ms() - for_ms, Ordering::Relaxed);
        taken.0.moved(moved as usize);
    }

    fn admission(places_max: usize) -> Arc<Admission> {
        let started = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        Arc::new(Admission { started, places_max, places: Mutex::default() })
    }

    #[test]
    fn only_idle_and_slow_connections_are_closed_for_others() {
        let admission = admission(2);
        let (busy, idle) = (take(&admission).0, take(&admission).0);
        does(&busy, Doing::Handling, 60_000, 0);
        does(&idle, Doing::Idle, 900, 1);
        let (spare, evicted) = take(&admission);
        assert!(!evicted && spare.0.is_spare(), "idle for less than a second is in use");
        drop(spare);
        does(&idle, Doing::Idle, 1100, 1);
        let (third, evicted) = take(&admission);
        assert!(evicted && !third.0.is_spare() && idle.0.is_evicted() && !busy.0.is_evicted());
        // An evicted connection does not release its place a second time.
        drop(idle);
        assert_eq!(admission.places.lock().unwrap().taken.len(), 2);
        does(&third, Doing::Sending, 10_000, 9 * PACE_MIN);
        let (fourth, _) = take(&admission);
        assert!(third.0.is_evicted(), "reads less than {PACE_MIN} bytes a second");
        does(&fourth, Doing::Receiving, 10_000, 11 * PACE_MIN);
        assert!(take(&admission).0.0.is_spare(), "one that sends fast enough stays");
    }

    #[test]
    fn spare_places_have_an_end_too() {
        let admission = admission(1);
        let first = take(&admission).0;
        does(&first, Doing::Handling, 5000, 0);
        let spare: Vec<Taken> = (0..SPARE_PLACES).map(|_| take(&admission).0).collect();
        assert!(spare.iter().all(|taken| taken.0.is_spare()) && admission.take().is_none());
        let keyed = spare.iter().filter(|taken| taken.0.serves == Serves::Keyed).count();
        assert_eq!(keyed, SPARE_PLACES / 2, "services leave the rest to probes");
        does(&spare[3], Doing::Sending, 2000, 0);
        assert!(take(&admission).1 && spare[3].0.is_evicted());
        drop((first, spare));
        let places = admission.places.lock().unwrap();
        assert_eq!((places.taken.len(), places.spare), (0, 0));
    }

    #[test]
    fn slow_ones_go_before_idle_ones_and_relief_takes_who_holds_most() {
        let admission = admission(3);
        let (idle, slow, large) = (take(&admission).0, take(&admission).0, take(&admission).0);
        does(&idle, Doing::Idle, 50_000, 0);
        does(&slow, Doing::Receiving, 2000, 0);
        does(&large, Doing::Handling, 50_000, 0);
        slow.0.holds(10);
        large.0.holds(1000);
        take(&admission);
        assert!(slow.0.is_evicted() && !idle.0.is_evicted());
        assert!(!admission.relieve(), "what is being handled is not closed");
        does(&large, Doing::Sending, 2000, 0);
        assert!(admission.relieve() && large.0.is_evicted());
        assert!(!admission.relieve());
    }
}
