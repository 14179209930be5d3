//! All counters as text for Prometheus (exposition format 0.0.4), made at each scrape.
//!
//! Counters are summed over workers. Only levels that matter per worker carry a `worker` label, so
//! that sixty workers make some hundred series and not some thousand. All labels come from closed
//! sets.

mod control;
mod families;
mod process;
mod stack;

pub use control::{ControlSnapshot, HttpSnapshot, ReloadSnapshot};

use families::Families;
use gateway_auth::VerifierMetrics;
use gateway_core::message::MessageClass;
use gateway_core::metrics::{
    Histogram, OperationClass, PoolGauges, SlowReason, Store, StoreLevel, WorkerMetrics,
};
use gateway_proto::codes::CloseCode;
use netpoll::CloseReason;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The text of one scrape.
pub fn exposition(
    workers: &[Arc<WorkerMetrics>],
    verifiers: &[Arc<VerifierMetrics>],
    control: &ControlSnapshot,
) -> String {
    let mut families = Families::default();
    control::build(&mut families, control, workers.len());
    connections(&mut families, workers, &control.listeners);
    traffic(&mut families, workers);
    fan_out(&mut families, workers);
    turns(&mut families, workers);
    pools(&mut families, workers);
    backend(&mut families, workers);
    stack::collect(&mut families, workers);
    let overloads = workers.iter().map(|one| one.verifier_overloads.get()).sum();
    control::verifiers(&mut families, verifiers, overloads);
    control::http(&mut families, control);
    process::collect(&mut families);
    families.encode()
}

type Workers = [Arc<WorkerMetrics>];

fn sum(workers: &Workers, of: impl Fn(&WorkerMetrics) -> u64) -> f64 {
    workers.iter().map(|one| of(one)).sum::<u64>() as f64
}

fn lingering(families: &mut Families, workers: &Workers) {
    families.gauge(
        "gateway_lingering_connections",
        "Connections kept for at most 2 s after their last message, so that it arrives.",
        sum(workers, |one| one.lingering.get()),
    );
    families.counter(
        "gateway_linger_evictions_total",
        "Lingering connections closed early, because the table of connections was full.",
        sum(workers, |one| one.linger_evictions.get()),
    );
}

fn connections(families: &mut Families, workers: &Workers, listeners: &[(String, &'static str)]) {
    let by_listener = |of: &dyn Fn(&WorkerMetrics, usize) -> u64| {
        let rows = listeners.iter().enumerate().take(gateway_core::metrics::LISTENERS_MAX);
        rows.map(|(index, (name, kind))| {
            (
                vec![("listener", name.clone()), ("transport", (*kind).into())],
                sum(workers, |one| of(one, index)),
            )
        })
        .collect::<Vec<_>>()
    };
    families.gauges(
        "gateway_connections",
        "Connections open.",
        by_listener(&|one, at| one.connections[at].get()),
    );
    families.counters(
        "gateway_accepts_total",
        "Connections accepted.",
        by_listener(&|one, at| one.accepts[at].get()),
    );
    families.gauge(
        "gateway_sessions",
        "Connections that have logged in.",
        sum(workers, |one| one.sessions.get()),
    );
    families.counters(
        "gateway_connection_ends_total",
        "Connections ended, by the side that ended them and the reason.",
        ends(workers),
    );
    families.counter("gateway_logins_total", "Logins accepted.", sum(workers, |one| one.logins.get()));
    families.counter(
        "gateway_upgrade_failures_total",
        "WebSocket upgrades refused.",
        sum(workers, |one| one.upgrade_failures.get()),
    );
    families.counter(
        "gateway_audit_drops_total",
        "Entries of the audit journal lost because the control thread did not keep up.",
        sum(workers, |one| one.audit_drops.get()),
    );
    families.counter(
        "gateway_auth_failures_total",
        "Logins refused.",
        sum(workers, |one| one.auth_failures.get()),
    );
    slow_closes(families, workers);
    lingering(families, workers);
    memory_pressure(families, workers);
    incomplete_frames(families, workers);
    accept_pauses(families, workers);
    families.gauge(
        "gateway_rooms",
        "Rooms with members, counted once a worker.",
        sum(workers, |one| one.rooms.get()),
    );
    families.gauge("gateway_memberships", "Memberships in rooms.", sum(workers, |one| one.memberships.get()));
}

/// Slow consumers that were closed, and the reasons.
fn slow_closes(families: &mut Families, workers: &Workers) {
    let of = |reason| sum(workers, |one| one.slow_closes_for(reason).get());
    let row = |reason: SlowReason| (vec![("reason", reason.label().to_owned())], of(reason));
    families.counters(
        "gateway_slow_consumer_closes_total",
        "Connections closed because they received too slowly, by the reason of the close.",
        SlowReason::ALL.into_iter().map(row).collect(),
    );
    families.counter(
        "gateway_pressure_closes_total",
        "Slow consumers closed because buffers or pieces ran short; included in gateway_slow_consumer_closes_total.",
        of(SlowReason::Pressure),
    );
    families.counter(
        "gateway_send_store_refusals_total",
        "Messages and replies that found the store of pieces used up by other connections.",
        sum(workers, |one| one.store_refusals.get()),
    );
}

/// Refusals, drops and closes because memory was short.
fn memory_pressure(families: &mut Families, workers: &Workers) {
    families.counter(
        "gateway_memory_refused_connections_total",
        "Connections refused because memory was short.",
        sum(workers, |one| one.memory_refusals.get()),
    );
    families.counter(
        "gateway_address_refused_connections_total",
        "Connections refused because their address has limits.connections_per_address_max.",
        sum(workers, |one| one.address_refusals.get()),
    );
    families.counter(
        "gateway_unauthenticated_evictions_total",
        "Connections evicted before they began to log in, for new ones while slots were short.",
        sum(workers, |one| one.unauthenticated_evictions.get()),
    );
    families.counter(
        "gateway_table_refusals_total",
        "Requests to enter a room that found a table full, or more than a share of what is left taken.",
        sum(workers, |one| one.table_refusals.get()),
    );
    families.counter(
        "gateway_fanout_refusals_total",
        "Pushes to rooms refused with 503 because a worker with members had no fan-out left, or the room its share of them.",
        sum(workers, |one| one.fanout_refusals.get()),
    );
    families.counter(
        "gateway_memory_dropped_messages_total",
        "Messages to slow receivers dropped because memory was short; included in gateway_dropped_messages_total.",
        sum(workers, |one| one.memory_drops.get()),
    );
    families.counter(
        "gateway_memory_closes_total",
        "Slow consumers closed because memory was short; included in gateway_slow_consumer_closes_total.",
        sum(workers, |one| one.slow_closes_for(SlowReason::Memory).get()),
    );
}

fn incomplete_frames(families: &mut Families, workers: &Workers) {
    families.counters(
        "gateway_incomplete_frame_closes_total",
        "Connections closed for an incomplete frame: it took too long, or buffers were short.",
        vec![
            (vec![("reason", "pressure".to_owned())], sum(workers, |one| one.shed_frames.get())),
            (vec![("reason", "timeout".to_owned())], sum(workers, |one| one.late_frames.get())),
        ],
    );
}

/// Peers left in the kernel's backlog, where nothing else counts them.
fn accept_pauses(families: &mut Families, workers: &Workers) {
    families.counter(
        "gateway_accept_pauses_total",
        "Times that a worker stopped accepting because its table of connections was full.",
        sum(workers, |one| one.accept_pauses.get()),
    );
    families.counter(
        "gateway_accept_paused_seconds_total",
        "Time that workers did not accept because their tables were full, added up.",
        sum(workers, |one| one.accept_paused_nanos.get()) / 1e9,
    );
}

fn ends(workers: &Workers) -> Vec<(Vec<(&'static str, String)>, f64)> {
    let labels = |by: &str, reason: &str| vec![("by", by.to_owned()), ("reason", reason.to_owned())];
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

fn traffic(families: &mut Families, workers: &Workers) {
    let by_class = |of: &dyn Fn(&WorkerMetrics, usize) -> u64| {
        let classes = OperationClass::ALL.iter();
        classes
            .map(|class| {
                (vec![("class", class.label().to_owned())], sum(workers, |one| of(one, *class as usize)))
            })
            .collect::<Vec<_>>()
    };
    families.counters(
        "gateway_receive_frames_total",
        "Frames received, by class of operation.",
        by_class(&|one, class| one.received[class].frames.get()),
    );
    families.counters(
        "gateway_receive_bytes_total",
        "Bytes of frames received, headers included.",
        by_class(&|one, class| one.received[class].bytes.get()),
    );
    families.counters(
        "gateway_send_frames_total",
        "Frames sent, by class of operation.",
        by_class(&|one, class| one.sent[class].frames.get()),
    );
    families.counters(
        "gateway_send_bytes_total",
        "Bytes of frames sent, headers included.",
        by_class(&|one, class| one.sent[class].bytes.get()),
    );
    let mut count =
        |name, help, of: fn(&WorkerMetrics) -> u64| families.counter(name, help, sum(workers, of));
    count("gateway_request_errors_total", "Requests refused with an error code.", |one| one.errors.get());
    rates(families, workers);
    let mut count =
        |name, help, of: fn(&WorkerMetrics) -> u64| families.counter(name, help, sum(workers, of));
    count("gateway_frame_straddles_total", "Frames copied once because they straddled two buffers.", |one| {
        one.straddles.get()
    });
    count(
        "gateway_payload_copies_total",
        "Payloads copied because they could not be rewritten in place.",
        |one| one.payload_copies.get(),
    );
    count("gateway_bus_requests_total", "Frames of application operations handed to the bus.", |one| {
        one.bus_requests.get()
    });
}

/// A label's value, and the counter of a worker that it stands for.
type CounterRow<'a> = (&'a str, fn(&WorkerMetrics) -> u64);

/// Senders above their rate, and those that only make mistakes.
fn rates(families: &mut Families, workers: &Workers) {
    let rows = |label: &'static str, rows: &[CounterRow]| {
        let row = |(value, of): &CounterRow| (vec![(label, (*value).to_owned())], sum(workers, of));
        rows.iter().map(row).collect::<Vec<_>>()
    };
    families.counters(
        "gateway_rate_limited_total",
        "Above its rate: times that a connection was left unread for a while, then requests refused with 429, then \
         connections closed.",
        rows(
            "stage",
            &[
                ("slowed", |one| one.rate_slowed.get()),
                ("refused", |one| one.rate_refused.get()),
                ("closed", |one| one.rate_closed.get()),
            ],
        ),
    );
    families.gauge(
        "gateway_rate_stopped_connections",
        "Connections that are left unread because they sent above their rate.",
        sum(workers, |one| one.rate_stopped.get()),
    );
    families.counters(
        "gateway_faulty_closes_total",
        "Connections closed because they sent too many frames before the login, or too many faulty requests after it.",
        rows(
            "phase",
            &[
                ("before_login", |one| one.closes_before_login.get()),
                ("logged_in", |one| one.faulty_closes.get()),
            ],
        ),
    );
}

fn fan_out(families: &mut Families, workers: &Workers) {
    let by_class = |of: &dyn Fn(&WorkerMetrics, usize) -> u64| {
        let classes = MessageClass::ALL.iter();
        classes
            .map(|class| {
                (vec![("class", class.label().to_owned())], sum(workers, |one| of(one, *class as usize)))
            })
            .collect::<Vec<_>>()
    };
    families.counters(
        "gateway_deliveries_total",
        "Messages handed to receivers.",
        by_class(&|one, class| one.deliveries[class].get()),
    );
    let with_receiver = |receiver: &str, rows: Vec<(families::Labels, f64)>| {
        let label = ("receiver", receiver.to_owned());
        rows.into_iter()
            .map(move |(labels, count)| ([labels, vec![label.clone()]].concat(), count))
            .collect::<Vec<_>>()
    };
    let kept = with_receiver("kept", by_class(&|one, class| one.drops[class].get()));
    let closed = with_receiver("closed", by_class(&|one, class| one.losses[class].get()));
    families.counters(
        "gateway_dropped_messages_total",
        "Messages that found the receiver's queue full: the receiver was kept and lost only them, or was closed for them.",
        [kept, closed].concat(),
    );
    families.gauge(
        "gateway_fanouts_pending",
        "Fan-outs waiting or under way.",
        sum(workers, |one| one.fanouts_pending.get()),
    );
    families.counter(
        "gateway_mailbox_waits_total",
        "Messages that found another worker's mailbox full and had to wait.",
        sum(workers, |one| one.mailbox_waits.get()),
    );
    families.counter(
        "gateway_backpressure_refusals_total",
        "Clients' requests refused with 503 because what waits for another worker left their connection no share.",
        sum(workers, |one| one.outbox_refusals.get()),
    );
    families.counter(
        "gateway_backpressure_stops_total",
        "Times that a connection was left unread because what it had sent had to wait for another worker.",
        sum(workers, |one| one.holds.get()),
    );
    families.gauge(
        "gateway_backpressure_stopped_connections",
        "Connections that are left unread because what they had sent has to wait for another worker.",
        sum(workers, |one| one.held.get()),
    );
}

fn turns(families: &mut Families, workers: &Workers) {
    histogram(
        families,
        "gateway_turn_duration_seconds",
        "Time from the end of a wait to the end of the turn.",
        workers,
        |one| &one.turn_time,
    );
    histogram(
        families,
        "gateway_receive_to_send_duration_seconds",
        "Time from a batch's arrival to the hand-over of the sends that it caused.",
        workers,
        |one| &one.receive_to_send,
    );
    let each = |of: &dyn Fn(&WorkerMetrics) -> f64| {
        let rows = workers.iter().enumerate();
        rows.map(|(index, one)| (vec![("worker", index.to_string())], of(one))).collect::<Vec<_>>()
    };
    families.counters(
        "gateway_worker_turns_total",
        "Turns of a worker.",
        each(&|one| one.turns.get() as f64),
    );
    families.gauges(
        "gateway_worker_sessions",
        "Sessions of a worker.",
        each(&|one| one.sessions.get() as f64),
    );
    families.gauges(
        "gateway_worker_accept_paused",
        "1 while a worker does not accept because its table of connections is full: new peers wait in its backlog.",
        each(&|one| one.accept_paused.get() as f64),
    );
    stores(families, workers);
    families.gauges(
        "gateway_worker_mailbox_messages",
        "Messages in a worker's mailbox at the end of its last turn.",
        each(&|one| one.mailbox_depth.get() as f64),
    );
    families.gauges(
        "gateway_worker_timer_lag_seconds",
        "How late a worker's timers fired at worst in its last turns.",
        each(&|one| one.timer_lag_nanos.get() as f64 / 1e9),
    );
    families.counters(
        "gateway_worker_late_seconds_total",
        "By how much a worker's turns began too late: stopped, paused, or without a processor.",
        each(&|one| one.late_nanos.get() as f64 / 1e9),
    );
    families.gauges(
        "gateway_worker_receive_buffers_free",
        "Free receive buffers of a worker.",
        each(&|one| one.receive_pool.free.get() as f64),
    );
    families.counters(
        "gateway_worker_heap_allocations_total",
        "Heap allocations by a worker's thread since its start; does not rise once it is warm.",
        each(&|one| one.allocations.get() as f64),
    );
}

/// How full the stores are that connections share, on the worker where each is fullest: a sum would
/// hide one that is full.
fn stores(families: &mut Families, workers: &Workers) {
    let fullest = |store| {
        let levels = workers.iter().map(|one| one.stores.level(store));
        levels.max_by(|a, b| a.share().total_cmp(&b.share())).unwrap_or_default()
    };
    let levels: Vec<(Store, StoreLevel)> = Store::ALL.iter().map(|store| (*store, fullest(*store))).collect();
    let rows = |of: &dyn Fn(StoreLevel) -> u64| {
        let there = levels.iter().filter(|(_, level)| level.max > 0);
        let row = |(store, level): &(Store, StoreLevel)| {
            (vec![("store", store.label().to_owned())], of(*level) as f64)
        };
        there.map(row).collect::<Vec<_>>()
    };
    families.gauges(
        "gateway_store_used",
        "Entries used of a store that connections share, on the worker where it is fullest.",
        rows(&|level| level.used),
    );
    families.gauges("gateway_store_max", "Entries that this store has there.", rows(&|level| level.max));
}

fn histogram(
    families: &mut Families,
    name: &'static str,
    help: &'static str,
    workers: &Workers,
    of: impl Fn(&WorkerMetrics) -> &Histogram,
) {
    let all: Vec<&Histogram> = workers.iter().map(|one| of(one)).collect();
    families.histogram(name, help, &all);
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
    let rows = |at: usize| {
        let row = |(key, levels): (&(&'static str, u64), &[u64; 3])| {
            (vec![("pool", key.0.to_owned()), ("size", key.1.to_string())], levels[at] as f64)
        };
        pools.iter().map(row).collect::<Vec<_>>()
    };
    families.gauges("gateway_pool_buffers", "Buffers of a pool, by size in bytes.", rows(0));
    families.gauges("gateway_pool_buffers_free", "Free buffers of a pool.", rows(1));
    families.counters("gateway_pool_exhausted_total", "Times that a pool had no free buffer.", rows(2));
}

fn add_pool(sums: &mut [u64; 3], pool: &PoolGauges) {
    for (sum, level) in sums.iter_mut().zip([pool.count.get(), pool.free.get(), pool.exhausted.get()]) {
        *sum += level;
    }
}

fn backend(families: &mut Families, workers: &Workers) {
    let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
    for one in workers {
        for (name, count) in one.backend.all() {
            *sums.entry(name).or_default() += count;
        }
    }
    for (name, count) in sums {
        families.counter(&format!("gateway_backend_{name}_total"), backend_help(name), count as f64);
    }
}

/// What a backend counts (netpoll's `BackendCounters`), in words and with its unit.
fn backend_help(name: &str) -> &'static str {
    match name {
        "polls" => "Waits of workers in the kernel: calls of epoll_wait or io_uring_enter.",
        "events" => "Events or completions that the waits of workers returned.",
        "accepts" => "Connections that the backend accepted.",
        "accept_errors" => {
            "Accepts that failed; after a shortage of descriptors or memory the listener rests for 20 ms."
        }
        "receives" => "Receive operations that brought bytes.",
        "receive_bytes" => {
            "Bytes received from clients' sockets, including those of connections being closed."
        }
        "receive_pauses" => "Times that receiving had to wait because no receive buffer was free.",
        "lend_shortages" => {
            "Receives that found none of the buffers lent to the kernel while others were free; one more is lent each time."
        }
        "rearms" => "Receive operations of io_uring that ended by themselves and were started again.",
        "sends" => "Send operations handed to the kernel; one may carry many frames.",
        "send_bytes" => "Bytes that clients' sockets took.",
        "send_waits" => {
            "Times that a client's socket took less than it was offered, so that the rest had to wait."
        }
        "send_copies" => "Waiting pieces copied to a smaller block, so that they do not hold a large one.",
        "overflows" => {
            "Times that the completion queue of io_uring was full; its completions were fetched later."
        }
        "demotions" => {
            "Connections put to a cheaper kind of waiting: new ones, and those that fell quiet (io.idle_demote_ms)."
        }
        "samples" => "Quiet connections that received once and went on waiting in the cheaper way.",
        "promotions" => "Quiet connections moved back because bytes came again soon.",
        "renewals" => "Tables of connections replaced by new ones while idle, with one heap allocation each.",
        _ => "A count of the IO backend that has no description yet.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_a_backend_is_explained_once() {
        let metrics = WorkerMetrics::default();
        let mut texts: Vec<&str> = metrics.backend.all().map(|(name, _)| backend_help(name)).collect();
        assert!(texts.len() > 10 && texts.iter().all(|text| !text.contains("no description")), "{texts:?}");
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }
}
