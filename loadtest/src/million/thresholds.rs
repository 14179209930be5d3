//! What the run must achieve: each measure with its threshold and its target.

use super::floor::Floor;
use crate::report::units::{bytes, nanos, number, percent};
use crate::report::{Conservation, Report, StageReport};
use serde::{Deserialize, Serialize};

/// One measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) measure: String,
    #[serde(rename = "bar")]
    pub(super) threshold: String,
    #[serde(rename = "aim")]
    pub(super) target: String,
    pub(super) found: String,
    pub(super) verdict: Verdict,
    pub(super) note: String,
}

/// The verdict on a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    #[serde(rename = "aim")]
    TargetMet,
    #[serde(rename = "bar")]
    ThresholdMet,
    Missed,
    Reported,
    NotMeasured,
}

impl Verdict {
    pub(super) fn words(self) -> &'static str {
        match self {
            Verdict::TargetMet => "target met",
            Verdict::ThresholdMet => "threshold met",
            Verdict::Missed => "missed",
            Verdict::Reported => "reported",
            Verdict::NotMeasured => "not measured",
        }
    }
}

/// A bound with its value in words; lower is better unless `more`.
struct Bounds<'a> {
    measure: &'a str,
    threshold: Option<(f64, &'a str)>,
    target: Option<(f64, &'a str)>,
    more: bool,
}

impl Bounds<'_> {
    fn judge(&self, found: Option<(f64, String)>, note: impl Into<String>) -> Measurement {
        let met = |bound: Option<(f64, &str)>, value: f64| {
            bound.is_some_and(|(bound, _)| if self.more { value >= bound } else { value <= bound })
        };
        let verdict = match &found {
            None => Verdict::NotMeasured,
            Some((value, _)) if met(self.target, *value) => Verdict::TargetMet,
            Some((value, _)) if met(self.threshold, *value) => Verdict::ThresholdMet,
            Some(_) if self.threshold.is_none() => Verdict::Reported,
            Some(_) => Verdict::Missed,
        };
        let words =
            |bound: Option<(f64, &str)>| bound.map_or("–".to_owned(), |(_, words)| words.to_owned());
        Measurement {
            measure: self.measure.to_owned(),
            threshold: words(self.threshold),
            target: words(self.target),
            found: found.map_or_else(|| "–".to_owned(), |(_, words)| words),
            verdict,
            note: note.into(),
        }
    }
}

fn less<'a>(
    measure: &'a str,
    threshold: Option<(f64, &'a str)>,
    target: Option<(f64, &'a str)>,
) -> Bounds<'a> {
    Bounds { measure, threshold, target, more: false }
}

/// A stage by its name.
pub(super) fn stage<'a>(report: &'a Report, name: &str) -> Option<&'a StageReport> {
    report.stages.iter().find(|stage| stage.name == name)
}

/// Processors that the server used in a stage.
pub(super) fn cores(stage: &StageReport) -> Option<f64> {
    Some(stage.server.as_ref()?.cpu_seconds / stage.watched_seconds())
}

/// Nanoseconds a delivery of a stage, without what idling with heartbeats costs over the same time.
pub(super) fn net_cost(report: &Report, name: &str) -> Option<f64> {
    let (idle, stage) = (cores(stage(report, "idle")?)?, stage(report, name)?);
    let server = stage.server.as_ref().filter(|server| server.messages > 0)?;
    let net = server.cpu_seconds - idle * stage.measured_seconds();
    Some(net * 1e9 / server.messages as f64)
}

/// Kernel bytes a connection at the end of the idle stage, both sides together, and what each cache
/// has of it.
pub(super) fn slab(report: &Report) -> Option<(f64, Vec<(String, f64)>)> {
    let idle = report.stages.iter().position(|stage| stage.name == "idle")? + 1;
    let first = report.samples.iter().find(|sample| !sample.slab.is_empty())?;
    let last = report.samples.iter().rfind(|sample| sample.stage == idle && !sample.slab.is_empty())?;
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
pub(super) fn faults(report: &Report) -> u64 {
    let of = |c: &Conservation| c.lost + c.duplicated + c.reordered + c.misdelivered + c.damaged;
    report.flows.iter().map(|flow| of(&flow.conservation)).sum()
}

/// All rows of the table. `past`: there was no kernel between the gateway and its clients.
pub(super) fn all(
    full: &Report,
    small: Option<&Report>,
    floor: Option<&Floor>,
    past: bool,
) -> Vec<Measurement> {
    let mut measurements = holding(full, past);
    measurements.extend(pushing(full));
    measurements.extend(moving(full, small, floor, past));
    measurements
}

/// The row of its memory: past the kernel, TCP's is the gateway's own, and huge pages are counted
/// in.
fn memory(rss: Option<f64>, peak: f64, past: bool) -> Measurement {
    let mib = 1048576.0;
    let (threshold, target) = match past {
        true => ((768.0 * mib, "≤ 768 MiB"), (512.0 * mib, "≤ 512 MiB")),
        false => ((512.0 * mib, "≤ 512 MiB"), (320.0 * mib, "≤ 320 MiB")),
    };
    let what = if past {
        "gateway RSS and huge pages with all of them, TCP included"
    } else {
        "gateway RSS with all of them"
    };
    less(what, Some(threshold), Some(target)).judge(
        rss.map(|rss| (rss, bytes(rss))),
        format!("at the end of idle; {} at the highest, in any stage", bytes(peak)),
    )
}

fn holding(full: &Report, past: bool) -> Vec<Measurement> {
    let server = full.server.as_ref();
    let idle = stage(full, "idle");
    let lost: u64 = full.connect.lost.values().sum();
    let held = (full.connect.ready - lost.min(full.connect.ready)) as f64;
    let rss = idle.and_then(|stage| stage.server.as_ref()).map(|server| server.rss_after as f64);
    let peak = full.samples.iter().map(|sample| sample.server_rss).max().unwrap_or(0) as f64;
    let slab = slab(full);
    let parts = slab.as_ref().map_or_else(String::new, |(_, parts)| {
        parts.iter().map(|(name, each)| format!("{name} {each:.0}")).collect::<Vec<_>>().join(", ")
    });
    let idle_cores = idle.and_then(cores);
    let wakeups = idle
        .and_then(|stage| Some((stage.server.as_ref()?.wakeups as f64 / stage.measured_seconds()).round()));
    let beats =
        idle.and_then(|stage| Some(stage.heartbeats.as_ref()?.measured as f64 / stage.measured_seconds()));
    let mut measurements = vec![
        Bounds {
            more: true,
            ..less(
                "connections held, authenticated, heartbeating",
                Some((1e6, "1 000 000")),
                Some((1e6, "1 000 000")),
            )
        }
        .judge(
            server.map(|_| (held, number(held))),
            format!("{} over {}; {lost} closed by the server", full.scenario, full.protocol),
        ),
        memory(rss, peak, past),
    ];
    // Past the kernel there is no slab.
    measurements.extend((!past).then(|| {
        less("kernel slab a connection, server side", None, Some((4100.0, "≤ 4.1 KB"))).judge(
            slab.map(|(both, _)| (both / 2.0, format!("{:.0} B", both / 2.0))),
            format!("half of what both sides grew by; both: {parts} B"),
        )
    }));
    measurements.push(
        less(
            "gateway CPU, idle, a heartbeat a connection and interval",
            Some((0.15, "≤ 15 % of a core")),
            Some((0.05, "≤ 5 %")),
        )
        .judge(
            idle_cores.map(|cores| (cores, percent(cores))),
            format!(
                "{} heartbeats/s, {} wake-ups/s",
                number(beats.unwrap_or(0.0).round()),
                number(wakeups.unwrap_or(0.0))
            ),
        ),
    );
    measurements
}

/// Single pushes, over each of two ways in; then what a publisher over HTTP can do about their
/// cost.
fn pushing(full: &Report) -> Vec<Measurement> {
    let mut measurements = pushes(full, "service", "a service's connection");
    measurements.extend(pushes(full, "push", "HTTP, a request each"));
    measurements.push(lists(full));
    measurements
}

/// The rows of one way in, by its stage: the bounds are the same for all.
fn pushes(full: &Report, name: &str, over: &str) -> Vec<Measurement> {
    let found = stage(full, name);
    let flow = found.and_then(|stage| stage.flows.first());
    let latency = flow.map(|flow| &flow.latency).filter(|latency| latency.count > 0);
    let of = |value: Option<f64>| value.map(|value| (value, nanos(value)));
    let rate = flow.map_or_else(String::new, |flow| {
        format!(
            "{} offered/s, {} delivered/s",
            number(flow.offered.unwrap_or(0.0).round()),
            number(flow.delivered.round())
        )
    });
    let message = stage(full, "message").and_then(|stage| stage.flows.first()).map(|flow| &flow.latency);
    let message = message.filter(|_| name == "service").map_or_else(String::new, |latency| {
        let [mean, p99, p999] = [latency.mean, latency.p99 as f64, latency.p999 as f64].map(nanos);
        format!("client to client: {mean} / {p99} / {p999}")
    });
    let ms = 1e6;
    let busy = found.and_then(cores);
    let row = |what: &str, threshold, target, value, note: String| {
        less(&format!("push to random users over {over}: {what}"), Some(threshold), Some(target))
            .judge(value, note)
    };
    let max = latency.map_or_else(String::new, |latency| format!("max {}", nanos(latency.max as f64)));
    vec![
        row("mean", (ms, "1 ms"), (0.3 * ms, "0.3 ms"), of(latency.map(|latency| latency.mean)), rate),
        row("p99", (5.0 * ms, "5 ms"), (1.5 * ms, "1.5 ms"), of(latency.map(|l| l.p99 as f64)), message),
        row("p99.9", (20.0 * ms, "20 ms"), (8.0 * ms, "8 ms"), of(latency.map(|l| l.p999 as f64)), max),
        row(
            "gateway CPU",
            (0.2, "≤ 20 % of a core"),
            (0.1, "≤ 10 %"),
            busy.map(|cores| (cores, percent(cores))),
            "heartbeats included".to_owned(),
        ),
    ]
}

/// The same number of deliveries, in requests to several users each: no threshold is set.
fn lists(full: &Report) -> Measurement {
    let stage = stage(full, "list");
    let flow = stage.and_then(|stage| stage.flows.first()).filter(|flow| flow.latency.count > 0);
    let note = flow.map_or_else(String::new, |flow| {
        let (offered, delivered) = (flow.offered.unwrap_or(0.0), flow.delivered);
        let [requests, deliveries] = [offered, delivered].map(|rate| number(rate.round()));
        let [mean, p99, p999] =
            [flow.latency.mean, flow.latency.p99 as f64, flow.latency.p999 as f64].map(nanos);
        format!("{requests} requests/s, {deliveries} delivered/s: {mean} / {p99} / {p999}")
    });
    less("push to random users over HTTP, in lists: gateway CPU", None, None)
        .judge(stage.and_then(cores).map(|cores| (cores, percent(cores))), note)
}

/// Nanoseconds a delivery of each broadcast, rising, with its stage.
fn broadcasts(full: &Report) -> Vec<(f64, &StageReport)> {
    let rounds = full.stages.iter().filter(|stage| stage.name.starts_with("broadcast"));
    let cost = |stage: &StageReport| stage.server.as_ref().map(|server| server.cpu_nanos_per_message);
    let delivered = |stage: &&StageReport| stage.server.as_ref().is_some_and(|server| server.messages > 0);
    let mut costs: Vec<(f64, &StageReport)> =
        rounds.filter(delivered).filter_map(|stage| Some((cost(stage)?, stage))).collect();
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    costs
}

/// The broadcasts' row, by the median one. The bare floor sends through the kernel: past it there
/// is nothing to compare with, and the cost is reported.
fn broadcast(full: &Report, floor: Option<&Floor>, past: bool) -> Measurement {
    let all = broadcasts(full);
    let median = all.get(all.len() / 2);
    let cost = median.map(|(cost, _)| *cost);
    let spread = match (all.first(), all.last()) {
        (Some(first), Some(last)) if all.len() > 1 => {
            format!(" (median of {}, {} to {})", all.len(), nanos(first.0), nanos(last.0))
        }
        _ => String::new(),
    };
    let pace = median.and_then(|(_, stage)| pace(stage)).unwrap_or_default();
    if past {
        return less("broadcast: gateway CPU a delivery", None, None)
            .judge(cost.map(|cost| (cost, nanos(cost))), format!("{pace}{spread}"));
    }
    let to_floor = cost.zip(floor).map(|(cost, floor)| cost / floor.nanos);
    let note = match (cost, floor) {
        (Some(cost), Some(floor)) => {
            format!(
                "{} a delivery{spread}, floor {} ({}); {pace}",
                nanos(cost),
                nanos(floor.nanos),
                floor.source
            )
        }
        (Some(cost), None) => format!("{} a delivery{spread}, no floor to compare with; {pace}", nanos(cost)),
        _ => pace,
    };
    less(
        "broadcast: CPU a delivery, to the bare floor's send",
        Some((1.3, "≤ 1.3 ×")),
        Some((1.1, "≤ 1.1 ×")),
    )
    .judge(to_floor.map(times), note)
}

/// When a broadcast's last delivery came, and how many a second that makes.
fn pace(stage: &StageReport) -> Option<String> {
    let last = stage.flows.first()?.latency.max as f64;
    let all: f64 = stage.flows.iter().map(|flow| flow.latency.count as f64).sum();
    let rate = number((all * 1e9 / last.max(1.0)).round());
    Some(format!("last after {}, {rate} deliveries/s", nanos(last)))
}

/// A ratio, with its words.
fn times(ratio: f64) -> (f64, String) {
    (ratio, format!("{ratio:.2} ×"))
}

/// How many times the cost of a push with few connections a push costs: the larger figure of the
/// ways in.
fn dearer(full: &Report, small: Option<&Report>) -> (Option<f64>, String) {
    let of = |(name, over): (&str, &str)| {
        let (full, small) = (net_cost(full, name)?, net_cost(small?, name).filter(|small| *small > 0.0)?);
        Some((full / small, format!("{over}: {} against {}", nanos(full), nanos(small))))
    };
    let found: Vec<(f64, String)> =
        [("service", "a service's connection"), ("push", "HTTP")].into_iter().filter_map(of).collect();
    let most = found.iter().map(|(ratio, _)| *ratio).reduce(f64::max);
    let words: Vec<&str> = found.iter().map(|(_, words)| words.as_str()).collect();
    let words = if words.is_empty() {
        "no run to compare with".to_owned()
    } else {
        words.join("; ") + ", idle's CPU taken off"
    };
    (most, words)
}

fn moving(full: &Report, small: Option<&Report>, floor: Option<&Floor>, past: bool) -> Vec<Measurement> {
    let connect = &full.connect;
    let storm = stage(full, "storm").and_then(|stage| stage.connect.as_ref());
    let storm = storm.map_or_else(String::new, |storm| {
        format!("; reconnect storm {}/s", number(storm.per_second.round()))
    });
    let (ratio, words) = dearer(full, small);
    let bad = faults(full) + small.map_or(0, faults);
    let server = full.server.as_ref();
    let left =
        stage(full, "recovery").and_then(|stage| stage.server.as_ref()).map(|server| server.rss_after as f64);
    let before = server.map(|server| server.rss_before as f64).filter(|rss| *rss > 0.0);
    let recovered = left.zip(before).map(|(left, before)| left / before);
    let delivered: u64 = full.flows.iter().map(|flow| flow.conservation.delivered).sum();
    vec![
        Bounds {
            more: true,
            ..less(
                "connect and log in, both sides on this machine",
                Some((20_000.0, "≥ 20 000/s")),
                Some((30_000.0, "≥ 30 000/s")),
            )
        }
        .judge(
            Some((connect.per_second, format!("{}/s", number(connect.per_second.round())))),
            format!("TCP connect p99 {}{storm}", nanos(connect.connected.p99 as f64)),
        ),
        less("CPU a push, to that with few connections", Some((1.5, "≤ 1.5 ×")), Some((1.2, "≤ 1.2 ×")))
            .judge(ratio.map(times), words),
        broadcast(full, floor, past),
        less(
            "messages lost, doubled, out of order or damaged, in any stage",
            Some((0.0, "0")),
            Some((0.0, "0")),
        )
        .judge(Some((bad as f64, number(bad as f64))), format!("of {}", number(delivered as f64))),
        less("RSS after everyone left, to before", Some((1.1, "≤ 1.1 ×")), None).judge(
            recovered.map(times),
            left.zip(before).map_or_else(String::new, |(left, before)| {
                format!("{} against {}", bytes(left), bytes(before))
            }),
        ),
    ]
}
