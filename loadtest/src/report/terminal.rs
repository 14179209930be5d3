//! The report as aligned text.

use super::stages::{self, spread};
use super::units::{bytes, nanos, number, percent};
use super::{Judgment, Latency, Report};
use std::fmt::Write;

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    head(report, &mut out);
    connect(report, &mut out);
    flows(report, &mut out);
    requests(report, &mut out);
    if !report.stages.is_empty() {
        table(&mut out, &stages::HEAD, &stages::rows(report));
        for kept in stages::kept(report) {
            let _ = writeln!(out, "  {}\n", kept.words());
        }
        departures(report, &mut out);
    }
    processes(report, &mut out);
    conservation(report, &mut out);
    verdicts(report, &mut out);
    out
}

/// Rows of cells under a head, columns aligned: the first to the left, the others to the right.
pub fn table(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::from(" ");
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let _ = if column == 0 { write!(text, " {cell}{pad}") } else { write!(text, "  {pad}{cell}") };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out.push('\n');
}

fn head(report: &Report, out: &mut String) {
    let label = if report.label.is_empty() { String::new() } else { format!(" · {}", report.label) };
    let Report { scenario, target, protocol, measured_seconds, .. } = report;
    let _ =
        writeln!(out, "\n{scenario}{label} · {protocol} at {target} · measured {measured_seconds:.1} s\n");
}

fn latency_cells(latency: &Latency) -> Vec<String> {
    if latency.count == 0 {
        return vec!["–".to_owned(); 6];
    }
    let Latency { p50, p90, p99, p999, p9999, max, .. } = *latency;
    [p50, p90, p99, p999, p9999, max].map(|value| nanos(value as f64)).to_vec()
}

const LATENCY_HEAD: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

fn connect(report: &Report, out: &mut String) {
    let connect = &report.connect;
    let _ = writeln!(
        out,
        "  connections  {} ready of {} in {:.2} s ({} a second), {} retried, {} given up",
        number(connect.ready as f64),
        number(connect.asked as f64),
        connect.seconds,
        number(connect.per_second),
        connect.retried,
        connect.given_up
    );
    for (why, count) in &connect.failures {
        let _ = writeln!(out, "    failed: {why} × {count}");
    }
    for (why, count) in &connect.lost {
        let _ = writeln!(out, "    closed while ready: {why} × {count}");
    }
    out.push('\n');
    let row = |name: &str, latency: &Latency| [vec![name.to_owned()], latency_cells(latency)].concat();
    let rows = [row("TCP connect", &connect.connected), row("ready", &connect.ready_latency)];
    table(out, &[&["time to"], LATENCY_HEAD.as_slice()].concat(), &rows);
}

fn flows(report: &Report, out: &mut String) {
    if report.flows.is_empty() {
        return;
    }
    let row = |flow: &super::FlowReport| {
        vec![
            flow.name.clone(),
            flow.course.pace.clone(),
            flow.offered.map_or_else(|| "–".to_owned(), number),
            number(flow.sent),
            number(flow.fan_out),
            number(flow.delivered),
            percent(flow.ratio),
        ]
    };
    let rows: Vec<_> = report.flows.iter().map(row).collect();
    table(out, &["flow", "pace", "offered/s", "sent/s", "fan-out", "delivered/s", "achieved"], &rows);
    let mut rows = Vec::new();
    for flow in &report.flows {
        rows.push([vec![format!("{} latency", flow.name)], latency_cells(&flow.latency)].concat());
        if let Some(answer) = &flow.answer {
            rows.push([vec!["  HTTP answer".to_owned()], latency_cells(answer)].concat());
        }
        if flow.offered.is_some() {
            rows.push([vec!["  send lag".to_owned()], latency_cells(&flow.lag)].concat());
        }
    }
    table(out, &[&["from intended time"], LATENCY_HEAD.as_slice()].concat(), &rows);
    report.flows.iter().for_each(|flow| steps(flow, out));
}

/// The steps of a flow, where its rate changed.
fn steps(flow: &super::FlowReport, out: &mut String) {
    if flow.course.steps.is_empty() {
        return;
    }
    let row = |step: &super::StepReport| {
        let [from, to] = step.rates.map(number);
        let asked = if from == to { from } else { format!("{from}–{to}") };
        let time = format!("{} step at {:.1} s", flow.name, step.from);
        let rates = [asked, number(step.sent), number(step.delivered), percent(step.ratio)];
        let latency = latency_cells(&step.latency);
        [vec![time], rates.to_vec(), [&latency[..3], &latency[5..]].concat()].concat()
    };
    let head = ["", "asked/s", "sent/s", "delivered/s", "achieved", "p50", "p90", "p99", "max"];
    table(out, &head, &flow.course.steps.iter().map(row).collect::<Vec<_>>());
}

fn requests(report: &Report, out: &mut String) {
    let named = [("heartbeats", &report.heartbeats), ("reconnects", &report.churn)];
    let rows: Vec<_> = named
        .iter()
        .filter_map(|(name, requests)| Some((name, requests.as_ref()?)))
        .map(|(name, requests)| {
            let counts = [requests.sent, requests.answered, requests.missed].map(|n| number(n as f64));
            [vec![(*name).to_owned()], counts.to_vec(), latency_cells(&requests.latency)].concat()
        })
        .collect();
    if !rows.is_empty() {
        table(out, &[["", "sent", "answered", "missed"].as_slice(), &LATENCY_HEAD].concat(), &rows);
    }
    if let Some(slow) = &report.slow_readers {
        let closed = slow.closed_by_server;
        let _ = writeln!(out, "  slow readers  {}, closed by the server: {closed}\n", slow.connections);
    }
}

fn departures(report: &Report, out: &mut String) {
    for (stage, parting) in report.stages.iter().filter_map(|stage| Some((stage, stage.departure.as_ref()?)))
    {
        let server = match parting.server_seconds {
            Some(seconds) => format!("the server had none left after {seconds:.1} s"),
            None => "the server did not say when it had none left".to_owned(),
        };
        let (closed, seconds) = (number(parting.closed as f64), parting.seconds);
        let _ = writeln!(out, "  {}: {closed} closes confirmed in {seconds:.1} s; {server}", stage.name);
    }
    out.push('\n');
}

fn processes(report: &Report, out: &mut String) {
    if let Some(server) = &report.server {
        if server.starved_seconds > 0.1 * report.measured_seconds {
            let waited = server.starved_seconds;
            let _ = writeln!(
                out,
                "  note         the server waited {waited:.2} s for processors that others had"
            );
        }
        let _ = writeln!(
            out,
            "  server       pid {:?}: {:.2} s user + {:.2} s system{} = {} a message; RSS {} → {} connected → {} \
             ({} a connection{})",
            server.pids,
            server.user_seconds,
            server.system_seconds,
            match server.is_busy_time {
                true => format!(", in poll mode, {:.2} s of them with something to do", server.cpu_seconds),
                false => String::new(),
            },
            nanos(server.cpu_nanos_per_message),
            bytes(server.rss_before as f64),
            bytes(server.rss_connected as f64),
            bytes(server.rss_after as f64),
            bytes(server.rss_bytes_per_connection),
            if report.server_was_used() { "; it had clients before, so that says little" } else { "" }
        );
    }
    let generator = &report.generator;
    let _ = writeln!(
        out,
        "  generator    {} × {} worker(s), busy {}, starved {}; RSS {}; {} stalls\n",
        generator.backend,
        generator.workers,
        spread(&generator.busy),
        spread(&generator.starved),
        bytes(generator.rss_bytes as f64),
        generator.stalls
    );
}

fn conservation(report: &Report, out: &mut String) {
    let row = |flow: &super::FlowReport| {
        let c = &flow.conservation;
        let counts = [
            c.operations,
            c.not_sent,
            c.refused,
            c.owed,
            c.delivered,
            c.lost,
            c.duplicated,
            c.reordered,
            c.misdelivered,
            c.damaged,
            c.answers.unanswered,
            c.answers.duplicated,
        ];
        let counts = counts.map(|count| number(count as f64));
        [vec![flow.name.clone()], counts.to_vec()].concat()
    };
    let rows: Vec<_> = report.flows.iter().map(row).collect();
    if !rows.is_empty() {
        let head = [
            "conservation",
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
            "unanswered",
            "answered twice",
        ];
        table(out, &head, &rows);
    }
    for (what, count) in &report.notices {
        let _ = writeln!(out, "  notice: {what} × {count}");
    }
    for (what, count) in &report.violations {
        let _ = writeln!(out, "  violation: {what} × {count}");
    }
    for example in &report.examples {
        let _ = writeln!(out, "  e.g. {example}");
    }
}

fn verdicts(report: &Report, out: &mut String) {
    for goal in &report.goals {
        let mark = if goal.met { "met   " } else { "MISSED" };
        let _ = writeln!(out, "  goal {mark} {} (found {})", goal.goal, goal.found);
    }
    let verdict = &report.verdict;
    if verdict.generator_bound {
        let _ = writeln!(out, "  generator-bound: {}", verdict.generator_reasons.join("; "));
    } else {
        let _ = writeln!(out, "  generator: had room to spare");
    }
    let (count, longest) = report.generator.held;
    if count > 0 {
        let longest = nanos(longest as f64);
        let _ = writeln!(
            out,
            "  held: {} operations waited for the server, up to {longest}",
            number(count as f64)
        );
    }
    if !verdict.stalled.is_empty() {
        let _ = writeln!(out, "  stalled: {}", verdict.stalled);
    }
    if let Some(uncertainty) = verdict.clock_uncertainty {
        let uncertainty = nanos(uncertainty as f64);
        let _ = writeln!(out, "  clocks: latencies from one agent to another are known to ± {uncertainty}");
    }
    if !verdict.invalid.is_empty() {
        let _ = writeln!(out, "  measurement: INVALID: {}", verdict.invalid.join("; "));
    }
    let (what, reasons) = match verdict.judgment {
        Judgment::Passed => ("PASSED", &[][..]),
        Judgment::Failed => ("FAILED", &verdict.reasons[..]),
        Judgment::Invalid => ("NOT JUDGED: no fault found, but times say nothing about it", &[][..]),
        Judgment::NoSamples => ("NOT JUDGED: no samples", &verdict.unjudged[..]),
    };
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    let _ = writeln!(out, "  product: {what}{reasons}");
    if report.interrupted {
        let _ = writeln!(out, "  interrupted: the measured phase was cut short");
    }
}
