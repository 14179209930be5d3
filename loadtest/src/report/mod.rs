//! What a run found: the model that is stored as JSON, printed, drawn and compared.
//! `schema/report.json` describes every field of the stored form.

#![expect(missing_docs, reason = "the schema describes the fields")]

pub(crate) mod annotations;
pub(crate) mod build;
pub(crate) mod checks;
pub(crate) mod compare;
pub(crate) mod conditions;
pub mod json;
pub(crate) mod junit;
pub mod page;
pub mod stages;
pub mod terminal;
pub mod units;

use crate::error::Exit;
use crate::goals::Outcome;
use crate::worker::ClockGaps;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema of the stored form, JSON Schema 2020-12. Its test holds that reports are as it says.
pub const SCHEMA: &str = include_str!("../../schema/report.json");
/// Version of the schema. A major changes what a field means, or takes one away; a minor adds
/// fields.
pub const SCHEMA_VERSION: &str = "1.1";

/// Whether this program reads a report of schema `version`: of the same major.
pub fn is_readable(version: &str) -> bool {
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    major(version) == major(SCHEMA_VERSION)
}

/// Why a connection was lost that this side closed: netpoll's label.
pub(crate) const CLOSED_HERE: &str = "local";

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub schema_version: String,
    pub version: String,
    pub label: String,
    pub scenario: String,
    pub command: String,
    /// Seconds since 1970.
    pub started_at: u64,
    pub target: String,
    pub protocol: String,
    pub machine: BTreeMap<String, String>,
    pub warmup_seconds: f64,
    pub measured_seconds: f64,
    /// Deliveries were still arriving when settling had to end.
    pub unsettled: bool,
    pub interrupted: bool,
    /// The server went away during the run: it did not listen any more, and every connection was
    /// lost.
    pub server_gone: bool,
    pub connect: Connect,
    pub flows: Vec<FlowReport>,
    pub heartbeats: Option<Requests>,
    pub churn: Option<Requests>,
    pub slow_readers: Option<SlowReaders>,
    pub generator: Generator,
    pub server: Option<Server>,
    pub metrics: BTreeMap<String, [f64; 2]>,
    /// The seconds of a run of one stage; otherwise each stage has its own.
    pub seconds: Vec<Second>,
    /// The stages of a run of several.
    pub stages: Vec<StageReport>,
    pub samples: Vec<Sample>,
    pub notices: BTreeMap<String, u64>,
    pub violations: BTreeMap<String, u64>,
    pub examples: Vec<String>,
    pub goals: Vec<Outcome>,
    pub verdict: Verdict,
}

/// The verdict on the product and, separately, the one on the generator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// The judgment is [`Judgment::Passed`].
    pub passed: bool,
    pub judgment: Judgment,
    /// Faults, and goals that were missed.
    pub reasons: Vec<String>,
    /// Why times say nothing about the server.
    pub invalid: Vec<String>,
    /// What has nothing to judge it by.
    pub unjudged: Vec<String>,
    /// The side that stood still, if one did, and for how long; otherwise empty.
    pub stalled: String,
    pub generator_bound: bool,
    pub generator_reasons: Vec<String>,
    /// With agents: latencies from one to another may be wrong by so much, in ns, because their
    /// clocks are compared by round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_uncertainty: Option<u64>,
}

impl Report {
    /// Whether the server had clients before the run, as far as its metrics say: then what it has
    /// of memory is no baseline, and its growth is not what a connection takes.
    pub(crate) fn server_was_used(&self) -> bool {
        self.metrics.get("gateway_logins_total").is_some_and(|[before, _]| *before > 0.0)
    }
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgment {
    Passed,
    /// A fault of the server, or a goal missed.
    #[default]
    Failed,
    /// No fault, but the generator stood still or was late.
    Invalid,
    /// No fault, but nothing to judge by.
    NoSamples,
}

impl Judgment {
    /// The exit of a run.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Judgment::Passed => Exit::Met,
            Judgment::Failed => Exit::Missed,
            Judgment::Invalid => Exit::Invalid,
            Judgment::NoSamples => Exit::NoSamples,
        }
    }
}

/// Latencies, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub min: u64,
    pub max: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    /// (quantile, value), denser towards 1.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// The summary of a histogram.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        if histogram.is_empty() {
            return Latency::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let nines = (histogram.len() as f64).log10().max(1.0);
        let steps = (nines * 12.0).ceil() as u32;
        let quantile = |step: u32| 1.0 - 10_f64.powf(-nines * f64::from(step) / f64::from(steps));
        let curve = (0..=steps).map(|step| (quantile(step), at(quantile(step)))).collect();
        Latency {
            count: histogram.len(),
            mean: histogram.mean(),
            min: histogram.min(),
            max: histogram.max(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            curve,
        }
    }

    /// The value at a percentile given in thousandths of a percent, from the stored curve's
    /// neighbors.
    pub(crate) fn at(&self, milli_percent: u32) -> u64 {
        match milli_percent {
            50_000 => self.p50,
            90_000 => self.p90,
            99_000 => self.p99,
            99_900 => self.p999,
            99_990 => self.p9999,
            other => {
                let quantile = f64::from(other) / 100_000.0;
                self.curve.iter().find(|(at, _)| *at >= quantile).map_or(self.max, |(_, value)| *value)
            }
        }
    }
}

/// One stage of a run of several.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageReport {
    pub name: String,
    /// hold, churn, disconnect or reconnect.
    pub kind: String,
    /// Seconds since the run began: traffic, the measured window's two ends, and when all was done.
    pub traffic_at: f64,
    pub from: f64,
    pub to: f64,
    pub settled_at: f64,
    pub unsettled: bool,
    pub flows: Vec<FlowReport>,
    pub heartbeats: Option<Requests>,
    pub churn: Option<Requests>,
    /// The reconnect, in a stage that reconnects.
    pub connect: Option<Connect>,
    /// The departure, in a stage that disconnects.
    pub departure: Option<Departure>,
    /// Connections that closed without this side's asking.
    pub lost: BTreeMap<String, u64>,
    /// Connection requests per second from unused addresses, over traffic, warm-up included, and
    /// settling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syns_per_second: Option<f64>,
    pub server: Option<Server>,
    pub generator: Generator,
    pub seconds: Vec<Second>,
}

impl StageReport {
    /// Length of the measured window, in seconds.
    pub fn measured_seconds(&self) -> f64 {
        (self.to - self.from).max(1e-9)
    }

    /// Length of the time in which both sides' processors were watched: after a departure until the
    /// server reported no connections, which may be later than the generator's last.
    pub fn watched_seconds(&self) -> f64 {
        let emptied = self.departure.as_ref().and_then(|departure| departure.server_seconds);
        self.measured_seconds().max(emptied.unwrap_or_default())
    }
}

/// The departure of all connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Departure {
    pub closed: u64,
    /// Until the generator's last connection was confirmed closed.
    pub seconds: f64,
    /// Seconds until the server reported no connections.
    pub server_seconds: Option<f64>,
    /// From asking for a close to its confirmation.
    pub latency: Latency,
}

/// How the connections were opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connect {
    pub asked: u64,
    pub ready: u64,
    pub given_up: u64,
    pub retried: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// To the end of the TCP handshake.
    pub connected: Latency,
    /// To the answer to the auth frame.
    pub ready_latency: Latency,
    pub failures: BTreeMap<String, u64>,
    pub lost: BTreeMap<String, u64>,
}

/// One flow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowReport {
    pub name: String,
    /// Length of the window that its rates are over.
    pub seconds: f64,
    #[serde(flatten)]
    pub course: CourseReport,
    pub payload_size: usize,
    /// Receivers of one operation.
    pub fan_out: f64,
    /// Operations a second that were due; none in a closed loop.
    pub offered: Option<f64>,
    /// Operations a second that were sent.
    pub sent: f64,
    /// Deliveries a second that arrived.
    pub delivered: f64,
    /// Delivered over offered (or over sent).
    pub ratio: f64,
    pub latency: Latency,
    /// HTTP answers.
    pub answer: Option<Latency>,
    pub lag: Latency,
    pub conservation: Conservation,
}

/// The rates that a flow was offered at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CourseReport {
    /// In words.
    pub pace: String,
    /// Where the rate changed: what was found in each step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
}

/// One step of a course. What was intended in it counts in it, whenever it was delivered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepReport {
    /// Seconds since the measured window began.
    pub from: f64,
    pub to: f64,
    /// Operations a second that were asked for at its two ends.
    pub rates: [f64; 2],
    /// Operations a second that were due, and that were sent.
    pub offered: f64,
    pub sent: f64,
    /// Deliveries a second of what was sent in it.
    pub delivered: f64,
    /// Delivered over offered.
    pub ratio: f64,
    pub latency: Latency,
}

/// The counts of all messages, warm-up and settling included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Conservation {
    pub operations: u64,
    pub not_sent: u64,
    pub refused: u64,
    pub owed: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub misdelivered: u64,
    pub damaged: u64,
    /// The answers to its operations, where they are answered.
    pub answers: Answers,
}

/// Answers, matched to their requests one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    pub answered: u64,
    /// Known at the end.
    pub unanswered: u64,
    /// Answers to a request that had its answer.
    pub duplicated: u64,
}

/// Requests that are answered: heartbeats, reconnects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    pub sent: u64,
    pub answered: u64,
    pub missed: u64,
    /// Answered within the measured phase.
    pub measured: u64,
    /// Answered again, and answered before an earlier one.
    pub duplicated: u64,
    pub reordered: u64,
    pub latency: Latency,
}

/// The counts of connections that do not read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowReaders {
    pub connections: u64,
    pub closed_by_server: u64,
}

/// The generator itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Generator {
    pub backend: String,
    pub workers: u32,
    /// Share of the measured phase that each thread spent on a processor.
    pub busy: Vec<f64>,
    /// Share of it in which the thread waited for a processor that another one had.
    pub starved: Vec<f64>,
    pub stalls: u64,
    pub rss_bytes: u64,
    /// Waits in the kernel, calls that received, and calls that sent.
    pub polls: u64,
    pub receives: u64,
    pub sends: u64,
    /// Times that a server's socket took less than was offered.
    pub send_waits: u64,
    /// Times that a worker's loop stood still; of the worst worker.
    pub gaps: ClockGaps,
    /// Operations that waited for room, because the server had not answered or taken what was
    /// before them, and the longest such wait, in ns.
    pub held: (u64, u64),
}

/// The server's process, when it is on this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    pub pids: Vec<i32>,
    pub command: String,
    /// Within the measured phase, in seconds.
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Seconds in which its threads waited for a processor that another one had.
    pub starved_seconds: f64,
    /// Processor time by the scheduler's count, in seconds.
    pub cpu_seconds: f64,
    /// `cpu_seconds`, and what follows from it, counts only the time in which workers in poll mode
    /// had something to do, by the clock.
    pub is_busy_time: bool,
    /// Times that its threads gave up a processor voluntarily (each is a wake-up), and that the
    /// scheduler took it.
    pub wakeups: u64,
    pub preemptions: u64,
    /// Messages that this is spread over.
    pub messages: u64,
    pub cpu_nanos_per_message: f64,
    pub rss_before: u64,
    pub rss_connected: u64,
    pub rss_after: u64,
    pub rss_bytes_per_connection: f64,
}

/// One second of all flows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Second {
    /// Since traffic started.
    pub second: u32,
    /// Deliveries owed for what was sent in it.
    pub owed: u64,
    pub delivered: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// A look at the processes and the kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Seconds since the run began.
    pub time: f64,
    /// Stages begun by then.
    pub stage: usize,
    pub ready: u64,
    pub server_rss: u64,
    /// Processors in use.
    pub server_cpu: f64,
    /// Times a second that a thread of the server gave up its processor, and was made to.
    pub server_wakeups: f64,
    pub server_preemptions: f64,
    pub generator_cpu: f64,
    /// Processors that everything else on the machine used.
    pub other_cpu: f64,
    pub generator_rss: u64,
    /// Bytes of the kernel's caches, on both sides and for every other process of this machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub slab: BTreeMap<String, u64>,
    pub memory_available: u64,
    /// The server's metrics, where they were fetched just before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}
