//! What a worker is made from at its start. The configuration (`config`) is what an operator
//! writes; this is what it means.

use crate::access::{PushOperations, RoomRules};
use crate::coarse_instant::CoarseInstant;
use crate::listener::{Application, Framing, Security};
use crate::memory::Signal;
use crate::message::MessageClass;
use crate::router::places::FanoutSizes;
use crate::router::rooms;
use crate::sources::{AddressCounts, Sources};
use crate::wall_clock::WallClock;
use netpoll::ListenerConfig;
use std::sync::Arc;
use std::time::Duration;

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Name as a metric label, e.g. `tcp`.
    pub name: String,
    /// How plaintext is cut into frames.
    pub framing: Framing,
    /// What protects the bytes of its connections.
    pub security: Security,
    /// What answers the frames.
    pub application: Application,
    /// Where and how it listens.
    pub socket: ListenerConfig,
    /// WebSocket: path of the upgrade request (goim: `/sub`).
    pub path: String,
    /// WebSocket: origins that may connect; empty: any.
    pub origins: Vec<String>,
    /// WebSocket: subprotocols that are spoken; the first that a client offers is chosen.
    pub protocols: Vec<String>,
    /// WebSocket: bytes of an upgrade request's head at most; at most a block.
    pub head_size_max: usize,
    /// WebSocket: size of a message at most, in bytes.
    pub message_size_max: u64,
    /// WebSocket: fragments of a message at most.
    pub fragments_max: u32,
    /// WebSocket: serve the demo page on `GET /`.
    pub demo_page: bool,
}

impl ListenerSettings {
    /// Its kind in the configuration; also a metric label.
    pub const fn kind(&self) -> &'static str {
        match (self.application, self.framing) {
            (Application::Echo, _) => "websocket-echo",
            (Application::Goim, Framing::Tcp) => "tcp",
            (Application::Goim, Framing::WebSocket) => "websocket",
        }
    }

    /// Whether it serves goim's protocol, and in this framing.
    pub fn serves_goim_over(&self, framing: Framing) -> bool {
        self.application == Application::Goim && self.framing == framing
    }
}

/// How clients prove their identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// They don't: the identity that they name is taken as it is. For development.
    None,
    /// By a JSON Web Token, checked by the verifier.
    Jwt,
}

/// How many connections a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicePolicy {
    /// This many; one more closes the oldest. 0: any number.
    Allow(u32),
    /// One for each platform; the newest wins.
    PerPlatform,
}

/// What happens to a message for which its receiver's queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// The message is dropped and counted.
    Drop,
    /// The message is refused and counted, and a connection that takes nothing for a time is closed
    /// with code 3008.
    Close,
}

/// What application operations get when no backend service is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusMode {
    /// An empty reply, as goim gives.
    Acknowledge,
    /// Their own body.
    Echo,
}

/// How much connections may send. 0 stands for no limit in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Messages of a connection; see `session::flow::cost` for what counts as several.
    pub messages_per_second: u32,
    /// Messages that it may send at once.
    pub messages_burst: u32,
    /// Bytes of a connection.
    pub bytes_per_second: u32,
    /// Bytes that it may send at once.
    pub bytes_burst: u32,
    /// Messages of all connections of a user, which share them evenly.
    pub user_messages_per_second: u32,
    /// Bytes of all connections of a user.
    pub user_bytes_per_second: u32,
    /// After how long above the rate requests are refused, in sixteenths of a second.
    pub refuse_after_ticks: u32,
    /// After how long above the rate a connection is closed, in sixteenths of a second.
    pub close_after_ticks: u32,
    /// Frames before the login that are none, WebSocket pings included.
    pub frames_before_login: u8,
    /// Faulty requests of a connection; a second forgets one.
    pub faulty_requests: u8,
}

impl RateLimits {
    /// No limit at all.
    pub const NONE: RateLimits = RateLimits {
        messages_per_second: 0,
        messages_burst: 0,
        bytes_per_second: 0,
        bytes_burst: 0,
        user_messages_per_second: 0,
        user_bytes_per_second: 0,
        refuse_after_ticks: 0,
        close_after_ticks: 0,
        frames_before_login: 0,
        faulty_requests: 0,
    };
}

impl Default for RateLimits {
    fn default() -> RateLimits {
        RateLimits {
            messages_per_second: 1000,
            messages_burst: 2000,
            bytes_per_second: 1 << 20,
            bytes_burst: 1 << 20,
            user_messages_per_second: 2000,
            user_bytes_per_second: 2 << 20,
            refuse_after_ticks: 5 * CoarseInstant::PER_SECOND,
            close_after_ticks: 15 * CoarseInstant::PER_SECOND,
            frames_before_login: 16,
            faulty_requests: 100,
        }
    }
}

/// Where clients of a draining server come back, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectHint {
    /// Their delay: from, to.
    pub delay: (Duration, Duration),
    /// Where they are sent; empty: to the same address.
    pub address: String,
}

/// What may change while running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloadable {
    /// How long a connection may take to log in.
    pub auth_timeout: Duration,
    /// How long a session may be silent (goim's clients beat every 240 s).
    pub idle_timeout: Duration,
    /// How long a frame that has begun, or a message in fragments, may take to come whole.
    pub frame_timeout: Duration,
    /// How long a receiver with a full queue may take nothing before it is closed as too slow.
    pub slow_consumer_timeout: Duration,
    /// Connections of one user.
    pub device_policy: DevicePolicy,
    /// By message class, in the order of `MessageClass::ALL`.
    pub slow_consumer: [SlowConsumer; 4],
    /// Where clients come back after a drain, and when.
    pub reconnect: ReconnectHint,
    /// How much connections may send.
    pub rate: RateLimits,
    /// Whether only members may send to a room.
    pub room_members_only: bool,
    /// Whether clients may send at all (SendMessage, Publish).
    pub client_send: bool,
    /// Push operations that a client's SendMessage may name besides the default one. Services may
    /// name any.
    pub client_push_operations: PushOperations,
    /// Which rooms clients may enter. Services may enter any.
    pub room_access: RoomRules,
}

impl Reloadable {
    /// The policy for a class.
    pub fn slow_consumer(&self, class: MessageClass) -> SlowConsumer {
        self.slow_consumer[class as usize]
    }
}

impl Default for Reloadable {
    fn default() -> Self {
        Reloadable {
            auth_timeout: Duration::from_secs(8),
            idle_timeout: Duration::from_secs(540),
            frame_timeout: Duration::from_secs(30),
            slow_consumer_timeout: Duration::from_secs(2),
            device_policy: DevicePolicy::Allow(16),
            slow_consumer: [SlowConsumer::Close, SlowConsumer::Close, SlowConsumer::Drop, SlowConsumer::Drop],
            reconnect: ReconnectHint {
                delay: (Duration::from_millis(500), Duration::from_secs(10)),
                address: String::new(),
            },
            rate: RateLimits::default(),
            room_members_only: true,
            client_send: true,
            client_push_operations: PushOperations::default(),
            room_access: RoomRules::default(),
        }
    }
}

/// Sizes of a worker's tables. All are reserved at the start.
#[derive(Clone, Copy, Debug)]
pub struct TableSizes {
    /// Connections.
    pub connections_max: usize,
    /// Rooms with a member or with their home on this worker.
    pub rooms_max: usize,
    /// Memberships of its connections.
    pub memberships_max: usize,
    /// Rooms of one connection.
    pub rooms_per_connection_max: u8,
    /// Directory entries (users and keys with their home on this worker).
    pub names_max: usize,
    /// Different accept sets.
    pub accept_sets_max: usize,
    /// 36-byte cells for keys, user ids and room names.
    pub text_cells_max: usize,
    /// Messages in its mailbox.
    pub mailbox_capacity: usize,
    /// Pushes to rooms and to everyone that are being delivered at a time.
    pub fanouts_max: usize,
}

impl TableSizes {
    /// What `connections_max` connections need when each is in at most four rooms on average.
    /// Besides what each connection is guaranteed (decision 0023) there are rooms for a quarter of
    /// that to share, and 1024.
    pub fn for_connections(connections_max: usize, workers: usize) -> TableSizes {
        // A home serves names of all workers; the hash spreads them evenly, but not exactly.
        let names = if workers == 1 { connections_max } else { connections_max + connections_max / 4 + 64 };
        let hosted = rooms::entries_for(connections_max) + 1024;
        TableSizes {
            connections_max,
            rooms_max: rooms::records_for(hosted, workers),
            memberships_max: 4 * connections_max + 1024,
            rooms_per_connection_max: 32,
            names_max: 2 * names,
            accept_sets_max: (connections_max / 4).clamp(1024, 4096),
            text_cells_max: 3 * connections_max + hosted + 1024,
            mailbox_capacity: 4096,
            fanouts_max: 5120,
        }
    }
}

impl TableSizes {
    /// The fan-outs by what they are for.
    pub fn fanouts(&self) -> FanoutSizes {
        FanoutSizes::of(self.fanouts_max)
    }

    /// Outcomes that hosts report one by one, at a time: as many as messages that may come in, and
    /// never few.
    pub fn outcomes_max(&self) -> usize {
        self.mailbox_capacity.max(1024)
    }
}

/// How long connections linger, see [`WorkerSettings::linger`].
pub const LINGER: Duration = Duration::from_secs(2);

/// State that all workers and the control thread share; clones are of the same.
#[derive(Clone, Debug)]
pub struct Shared {
    /// How near the end of memory is; the control thread writes it.
    pub memory: Arc<Signal>,
    /// How far the wall clock was moved since the start; the control thread writes it.
    pub wall: Arc<WallClock>,
    /// Connections of each address, and how many it may have; `None`: any number.
    pub sources: Option<AddressCounts>,
    /// Tokens of each address that wait for the verifier.
    pub verifying: Arc<Sources>,
}

impl Shared {
    /// With counts of no address yet, and places in them for `verifying_max` tokens.
    pub fn new(sources: Option<AddressCounts>, verifying_max: usize) -> Shared {
        let verifying = Arc::new(Sources::new(verifying_max));
        Shared { memory: Arc::default(), wall: Arc::default(), sources, verifying }
    }
}

/// Everything that a worker is made from.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Workers of the process.
    pub workers: usize,
    /// Its listeners.
    pub listeners: Vec<ListenerSettings>,
    /// Sizes of its tables.
    pub tables: TableSizes,
    /// Body of a frame at most, in bytes.
    pub frame_body_size_max: u32,
    /// Body of a frame at most before the login, in bytes.
    pub auth_body_size_max: u32,
    /// How clients prove their identity.
    pub auth: AuthMode,
    /// What application operations get.
    pub bus: BusMode,
    /// Completions that one turn handles at most.
    pub completions_per_turn_max: usize,
    /// Deliveries of fan-outs in one turn at most.
    pub fanout_slice: usize,
    /// Bytes that a connection's queue may hold, as its backend has it.
    pub send_queue_bytes_max: usize,
    /// Push operation of a SendMessage that names none.
    pub default_push_operation: i32,
    /// How long a connection that has had its last word is kept at most, so that it arrives: three
    /// quarters of it for the close frame of a WebSocket peer. [`LINGER`], but in tests.
    pub linger: Duration,
    /// Report connects and closes, to the audit journal or to a log at level debug.
    pub audit: bool,
    /// What it shares with the other workers and the control thread.
    pub shared: Shared,
    /// What may change while running.
    pub reloadable: Reloadable,
}
