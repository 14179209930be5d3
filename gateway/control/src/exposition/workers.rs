//! The workers' part of a scrape.

use super::families::{Families, Row};
use super::table;
use gateway_core::message::MessageClass;
use gateway_core::metrics::{
    BackendMetrics, LISTENERS_MAX, Metric, OperationClass, PoolGauges, SlowReason, Store, StoreLevel,
    WorkerMetrics,
};
use gateway_proto::codes::CloseCode;
use netpoll::CloseReason;
use std::collections::BTreeMap;
use std::sync::Arc;

type Workers = [Arc<WorkerMetrics>];

fn sum(workers: &Workers, of: impl Fn(&WorkerMetrics) -> u64) -> f64 {
    workers.iter().map(|one| of(one)).sum::<u64>() as f64
}

/// A count as its metric shows it: what is shown in seconds is kept in nanoseconds.
fn shown(metric: &Metric, count: f64) -> f64 {
    if metric.unit() == Some("seconds") { count / 1e9 } else { count }
}

pub(super) fn collect(families: &mut Families, workers: &Workers, listeners: &[(String, &'static str)]) {
    connections(families, workers, listeners);
    slow_closes(families, workers);
    traffic(families, workers);
    deliveries(families, workers);
    for one in WorkerMetrics::SUMMED {
        let row = |(label, of): &(&str, fn(&WorkerMetrics) -> u64)| {
            let labels = one.metric.labels.iter().map(|_| (*label).to_owned()).collect();
            (labels, shown(&one.metric, sum(workers, of)))
        };
        families.rows(&one.metric, one.counts.iter().map(row));
    }
    for (metric, of) in WorkerMetrics::DURATIONS {
        families.durations(metric, workers.iter().map(|one| of(one)));
    }
    each(families, workers);
    stores(families, workers);
    pools(families, workers);
    for (metric, of) in BackendMetrics::TABLE {
        families.value(metric, sum(workers, |one| of(&one.backend)));
    }
}

fn connections(families: &mut Families, workers: &Workers, listeners: &[(String, &'static str)]) {
    let by_listener = |of: &dyn Fn(&WorkerMetrics, usize) -> u64| -> Vec<Row> {
        let rows = listeners.iter().enumerate().take(LISTENERS_MAX);
        rows.map(|(at, (name, transport))| {
            (vec![name.clone(), (*transport).into()], sum(workers, |one| of(one, at)))
        })
        .collect()
    };
    families.rows(&table::CONNECTIONS, by_listener(&|one, at| one.connections[at].get()));
    families.rows(&table::ACCEPTS, by_listener(&|one, at| one.accepts[at].get()));
    families.rows(&table::CONNECTION_ENDS, ends(workers));
}

fn ends(workers: &Workers) -> Vec<Row> {
    let labels = |by: &str, reason: &str| vec![by.to_owned(), reason.to_owned()];
    let transport = CloseReason::ALL.iter().enumerate();
    let mut rows: Vec<_> = transport
        .map(|(index, reason)| {
            (labels("transport", reason.label()), sum(workers, |one| one.ends_transport[index].get()))
        })
        .collect();
    // Codes with one label fall together: applications choose theirs freely.
    let mut codes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for one in workers {
        for (code, count) in one.end_codes.iter().zip(&one.ends_code) {
            let code = u16::try_from(code.get()).ok().and_then(CloseCode::new);
            if let Some(code) = code {
                *codes.entry(code.label()).or_default() += count.get();
            }
        }
    }
    rows.extend(codes.into_iter().map(|(label, count)| (labels("server", label), count as f64)));
    rows
}

/// Slow consumers that were closed, and the reasons.
fn slow_closes(families: &mut Families, workers: &Workers) {
    let of = |reason| sum(workers, |one| one.slow_closes_for(reason).get());
    let row = |reason: SlowReason| (vec![reason.label().to_owned()], of(reason));
    families.rows(&table::SLOW_CONSUMER_CLOSES, SlowReason::ALL.map(row));
    families.value(&table::PRESSURE_CLOSES, of(SlowReason::Pressure));
    families.value(&table::MEMORY_CLOSES, of(SlowReason::Memory));
}

fn traffic(families: &mut Families, workers: &Workers) {
    let by_class = |of: &dyn Fn(&WorkerMetrics, usize) -> u64| {
        OperationClass::ALL
            .map(|class| (vec![class.label().to_owned()], sum(workers, |one| of(one, class as usize))))
    };
    families.rows(&table::RECEIVE_FRAMES, by_class(&|one, class| one.received[class].frames.get()));
    families.rows(&table::RECEIVE_BYTES, by_class(&|one, class| one.received[class].bytes.get()));
    families.rows(&table::SEND_FRAMES, by_class(&|one, class| one.sent[class].frames.get()));
    families.rows(&table::SEND_BYTES, by_class(&|one, class| one.sent[class].bytes.get()));
}

fn deliveries(families: &mut Families, workers: &Workers) {
    let by_class = |labels: &[&str], of: &dyn Fn(&WorkerMetrics, usize) -> u64| {
        MessageClass::ALL.map(|class| {
            let labels = [class.label()].iter().chain(labels).map(|label| (*label).to_owned()).collect();
            (labels, sum(workers, |one| of(one, class as usize)))
        })
    };
    families.rows(&table::DELIVERIES, by_class(&[], &|one, class| one.deliveries[class].get()));
    let kept = by_class(&["kept"], &|one, class| one.drops[class].get());
    let closed = by_class(&["closed"], &|one, class| one.losses[class].get());
    families.rows(&table::DROPPED_MESSAGES, kept.into_iter().chain(closed));
}

/// What each worker shows for itself.
fn each(families: &mut Families, workers: &Workers) {
    let mut rows = |metric: &Metric, of: &dyn Fn(&WorkerMetrics) -> u64| {
        let numbered = workers.iter().enumerate();
        families.rows(
            metric,
            numbered.map(|(worker, one)| (vec![worker.to_string()], shown(metric, of(one) as f64))),
        );
    };
    rows(&table::WORKER_SESSIONS, &|one| one.sessions.get());
    rows(&table::WORKER_RECEIVE_BUFFERS_FREE, &|one| one.receive_pool.free.get());
    for metric in WorkerMetrics::EACH {
        metric.counts.iter().for_each(|(_, of)| rows(&metric.metric, of));
    }
}

/// How full the stores are that connections share, on the worker where each is fullest: a sum would
/// hide one that is full.
fn stores(families: &mut Families, workers: &Workers) {
    let fullest = |store| {
        let levels = workers.iter().map(|one| one.stores.level(store));
        levels.max_by(|a, b| a.share().total_cmp(&b.share())).unwrap_or_default()
    };
    let levels: Vec<(Store, StoreLevel)> = Store::ALL.iter().map(|store| (*store, fullest(*store))).collect();
    let rows = |of: &dyn Fn(StoreLevel) -> u64| -> Vec<Row> {
        let there = levels.iter().filter(|(_, level)| level.max > 0);
        there.map(|(store, level)| (vec![store.label().to_owned()], of(*level) as f64)).collect()
    };
    families.rows(&table::STORE_USED, rows(&|level| level.used));
    families.rows(&table::STORE_MAX, rows(&|level| level.max));
}

fn pools(families: &mut Families, workers: &Workers) {
    let mut pools: BTreeMap<(&'static str, u64), [u64; 3]> = BTreeMap::new();
    for one in workers {
        let blocks = one.block_pools.iter().map(|pool| ("blocks", pool));
        for (name, pool) in blocks.chain([("receive", &one.receive_pool)]) {
            add_pool(pools.entry((name, pool.size.get())).or_default(), pool);
        }
    }
    pools.retain(|(_, size), _| *size > 0);
    let mut rows = |metric: &Metric, at: usize| {
        let row = |((pool, size), levels): (&(&'static str, u64), &[u64; 3])| {
            (vec![(*pool).to_owned(), size.to_string()], levels[at] as f64)
        };
        families.rows(metric, pools.iter().map(row));
    };
    rows(&table::POOL_BUFFERS, 0);
    rows(&table::POOL_BUFFERS_FREE, 1);
    rows(&table::POOL_EXHAUSTED, 2);
}

fn add_pool(sums: &mut [u64; 3], pool: &PoolGauges) {
    for (sum, level) in sums.iter_mut().zip([pool.count.get(), pool.free.get(), pool.exhausted.get()]) {
        *sum += level;
    }
}
