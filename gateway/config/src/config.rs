//! A consistent configuration, section by section.

use super::backend::BackendKind;
use super::dpdk::DpdkConfig;
use super::values::Values;
use gateway_auth::TokenPolicy;
use gateway_core::memory::Thresholds;
use gateway_core::settings::{AuthMode, BusMode, ListenerSettings, Reloadable};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole, consistent configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Backend and workers.
    pub io: IoConfig,
    /// The card, with `io.backend = "dpdk"`.
    pub dpdk: Option<DpdkConfig>,
    /// Bounds.
    pub limits: LimitsConfig,
    /// Pools.
    pub memory: MemoryConfig,
    /// At least one, at most `LISTENERS_MAX`.
    pub listeners: Vec<ListenerSettings>,
    /// How tokens are checked; `None`: clients are not authenticated.
    pub auth: Option<Arc<TokenPolicy>>,
    /// Application operations.
    pub application: ApplicationConfig,
    /// How long a stop waits for clients to leave.
    pub drain: Duration,
    /// The control thread.
    pub control: ControlConfig,
    /// The audit journal, if it is written.
    pub journal: Option<JournalConfig>,
    /// Logging.
    pub log: LogConfig,
    /// What may change while running.
    pub reloadable: Reloadable,
    /// What it was made from, and what is dubious though allowed.
    pub source: ConfigSource,
}

/// What a [`Config`] was made from.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// Every key's value with its place.
    pub values: Values,
    /// What is dubious though allowed.
    pub warnings: Vec<String>,
    /// Name of the file, if there was one.
    pub file: Option<String>,
}

/// `[io]`.
#[derive(Clone, Debug)]
pub struct IoConfig {
    /// Which backend; `None`: the best that works.
    pub backend: Option<BackendKind>,
    /// How many workers; `None`: as many as fit.
    pub workers: Option<usize>,
    /// How many threads run them; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// Whether their threads are pinned to cores.
    pub pin_workers: bool,
    /// Whether the workers' threads and the control thread run under `SCHED_BATCH`.
    pub batch_scheduling: bool,
    /// What is added to the nice value of threads that are no workers.
    pub helper_nice: u8,
    /// How long a start waits for a port that no living process has.
    pub bind_wait: Duration,
    /// Quiet connections may be moved to a cheaper kind of waiting after this time.
    pub idle_demote: Option<Duration>,
    /// Completions of one turn.
    pub completions_per_turn_max: usize,
}

/// `[limits]`.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Connections to hold; `None`: a default, or what fits.
    pub connections_max: Option<usize>,
    /// Connections of one address; `None`: any number.
    pub connections_per_address_max: Option<u32>,
    /// Body of a frame, in bytes.
    pub frame_body_size_max: u32,
    /// Body of a frame before the login, in bytes.
    pub auth_body_size_max: u32,
    /// Rooms of one connection.
    pub rooms_per_connection_max: u8,
    /// Rooms of a worker; `None`: by its connections.
    pub rooms: Option<usize>,
    /// Memberships of a worker; `None`: by its connections.
    pub memberships: Option<usize>,
    /// Bytes of keys, user ids and names of rooms of a worker; `None`: by its connections.
    pub text_bytes: Option<usize>,
    /// Bytes that may wait for one receiver.
    pub send_queue_bytes_max: usize,
    /// Queued pieces that the connections of a worker share; `None`: by the connections.
    pub send_pieces: Option<usize>,
    /// Messages in a worker's mailbox.
    pub mailbox_messages_max: usize,
    /// Deliveries of fan-outs in one turn.
    pub fanout_deliveries_per_turn_max: usize,
}

/// `[memory]`.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Size of a receive buffer, in bytes.
    pub receive_buffer_size: u32,
    /// How many a worker has; `None`: by its connections.
    pub receive_buffers: Option<u32>,
    /// Ask for huge pages.
    pub huge_pages: bool,
    /// Waiting pieces up to this size are copied out of a larger buffer.
    pub copy_break: usize,
    /// What the process and its connections may take, in bytes; `None`: what there is.
    pub memory_max: Option<u64>,
    /// Where load is shed.
    pub thresholds: Thresholds,
}

/// `[application]`, as far as it can't change while running.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationConfig {
    /// What application operations get.
    pub bus: BusMode,
    /// Push operation of a message that names none.
    pub default_push_operation: i32,
}

/// `[control]`.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Key for `/api/v1`; `None`: open, and then only on a loopback address.
    pub api_key: Option<Secret>,
    /// Key for `/goim/push`; `None`: open.
    pub goim_api_key: Option<Secret>,
    /// Core to run on.
    pub cpu: Option<usize>,
    /// Further names of this gateway in Host.
    pub hosts: Vec<String>,
    /// Where clients find this node; empty: under the machine's name.
    pub node_host: String,
    /// HTTP connections at a time.
    pub connections_max: usize,
    /// HTTP requests under way at a time.
    pub requests_max: usize,
    /// How long a head may take.
    pub header_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// How long a request may be handled.
    pub request_timeout: Duration,
}

/// `[journal]`.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Where its files are.
    pub directory: PathBuf,
    /// Size at which a new file is begun.
    pub size_max: u64,
    /// Files to keep.
    pub files_max: usize,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least level.
    pub level: tracing::Level,
    /// One JSON object a line, instead of text.
    pub json: bool,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret, unless it is empty.
    pub fn new(text: &str) -> Option<Secret> {
        (!text.is_empty()).then(|| Secret(text.to_owned()))
    }

    /// Its bytes, to compare or to sign with.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Config {
    /// How clients prove their identity.
    pub fn auth_mode(&self) -> AuthMode {
        match self.auth {
            Some(_) => AuthMode::Jwt,
            None => AuthMode::None,
        }
    }
}
