//! What a run is made of, drawn from its seed.
//!
//! Every size is drawn from tiny to ample, and each kind of action is off, rare or frequent: runs
//! that leave some things out reach states that runs of everything never do ("swarm testing", Groce
//! et al., 2012).

use gateway_core::access::PushOperations;
use gateway_core::listener::{Application, Framing, Security};
use gateway_core::settings::{
    AuthMode, BusMode, DevicePolicy, LINGER, ListenerSettings, RateLimits, Reloadable, SlowConsumer,
    TableSizes, WorkerSettings,
};
use netpoll::sim::{FaultConfig, Rng};
use netpoll::{BackendConfig, ListenerConfig, PoolSize, PoolsConfig};
use std::net::SocketAddr;
use std::time::Duration;

/// Something that the workload may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    Connect,
    Heartbeat,
    SendToUser,
    SendToRoom,
    SendToKey,
    Join,
    Leave,
    ChangeRoom,
    Subscribe,
    Application,
    Ping,
    Disconnect,
    Garbage,
    PushToAll,
    PushToName,
    PushToRoom,
    Kick,
    KickConnection,
    Inspect,
    Reload,
    Stall,
    /// Leaves a room and comes back at once.
    Rejoin,
    /// Many pushes to one room: its home's mailbox is full for a while.
    Flood,
    Race,
    Echo,
    /// Changes of rooms, joins and leaves, one behind the other before any is answered.
    Shuffle,
    /// A client that enters many rooms with long names.
    Hog,
    /// A client that stops reading until all come to rest.
    Deafen,
}

impl Action {
    pub const ALL: [Action; 28] = [
        Action::Connect,
        Action::Heartbeat,
        Action::SendToUser,
        Action::SendToRoom,
        Action::SendToKey,
        Action::Join,
        Action::Leave,
        Action::ChangeRoom,
        Action::Subscribe,
        Action::Application,
        Action::Ping,
        Action::Disconnect,
        Action::Garbage,
        Action::PushToAll,
        Action::PushToName,
        Action::PushToRoom,
        Action::Kick,
        Action::KickConnection,
        Action::Inspect,
        Action::Reload,
        Action::Stall,
        Action::Rejoin,
        Action::Flood,
        Action::Race,
        Action::Echo,
        Action::Shuffle,
        Action::Hog,
        Action::Deafen,
    ];

    /// Whether it leaves everybody where they are.
    pub const fn is_talk(self) -> bool {
        use Action::{Application, Heartbeat, Inspect, Ping, SendToKey, SendToRoom, SendToUser, Stall};
        matches!(self, Heartbeat | SendToUser | SendToRoom | SendToKey | Application | Ping | Inspect | Stall)
            || matches!(self, Action::PushToAll | Action::PushToName | Action::PushToRoom | Action::Flood)
            || matches!(self, Action::Echo)
    }

    /// How often it is drawn where it is drawn at all.
    const fn weight(self) -> usize {
        match self {
            Action::Connect => 12,
            Action::SendToRoom => 20,
            Action::Join => 12,
            Action::SendToUser | Action::Leave | Action::Echo => 8,
            Action::Disconnect => 3,
            Action::Hog
            | Action::Garbage
            | Action::Kick
            | Action::KickConnection
            | Action::Inspect
            | Action::Reload => 1,
            Action::Flood | Action::Deafen => 2,
            Action::Shuffle => 6,
            _ => 4,
        }
    }
}

/// A run.
#[derive(Debug)]
pub struct Plan {
    pub settings: WorkerSettings,
    pub backend: BackendConfig,
    pub faults: FaultConfig,
    /// Hosts of clients.
    pub hosts: usize,
    /// Connections open at a time at most.
    pub clients_max: usize,
    /// Between two rounds everything comes to rest and is checked. In every other round clients
    /// only talk: nobody comes or goes, and what a message does is known exactly.
    pub rounds: usize,
    pub actions: usize,
    /// Chance of an action in a step.
    pub pace: f64,
    /// Weight of each action.
    pub weights: [usize; Action::ALL.len()],
    /// Largest payload.
    pub payload_max: usize,
    pub rooms: usize,
    pub users: usize,
    pub keys: usize,
    /// Memory or tables may run out: closes with 3001 and refusals are no surprise, farewells may
    /// get lost.
    pub tight: bool,
    /// Clients bring tokens; so many logins may wait for the verifier.
    pub verifier_queue: Option<usize>,
    /// Share of users that are known by a text.
    pub uids: f64,
    /// Share of clients that speak to the echo.
    pub echoes: f64,
    /// Chance of a push to a room in the moment in which somebody has entered it.
    pub probes: f64,
    /// Rounds in which somebody comes or goes end with a race: nothing is asked for after it, so it
    /// is judged.
    pub races: bool,
    /// A client of each round floods until it is closed; else clients may only be slowed, and lose
    /// nothing by it.
    pub floods: bool,
    /// Drain before the end.
    pub drains: bool,
    /// Wait for the idle time-out at the end.
    pub idles: bool,
}

impl Plan {
    pub fn drawn(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed ^ 0x706c_616e);
        let tight = rng.chance(0.3);
        // A crowd: many of their own names in one room, rather than few names that are fought over.
        let is_crowd = rng.chance(0.2);
        let workers = 1 + rng.below(if is_crowd { 2 } else { 4 });
        let payload_max = [0, 100, 700][rng.below(3)];
        let mut settings = settings(rng, workers, tight);
        let verifier_queue = rng.chance(0.25).then(|| [1, 4, 64][rng.below(3)]);
        if verifier_queue.is_some() {
            settings.auth = AuthMode::Jwt;
        }
        let idles = rng.chance(0.15);
        settings.reloadable.slow_consumer_timeout = Duration::from_millis([1, 50, 2000][rng.below(3)]);
        let floods = rng.chance(0.15);
        settings.reloadable.rate = rate(rng, floods);
        let mut plan = Plan {
            floods,
            backend: backend(rng, tight),
            faults: faults(rng),
            hosts: 1 + rng.below(3),
            clients_max: if is_crowd { 24 } else { 2 + rng.below(12) },
            rounds: 1 + rng.below(4),
            actions: (10 + rng.below(50)) * if is_crowd { 3 } else { 1 },
            pace: [0.02, 0.1, 0.5][rng.below(3)],
            weights: Action::ALL.map(|action| match action {
                Action::Connect => action.weight(),
                // They blur what others' runs see sharply: in every third run.
                Action::Hog | Action::Deafen => action.weight() * [0, 0, 1][rng.below(3)],
                _ => action.weight() * [0, 1, 1, 3][rng.below(4)],
            }),
            payload_max,
            rooms: if is_crowd { 1 } else { 1 + rng.below(4) },
            users: if is_crowd { 64 } else { 1 + rng.below(5) },
            keys: if is_crowd { 64 } else { 1 + rng.below(5) },
            tight,
            verifier_queue,
            uids: [0.0, 0.0, 0.3, 1.0][rng.below(4)],
            echoes: [0.0, 0.0, 0.1, 0.4][rng.below(4)],
            probes: [0.0, 0.5, 1.0][rng.below(3)],
            races: rng.chance(0.5),
            drains: rng.chance(0.3),
            idles,
            settings,
        };
        plan.settings.send_queue_bytes_max = plan.backend.send_queue_bytes_max;
        plan
    }
}

/// Rates that nobody reaches; or a flooder alone does; or everybody, who is slowed and nothing
/// else.
fn rate(rng: &mut Rng, floods: bool) -> RateLimits {
    if floods {
        return RateLimits {
            messages_per_second: 300,
            messages_burst: 1000,
            refuse_after_ticks: 8,
            close_after_ticks: 24,
            ..RateLimits::NONE
        };
    }
    if rng.chance(0.7) {
        return RateLimits::default();
    }
    let or_none = |rng: &mut Rng, limit: usize| if rng.chance(0.5) { limit as u32 } else { 0 };
    RateLimits {
        messages_per_second: 60 + rng.below(140) as u32,
        messages_burst: 1 + rng.below(40) as u32,
        bytes_per_second: 20_000,
        bytes_burst: 1024 + rng.below(8000) as u32,
        user_messages_per_second: or_none(rng, 120),
        user_bytes_per_second: or_none(rng, 40_000),
        ..RateLimits::NONE
    }
}

fn faults(rng: &mut Rng) -> FaultConfig {
    match rng.below(6) {
        0 => FaultConfig::calm(),
        1 => FaultConfig::rough(),
        2 | 3 => FaultConfig::drawn(rng).lossless(),
        _ => FaultConfig::drawn(rng),
    }
}

fn listener(name: &str, (framing, application): (Framing, Application), port: u16) -> ListenerSettings {
    ListenerSettings {
        name: name.into(),
        framing,
        security: Security::None,
        application,
        socket: ListenerConfig::new(SocketAddr::from(([10, 0, 0, 1], port))),
        path: "/sub".into(),
        origins: vec![],
        protocols: vec![],
        head_size_max: 4096,
        message_size_max: 4096,
        fragments_max: 64,
        demo_page: false,
    }
}

fn settings(rng: &mut Rng, workers: usize, tight: bool) -> WorkerSettings {
    let pick = |rng: &mut Rng, few: usize, many: usize| if tight && rng.chance(0.4) { few } else { many };
    let mailbox = [2, 3, 8, 256][rng.below(4)];
    let tables = TableSizes {
        connections_max: 32,
        rooms_max: pick(rng, 2, 512),
        memberships_max: pick(rng, 6, 256),
        rooms_per_connection_max: [1, 2, 32][rng.below(3)],
        names_max: pick(rng, 4, 128),
        accept_sets_max: pick(rng, 2, 64),
        text_cells_max: pick(rng, 8, 1024),
        mailbox_capacity: mailbox,
        fanouts_max: [1, 4, 64, 512][rng.below(4)],
    };
    let policy = match rng.below(4) {
        0 => DevicePolicy::Allow(0),
        1 => DevicePolicy::Allow(1 + rng.below(2) as u32),
        2 => DevicePolicy::PerPlatform,
        _ => DevicePolicy::Allow(16),
    };
    let slow = |rng: &mut Rng| [SlowConsumer::Drop, SlowConsumer::Close][rng.below(2)];
    let reloadable = Reloadable {
        auth_timeout: Duration::from_millis([400, 8000][rng.below(2)]),
        idle_timeout: Duration::from_secs([15, 540][rng.below(2)]),
        device_policy: policy,
        slow_consumer: [SlowConsumer::Close, slow(rng), slow(rng), slow(rng)],
        room_members_only: rng.chance(0.5),
        client_push_operations: PushOperations::parse(&["1000-1003".to_owned()]).expect("a range"),
        ..Reloadable::default()
    };
    WorkerSettings {
        workers,
        listeners: vec![
            listener("tcp", (Framing::Tcp, Application::Goim), 3101),
            listener("websocket", (Framing::WebSocket, Application::Goim), 3102),
            listener("echo", (Framing::WebSocket, Application::Echo), 3103),
        ],
        tables,
        frame_body_size_max: 2048,
        auth_body_size_max: 8192,
        auth: AuthMode::None,
        bus: BusMode::Echo,
        completions_per_turn_max: 256,
        fanout_slice: 1 + rng.below(7),
        send_queue_bytes_max: 1 << 20,
        default_push_operation: 1000,
        linger: LINGER,
        audit: rng.chance(0.2),
        shared: gateway_core::settings::Shared::new(None, 64),
        reloadable,
    }
}

fn backend(rng: &mut Rng, tight: bool) -> BackendConfig {
    let pool = |size, count| PoolSize { size, count };
    let scarce = tight && rng.chance(0.5);
    let counts = if scarce { [8, 4, 3, 6] } else { [256, 1536, 1024, 512] };
    BackendConfig {
        connections_max: 32,
        batch_max: [1, 4, 256][rng.below(3)],
        pools: PoolsConfig {
            receive: pool([64, 256, 4096][rng.below(3)], counts[0]),
            blocks: vec![pool(128, counts[1]), pool(1024, counts[2]), pool(8192, counts[3])],
            huge_pages: false,
        },
        send_pieces_shared: if tight && rng.chance(0.3) { 8 } else { 4096 },
        send_queue_bytes_max: [200, 2000, 100_000][rng.below(3)],
        copy_break: [0, 64, 512][rng.below(3)],
        idle_demote: None,
    }
}
