//! The nearly full ones among the stores that connections share, by worker.

use gateway_core::metrics::{Store, StoreLevel, WorkerMetrics};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time after which a store counts as nearly full, or as no longer so: a short burst must not send
/// clients elsewhere.
const STORE_MOMENT: Duration = Duration::from_secs(2);
/// A nearly full store stays so until its level is this many percent lower.
const STORE_HYSTERESIS_PERCENT: u64 = 10;

/// Last level of one store of one worker.
#[derive(Clone, Copy, Debug, Default)]
struct StoreState {
    nearly_full: bool,
    /// Since when the level has said the opposite; `None` while it agrees.
    differs_since: Option<Instant>,
}

impl StoreState {
    fn look(&mut self, store: Store, level: StoreLevel, now: Instant) {
        let Some(percent) = store.nearly_full_percent() else { return };
        let is_above = match (self.nearly_full, store) {
            (false, _) => level.is_at(percent),
            (true, Store::Connections) => level.is_at(100),
            (true, _) => level.is_at(percent - STORE_HYSTERESIS_PERCENT),
        };
        if is_above == self.nearly_full {
            self.differs_since = None;
        } else if now.duration_since(*self.differs_since.get_or_insert(now)) >= STORE_MOMENT {
            *self = StoreState { nearly_full: is_above, differs_since: None };
        }
    }
}

/// Which of the workers' shared stores are nearly full.
pub(super) struct StoreWatch(Mutex<Vec<[StoreState; Store::ALL.len()]>>);

impl StoreWatch {
    pub(super) fn new(workers: usize) -> StoreWatch {
        StoreWatch(Mutex::new(vec![Default::default(); workers]))
    }

    /// Takes the levels in. Returns the stores that are nearly full on some worker, in the order of
    /// [`Store::ALL`].
    pub(super) fn look(&self, metrics: &[Arc<WorkerMetrics>], now: Instant) -> Vec<Store> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (states, metrics) in states.iter_mut().zip(metrics) {
            for (state, store) in states.iter_mut().zip(Store::ALL) {
                state.look(store, metrics.stores.level(store), now);
            }
        }
        Store::ALL.into_iter().filter(|store| workers_with(&states, *store) > 0).collect()
    }

    /// The first store that was nearly full on enough workers to send new clients elsewhere when
    /// the levels were looked at last.
    pub(super) fn shortage(&self) -> Option<Store> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Store::ALL.into_iter().find(|store| {
            let enough = store.workers_until_unready(states.len());
            enough.is_some_and(|enough| workers_with(&states, *store) >= enough)
        })
    }
}

/// Workers on which the store is nearly full.
fn workers_with(states: &[[StoreState; Store::ALL.len()]], store: Store) -> usize {
    states.iter().filter(|one| one[store as usize].nearly_full).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(workers: usize) -> (StoreWatch, Vec<Arc<WorkerMetrics>>, Instant) {
        let metrics = (0..workers).map(|_| Arc::new(WorkerMetrics::default())).collect();
        (StoreWatch::new(workers), metrics, Instant::now())
    }

    #[test]
    fn a_store_is_nearly_full_after_a_moment_and_until_it_is_a_tenth_emptier() {
        let (watch, metrics, start) = watch(1);
        let at = |used, milliseconds| {
            metrics[0].stores.set(Store::ReceiveBuffers, used, 1000);
            watch.look(&metrics, start + Duration::from_millis(milliseconds))
        };
        assert!(at(950, 0).is_empty() && at(950, 1999).is_empty(), "a burst is over in a moment");
        assert!(at(899, 2000).is_empty() && at(950, 2100).is_empty(), "the moment begins anew");
        assert_eq!(at(950, 4100), [Store::ReceiveBuffers]);
        assert_eq!(watch.shortage(), Some(Store::ReceiveBuffers));
        assert_eq!(at(850, 10_000), [Store::ReceiveBuffers], "within the hysteresis");
        assert_eq!(at(799, 11_000), [Store::ReceiveBuffers]);
        assert_eq!(at(850, 12_000), [Store::ReceiveBuffers]);
        assert_eq!(at(799, 13_000), [Store::ReceiveBuffers]);
        assert!(at(799, 15_000).is_empty() && watch.shortage().is_none());
    }

    #[test]
    fn places_for_connections_are_short_only_when_all_are_taken() {
        let (watch, metrics, start) = watch(2);
        let at = |used, seconds| {
            metrics[0].stores.set(Store::Connections, used, 100);
            watch.look(&metrics, start + Duration::from_secs(seconds)).contains(&Store::Connections)
        };
        assert!(!at(99, 0) && !at(99, 5) && !at(100, 6));
        assert!(at(100, 8) && at(99, 9) && !at(99, 11));
    }

    #[test]
    fn a_store_of_one_worker_of_several_makes_nothing_unready() {
        for (workers, most) in [(1, 1), (2, 2), (3, 2), (4, 3)] {
            let (watch, metrics, start) = watch(workers);
            let look = |full: usize, seconds| {
                for (index, worker) in metrics.iter().enumerate() {
                    worker.stores.set(Store::Blocks, if index < full { 1000 } else { 0 }, 1000);
                }
                watch.look(&metrics, start + Duration::from_secs(seconds));
                watch.look(&metrics, start + Duration::from_secs(seconds + 3))
            };
            for full in 1..=workers {
                let nearly_full = look(full, 10 * full as u64);
                assert_eq!(nearly_full, [Store::Blocks], "the log says so in any case");
                assert_eq!(watch.shortage().is_some(), full >= most, "{full} of {workers}");
            }
            look(most - 1, 900);
            assert_eq!(watch.shortage(), None, "{workers} workers");
        }
    }

    /// What is beyond the guaranteed parts refuses some requests of clients that are here.
    #[test]
    fn what_logins_do_not_need_makes_nothing_unready() {
        let (watch, metrics, start) = watch(1);
        metrics[0].stores.set(Store::SharedText, 1000, 1000);
        watch.look(&metrics, start);
        assert_eq!(watch.look(&metrics, start + Duration::from_secs(60)), [Store::SharedText]);
        assert_eq!(watch.shortage(), None);
    }

    #[test]
    fn a_store_whose_shortage_is_one_requests_alone_does_not_matter() {
        let (watch, metrics, start) = watch(2);
        metrics[0].stores.set(Store::AcceptSets, 1024, 1024);
        watch.look(&metrics, start);
        assert!(watch.look(&metrics, start + Duration::from_secs(60)).is_empty());
    }
}
