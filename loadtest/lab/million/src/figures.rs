//! Figures of a run by name, as thresholds and their notes name them: `idle.rss`, `faults`,
//! `small.push.net_cost`, `broadcast*.cost`.

use crate::floor::Floor;
use loadtest::report::units::{bytes, nanos, number, percent};
use loadtest::report::{Conservation, FlowReport, Report, StageReport};

/// A figure, with its number in words. What is only words has no number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) value: Option<f64>,
    pub(crate) text: String,
}

impl Figure {
    fn new(value: f64, text: String) -> Figure {
        Figure { value: Some(value), text }
    }

    fn words(text: impl Into<String>) -> Figure {
        Figure { value: None, text: text.into() }
    }

    /// The ratio of two.
    pub(crate) fn over(&self, other: &Figure) -> Option<Figure> {
        let ratio = self.value? / other.value.filter(|value| *value > 0.0)?;
        Some(Figure::new(ratio, format!("{ratio:.2} ×")))
    }
}

fn time(value: f64) -> Figure {
    Figure::new(value, nanos(value))
}

fn size(value: f64) -> Figure {
    Figure::new(value, bytes(value))
}

fn share(value: f64) -> Figure {
    Figure::new(value, percent(value))
}

fn count(value: f64) -> Figure {
    Figure::new(value, number(value.round()))
}

fn rate(value: f64) -> Figure {
    Figure::new(value, format!("{}/s", number(value.round())))
}

/// What figures are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Figures<'a> {
    pub(crate) full: &'a Report,
    pub(crate) small: Option<&'a Report>,
    pub(crate) floor: Option<&'a Floor>,
}

/// Names of figures of the whole run.
const OF_RUN: [&str; 13] = [
    "scenario",
    "protocol",
    "held",
    "closed",
    "peak_rss",
    "rss_before",
    "connect_rate",
    "connect_p99",
    "faults",
    "messages",
    "floor",
    "floor_source",
    "connections",
];

/// Names of figures of a stage.
const OF_STAGE: [&str; 21] = [
    "rss",
    "slab",
    "slab_parts",
    "cores",
    "beats",
    "wakeups",
    "mean",
    "p50",
    "p99",
    "p999",
    "max",
    "offered",
    "delivered",
    "cost",
    "net_cost",
    "cost_least",
    "cost_most",
    "rounds",
    "connect_rate",
    "last",
    "pace",
];

/// Whether a name is that of a figure, whatever its stage is called.
pub(crate) fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("small.").unwrap_or(name);
    match name.split_once('.') {
        Some((_, figure)) => OF_STAGE.contains(&figure),
        None => OF_RUN.contains(&name),
    }
}

impl Figures<'_> {
    /// The figure of this name; `None`: the run has none.
    pub(crate) fn of(&self, name: &str) -> Option<Figure> {
        let (report, name) = match name.strip_prefix("small.") {
            Some(name) => (self.small?, name),
            None => (self.full, name),
        };
        match name.split_once('.') {
            Some((stage, figure)) => of_stages(report, stage, figure),
            None => self.of_run(report, name),
        }
    }

    fn of_run(&self, report: &Report, name: &str) -> Option<Figure> {
        let connect = &report.connect;
        let closed: u64 = connect.lost.values().sum();
        let server = report.server.as_ref();
        Some(match name {
            "scenario" => Figure::words(&report.scenario),
            "protocol" => Figure::words(&report.protocol),
            "connections" => count(connect.ready as f64),
            "held" => count(connect.ready.saturating_sub(closed) as f64),
            "closed" => count(closed as f64),
            "peak_rss" => {
                size(report.samples.iter().map(|sample| sample.server_rss).max().unwrap_or(0) as f64)
            }
            "rss_before" => size(server.map(|server| server.rss_before as f64)?),
            "connect_rate" => rate(connect.per_second),
            "connect_p99" => time(connect.connected.p99 as f64),
            "faults" => count((faults(report) + self.small.map_or(0, faults)) as f64),
            "messages" => {
                count(report.flows.iter().map(|flow| flow.conservation.delivered).sum::<u64>() as f64)
            }
            "floor" => time(self.floor?.nanos),
            "floor_source" => Figure::words(&self.floor?.source),
            _ => return None,
        })
    }
}

/// The figure of a stage, or of the median of those with names that begin with what stands before
/// `*`, by what the server spent on a delivery.
fn of_stages(report: &Report, stage: &str, figure: &str) -> Option<Figure> {
    let Some(prefix) = stage.strip_suffix('*') else {
        return of_stage(report, report.stages.iter().find(|one| one.name == stage)?, figure);
    };
    let mut rounds: Vec<(f64, &StageReport)> = report
        .stages
        .iter()
        .filter(|stage| stage.name.starts_with(prefix))
        .filter_map(|stage| Some((cost(stage)?, stage)))
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = rounds.get(rounds.len() / 2)?;
    match figure {
        "rounds" => Some(count(rounds.len() as f64)),
        "cost_least" => Some(time(rounds.first()?.0)),
        "cost_most" => Some(time(rounds.last()?.0)),
        figure => of_stage(report, median.1, figure),
    }
}

fn of_stage(report: &Report, stage: &StageReport, name: &str) -> Option<Figure> {
    let seconds = stage.measured_seconds();
    let server = stage.server.as_ref();
    let flow = || stage.flows.first();
    let latency = || flow().map(|flow| &flow.latency).filter(|latency| latency.count > 0);
    Some(match name {
        "rss" => size(server?.rss_after as f64),
        "slab" => {
            let each = slab(report, stage)?.0 / 2.0;
            Figure::new(each, format!("{each:.0} B"))
        }
        "slab_parts" => {
            let parts = slab(report, stage)?.1;
            let parts: Vec<String> = parts.iter().map(|(name, each)| format!("{name} {each:.0}")).collect();
            Figure::words(parts.join(", "))
        }
        "cores" => processor_share(stage)?,
        "beats" => count(stage.heartbeats.as_ref()?.measured as f64 / seconds),
        "wakeups" => count(server?.wakeups as f64 / seconds),
        "mean" => time(latency()?.mean),
        "p50" => time(latency()?.p50 as f64),
        "p99" => time(latency()?.p99 as f64),
        "p999" => time(latency()?.p999 as f64),
        "max" | "last" => time(latency()?.max as f64),
        "offered" => count(flow()?.offered?),
        "delivered" => count(flow()?.delivered),
        "cost" => of_work(stage, time(cost(stage)?)),
        "net_cost" => of_work(stage, time(net_cost(report, stage)?)),
        "connect_rate" => rate(stage.connect.as_ref()?.per_second),
        "pace" => {
            let all: f64 = stage.flows.iter().map(|flow: &FlowReport| flow.latency.count as f64).sum();
            rate(all * 1e9 / (latency()?.max as f64).max(1.0))
        }
        _ => return None,
    })
}

/// Whether the server polls, so that what it counts is busy time.
fn polls(stage: &StageReport) -> bool {
    stage.server.as_ref().is_some_and(|server| server.is_busy_time)
}

/// A time that the work took, named where that is not the processor's time.
fn of_work(stage: &StageReport, figure: Figure) -> Figure {
    let text = if polls(stage) { format!("{} of busy time", figure.text) } else { figure.text };
    Figure { text, ..figure }
}

/// The share of a processor that the server used, user and system, which is what an operator pays;
/// where it polls, with the share that was busy.
fn processor_share(stage: &StageReport) -> Option<Figure> {
    let work = cores(stage)?;
    if !polls(stage) {
        return Some(share(work));
    }
    let server = stage.server.as_ref()?;
    let used = (server.user_seconds + server.system_seconds) / stage.watched_seconds();
    Some(Figure::new(used, format!("{} ({} busy)", percent(used), percent(work))))
}

/// What the server spent on a delivery, in nanoseconds.
fn cost(stage: &StageReport) -> Option<f64> {
    let server = stage.server.as_ref().filter(|server| server.messages > 0);
    server.map(|server| server.cpu_nanos_per_message)
}

/// Processors that the server used in a stage; where it polls, that had something to do.
pub(crate) fn cores(stage: &StageReport) -> Option<f64> {
    Some(stage.server.as_ref()?.cpu_seconds / stage.watched_seconds())
}

/// Nanoseconds a delivery of a stage, without what the first stage, idling with heartbeats, costs
/// over the same time.
fn net_cost(report: &Report, stage: &StageReport) -> Option<f64> {
    let idle = cores(report.stages.first().filter(|first| first.flows.is_empty())?)?;
    let server = stage.server.as_ref().filter(|server| server.messages > 0)?;
    let net = server.cpu_seconds - idle * stage.measured_seconds();
    Some(net * 1e9 / server.messages as f64)
}

/// Kernel bytes a connection at the end of a stage, both sides together, and what each cache has of
/// it.
pub(crate) fn slab(report: &Report, stage: &StageReport) -> Option<(f64, Vec<(String, f64)>)> {
    let number = report.stages.iter().position(|other| other.name == stage.name)? + 1;
    let first = report.samples.iter().find(|sample| !sample.slab.is_empty())?;
    let last = report.samples.iter().rfind(|sample| sample.stage == number && !sample.slab.is_empty())?;
    let count = last.ready.max(1) as f64;
    let grown = |(name, size): (&String, &u64)| {
        let before = first.slab.get(name).copied().unwrap_or(0);
        (name.clone(), (*size as f64 - before as f64) / count)
    };
    let mut parts: Vec<(String, f64)> =
        last.slab.iter().map(grown).filter(|(_, each)| *each >= 1.0).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    // In older reports the first sample is of when some connections were there already.
    let share = 1.0 - first.ready as f64 / count;
    parts.iter_mut().for_each(|(_, each)| *each /= share.max(0.01));
    Some((parts.iter().map(|(_, each)| each).sum(), parts))
}

/// Messages lost, doubled, out of order, misdelivered or damaged, in all stages.
fn faults(report: &Report) -> u64 {
    let of = |c: &Conservation| c.lost + c.duplicated + c.reordered + c.misdelivered + c.damaged;
    report.flows.iter().map(|flow| of(&flow.conservation)).sum()
}
