//! The configuration: what an operator writes, and what it means.
//!
//! ```text
//!   defaults ◄ file ◄ environment ◄ flags          each value with its place
//!        └────────── Values ───────────┘           every key known, every value fits its type
//!                      │ build
//!                      ▼
//!                    Config                        keys that must agree do
//!                      │ + what the system allows (SystemLimits), + backend
//!                      ▼
//!                    Plan                          workers, sizes, memory: sums that fit
//! ```
//!
//! [`schema`] declares every key once. All problems are reported at once, each with its place and its remedy; a start,
//! `gateway check` and a reload go through the same steps and so give the same verdict.

#![deny(clippy::print_stdout, clippy::print_stderr)] // What the program says goes through `output`.

mod access;
mod build;
mod cgroup;
mod collide;
mod descriptors;
mod dpdk;
mod dpdk_devices;
mod dubious;
pub mod files;
pub mod fuzzing;
mod guarantee;
mod limits;
pub mod memory;
mod nearest;
mod opening;
mod plan;
mod print;
mod problem;
pub mod schema;
mod source;
#[cfg(test)]
mod tests;
mod unknown;
mod value;
mod values;

pub use cgroup::CpuQuota;
pub use collide::collide;
pub use dpdk::{CardWork, DpdkConfig, OwnAddress, is_pci};
pub use limits::SystemLimits;
pub use nearest::nearest;
pub use plan::{BackendKind, MemoryEntry, MemoryPlan, Plan, Reserves, bytes_text};
pub use plan::{blocks, grouped, largest_block};
pub use print::{effective, schema as schema_text};
pub use problem::{Origin, Problem, Problems};
pub use source::{FILE_SIZE_MAX, Sources};
pub use unknown::meant_section;
pub use value::{Kind, Value};
pub use values::Values;

use gateway_auth::TokenPolicy;
use gateway_core::memory::Thresholds;
use gateway_core::settings::{BusMode, ListenerSettings, Reloadable};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration whose parts agree.
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
    /// How tokens are checked; `None`: clients are whoever they say they are.
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
    /// Reads and checks a configuration. Files that it names (keys) are read through `read`.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(sources: &Sources, read: &build::ReadFile<'_>) -> Result<Config, Problems> {
        let mut problems = Problems::default();
        let Some(values) = Values::read(sources, &mut problems) else { return Err(problems.sorted()) };
        let file = sources.file.as_ref().map(|(file, _)| file.clone());
        let config = build::config(values, file, read, &mut problems);
        problems.unless_any(config)
    }

    /// What would be in force after a reload: values of keys that a reload applies are `new`'s, all others stay. Checked as a
    /// whole, as at a start: values that are good in their own files may not be good together.
    ///
    /// # Errors
    /// What is wrong with it, and what it would open without that being written down.
    pub fn reloaded(&self, new: &Config, read: &build::ReadFile<'_>) -> Result<Config, Problems> {
        let mut values = self.source.values.clone();
        // Whether tokens are checked is settled at the start, and the keys with it.
        let keeps_mode = self.auth.is_some() == new.auth.is_some();
        values.adopt_reloadable(&new.source.values, |path| keeps_mode || !path.starts_with("auth."));
        let mut problems = Problems::default();
        let merged = build::config(values, self.source.file.clone(), read, &mut problems);
        opening::check(self, &merged, new, &mut problems);
        problems.unless_any(merged)
    }

    /// Which way clients prove who they are.
    pub fn auth_mode(&self) -> gateway_core::settings::AuthMode {
        match self.auth {
            Some(_) => gateway_core::settings::AuthMode::Jwt,
            None => gateway_core::settings::AuthMode::None,
        }
    }
}
