//! The outcome as one self-contained page: the thresholds, the whole run over time, then each
//! stage.

use super::comparison::Comparison;
use super::outcome::Outcome;
use super::thresholds::{Measurement, Verdict, cores};
use super::{peers, summary};
use crate::report::chart::{Chart, Line, Scale, Unit, escape};
use crate::report::html::{latency_row, percentiles};
use crate::report::page::{page, pairs, section, table, tile};
use crate::report::units::{bytes, nanos, number, percent};
use crate::report::{Latency, Report, Sample, Second, StageReport, stages};

/// Time of the whole run.
const RUN: (Scale, Unit, &str) = (Scale::Linear, Unit::Seconds, "seconds since the run began");
/// Time within a stage.
const STAGE: (Scale, Unit, &str) =
    (Scale::Linear, Unit::Seconds, "seconds since the stage's traffic started");

/// The page.
pub(super) fn render(outcome: &Outcome, comparison: &Comparison) -> String {
    let full = &outcome.full;
    let notes = outcome.noise.iter().chain(&outcome.notes).chain(&outcome.budget);
    let notes: String = notes.map(|line| format!("<li class=\"warn\">{}</li>", escape(line))).collect();
    let body = [
        head(outcome),
        section("What it must show", &thresholds(&outcome.measurements)),
        section("Stages", &table(&stages::HEAD, &stages::rows(full))),
        section("The whole run", &whole(full)),
        section("Ramp", &ramp(full)),
        full.stages.iter().map(|stage| one(full, stage)).collect(),
        outcome.small.as_ref().map_or_else(String::new, |small| {
            let title = format!("The same stages with {} connections", number(small.connect.ready as f64));
            section(&title, &table(&stages::HEAD, &stages::rows(small)))
        }),
        section("Noise, preparation, sums", &format!("<ul class=\"reasons\">{notes}</ul>")),
        others_of_ours(comparison),
        section("What others publish", &others()),
        section("Run", &run(full)),
    ]
    .concat();
    page(&format!("{} connections — loadtest", number(full.connect.ready as f64)), &body)
}

fn head(outcome: &Outcome) -> String {
    let chip = |class: &str, text: String| format!("<span class=\"chip {class}\">{text}</span>");
    let verdicts =
        |verdict: Verdict| outcome.measurements.iter().filter(|row| row.verdict == verdict).count();
    let (targets, reached, missed) =
        (verdicts(Verdict::TargetMet), verdicts(Verdict::ThresholdMet), verdicts(Verdict::Missed));
    let mut chips = vec![chip(
        "good",
        format!("✓ {} thresholds met, {targets} of them with their target", targets + reached),
    )];
    if missed > 0 {
        chips.push(chip("bad", format!("✗ {missed} missed")));
    }
    format!(
        "<header><div><h1>{} connections on one machine<small>{}</small></h1><p>{}</p></div><div class=\"chips\">{}</div></header>",
        number(outcome.full.connect.ready as f64),
        escape(&outcome.full.protocol),
        escape(&summary::meant(outcome)),
        chips.concat()
    )
}

fn thresholds(thresholds: &[Measurement]) -> String {
    let row = |row: &Measurement| {
        let mark = match row.verdict {
            Verdict::Missed => "!✗ missed".to_owned(),
            Verdict::TargetMet | Verdict::ThresholdMet => format!("✓ {}", row.verdict.words()),
            other => other.words().to_owned(),
        };
        vec![row.measure.clone(), row.threshold.clone(), row.target.clone(), row.found.clone(), mark]
    };
    let notes: String = thresholds
        .iter()
        .filter(|row| !row.note.is_empty())
        .map(|row| format!("<dt>{}</dt><dd>{}</dd>", escape(&row.measure), escape(&row.note)))
        .collect();
    table(
        &["measure", "threshold", "target", "measured", "verdict"],
        &thresholds.iter().map(row).collect::<Vec<_>>(),
    ) + &format!("<dl>{notes}</dl>")
}

fn others_of_ours(comparison: &Comparison) -> String {
    if comparison.rows.is_empty() {
        return String::new();
    }
    let head: Vec<&str> = comparison.head.iter().map(String::as_str).collect();
    section(
        "The same stages on other backends: stored runs, each of its own day and noise",
        &table(&head, &comparison.rows),
    )
}

fn others() -> String {
    let rows: Vec<Vec<String>> = peers::ROWS.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    format!("<div class=\"words\">{}</div>", table(&peers::HEAD, &rows))
}

fn run(report: &Report) -> String {
    let mut facts: Vec<(&str, String)> =
        report.machine.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts.push(("generator", format!("{} × {} workers", report.generator.backend, report.generator.workers)));
    facts.push(("command", report.command.clone()));
    pairs(facts.into_iter())
}

// --- over time ---

fn over_time(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    samples.iter().map(|sample| (sample.time, of(sample))).collect()
}

/// Every second stage shaded, each with its name.
fn shades(report: &Report) -> Vec<(f64, f64, String)> {
    let ends = report.stages.iter().skip(1).map(|stage| stage.traffic_at);
    let last = report.samples.last().map_or(0.0, |sample| sample.time);
    let stages = report.stages.iter().zip(ends.chain([last]));
    stages.step_by(2).map(|(stage, end)| (stage.traffic_at, end, stage.name.clone())).collect()
}

fn chart(title: &'static str, note: &'static str, unit: Unit, lines: Vec<Line>) -> Chart {
    Chart { title, note, x: RUN, y: (Scale::Linear, unit), full: false, shades: Vec::new(), lines }
}

fn whole(report: &Report) -> String {
    let samples = &report.samples[..];
    let of = |of: fn(&Sample) -> f64| over_time(samples, of);
    let connections = Line { area: true, ..Line::new("connections", 0, of(|sample| sample.ready as f64)) };
    let mut first = chart("Connections", "ready, as the generator sees them", Unit::Count, vec![connections]);
    (first.full, first.shades) = (true, shades(report));
    let cpu = vec![
        Line { area: true, ..Line::new("gateway", 0, of(|sample| sample.server_cpu)) },
        Line::new("generator", 1, of(|sample| sample.generator_cpu)),
        Line { dashed: true, ..Line::new("everything else", 3, of(|sample| sample.other_cpu)) },
    ];
    let rss = vec![
        Line { area: true, ..Line::new("gateway", 2, of(|sample| sample.server_rss as f64)) },
        Line::new("generator", 1, of(|sample| sample.generator_rss as f64)),
    ];
    let switches = vec![
        Line { area: true, ..Line::new("wake-ups", 0, of(|sample| sample.server_wakeups)) },
        Line::new("preemptions", 3, of(|sample| sample.server_preemptions)),
    ];
    let available = vec![Line::new("MemAvailable", 4, of(|sample| sample.memory_available as f64))];
    let all = [
        first,
        chart("Processors in use", "1.0 is one core", Unit::Processors, cpu),
        chart("Resident memory", "both programs", Unit::Bytes, rss),
        chart("Kernel slab", "both sides, by cache", Unit::Bytes, slab_lines(samples)),
        chart("Gateway's threads", "wake-ups and preemptions a second", Unit::Rate, switches),
        chart("Memory left", "of the machine", Unit::Bytes, available),
        chart("Turn of a worker", "mean between two looks at /metrics", Unit::Nanos, turn_lines(samples)),
    ];
    format!("<div class=\"grid2\">{}</div>", all.iter().map(Chart::render).collect::<String>())
}

/// The five largest caches.
fn slab_lines(samples: &[Sample]) -> Vec<Line> {
    let peak = samples.iter().max_by_key(|sample| sample.slab.values().sum::<u64>());
    let mut names: Vec<(&String, &u64)> = peak.into_iter().flat_map(|sample| &sample.slab).collect();
    names.sort_by(|a, b| b.1.cmp(a.1));
    // It is read more rarely than the rest.
    let read = || samples.iter().filter(|sample| !sample.slab.is_empty());
    let of = |name: &str| {
        read().map(|sample| (sample.time, sample.slab.get(name).copied().unwrap_or(0) as f64)).collect()
    };
    names.iter().take(5).enumerate().map(|(at, (name, _))| Line::new(name.as_str(), at, of(name))).collect()
}

fn turn_lines(samples: &[Sample]) -> Vec<Line> {
    let read = |sample: &Sample, name: &str| sample.metrics.get(name).copied();
    let published: Vec<(f64, f64, f64)> = samples
        .iter()
        .filter_map(|sample| {
            let sum = read(sample, "gateway_turn_duration_seconds_sum")?;
            Some((sample.time, sum, read(sample, "gateway_turn_duration_seconds_count")?))
        })
        .collect();
    let mean = |pair: &[(f64, f64, f64)]| {
        let ([a, b], turns) = ([pair[0], pair[1]], (pair[1].2 - pair[0].2).max(1.0));
        (b.0, (b.1 - a.1) * 1e9 / turns)
    };
    vec![Line::new("mean turn", 5, published.windows(2).map(mean).collect())]
}

/// The samples of a stretch, a little more on either side, from its start.
fn stretch(report: &Report, from: f64, to: f64) -> Vec<Sample> {
    let within = |sample: &&Sample| sample.time >= from - 0.6 && sample.time <= to + 0.6;
    report.samples.iter().filter(within).cloned().collect()
}

// --- stages ---

fn ramp(report: &Report) -> String {
    let connect = &report.connect;
    let end = report.stages.first().map_or(0.0, |stage| stage.traffic_at);
    let tiles = [
        tile("connections", &number(connect.ready as f64), &format!("of {}", number(connect.asked as f64))),
        tile("rate", &format!("{}/s", number(connect.per_second.round())), "connect and log in"),
        tile("TCP connect", &nanos(connect.connected.p99 as f64), "p99"),
        tile("ready", &nanos(connect.ready_latency.p99 as f64), "p99, log-in included"),
    ];
    let curves =
        vec![("TCP connect".to_owned(), &connect.connected), ("ready".to_owned(), &connect.ready_latency)];
    grid(&tiles, &[rate(&stretch(report, 0.0, end)), half(percentiles(&curves))])
}

/// Connections, and how many come or go a second.
fn rate(samples: &[Sample]) -> Chart {
    let step = |pair: &[Sample]| {
        let change = pair[1].ready as f64 - pair[0].ready as f64;
        (pair[1].time, change.abs() / (pair[1].time - pair[0].time).max(0.01))
    };
    let lines = vec![Line {
        area: true,
        ..Line::new("connections that came or went", 0, samples.windows(2).map(step).collect())
    }];
    chart("Rate", "between two samples", Unit::Rate, lines)
}

fn half(chart: Chart) -> Chart {
    Chart { full: false, ..chart }
}

fn grid(tiles: &[String], charts: &[Chart]) -> String {
    let charts: String = charts.iter().map(Chart::render).collect();
    format!(
        "<div class=\"tiles\" style=\"--n:{}\">{}</div>\
         <div class=\"grid2\" style=\"margin:12px 0\">{charts}</div>",
        tiles.len(),
        tiles.concat()
    )
}

fn one(report: &Report, stage: &StageReport) -> String {
    let (count, what, seconds) = stages::done(stage);
    let mut tiles = vec![tile(what, &number(count), &format!("{}/s", number((count / seconds).round())))];
    let latency = stages::latency(stage).filter(|(latency, _)| latency.count > 0);
    if let Some((latency, of)) = latency {
        let Latency { p50, p99, p999, max, .. } = *latency;
        tiles.push(tile("mean", &nanos(latency.mean), of));
        for (name, value) in [("p50", p50), ("p99", p99), ("p99.9", p999), ("max", max)] {
            tiles.push(tile(name, &nanos(value as f64), ""));
        }
    }
    if let Some(server) = &stage.server {
        tiles.push(tile("gateway CPU", &percent(cores(stage).unwrap_or(0.0)), "of one core"));
        let grown = format!("{} at its start", bytes(server.rss_before as f64));
        tiles.push(tile("gateway RSS", &bytes(server.rss_after as f64), &grown));
    }
    if let Some(seconds) = stage.departure.as_ref().and_then(|departure| departure.server_seconds) {
        tiles.push(tile("server empty", &format!("{seconds:.1} s"), "by its own count"));
    }
    let samples = stretch(report, stage.traffic_at, stage.settled_at);
    let mut charts = Vec::new();
    if stage.flows.is_empty() {
        charts.push(match stage.kind.as_str() {
            "hold" => wakeups(&samples),
            _ => rate(&samples),
        });
    } else {
        charts.push(deliveries(stage));
        charts.push(latency_by_second(&stage.seconds));
    }
    charts.push(processors(&samples));
    if let Some((latency, _)) = latency {
        charts.push(half(percentiles(&[(stage.name.clone(), latency)])));
    }
    let mut rows = Vec::new();
    for flow in &stage.flows {
        rows.push(latency_row("delivery, from the intended time", &flow.latency));
        rows.extend(flow.answer.as_ref().map(|answer| latency_row("HTTP answer", answer)));
        rows.push(latency_row("send lag (generator)", &flow.lag));
    }
    let head = ["", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    section(&title(&stage.name), &(grid(&tiles, &charts) + &table(&head, &rows)))
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn wakeups(samples: &[Sample]) -> Chart {
    let points = over_time(samples, |sample| sample.server_wakeups);
    let lines = vec![Line { area: true, ..Line::new("wake-ups", 0, points) }];
    chart("Gateway's wake-ups", "a second, all threads", Unit::Rate, lines)
}

fn processors(samples: &[Sample]) -> Chart {
    let lines = vec![
        Line { area: true, ..Line::new("gateway", 0, over_time(samples, |sample| sample.server_cpu)) },
        Line::new("generator", 1, over_time(samples, |sample| sample.generator_cpu)),
        Line {
            dashed: true,
            ..Line::new("everything else", 3, over_time(samples, |sample| sample.other_cpu))
        },
    ];
    chart("Processors in use", "1.0 is one core", Unit::Processors, lines)
}

fn by_second(seconds: &[Second], of: fn(&Second) -> u64) -> Vec<(f64, f64)> {
    seconds.iter().map(|second| (f64::from(second.second), of(second) as f64)).collect()
}

fn deliveries(stage: &StageReport) -> Chart {
    let lines = vec![
        Line { dashed: true, ..Line::new("owed", 1, by_second(&stage.seconds, |second| second.owed)) },
        Line {
            area: true,
            ..Line::new("delivered", 0, by_second(&stage.seconds, |second| second.delivered))
        },
    ];
    Chart { x: STAGE, ..chart("Deliveries", "each second, warm-up and settling included", Unit::Rate, lines) }
}

fn latency_by_second(seconds: &[Second]) -> Chart {
    let seconds: Vec<Second> = seconds.iter().filter(|second| second.delivered > 0).cloned().collect();
    let lines = vec![
        Line::new("max", 3, by_second(&seconds, |second| second.max)),
        Line::new("p99", 1, by_second(&seconds, |second| second.p99)),
        Line::new("p50", 0, by_second(&seconds, |second| second.p50)),
    ];
    let plain = chart("Latency over time", "each second", Unit::Nanos, lines);
    Chart { x: STAGE, y: (Scale::Log, Unit::Nanos), ..plain }
}
