//! Counters of one worker.

use super::counter::{Counter, Gauge, Histogram};
use super::stores::StoreGauges;
use crate::message::EncodedPush;
use gateway_proto::codes::CloseCode;
use gateway_proto::frame::Operation;
use netpoll::{Backend, CloseReason};
use std::sync::OnceLock;

/// Classes of operations that traffic is counted by: few and fixed, whatever clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OperationClass {
    /// Heartbeat and its reply.
    Heartbeat,
    /// Auth and its reply.
    Auth,
    /// SendMessage, Publish and their replies.
    Send,
    /// Rooms: join, leave, change.
    Room,
    /// Subscribe, unsubscribe.
    Subscribe,
    /// Pushes and deliveries.
    Push,
    /// Closed, Reconnect, Error.
    Notice,
    /// Application operations handed to the bus, and its replies.
    Application,
}

impl OperationClass {
    /// The class of an operation.
    #[inline]
    pub const fn of(operation: Operation) -> OperationClass {
        match operation {
            Operation::HEARTBEAT | Operation::HEARTBEAT_REPLY => OperationClass::Heartbeat,
            Operation::AUTH | Operation::AUTH_REPLY => OperationClass::Auth,
            Operation::SEND_MESSAGE
            | Operation::SEND_MESSAGE_REPLY
            | Operation::PUBLISH
            | Operation::PUBLISH_REPLY
            | Operation::DELIVER_ACK => OperationClass::Send,
            Operation::CHANGE_ROOM
            | Operation::CHANGE_ROOM_REPLY
            | Operation::JOIN
            | Operation::JOIN_REPLY
            | Operation::LEAVE
            | Operation::LEAVE_REPLY => OperationClass::Room,
            Operation::SUBSCRIBE
            | Operation::SUBSCRIBE_REPLY
            | Operation::UNSUBSCRIBE
            | Operation::UNSUBSCRIBE_REPLY => OperationClass::Subscribe,
            Operation::RAW | Operation::DELIVER => OperationClass::Push,
            Operation::RECONNECT | Operation::CLOSED | Operation::ERROR => OperationClass::Notice,
            _ => OperationClass::Application,
        }
    }

    /// All of them.
    pub const ALL: [OperationClass; 8] = [
        OperationClass::Heartbeat,
        OperationClass::Auth,
        OperationClass::Send,
        OperationClass::Room,
        OperationClass::Subscribe,
        OperationClass::Push,
        OperationClass::Notice,
        OperationClass::Application,
    ];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            OperationClass::Heartbeat => "heartbeat",
            OperationClass::Auth => "auth",
            OperationClass::Send => "send",
            OperationClass::Room => "room",
            OperationClass::Subscribe => "subscribe",
            OperationClass::Push => "push",
            OperationClass::Notice => "notice",
            OperationClass::Application => "application",
        }
    }
}

/// Why a connection ended, for metrics: the transport's reason, or the code that the server closed
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The transport ended.
    Transport(CloseReason),
    /// The server closed it with a code.
    Code(CloseCode),
}

/// Why a slow consumer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlowReason {
    /// It took nothing for a time, and a message that may not be dropped found its queue full.
    Stalled,
    /// Replies to its own requests found its queue full.
    Replies,
    /// Buffers or pieces ran short, and it held most of them.
    Pressure,
    /// Memory was short, and its queue was the longest.
    Memory,
}

impl SlowReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [SlowReason; 4] =
        [SlowReason::Stalled, SlowReason::Replies, SlowReason::Pressure, SlowReason::Memory];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            SlowReason::Stalled => "stalled",
            SlowReason::Replies => "replies",
            SlowReason::Pressure => "pressure",
            SlowReason::Memory => "memory",
        }
    }
}

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

/// All counts of one worker. Each field's name says its unit; the alignment (two lines of 64 bytes,
/// which processors fetch in pairs) keeps workers off each other's lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections open, by listener.
    pub connections: [Gauge; LISTENERS_MAX],
    /// Sessions logged in.
    pub sessions: Gauge,
    /// Sessions that are logging in or logged in, by the number of their token's key; those without
    /// one are not counted.
    pub token_keys: TokenKeySessions,
    /// Connections accepted, by listener.
    pub accepts: [Counter; LISTENERS_MAX],
    /// Ends by the transport's reason, in the order of `CloseReason::ALL`.
    pub ends_transport: [Counter; 6],
    /// Ends by close code: slot `i` counts the code in `end_codes[i]`.
    pub ends_code: [Counter; CODES_MAX],
    /// The codes of `ends_code`; 0 where unused.
    pub end_codes: [Gauge; CODES_MAX],
    /// Received, by operation class.
    pub received: [Traffic; 8],
    /// Sent, by operation class.
    pub sent: [Traffic; 8],
    /// Messages handed to receivers by fan-out, by message class.
    pub deliveries: [Counter; 4],
    /// Messages dropped because the receiver's queue was full, by message class; the receiver
    /// stayed.
    pub drops: [Counter; 4],
    /// Messages lost because the receiver's queue was full and it was closed for that, by message
    /// class.
    pub losses: [Counter; 4],
    /// Slow consumers closed, in the order of `SlowReason::ALL`.
    pub slow_closes: [Counter; SlowReason::ALL.len()],
    /// Replies and pushes that found the store of pieces used up by others.
    pub store_refusals: Counter,
    /// Connections closed because buffers ran short and they held one for a frame that had not come
    /// whole.
    pub shed_frames: Counter,
    /// Connections closed because a frame did not come whole in time.
    pub late_frames: Counter,
    /// Connections kept for a moment after their last frame.
    pub lingering: Gauge,
    /// Those of them that were closed early, because the table of connections was full.
    pub linger_evictions: Counter,
    /// Connections refused because memory was short.
    pub memory_refusals: Counter,
    /// Connections refused because their address has as many as it may.
    pub address_refusals: Counter,
    /// Connections evicted before they began to log in, for new connections.
    pub unauthenticated_evictions: Counter,
    /// Requests to enter a room that found a table full, or its share of it taken.
    pub table_refusals: Counter,
    /// Pushes to rooms refused because a host of members had no fan-out left for the room.
    pub fanout_refusals: Counter,
    /// Messages dropped because memory was short and the receiver had not taken earlier ones.
    pub memory_drops: Counter,
    /// Sessions logged in since the start.
    pub logins: Counter,
    /// WebSocket upgrades refused.
    pub upgrade_failures: Counter,
    /// Entries of the audit journal lost because the control thread did not keep up.
    pub audit_drops: Counter,
    /// Login attempts refused.
    pub auth_failures: Counter,
    /// Those of them that found the verifier's queue full.
    pub verifier_overloads: Counter,
    /// Requests refused with an error code.
    pub errors: Counter,
    /// Times that a connection was left unread because it sent above its rate.
    pub rate_slowed: Counter,
    /// Requests refused because the connection went on sending above its rate.
    pub rate_refused: Counter,
    /// Connections closed because they went on after that.
    pub rate_closed: Counter,
    /// Connections left unread now.
    pub rate_stopped: Gauge,
    /// Connections closed because they sent too much before the login that was none.
    pub closes_before_login: Counter,
    /// Connections closed because they sent too many faulty requests.
    pub faulty_closes: Counter,
    /// Frames that straddled two receive buffers and were copied once.
    pub straddles: Counter,
    /// Payloads that could not be rewritten in place and were copied.
    pub payload_copies: Counter,
    /// Frames of application operations handed to the bus.
    pub bus_requests: Counter,
    /// Fan-outs waiting or under way.
    pub fanouts_pending: Gauge,
    /// Messages in the mailbox, at the end of a turn.
    pub mailbox_depth: Gauge,
    /// Messages that found another worker's mailbox full and had to wait.
    pub mailbox_waits: Counter,
    /// Requests of clients refused because what waits for another worker left their connection no
    /// share.
    pub outbox_refusals: Counter,
    /// Times that a connection was left unread because what it had sent to other workers had to
    /// wait.
    pub holds: Counter,
    /// Connections left unread for that now.
    pub held: Gauge,
    /// Rooms with a member here.
    pub rooms: Gauge,
    /// Memberships here.
    pub memberships: Gauge,
    /// How full the stores are that connections share.
    pub stores: StoreGauges,
    /// 1 while accepting is paused because the table of connections is full.
    pub accept_paused: Gauge,
    /// Times that it was.
    pub accept_pauses: Counter,
    /// How long it was in all, in nanoseconds.
    pub accept_paused_nanos: Counter,
    /// Turns.
    pub turns: Counter,
    /// Time from the end of the wait to the end of the turn.
    pub turn_time: Histogram,
    /// Time from a batch's arrival to the hand-over of the sends that it caused, one observation a
    /// receive.
    pub receive_to_send: Histogram,
    /// How late timers fired at worst in the last turns, in nanoseconds.
    pub timer_lag_nanos: Gauge,
    /// By how much turns began too late, in nanoseconds.
    pub late_nanos: Counter,
    /// Heap allocations by this worker's thread since its start.
    pub allocations: Counter,
    /// The receive pool.
    pub receive_pool: PoolGauges,
    /// The block pools by rising size.
    pub block_pools: [PoolGauges; POOLS_MAX],
    /// The backend's own counts.
    pub backend: BackendMetrics,
    /// What only some backends count.
    pub stack: StackMetrics,
}

/// Counters of a TCP/IP stack in user space; empty with the kernel's. The names are the backend's.
#[derive(Debug, Default)]
pub struct StackMetrics(OnceLock<Vec<(&'static str, Counter)>>);

impl StackMetrics {
    /// Takes over the backend's counts. Allocates the first time.
    pub fn publish<B: Backend>(&self, backend: &mut B) {
        let counters = self.0.get_or_init(|| {
            let mut names = Vec::new();
            backend.details(&mut |name, _| names.push((name, Counter::default())));
            names
        });
        let mut place = 0;
        backend.details(&mut |name, count| {
            if counters.get(place).is_none_or(|(one, _)| *one != name) {
                place = counters.iter().position(|(one, _)| *one == name).unwrap_or(counters.len());
            }
            if let Some((_, counter)) = counters.get(place) {
                counter.set(count);
            }
            place += 1;
        });
    }

    /// The counts by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.get().into_iter().flatten().map(|(name, counter)| (*name, counter.get()))
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

macro_rules! backend_metrics {
    ($($field:ident),* $(,)?) => {
        /// [`netpoll::BackendCounters`], readable from any thread.
        #[derive(Debug, Default)]
        pub struct BackendMetrics {
            $(#[doc = concat!("See `BackendCounters::", stringify!($field), "`.")] pub $field: Counter,)*
        }

        impl BackendMetrics {
            /// Takes over the backend's counts.
            pub fn publish(&self, counters: &netpoll::BackendCounters) {
                $(self.$field.set(counters.$field);)*
            }

            /// The counts by name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($field), self.$field.get())),*].into_iter()
            }
        }
    };
}

backend_metrics!(
    polls,
    events,
    accepts,
    accept_errors,
    receives,
    receive_bytes,
    receive_pauses,
    lend_shortages,
    rearms,
    sends,
    send_bytes,
    send_waits,
    send_copies,
    overflows,
    demotions,
    samples,
    promotions,
    renewals,
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_operation_of_the_protocol_is_counted_in_a_class_of_the_protocol() {
        let mut classes = BTreeMap::new();
        for operation in Operation::ALL {
            let class = OperationClass::of(*operation);
            assert_ne!(class, OperationClass::Application, "{operation} is counted as an application's");
            let of_label = *classes.entry(operation.label()).or_insert(class);
            assert_eq!(of_label, class, "{operation}: a request and its reply are counted apart");
        }
        assert_eq!(OperationClass::of(Operation(1000)), OperationClass::Application);
    }

    #[test]
    fn classes_are_indexed_by_their_number_and_have_labels_of_their_own() {
        let labels: BTreeSet<_> = OperationClass::ALL.iter().map(|class| class.label()).collect();
        assert_eq!(labels.len(), OperationClass::ALL.len());
        assert!(OperationClass::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
    }
}
