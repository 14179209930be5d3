//! What a run found: the model that is stored as JSON, printed, drawn and compared.

pub(crate) mod build;
pub(crate) mod chart;
pub(crate) mod compare;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod page;
pub(crate) mod stages;
pub(crate) mod terminal;
pub(crate) mod units;

use crate::error::Exit;
use crate::goals::Outcome;
use crate::worker::ClockGaps;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the stored form. 2 added the stages; a report of 1 reads as one without.
pub(crate) const FORMAT: u32 = 2;

/// Why a connection was lost that this side closed: netpoll's label.
pub(crate) const CLOSED_HERE: &str = "local";

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) version: String,
    pub(crate) label: String,
    pub(crate) scenario: String,
    pub(crate) command: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) target: String,
    pub(crate) protocol: String,
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) warmup_seconds: f64,
    pub(crate) measured_seconds: f64,
    /// Deliveries were still arriving when settling had to end.
    pub(crate) unsettled: bool,
    pub(crate) interrupted: bool,
    /// The server went away during the run: it did not listen any more, and every connection was
    /// lost.
    pub(crate) server_gone: bool,
    pub(crate) connect: Connect,
    pub(crate) flows: Vec<FlowReport>,
    pub(crate) heartbeats: Option<Requests>,
    pub(crate) churn: Option<Requests>,
    pub(crate) slow_readers: Option<SlowReaders>,
    pub(crate) generator: Generator,
    pub(crate) server: Option<Server>,
    pub(crate) metrics: BTreeMap<String, [f64; 2]>,
    /// The seconds of a run of one stage; otherwise each stage has its own.
    pub(crate) seconds: Vec<Second>,
    /// The stages of a run of several.
    pub(crate) stages: Vec<StageReport>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) violations: BTreeMap<String, u64>,
    pub(crate) examples: Vec<String>,
    pub(crate) goals: Vec<Outcome>,
    pub(crate) verdict: Verdict,
}

/// The verdict on the product and, separately, the one on the generator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    /// The judgment is [`Judgment::Passed`].
    pub(crate) passed: bool,
    pub(crate) judgment: Judgment,
    /// Faults, and goals that were missed.
    pub(crate) reasons: Vec<String>,
    /// Why times say nothing about the server.
    pub(crate) invalid: Vec<String>,
    /// What has nothing to judge it by.
    pub(crate) unjudged: Vec<String>,
    /// The side that stood still, if one did, and for how long; otherwise empty.
    pub(crate) stalled: String,
    pub(crate) generator_bound: bool,
    pub(crate) generator_reasons: Vec<String>,
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
pub(crate) enum Judgment {
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
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    /// (quantile, value), denser towards 1.
    pub(crate) curve: Vec<(f64, u64)>,
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
pub(crate) struct StageReport {
    pub(crate) name: String,
    /// hold, churn, disconnect or reconnect.
    pub(crate) kind: String,
    /// Seconds since the run began: traffic, the measured window's two ends, and when all was done.
    pub(crate) traffic_at: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) settled_at: f64,
    pub(crate) unsettled: bool,
    pub(crate) flows: Vec<FlowReport>,
    pub(crate) heartbeats: Option<Requests>,
    pub(crate) churn: Option<Requests>,
    /// The reconnect, in a stage that reconnects.
    pub(crate) connect: Option<Connect>,
    /// The departure, in a stage that disconnects.
    pub(crate) departure: Option<Departure>,
    /// Connections that closed without this side's asking.
    pub(crate) lost: BTreeMap<String, u64>,
    /// Connection requests per second from unused addresses, over traffic, warm-up included, and
    /// settling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syns_per_second: Option<f64>,
    pub(crate) server: Option<Server>,
    pub(crate) generator: Generator,
    pub(crate) seconds: Vec<Second>,
}

impl StageReport {
    /// Length of the measured window, in seconds.
    pub(crate) fn measured_seconds(&self) -> f64 {
        (self.to - self.from).max(1e-9)
    }

    /// Length of the time in which both sides' processors were watched: after a departure until the
    /// server reported no connections, which may be later than the generator's last.
    pub(crate) fn watched_seconds(&self) -> f64 {
        let emptied = self.departure.as_ref().and_then(|departure| departure.server_seconds);
        self.measured_seconds().max(emptied.unwrap_or_default())
    }
}

/// The departure of all connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Departure {
    pub(crate) closed: u64,
    /// Until the generator's last connection was confirmed closed.
    pub(crate) seconds: f64,
    /// Seconds until the server reported no connections.
    pub(crate) server_seconds: Option<f64>,
    /// From asking for a close to its confirmation.
    pub(crate) latency: Latency,
}

/// How the connections were opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Connect {
    pub(crate) asked: u64,
    pub(crate) ready: u64,
    pub(crate) given_up: u64,
    pub(crate) retried: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// To the end of the TCP handshake.
    pub(crate) connected: Latency,
    /// To the answer to the auth frame.
    pub(crate) ready_latency: Latency,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) lost: BTreeMap<String, u64>,
}

/// One flow.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FlowReport {
    pub(crate) name: String,
    /// Length of the window that its rates are over.
    pub(crate) seconds: f64,
    pub(crate) pace: String,
    pub(crate) payload_size: usize,
    /// Receivers of one operation.
    pub(crate) fan_out: f64,
    /// Operations a second that were due; none in a closed loop.
    pub(crate) offered: Option<f64>,
    /// Operations a second that were sent.
    pub(crate) sent: f64,
    /// Deliveries a second that arrived.
    pub(crate) delivered: f64,
    /// Delivered over offered (or over sent).
    pub(crate) ratio: f64,
    pub(crate) latency: Latency,
    /// HTTP answers.
    pub(crate) answer: Option<Latency>,
    pub(crate) lag: Latency,
    pub(crate) conservation: Conservation,
}

/// The counts of all messages, warm-up and settling included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Conservation {
    pub(crate) operations: u64,
    pub(crate) not_sent: u64,
    pub(crate) refused: u64,
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) misdelivered: u64,
    pub(crate) damaged: u64,
    /// The answers to its operations, where they are answered.
    pub(crate) answers: Answers,
}

/// Answers, matched to their requests one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answers {
    pub(crate) answered: u64,
    /// Known at the end.
    pub(crate) unanswered: u64,
    /// Answers to a request that had its answer.
    pub(crate) duplicated: u64,
}

/// Requests that are answered: heartbeats, reconnects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Requests {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) missed: u64,
    /// Answered within the measured phase.
    pub(crate) measured: u64,
    /// Answered again, and answered before an earlier one.
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) latency: Latency,
}

/// The counts of connections that do not read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SlowReaders {
    pub(crate) connections: u64,
    pub(crate) closed_by_server: u64,
}

/// The generator itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Generator {
    pub(crate) backend: String,
    pub(crate) workers: u32,
    /// Share of the measured phase that each thread spent on a processor.
    pub(crate) busy: Vec<f64>,
    /// Share of it in which the thread waited for a processor that another one had.
    pub(crate) starved: Vec<f64>,
    pub(crate) stalls: u64,
    pub(crate) rss_bytes: u64,
    /// Waits in the kernel, calls that received, and calls that sent.
    pub(crate) polls: u64,
    pub(crate) receives: u64,
    pub(crate) sends: u64,
    /// Times that a server's socket took less than was offered.
    pub(crate) send_waits: u64,
    /// Times that a worker's loop stood still; of the worst worker.
    pub(crate) gaps: ClockGaps,
    /// Operations that waited for room, because the server had not answered or taken what was
    /// before them, and the longest such wait, in ns.
    pub(crate) held: (u64, u64),
}

/// The server's process, when it is on this machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) pids: Vec<i32>,
    pub(crate) command: String,
    /// Within the measured phase, in seconds.
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    /// Seconds in which its threads waited for a processor that another one had.
    pub(crate) starved_seconds: f64,
    /// Processor time by the scheduler's count, in seconds.
    pub(crate) cpu_seconds: f64,
    /// `cpu_seconds`, and what follows from it, counts only the time in which workers in poll mode
    /// had something to do, by the clock.
    pub(crate) is_busy_time: bool,
    /// Times that its threads gave up a processor voluntarily (each is a wake-up), and that the
    /// scheduler took it.
    pub(crate) wakeups: u64,
    pub(crate) preemptions: u64,
    /// Messages that this is spread over.
    pub(crate) messages: u64,
    pub(crate) cpu_nanos_per_message: f64,
    pub(crate) rss_before: u64,
    pub(crate) rss_connected: u64,
    pub(crate) rss_after: u64,
    pub(crate) rss_bytes_per_connection: f64,
}

/// One second of all flows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Second {
    /// Since traffic started.
    pub(crate) second: u32,
    /// Deliveries owed for what was sent in it.
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

/// A look at the processes and the kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    /// Seconds since the run began.
    pub(crate) time: f64,
    /// Stages begun by then.
    pub(crate) stage: usize,
    pub(crate) ready: u64,
    pub(crate) server_rss: u64,
    /// Processors in use.
    pub(crate) server_cpu: f64,
    /// Times a second that a thread of the server gave up its processor, and was made to.
    pub(crate) server_wakeups: f64,
    pub(crate) server_preemptions: f64,
    pub(crate) generator_cpu: f64,
    /// Processors that everything else on the machine used.
    pub(crate) other_cpu: f64,
    pub(crate) generator_rss: u64,
    /// Bytes of the kernel's caches, on both sides and for every other process of this machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) slab: BTreeMap<String, u64>,
    pub(crate) memory_available: u64,
    /// The server's metrics, where they were fetched just before.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metrics: BTreeMap<String, f64>,
}
