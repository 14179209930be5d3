//! Tables of a report of `bench`.

use super::format::{NONE, median, micros, nanos, or_dash, percent, rate, ratio, table as lines, words};
use crate::codec::CodecRow;
use crate::dispatch::LoadFigures;
use crate::exit::Failure;
use crate::run::{
    CaseReport, FLOOR_DPDK, FLOOR_EPOLL, FLOOR_URING, GATEWAY_DPDK, GATEWAY_EPOLL, GATEWAY_EPOLL_WEBSOCKET,
    GATEWAY_URING, GATEWAY_URING_WEBSOCKET, Outcome, Report, RowReport, RunFigures, Spread, THREADS,
    codec_ratio, verdicts,
};

/// What stands in place of a table that the report has no runs for.
const NOTHING: &str =
    "The stored report has no such runs: it was written before they were measured, or without them.";

/// The table of this name.
///
/// # Errors
/// There is none.
pub(super) fn table(name: &str, report: &Report) -> Result<String, Failure> {
    let text = match name {
        "method" => method(report),
        "floors" => floors(report),
        "websocket" => websocket(report),
        "past-the-kernel" => past_the_kernel(report),
        "threads" => threads(report),
        "codec" => codec(report),
        "dispatch" => dispatch(report),
        "bars" => bars(report),
        _ => {
            let known = "method, floors, websocket, past-the-kernel, threads, codec, dispatch, bars, million, memory, readme";
            return Err(Failure::usage(format!("no table '{name}'; there are {known}")));
        }
    };
    Ok(text)
}

/// Where and when, and how much others used.
fn method(report: &Report) -> String {
    let runs: Vec<&RunFigures> =
        report.cases.iter().flat_map(|case| &case.rows).flat_map(|row| &row.runs).collect();
    let others = Spread::of(runs.iter().map(|run| run.foreign));
    let day = if report.day.is_empty() { "a day that it does not name" } else { &report.day };
    let noisy = runs.iter().filter(|run| run.noisy).count();
    format!(
        "{}, on {day}: {}. Others used {} of a processor in the {} runs at the median, {} at the upper quartile; {noisy} runs were \
         noisy in every try.\n",
        report.machine,
        report.method,
        or_dash(others.map(|others| percent(others.median))),
        runs.len(),
        or_dash(others.map(|others| percent(others.high))),
    )
}

fn cpu(run: &RunFigures) -> Option<f64> {
    run.server.cpu_ns
}

fn cpu_of(case: &CaseReport, row: &str) -> String {
    median(case.row(row).and_then(|row| row.spread(cpu)), nanos)
}

fn has(case: &CaseReport, row: &str) -> bool {
    case.row(row).is_some_and(|row| !row.runs.is_empty())
}

/// The cases of the gateway beside floors and libraries.
fn servers(report: &Report) -> impl Iterator<Item = &CaseReport> {
    report.cases.iter().filter(|case| case.row(THREADS).is_none())
}

/// The gateway beside the bare server on the same backend.
fn floors(report: &Report) -> String {
    let row = |case: &CaseReport| {
        let of =
            |gateway, floor| [ratio(case, (gateway, floor), cpu), cpu_of(case, gateway), cpu_of(case, floor)];
        let cells = [of(GATEWAY_URING, FLOOR_URING), of(GATEWAY_EPOLL, FLOOR_EPOLL)].concat();
        [vec![case.name.clone()], cells].concat()
    };
    let rows: Vec<Vec<String>> = servers(report).map(row).collect();
    let head =
        ["case", "io_uring: to its floor's", "gateway", "floor", "epoll: to its floor's", "gateway", "floor"];
    lines(&head, &rows)
}

/// The gateway beside WebSocket libraries: all rows of the report that speak it.
fn websocket(report: &Report) -> String {
    let mut names: Vec<&str> = vec![];
    for row in servers(report).flat_map(|case| &case.rows).filter(|row| row.name.ends_with("WebSocket")) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let own = [GATEWAY_EPOLL_WEBSOCKET, GATEWAY_URING_WEBSOCKET];
    // The libraries are on epoll.
    let Some(base) = own.into_iter().find(|name| names.contains(name)) else { return NOTHING.to_owned() };
    let peers: Vec<&str> = names.iter().copied().filter(|name| !own.contains(name)).collect();
    let short = |name: &str| name.trim_end_matches(", WebSocket").to_owned();
    let mut head = vec!["case".to_owned()];
    head.extend(peers.iter().map(|peer| format!("{}: to {}'s", short(base), short(peer))));
    head.extend(names.iter().map(|name| short(name)));
    let rows: Vec<Vec<String>> = servers(report)
        .map(|case| {
            let mut row = vec![case.name.clone()];
            row.extend(peers.iter().map(|peer| ratio(case, (base, peer), cpu)));
            row.extend(names.iter().map(|name| cpu_of(case, name)));
            row
        })
        .collect();
    lines(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

/// The gateway past the kernel: both its costs.
fn past_the_kernel(report: &Report) -> String {
    let busy = |run: &RunFigures| run.server.busy_ns;
    let row = |case: &CaseReport| {
        let dpdk = case.row(GATEWAY_DPDK);
        vec![
            case.name.clone(),
            ratio(case, (GATEWAY_DPDK, GATEWAY_URING), cpu),
            ratio(case, (GATEWAY_DPDK, GATEWAY_URING), |run| run.server.work_ns()),
            cpu_of(case, GATEWAY_DPDK),
            median(dpdk.and_then(|row| row.spread(busy)), nanos),
            ratio(case, (GATEWAY_DPDK, FLOOR_DPDK), |run| run.frame_rate),
        ]
    };
    let rows: Vec<Vec<String>> =
        report.cases.iter().filter(|case| has(case, GATEWAY_DPDK)).map(row).collect();
    if rows.is_empty() {
        return NOTHING.to_owned();
    }
    let head = [
        "case",
        "processor time: to io_uring's",
        "busy time: to io_uring's processor time",
        "processor time a message",
        "busy time a message",
        "frames a second: to the bare port's",
    ];
    lines(&head, &rows)
}

/// The gateway beside a thread for each connection.
fn threads(report: &Report) -> String {
    let of_case = |case: &CaseReport| {
        let row = |row: &RowReport| {
            let beside = (row.name.as_str(), THREADS);
            let is_itself = row.name == THREADS;
            let to = |text: String| if is_itself { NONE.to_owned() } else { text };
            vec![
                case.name.clone(),
                row.name.clone(),
                to(ratio(case, beside, |run| Some(run.rate))),
                to(ratio(case, beside, cpu)),
                median(row.spread(|run| Some(run.rate)), rate),
                median(row.spread(cpu), nanos),
                median(row.spread(|run| Some(run.p99_us)), micros),
            ]
        };
        case.rows.iter().map(row).collect::<Vec<_>>()
    };
    let cases = report.cases.iter().filter(|case| has(case, THREADS));
    let rows: Vec<Vec<String>> = cases.flat_map(of_case).collect();
    if rows.is_empty() {
        return NOTHING.to_owned();
    }
    let head = [
        "case",
        "server",
        "rate: to a thread each's",
        "processor time: to a thread each's",
        "rate",
        "processor time a message",
        "p99",
    ];
    lines(&head, &rows)
}

/// The codec beside prost.
fn codec(report: &Report) -> String {
    let Some(codec) = &report.codec else { return NOTHING.to_owned() };
    let row = |row: &CodecRow| {
        let mean = |side: usize| Spread::of(row.ns.iter().map(|pair| pair[side]));
        let times = codec_ratio(row).map(|ratio| {
            format!("{:.1} ({:.1}–{:.1}; {})", ratio.median, ratio.low, ratio.high, percent(codec.others))
        });
        vec![
            format!("{}, {}", row.direction, row.message),
            or_dash(times),
            median(mean(0), nanos),
            median(mean(1), nanos),
            format!("{:.0}", row.allocations[0]),
            format!("{:.0}", row.allocations[1]),
            format!("{:.0}", row.sizes[0]),
            format!("{:.0}", row.sizes[1]),
        ]
    };
    let rows: Vec<Vec<String>> = codec.rows.iter().map(row).collect();
    let head = [
        "message",
        "prost's time to ours",
        "ours",
        "prost",
        "allocations, ours",
        "prost",
        "bytes, ours",
        "prost",
    ];
    lines(&head, &rows)
}

/// Delays from readiness to handler.
fn dispatch(report: &Report) -> String {
    if report.dispatch.is_empty() {
        return NOTHING.to_owned();
    }
    let rows: Vec<Vec<String>> = report
        .dispatch
        .iter()
        .map(|row| {
            let spread = |figure: fn(&LoadFigures) -> f64| Spread::of(row.windows.iter().map(figure));
            let delay =
                |figure: fn(&LoadFigures) -> f64| {
                    or_dash(spread(figure).map(|spread| {
                        format!("{:.1} ({:.1}–{:.1}) µs", spread.median, spread.low, spread.high)
                    }))
                };
            vec![
                row.name.clone(),
                delay(|window| window.p50_us),
                delay(|window| window.p99_us),
                delay(|window| window.p999_us),
                delay(|window| window.write_p50_us),
                median(spread(|window| window.server_share), percent),
                median(spread(|window| window.rate), rate),
                median(spread(|window| window.foreign), percent),
            ]
        })
        .collect();
    let head = ["server", "p50", "p99", "p99.9", "the peer's write, p50", "load", "messages", "others"];
    lines(&head, &rows)
}

/// How many bars are met, and each that is not with its reason.
fn bars(report: &Report) -> String {
    let all = verdicts(report);
    let met = all.iter().filter(|verdict| verdict.outcome == Outcome::Met).count();
    let mut out = format!("{met} of {} bars are met.\n", all.len());
    let rows: Vec<Vec<String>> = all
        .iter()
        .filter(|verdict| verdict.outcome != Outcome::Met)
        .map(|verdict| {
            let outcome = verdict.outcome.words().to_owned();
            vec![
                verdict.bar.clone(),
                verdict.case.clone(),
                verdict.found.clone(),
                outcome,
                verdict.reason.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out += "\n";
        out += &words(&["bar", "case", "found", "", "why"], &rows);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_says_so_where_the_report_has_no_runs() {
        let report = Report::default();
        for name in ["past-the-kernel", "threads", "codec", "dispatch", "websocket"] {
            assert_eq!(table(name, &report).unwrap(), NOTHING, "{name}");
        }
        assert!(table("bars", &report).unwrap().starts_with("0 of 0"));
        assert!(table("other", &report).unwrap_err().text.contains("past-the-kernel"));
    }
}
