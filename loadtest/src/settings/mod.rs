//! The user's settings: flags, or the same words in a scenario file. Everything is optional here;
//! `scenario` fills in the defaults and refuses what it must.

pub mod units;

use crate::load::{Arrivals, Course};
use clap::{Args, Command, ValueEnum};
use serde::{Deserialize, Serialize};
use units::{Count, Span};

/// The transport of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// WebSocket binary messages.
    #[value(alias = "websocket")]
    #[serde(alias = "websocket")]
    Ws,
}

/// The protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speech {
    /// goim frames (16-byte header).
    Goim,
    /// Bare bytes over TCP, messages of one fixed size: the floor.
    Raw,
    /// WebSocket binary messages without frames inside: echo and fan-out servers.
    WsEcho,
}

/// The operations that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// goim's and the gateway's own.
    Full,
    /// Only what goim v2 knows.
    Goim,
}

/// The IO backend of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendChoice {
    /// io_uring where this build and the kernel have it, else epoll.
    Auto,
    /// epoll.
    Epoll,
    /// io_uring.
    #[value(name = "io_uring")]
    IoUring,
    /// Our own TCP/IP stack over DPDK, past the kernel (needs a build with the feature `dpdk`).
    Dpdk,
}

/// How room messages enter the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// SendMessage by members of the room.
    Socket,
    /// POST /goim/push/room.
    Http,
}

/// The route of pushes to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// POST /goim/push/mids.
    Mids,
    /// POST /goim/push/keys.
    Keys,
}

/// All settings. A field's name, with dashes for underscores, is its flag; with underscores it is
/// its key in a file.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Server, host:port
    #[arg(long, value_name = "HOST:PORT", help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Server's HTTP push API, host:port
    #[arg(long, value_name = "HOST:PORT", help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// How frames travel [default: tcp]
    #[arg(long, value_enum, help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// What is spoken [default: goim]
    #[arg(long, value_enum, help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Speech>,
    /// Which operations may be used [default: full]
    #[arg(long, value_enum, help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
    /// Path of the WebSocket upgrade [default: /sub]
    #[arg(long, value_name = "PATH", help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket_path: Option<String>,
    /// Process of the server, for its CPU and memory [default: found by its port when local]
    #[arg(long, value_name = "PID", help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_pid: Option<i32>,
    /// Server's /metrics, host:port [default: that of --http]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Target")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,

    /// Connections; 50k and 1m are understood [default: 100]
    #[arg(long, short = 'c', value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Count>,
    /// Connections opened a second [default: as fast as --connect-in-flight allows]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_rate: Option<f64>,
    /// Handshakes under way at a time, each worker [default: 256]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_in_flight: Option<Count>,
    /// Longest way from connect to auth reply [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span>,
    /// Further attempts after a failed one [default: 2]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_retries: Option<u8>,
    /// Local addresses: a number (127.0.0.2 and up) or a list [default: as many as the ports need]
    #[arg(long, value_name = "N|LIST", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_addresses: Option<String>,
    /// Interval of heartbeats, evenly spread [default: idle 30s, else none]
    #[arg(long, value_name = "TIME", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    /// User number of the first connection; the i-th has first-mid + i [default: 1000000]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_mid: Option<i64>,
    /// Platform in the auth body [default: loadtest]
    #[arg(long, value_name = "NAME", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Token in the auth body (not for goim)
    #[arg(long, value_name = "JWT", help_heading = "Connections")]
    #[serde(skip_serializing)]
    pub token: Option<String>,
    /// Type of the rooms: TYPE://00000000 and up [default: test]
    #[arg(long, value_name = "TYPE", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
    /// Connections of one room [default: all in one]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_size: Option<Count>,
    /// Rooms of each connection: that of its login, and others joined after it (not for goim)
    /// [default: 1]
    #[arg(long, value_name = "N", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms_per_connection: Option<u8>,

    /// Operations a second over all senders (open loop); without it the loop is closed. A number,
    /// steps (100:10s,200:10s,400), a ramp (100..1000/30s) or a staircase (100..1000x10/50s)
    #[arg(long, short = 'r', value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Course>,
    /// How operations lie around their rate: uniform, poisson or poisson:SEED [default: uniform]
    #[arg(long, value_name = "ARRIVALS", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// Closed loop: messages in one write, the next when all are answered [default: 1]
    #[arg(long, short = 'd', value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// Payload of a message, in bytes, at least 24 [default: 64]
    #[arg(long, short = 's', value_name = "BYTES", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Count>,
    /// Senders in each room, or of the broadcast [default: 1]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishers: Option<u16>,
    /// How room messages get in [default: socket; goim: http]
    #[arg(long, value_enum, help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Push to users by number or by key [default: mids]
    #[arg(long, value_enum, help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Users of one push request [default: 1; million's stage of lists: 10]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Count>,
    /// Operation of pushes, at least 1000 [default: 1000]
    #[arg(long, value_name = "OP", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<i32>,
    /// Operation of echo frames; 2 measures heartbeats, with --size 0 [default: 500]
    #[arg(long, value_name = "OP", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_operation: Option<i32>,
    /// Echo frames a second in the mix [default: 1000, if no kind of traffic is named]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_rate: Option<f64>,
    /// Push requests a second in the mix [default: 200, …]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_rate: Option<f64>,
    /// Room messages a second in the mix, over all rooms [default: 10, …]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_rate: Option<f64>,
    /// Broadcasts a second in the mix [default: 1, …]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast_rate: Option<f64>,
    /// Connections closed and opened again, a second [default: churn 100, mix 20, …]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn_rate: Option<f64>,
    /// syn-flood: connection requests a second [default: as many as the link takes]
    #[arg(long, value_name = "PER_SECOND", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn_rate: Option<f64>,
    /// Connections that come and go in addition to the measured ones [default: 2 seconds' worth]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn_connections: Option<Count>,
    /// Connections that stop reading, in addition to the measured ones [default: slow-reader 10,
    /// mix 2, …]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_connections: Option<Count>,
    /// HTTP connections of each worker that pushes [default: 2]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_connections: Option<u32>,
    /// Requests without an answer on one HTTP connection [default: 32]
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_pipeline: Option<u16>,

    /// million: a few thousand connections, every stage in a few seconds
    #[arg(long, num_args = 0, default_missing_value = "true", help_heading = "Stages")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quick: Option<bool>,
    /// million: how long only heartbeats come [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Stages")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_for: Option<Span>,
    /// million: how long connections come and go [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Stages")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn_for: Option<Span>,
    /// million: how long the server is watched after all connections have closed [default: 20s]
    #[arg(long, value_name = "TIME", help_heading = "Stages")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover_for: Option<Span>,

    /// Not measured, before the measured phase [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Span>,
    /// The measured phase [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Longest wait for what is still on its way at the end [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Span>,
    /// IO backend of the generator [default: auto]
    #[arg(long, value_enum, help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendChoice>,
    /// dpdk: the generator's end of the link, a virtual device of DPDK's with its arguments
    /// [default: memif's client on /run/gateway/memif.sock]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_device: Option<String>,
    /// dpdk: the generator's first address, with the length of the link's prefix; further ones
    /// follow it [default: 10.77.1.1/16]
    #[arg(long, value_name = "ADDRESS/BITS", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_address: Option<String>,
    /// dpdk: packet buffers in huge pages
    #[arg(long, num_args = 0, default_missing_value = "true", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_huge_pages: Option<bool>,
    /// dpdk: the longest sleep of an idle worker, in microseconds; 0: it never sleeps [default: 50]
    #[arg(long, value_name = "US", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_idle_sleep_us: Option<u32>,
    /// dpdk: a further argument of DPDK's environment layer; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpdk_arg: Option<Vec<String>>,
    /// Parts of the generator, each with its own backend [default: 1]
    #[arg(long, short = 'w', value_name = "N", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Threads that the workers share on io_uring [default: as many as processors, or as workers]
    #[arg(long, value_name = "N", help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Processors for the threads, in turn, e.g. 1 or 2,3
    #[arg(long, value_name = "CPUS", value_delimiter = ',', help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Vec<usize>>,
    /// What must hold, else exit code 1: p99=5ms rate=0.99 loss=0 ready=1 cpu=10us memory=512 …
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., help_heading = "Run")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Vec<String>>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Name of this run in reports and comparisons
    #[arg(long, value_name = "TEXT", help_heading = "Report")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// No progress, only the report
    #[arg(long, short = 'q', num_args = 0, default_missing_value = "true", help_heading = "Report")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
}

impl Settings {
    /// These settings where they are given, otherwise those of `below`.
    ///
    /// # Errors
    /// Never for what files and the command line make; serde's error when a field cannot be
    /// written.
    pub(crate) fn over(&self, below: &Settings) -> Result<Settings, toml::ser::Error> {
        let mut table = toml::Table::try_from(below)?;
        if self.rate.is_some() || self.depth.is_some() {
            // A loop is open or closed: one of the two replaces either.
            table.remove("rate");
            table.remove("depth");
        }
        table.extend(toml::Table::try_from(self)?);
        let token = self.token.clone().or_else(|| below.token.clone());
        let merged: Settings = table.try_into().map_err(|error: toml::de::Error| {
            <toml::ser::Error as serde::ser::Error>::custom(error.message())
        })?;
        Ok(Settings { token, ..merged })
    }

    /// The names of all settings.
    pub(crate) fn names() -> Vec<String> {
        let command = Settings::augment_args(Command::new("settings"));
        command.get_arguments().map(|argument| argument.get_id().as_str().to_owned()).collect()
    }

    /// The settings that are given, by name.
    pub(crate) fn table(&self) -> toml::Table {
        toml::Table::try_from(self).unwrap_or_default()
    }

    /// The names of the settings that are given.
    pub(crate) fn given(&self) -> Vec<String> {
        let table = self.table();
        let token = self.token.as_ref().map(|_| "token".to_owned());
        table.into_iter().map(|(name, _)| name).chain(token).collect()
    }
}
