//! The table of README.md: ratios first, then what depends on the host.

use super::format::{NONE, or_dash, ratio, words};
use super::million::{BROADCAST, LOST, MillionReport, SERVICE_CPU};
use crate::exit::{Exit, Failure};
use crate::run::{
    CaseReport, FLOOR_EPOLL, FLOOR_URING, GATEWAY_DPDK, GATEWAY_EPOLL, GATEWAY_URING, Report, RunFigures,
    Spread, THREADS, codec_ratio,
};

const BENCH: &str = "`make bench`";
/// Measures of a million connections, and their words here.
const MEASURES: [(&str, &str); 6] = [
    ("gateway RSS with all of them", "a million connections, logged in and heartbeating: memory"),
    ("gateway CPU, idle, a heartbeat a connection and interval", "… CPU, of one processor"),
    ("connect and log in, both sides on this machine", "… their logins"),
    ("push to random users over a service's connection: mean", "5 000 pushes a second to random ones: mean"),
    ("push to random users over a service's connection: p99", "… p99"),
    (SERVICE_CPU, "… CPU, of one processor"),
];
/// The same past the kernel.
const PAST_THE_KERNEL: [(&str, &str); 3] = [
    ("connect and log in, both sides on this machine", "a million past the kernel, on DPDK: their logins"),
    ("push to random users over a service's connection: p99", "… 5 000 pushes a second: p99"),
    (SERVICE_CPU, "… CPU, of one processor"),
];

/// The table of a report of `bench`, one of a million, and one of a million on DPDK.
///
/// # Errors
/// Other reports, or one without a measure that the table has.
pub(super) fn table(bench: &Report, millions: &[MillionReport]) -> Result<String, Failure> {
    let [million, dpdk] = millions else {
        return Err(Failure::usage("the table readme is of three reports: bench, million, million-dpdk"));
    };
    let mut rows = ratios(bench);
    let broadcast = [(BROADCAST, "CPU of a broadcast to a million, to the bare send to as many, in one run")];
    rows.extend(measures(million, &broadcast, "`make million`")?);
    let lost = [(LOST, "messages lost, doubled, reordered or damaged in that run")];
    rows.extend(measures(million, &lost, "`make million`")?);
    rows.extend(measures(million, &MEASURES, "`make million`")?);
    rows.extend(measures(dpdk, &PAST_THE_KERNEL, "`make million BACKEND=dpdk`")?);
    Ok(words(&["measure", "figure", "printed by", "measured on"], &rows))
}

fn measures(
    report: &MillionReport,
    asked: &[(&str, &str)],
    command: &str,
) -> Result<Vec<Vec<String>>, Failure> {
    let row = |(measure, meaning): &(&str, &str)| {
        let missing = || {
            let text = format!("the report of a million on {} has no measure '{measure}'", report.name());
            Failure { exit: Exit::CouldNotRun, text }
        };
        let found = report.found(measure).ok_or_else(missing)?;
        Ok(vec![(*meaning).to_owned(), found, command.to_owned(), report.day()])
    };
    asked.iter().map(row).collect()
}

fn case<'r>(report: &'r Report, start: &str) -> Option<&'r CaseReport> {
    report.cases.iter().find(|case| case.name.starts_with(start))
}

/// The ratios of a report of `bench`, those that it has.
fn ratios(report: &Report) -> Vec<Vec<String>> {
    let day = if report.day.is_empty() { NONE } else { &report.day };
    let cpu = |run: &RunFigures| run.server.cpu_ns;
    let rate = |run: &RunFigures| Some(run.rate);
    let pair = |case, rows: [(&str, &str); 2], figure: fn(&RunFigures) -> Option<f64>| {
        format!("{} and {}", ratio(case, rows[0], figure), ratio(case, rows[1], figure))
    };
    let floors = [(GATEWAY_URING, FLOOR_URING), (GATEWAY_EPOLL, FLOOR_EPOLL)];
    let beside_threads = [(GATEWAY_URING, THREADS), (GATEWAY_DPDK, THREADS)];
    let of_case = |start: &str, meaning: &str, rows, figure| {
        let case = case(report, start)?;
        Some((meaning.to_owned(), pair(case, rows, figure)))
    };
    let rows = [
        of_case(
            "echo 64 B, depth 1, 5000",
            "CPU to echo 64 B over 5 000 connections, to a bare server's: io_uring, epoll",
            floors,
            cpu,
        ),
        of_case("fan-out 64 B", "CPU of a delivery to a room of 5 000, to a bare send's", floors, cpu),
        of_case(
            "a thread each, 64 B, depth 1, 10000",
            "rate over 10 000 connections, to that of a thread each: io_uring, DPDK",
            beside_threads,
            rate,
        ),
        codec(report).map(|found| ("time of a protobuf codec (prost), to this protocol's".to_owned(), found)),
    ];
    let row = |(meaning, found)| vec![meaning, found, BENCH.to_owned(), day.to_owned()];
    rows.into_iter().flatten().map(row).collect()
}

/// The lowest and highest median over all messages and both directions, and the median of all.
fn codec(report: &Report) -> Option<String> {
    let rows = report.codec.as_ref()?.rows.iter().filter(|row| row.judged);
    let medians: Vec<f64> = rows.filter_map(|row| Some(codec_ratio(row)?.median)).collect();
    let middle = Spread::of(medians.iter().copied())?;
    let (low, high) =
        medians.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
    Some(or_dash(Some(format!("{:.1} ({low:.1} to {high:.1} by message)", middle.median))))
}
