//! Counts of one worker, and the metrics that show them.

use super::backend::{BackendMetrics, StackMetrics};
use super::counter::{Counter, Gauge, Histogram};
use super::labels::{EndReason, OperationClass, SlowReason};
use super::stores::StoreGauges;
use super::table::{Metric, MetricKind};
use crate::message::EncodedPush;
use netpoll::CloseReason;

/// Frames and bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames.
    pub frames: Counter,
    /// Bytes of those frames, headers included.
    pub bytes: Counter,
}

/// A pool's level.
#[derive(Debug, Default)]
pub struct PoolGauges {
    /// Size of a block in bytes; 0 where there is no such pool.
    pub size: Gauge,
    /// Blocks.
    pub count: Gauge,
    /// Free blocks.
    pub free: Gauge,
    /// Times that none was free.
    pub exhausted: Counter,
}

/// Most block pools that are reported one by one.
pub const POOLS_MAX: usize = 6;
/// Most listeners that are reported one by one.
pub const LISTENERS_MAX: usize = 8;
/// Close codes counted one by one (see [`WorkerMetrics::count_end`]); others fall together.
pub const CODES_MAX: usize = 32;

/// Sessions by the number of their token's key.
#[derive(Debug)]
pub struct TokenKeySessions([Gauge; 256]);

impl Default for TokenKeySessions {
    fn default() -> TokenKeySessions {
        TokenKeySessions(std::array::from_fn(|_| Gauge::default()))
    }
}

impl TokenKeySessions {
    /// One more.
    pub fn add(&self, number: u8) {
        self.0[usize::from(number)].increment();
    }

    /// One less.
    pub fn remove(&self, number: u8) {
        self.0[usize::from(number)].decrement();
    }

    /// Sessions with a token of the key with this number.
    #[inline]
    pub fn of(&self, number: u8) -> u64 {
        self.0[usize::from(number)].get()
    }
}

/// A count of a worker.
pub type CountOf = fn(&WorkerMetrics) -> u64;

/// A metric of workers, and the counts that it shows. A unit of seconds is kept in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct WorkerMetric {
    /// What a scrape says of it.
    pub metric: Metric,
    /// The counts, each with the value of the metric's label; "" where it has none.
    pub counts: &'static [(&'static str, CountOf)],
}

/// Declares [`WorkerMetrics`]: its counters and gauges with the metrics that show them.
macro_rules! worker_metrics {
    (
        summed {$(
            $kind:ident $name:literal $(by $label:literal)? $help:literal
                => $($field:ident $(= $value:literal)?),+;
        )*}
        each {$($each_kind:ident $each_name:literal $each_help:literal => $each:ident;)*}
        durations {$($duration_name:literal $duration_help:literal => $duration:ident;)*}
        others {$($(#[$doc:meta])* $other:ident: $other_type:ty,)*}
    ) => {
        /// All counts of one worker. Each field's name says its unit; the alignment (two lines of
        /// 64 bytes, which processors fetch in pairs) keeps workers off each other's lines.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct WorkerMetrics {
            $($(#[doc = concat!($help, $(" Label: ", $value, ".")?)] pub $field: $kind,)+)*
            $(#[doc = $each_help] pub $each: $each_kind,)*
            $(#[doc = $duration_help] pub $duration: Histogram,)*
            $($(#[$doc])* pub $other: $other_type,)*
        }

        impl WorkerMetrics {
            /// Metrics that are summed over workers.
            pub const SUMMED: &[WorkerMetric] = &[$(WorkerMetric {
                metric: Metric {
                    name: $name,
                    kind: MetricKind::$kind,
                    labels: &[$($label)?],
                    help: $help,
                },
                counts: &[$((concat!($($value)?), |one| one.$field.get())),+],
            }),*];

            /// Metrics of each worker, by its number.
            pub const EACH: &[WorkerMetric] = &[$(WorkerMetric {
                metric: Metric {
                    name: $each_name,
                    kind: MetricKind::$each_kind,
                    labels: &["worker"],
                    help: $each_help,
                },
                counts: &[("", |one| one.$each.get())],
            }),*];

            /// Durations, summed over workers.
            pub const DURATIONS: &[(Metric, fn(&WorkerMetrics) -> &Histogram)] = &[$((
                Metric {
                    name: $duration_name,
                    kind: MetricKind::Histogram,
                    labels: &[],
                    help: $duration_help,
                },
                |one| &one.$duration,
            )),*];
        }
    };
}

worker_metrics! {
    summed {
        Gauge "gateway_sessions" "Connections that have logged in." => sessions;
        Counter "gateway_logins_total" "Logins accepted." => logins;
        Counter "gateway_auth_failures_total" "Logins refused." => auth_failures;
        Counter "gateway_upgrade_failures_total" "WebSocket upgrades refused." => upgrade_failures;
        Counter "gateway_audit_drops_total"
            "Entries of the audit journal lost because the control thread did not keep up."
            => audit_drops;
        Counter "gateway_send_store_refusals_total"
            "Messages and replies that found the store of pieces used up by other connections."
            => store_refusals;
        Gauge "gateway_lingering_connections"
            "Connections kept for at most 2 s after their last message, slow ones for 10 s, so that it arrives."
            => lingering;
        Counter "gateway_linger_evictions_total"
            "Lingering connections closed early, because the table of connections was full."
            => linger_evictions;
        Counter "gateway_unsent_frames_total" by "kind"
            "Frames in the queues of receivers that were closed as too slow: pushes, and answers to their own requests; gateway_send_frames_total counts them, too."
            => unsent_pushes = "push", unsent_answers = "answer";
        Counter "gateway_memory_refused_connections_total"
            "Connections refused because memory was short."
            => memory_refusals;
        Counter "gateway_address_refused_connections_total"
            "Connections refused because their address has limits.connections_per_address_max."
            => address_refusals;
        Counter "gateway_unauthenticated_evictions_total"
            "Connections evicted before they began to log in, for new ones while slots were short."
            => unauthenticated_evictions;
        Counter "gateway_table_refusals_total"
            "Requests to enter a room that found a table full, or more than a share of what is left taken."
            => table_refusals;
        Counter "gateway_fanout_refusals_total"
            "Pushes to rooms refused with 503 because a worker with members had no fan-out left, or the room its share of them."
            => fanout_refusals;
        Counter "gateway_waiting_copies_total"
            "Messages copied out of receive buffers because they had to wait for a fan-out, or for another worker."
            => waiting_copies;
        Counter "gateway_memory_dropped_messages_total"
            "Messages to slow receivers dropped because memory was short; included in gateway_dropped_messages_total."
            => memory_drops;
        Counter "gateway_incomplete_frame_closes_total" by "reason"
            "Connections closed for an incomplete frame: it took too long, or buffers were short."
            => shed_frames = "pressure", late_frames = "timeout";
        Counter "gateway_accept_pauses_total"
            "Times that a worker stopped accepting because its table of connections was full."
            => accept_pauses;
        Counter "gateway_accept_paused_seconds_total"
            "Time that workers did not accept because their tables were full, added up."
            => accept_paused_nanos;
        Gauge "gateway_rooms" "Rooms with members, counted once a worker." => rooms;
        Gauge "gateway_memberships" "Memberships in rooms." => memberships;
        Counter "gateway_request_errors_total" "Requests refused with an error code." => errors;
        Counter "gateway_rate_limited_total" by "stage"
            "Above its rate: times that a connection was left unread for a while, then requests refused with 429, then connections closed."
            => rate_slowed = "slowed", rate_refused = "refused", rate_closed = "closed";
        Gauge "gateway_rate_stopped_connections"
            "Connections that are left unread because they sent above their rate."
            => rate_stopped;
        Counter "gateway_faulty_closes_total" by "phase"
            "Connections closed because they sent too many frames before the login, or too many faulty requests after it."
            => closes_before_login = "before_login", faulty_closes = "logged_in";
        Counter "gateway_frame_straddles_total"
            "Frames copied once because they straddled two buffers."
            => straddles;
        Counter "gateway_payload_copies_total"
            "Payloads copied because they could not be rewritten in place."
            => payload_copies;
        Counter "gateway_bus_requests_total"
            "Frames of application operations handed to the bus."
            => bus_requests;
        Gauge "gateway_fanouts_pending" "Fan-outs waiting or under way." => fanouts_pending;
        Counter "gateway_mailbox_waits_total"
            "Messages that found another worker's mailbox full and had to wait."
            => mailbox_waits;
        Counter "gateway_backpressure_refusals_total"
            "Clients' requests refused with 503 because what waits for another worker left their connection no share."
            => outbox_refusals;
        Counter "gateway_backpressure_stops_total"
            "Times that a connection was left unread because what it had sent had to wait for another worker."
            => holds;
        Gauge "gateway_backpressure_stopped_connections"
            "Connections that are left unread because what they had sent has to wait for another worker."
            => held;
        Counter "gateway_answer_stops_total"
            "Times that a connection was left unread because answers to its own requests waited for it."
            => answer_stops;
        Gauge "gateway_answer_stopped_connections"
            "Connections that are left unread because answers to their own requests wait for them."
            => answer_stopped;
    }
    each {
        Counter "gateway_worker_turns_total" "Turns of a worker." => turns;
        Gauge "gateway_worker_accept_paused"
            "1 while a worker does not accept because its table of connections is full: new peers wait in its backlog."
            => accept_paused;
        Gauge "gateway_worker_mailbox_messages"
            "Messages in a worker's mailbox at the end of its last turn."
            => mailbox_depth;
        Gauge "gateway_worker_timer_lag_seconds"
            "How late a worker's timers fired at worst in its last turns."
            => timer_lag_nanos;
        Counter "gateway_worker_late_seconds_total"
            "By how much a worker's turns began too late: stopped, paused, or without a processor."
            => late_nanos;
        Counter "gateway_worker_heap_allocations_total"
            "Heap allocations by a worker's thread since its start; does not rise once it is warm."
            => allocations;
    }
    durations {
        "gateway_turn_duration_seconds"
            "Time from the end of a wait to the end of the turn."
            => turn_time;
        "gateway_receive_to_send_duration_seconds"
            "Time from a batch's arrival to the hand-over of the sends that it caused."
            => receive_to_send;
    }
    others {
        /// Connections open, by listener.
        connections: [Gauge; LISTENERS_MAX],
        /// Connections accepted, by listener.
        accepts: [Counter; LISTENERS_MAX],
        /// Sessions that are logging in or logged in, by the number of their token's key; those
        /// without one are not counted.
        token_keys: TokenKeySessions,
        /// Ends by the transport's reason, in the order of `CloseReason::ALL`.
        ends_transport: [Counter; 6],
        /// Ends by close code: slot `i` counts the code in `end_codes[i]`.
        ends_code: [Counter; CODES_MAX],
        /// The codes of `ends_code`; 0 where unused.
        end_codes: [Gauge; CODES_MAX],
        /// Received, by operation class.
        received: [Traffic; 8],
        /// Sent, by operation class.
        sent: [Traffic; 8],
        /// Messages handed to receivers by fan-out, by message class.
        deliveries: [Counter; 4],
        /// Messages dropped because the receiver's queue was full, by message class; the receiver
        /// stayed.
        drops: [Counter; 4],
        /// Messages lost because the receiver's queue was full and it was closed for that, by
        /// message class.
        losses: [Counter; 4],
        /// Slow consumers closed, in the order of `SlowReason::ALL`.
        slow_closes: [Counter; SlowReason::ALL.len()],
        /// Logins refused because the verifier's queue was full; shown with the verifiers' counts.
        verifier_overloads: Counter,
        /// How full the stores are that connections share.
        stores: StoreGauges,
        /// The receive pool.
        receive_pool: PoolGauges,
        /// The block pools by rising size.
        block_pools: [PoolGauges; POOLS_MAX],
        /// The backend's own counts.
        backend: BackendMetrics,
        /// What only some backends count.
        stack: StackMetrics,
    }
}

impl WorkerMetrics {
    /// Counts the end of a connection.
    pub fn count_end(&self, reason: EndReason) {
        match reason {
            EndReason::Transport(reason) => {
                let index = CloseReason::ALL.iter().position(|one| *one == reason).unwrap_or(0);
                self.ends_transport[index].add(1);
            }
            EndReason::Code(code) => self.count_code(u64::from(code.get())),
        }
    }

    fn count_code(&self, code: u64) {
        let slot = self.end_codes.iter().position(|slot| slot.get() == code || slot.get() == 0);
        let slot = slot.unwrap_or(CODES_MAX - 1);
        self.end_codes[slot].set(code);
        self.ends_code[slot].add(1);
    }

    /// Counts a frame that came in.
    #[inline]
    pub fn count_received(&self, class: OperationClass, bytes: usize) {
        self.received[class as usize].frames.add(1);
        self.received[class as usize].bytes.add(bytes as u64);
    }

    /// Counts a frame that goes out.
    #[inline]
    pub fn count_sent(&self, class: OperationClass, bytes: usize) {
        self.count_sent_frames(class, 1, bytes);
    }

    /// Counts frames that go out together.
    #[inline]
    pub fn count_sent_frames(&self, class: OperationClass, frames: u64, bytes: usize) {
        self.sent[class as usize].frames.add(frames);
        self.sent[class as usize].bytes.add(bytes as u64);
    }

    /// Slow consumers closed, whatever the reason.
    pub fn slow_closes_in_all(&self) -> u64 {
        self.slow_closes.iter().map(Counter::get).sum()
    }

    /// Slow consumers closed for `reason`.
    pub fn slow_closes_for(&self, reason: SlowReason) -> &Counter {
        &self.slow_closes[reason as usize]
    }

    /// Counts messages that found no room at their receiver, which stays or is `closed` for it.
    pub fn count_drop(&self, push: &EncodedPush, closed: bool) {
        let counts = if closed { &self.losses } else { &self.drops };
        counts[push.class() as usize].add(u64::from(push.frames()));
    }
}
