//! A report as one self-contained page.

use super::chart::{Chart, Line, Scale, Unit, escape};
use super::page::{page, pairs, section, table, tile};
use super::units::{bytes, nanos, number, percent};
use super::{Conservation, Judgment, Latency, Report, Verdict};

/// The page.
pub(crate) fn render(report: &Report) -> String {
    let body = [
        head(report),
        reasons(report),
        tiles(report),
        section("Stages", &stages(report)),
        section("Charts", &charts(report)),
        section("Goals", &goals(report)),
        section("Traffic", &traffic(report)),
        section("Latency from the intended time", &latencies(report)),
        section("Conservation", &conservation(report)),
        section("Connections", &connections(report)),
        section("Run", &run(report)),
    ]
    .concat();
    page(&format!("{} {} — loadtest", report.scenario, report.label), &body)
}

fn head(report: &Report) -> String {
    let chip = |class: &str, text: &str| format!("<span class=\"chip {class}\">{text}</span>");
    let product = match report.verdict.judgment {
        _ if report.verdict.passed => chip("good", "✓ passed"),
        Judgment::Invalid => chip("warn", "measurement invalid"),
        Judgment::NoSamples => chip("warn", "no samples"),
        Judgment::Passed | Judgment::Failed => chip("bad", "✗ failed"),
    };
    let bound = if report.verdict.generator_bound {
        chip("warn", "▲ generator-bound")
    } else {
        chip("", "generator had room")
    };
    let cut = if report.interrupted { chip("warn", "interrupted") } else { String::new() };
    format!(
        "<header><div><h1>{}<small>{}</small></h1><p>{} at {} · measured {:.1} s · {}</p></div>\
         <div class=\"chips\">{product}{bound}{cut}</div></header>",
        escape(&report.scenario),
        escape(&report.label),
        escape(&report.protocol),
        escape(&report.target),
        report.measured_seconds,
        date(report.started_at)
    )
}

fn reasons(report: &Report) -> String {
    let bad = report.verdict.reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason)));
    let Verdict { invalid, unjudged, generator_reasons, .. } = &report.verdict;
    let warn = invalid.iter().chain(unjudged).chain(generator_reasons);
    let warn = warn.map(|reason| format!("<li class=\"warn\">{}</li>", escape(reason)));
    let all: String = bad.chain(warn).collect();
    if all.is_empty() { all } else { format!("<ul class=\"reasons\">{all}</ul>") }
}

/// The latency that the run measures.
pub(crate) fn main_latency(report: &Report) -> (&Latency, &str) {
    match (report.flows.first(), &report.churn, &report.heartbeats) {
        (Some(flow), _, _) => (&flow.latency, "from intended time"),
        (None, Some(churn), _) => (&churn.latency, "to ready again"),
        (None, None, Some(beats)) => (&beats.latency, "heartbeat"),
        _ => (&report.connect.ready_latency, "to ready"),
    }
}

fn tiles(report: &Report) -> String {
    let (latency, what) = main_latency(report);
    let mut tiles = Vec::new();
    let mut add = |name: &str, value: String, note: &str| tiles.push(tile(name, &value, note));
    add("p50", nanos(latency.p50 as f64), what);
    add("p99", nanos(latency.p99 as f64), what);
    add("p99.9", nanos(latency.p999 as f64), what);
    add("max", nanos(latency.max as f64), &format!("of {}", number(latency.count as f64)));
    if !report.flows.is_empty() {
        let delivered: f64 = report.flows.iter().map(|flow| flow.delivered).sum();
        let ratio = report.flows.iter().map(|flow| flow.ratio).fold(f64::INFINITY, f64::min);
        let open = report.flows.iter().any(|flow| flow.offered.is_some());
        let note =
            if open { format!("{} of what was offered", percent(ratio)) } else { "closed loop".to_owned() };
        add("delivered", format!("{}/s", number(delivered)), &note);
        let lost: u64 = report.flows.iter().map(|flow| flow.conservation.lost).sum();
        let owed: u64 = report.flows.iter().map(|flow| flow.conservation.owed).sum();
        add("lost", number(lost as f64), &format!("of {}", number(owed as f64)));
    }
    let connect = &report.connect;
    add("connections", number(connect.ready as f64), &format!("{}/s to open", number(connect.per_second)));
    if let Some(server) = &report.server {
        if server.messages > 0 {
            add("server CPU", nanos(server.cpu_nanos_per_message), "a message");
        }
        add("server memory", bytes(server.rss_bytes_per_connection), "RSS a connection");
    }
    let busiest = report.generator.busy.iter().copied().fold(0.0, f64::max);
    tiles.push(tile("generator", &percent(busiest), "busiest worker"));
    let columns = if tiles.len() <= 6 { tiles.len() } else { tiles.len().div_ceil(2) };
    format!("<div class=\"tiles\" style=\"--n:{columns}\">{}</div>", tiles.concat())
}

fn stages(report: &Report) -> String {
    let rows = if report.stages.is_empty() { Vec::new() } else { super::stages::rows(report) };
    table(&super::stages::HEAD, &rows)
}

const TIME: (Scale, Unit, &str) = (Scale::Linear, Unit::Seconds, "seconds since traffic started");

fn charts(report: &Report) -> String {
    let all = [
        percentiles(&curves(report)),
        throughput(report),
        latency_over_time(report),
        cpu(report),
        memory(report),
    ];
    let charts: String = all.iter().map(Chart::render).collect();
    if charts.is_empty() { charts } else { format!("<div class=\"grid2\">{charts}</div>") }
}

/// The curves of a report, each with its name.
fn curves(report: &Report) -> Vec<(String, &Latency)> {
    let mut curves: Vec<(String, &Latency)> = Vec::new();
    for flow in &report.flows {
        curves.push((flow.name.clone(), &flow.latency));
        if let Some(answer) = &flow.answer {
            curves.push((format!("{}: HTTP answer", flow.name), answer));
        }
    }
    let others = [("reconnect", &report.churn), ("heartbeat", &report.heartbeats)];
    curves.extend(
        others.iter().filter_map(|(name, other)| Some(((*name).to_owned(), &other.as_ref()?.latency))),
    );
    if curves.is_empty() {
        curves.push(("TCP connect".to_owned(), &report.connect.connected));
        curves.push(("ready".to_owned(), &report.connect.ready_latency));
    }
    curves
}

/// Latency by percentile, one line a curve.
pub(crate) fn percentiles(curves: &[(String, &Latency)]) -> Chart {
    let line = |(at, (name, latency)): (usize, &(String, &Latency))| {
        let points = latency.curve.iter().map(|(quantile, value)| (*quantile, *value as f64)).collect();
        Line::new(name.clone(), at % 6, points)
    };
    Chart {
        title: "Latency by percentile",
        note: "both axes logarithmic",
        x: (Scale::Nines, Unit::Quantile, "percentile"),
        y: (Scale::Log, Unit::Nanos),
        full: true,
        shades: Vec::new(),
        lines: curves.iter().enumerate().map(line).collect(),
    }
}

/// The times that were not measured, for shading.
fn unmeasured(report: &Report) -> Vec<(f64, f64, String)> {
    let last = report.seconds.last().map_or(0.0, |second| f64::from(second.second) + 1.0);
    let end = report.warmup_seconds + report.measured_seconds;
    vec![(0.0, report.warmup_seconds, "warm-up".to_owned()), (end, last.max(end), "settling".to_owned())]
}

fn throughput(report: &Report) -> Chart {
    // A second that the end cuts short would look like a collapse, when drawn.
    let end = report.warmup_seconds + report.measured_seconds;
    let whole = report.seconds.iter().filter(|second| f64::from(second.second) + 1.0 <= end).count();
    let seconds = &report.seconds[..whole.max(report.seconds.len().min(2))];
    let of = |of: fn(&super::Second) -> u64| -> Vec<(f64, f64)> {
        seconds.iter().map(|second| (f64::from(second.second), of(second) as f64)).collect()
    };
    let offered: f64 = report.flows.iter().filter_map(|flow| Some(flow.offered? * flow.fan_out)).sum();
    let mut lines = Vec::new();
    if offered > 0.0 {
        let flat = seconds.iter().map(|second| (f64::from(second.second), offered)).collect();
        lines.push(Line { dashed: true, ..Line::new("offered", 1, flat) });
    } else {
        lines.push(Line { dashed: true, ..Line::new("sent", 1, of(|second| second.owed)) });
    }
    lines.push(Line { area: true, ..Line::new("delivered", 0, of(|second| second.delivered)) });
    Chart {
        title: "Deliveries",
        note: "each second",
        x: TIME,
        y: (Scale::Linear, Unit::Rate),
        full: false,
        shades: unmeasured(report),
        lines,
    }
}

fn latency_over_time(report: &Report) -> Chart {
    let seconds = || report.seconds.iter().filter(|second| second.delivered > 0);
    let of = |of: fn(&super::Second) -> u64| -> Vec<(f64, f64)> {
        seconds().map(|second| (f64::from(second.second), of(second) as f64)).collect()
    };
    let lines = vec![
        Line::new("max", 3, of(|second| second.max)),
        Line::new("p99", 1, of(|second| second.p99)),
        Line::new("p50", 0, of(|second| second.p50)),
    ];
    Chart {
        title: "Latency over time",
        note: "each second, all flows",
        x: TIME,
        y: (Scale::Log, Unit::Nanos),
        full: false,
        shades: unmeasured(report),
        lines,
    }
}

const RUN_TIME: (Scale, Unit, &str) = (Scale::Linear, Unit::Seconds, "seconds since the run began");

fn cpu(report: &Report) -> Chart {
    let of = |of: fn(&super::Sample) -> f64| -> Vec<(f64, f64)> {
        report.samples.iter().map(|sample| (sample.time, of(sample))).collect()
    };
    let mut lines = Vec::new();
    if report.server.is_some() {
        lines.push(Line { area: true, ..Line::new("server", 0, of(|sample| sample.server_cpu)) });
    }
    lines.push(Line::new("generator", 1, of(|sample| sample.generator_cpu)));
    Chart {
        title: "Processors in use",
        note: "1.0 is one core",
        x: RUN_TIME,
        y: (Scale::Linear, Unit::Processors),
        full: false,
        shades: Vec::new(),
        lines,
    }
}

fn memory(report: &Report) -> Chart {
    let points = report.samples.iter().map(|sample| (sample.time, sample.server_rss as f64)).collect();
    let lines = match report.server {
        Some(_) => vec![Line { area: true, ..Line::new("server RSS", 2, points) }],
        None => Vec::new(),
    };
    Chart {
        title: "Server memory",
        note: "resident",
        x: RUN_TIME,
        y: (Scale::Linear, Unit::Bytes),
        full: false,
        shades: Vec::new(),
        lines,
    }
}

fn goals(report: &Report) -> String {
    let row = |goal: &crate::goals::Outcome| {
        let met = if goal.met { "✓ met" } else { "!✗ missed" };
        vec![goal.goal.clone(), goal.found.clone(), met.to_owned()]
    };
    table(&["goal", "found", ""], &report.goals.iter().map(row).collect::<Vec<_>>())
}

fn traffic(report: &Report) -> String {
    let row = |flow: &super::FlowReport| {
        vec![
            flow.name.clone(),
            flow.pace.clone(),
            bytes(flow.payload_size as f64),
            flow.offered.map_or_else(|| "–".to_owned(), number),
            number(flow.sent),
            number(flow.fan_out),
            number(flow.delivered),
            percent(flow.ratio),
        ]
    };
    let head = ["flow", "pace", "payload", "offered/s", "sent/s", "fan-out", "delivered/s", "achieved"];
    table(&head, &report.flows.iter().map(row).collect::<Vec<_>>())
}

/// A row of percentiles.
pub(crate) fn latency_row(name: &str, latency: &Latency) -> Vec<String> {
    let Latency { p50, p90, p99, p999, p9999, max, .. } = *latency;
    let values = [p50, p90, p99, p999, p9999, max].map(|value| nanos(value as f64));
    [vec![name.to_owned(), number(latency.count as f64)], values.to_vec()].concat()
}

const LATENCY_HEAD: [&str; 8] = ["", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

fn latencies(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> =
        curves(report).iter().map(|(name, latency)| latency_row(name, latency)).collect();
    let open = report.flows.iter().filter(|flow| flow.offered.is_some());
    rows.extend(open.map(|flow| latency_row(&format!("{}: send lag (generator)", flow.name), &flow.lag)));
    table(&LATENCY_HEAD, &rows)
}

fn conservation(report: &Report) -> String {
    let bad = |count: u64| if count == 0 { "0".to_owned() } else { format!("!{}", number(count as f64)) };
    let row = |flow: &super::FlowReport| {
        let Conservation { operations, not_sent, refused, owed, delivered, .. } = flow.conservation;
        let c = &flow.conservation;
        let plain = [operations, not_sent, refused, owed, delivered].map(|count| number(count as f64));
        let faults = [c.lost, c.duplicated, c.reordered, c.misdelivered, c.damaged].map(bad);
        [vec![flow.name.clone()], plain.to_vec(), faults.to_vec()].concat()
    };
    let head = [
        "flow",
        "sent",
        "not sent",
        "refused",
        "owed",
        "delivered",
        "lost",
        "twice",
        "disordered",
        "misdelivered",
        "damaged",
    ];
    let mut out = table(&head, &report.flows.iter().map(row).collect::<Vec<_>>());
    let violations = report.violations.iter().map(|(what, count)| vec![what.clone(), bad(*count)]);
    out += &table(&["violation", "count"], &violations.collect::<Vec<_>>());
    if !report.examples.is_empty() {
        out += &format!("<pre>{}</pre>", escape(&report.examples.join("\n")));
    }
    out
}

fn connections(report: &Report) -> String {
    let connect = &report.connect;
    let rows = vec![
        latency_row("TCP connect", &connect.connected),
        latency_row("ready (after auth)", &connect.ready_latency),
    ];
    let mut out = table(&LATENCY_HEAD, &rows);
    let counts = |what: &str, counts: &std::collections::BTreeMap<String, u64>| {
        counts
            .iter()
            .map(|(why, count)| vec![format!("{what}: {why}"), number(*count as f64)])
            .collect::<Vec<_>>()
    };
    let mut rows = counts("attempt failed", &connect.failures);
    rows.extend(counts("closed while ready", &connect.lost));
    rows.extend(counts("notice", &report.notices));
    if let Some(slow) = &report.slow_readers {
        rows.push(vec![
            "slow readers closed by the server".to_owned(),
            format!("{} of {}", slow.closed_by_server, slow.connections),
        ]);
    }
    out += &table(&["event", "count"], &rows);
    out
}

fn run(report: &Report) -> String {
    let generator = &report.generator;
    let mut facts: Vec<(&str, String)> =
        report.machine.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts.push((
        "generator",
        format!(
            "{} × {} worker(s), busy {}, RSS {}",
            generator.backend,
            generator.workers,
            super::stages::spread(&generator.busy),
            bytes(generator.rss_bytes as f64)
        ),
    ));
    if let Some(server) = &report.server {
        facts.push(("server", format!("{} (pid {:?})", server.command, server.pids)));
        facts.push((
            "server CPU",
            format!(
                "{:.2} s user, {:.2} s system while measured; {:.2} s waiting for a processor",
                server.user_seconds, server.system_seconds, server.starved_seconds
            ),
        ));
        let steps = [server.rss_before, server.rss_connected, server.rss_after].map(|rss| bytes(rss as f64));
        facts
            .push(("server RSS", format!("{} before, {} connected, {} after", steps[0], steps[1], steps[2])));
    }
    let metrics: Vec<Vec<String>> = report
        .metrics
        .iter()
        .map(|(name, [before, after])| {
            vec![name.clone(), number(*before), number(*after), number(after - before)]
        })
        .collect();
    let metrics = match metrics.is_empty() {
        true => String::new(),
        false => format!(
            "<details><summary>Server metrics, before and after ({})</summary>{}</details>",
            metrics.len(),
            table(&["metric", "before", "after", "change"], &metrics)
        ),
    };
    format!(
        "<pre>{}</pre><div class=\"card\">{}</div>{metrics}<footer>loadtest {} · latency counts from the intended \
         time of each operation, not from the moment it could be sent</footer>",
        escape(&report.command),
        pairs(facts.into_iter()),
        escape(&report.version)
    )
}

/// Seconds since 1970 as a date and time in UTC (days to civil, Howard Hinnant).
pub(crate) fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_772_323_199), "2026-02-28 23:59 UTC");
    }

    #[test]
    fn the_page_is_self_contained_and_holds_its_parts() {
        let mut report = Report {
            scenario: "echo".to_owned(),
            command: "loadtest echo <x>".to_owned(),
            ..Report::default()
        };
        report.flows.push(super::super::FlowReport { name: "echo".to_owned(), ..Default::default() });
        report.goals.push(crate::goals::Outcome {
            goal: "loss=0".to_owned(),
            found: "3".to_owned(),
            met: false,
        });
        let html = render(&report);
        for part in
            ["<h1>echo", "✗ missed", "loadtest echo &lt;x&gt;", "conservation", "prefers-color-scheme:dark"]
        {
            assert!(html.to_lowercase().contains(part), "{part}");
        }
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
