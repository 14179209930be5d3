//! The bars, and whether they were met.

use super::figures::{Ratio, RunFigures};
use super::plan::{
    FLOOR_DPDK, FLOOR_EPOLL, FLOOR_URING, GATEWAY_DPDK, GATEWAY_EPOLL, GATEWAY_EPOLL_WEBSOCKET,
    GATEWAY_URING, PEERS, THREADS,
};
use super::report::{CaseReport, DispatchRow, Report};
use super::stats::Spread;
use super::verdict::{Outcome, Verdict};
use crate::client::NO_SAMPLES;
use crate::codec::{CodecReport, CodecRow};
use crate::dispatch::LoadFigures;

/// CPU per message over the floor's at depth 1, and of a delivery.
const CPU_MAX: f64 = 1.10;
/// CPU per message over the floor's at greater depths.
const CPU_MAX_DEEP: f64 = 1.5;
/// io_uring's rate over epoll's.
const URING_RATE_MIN: f64 = 1.15;
/// Processor time per message past the kernel over io_uring's.
const DPDK_CPU_MAX: f64 = 0.2;
/// Payloads, in bytes, for which this is a bar.
const DPDK_CPU_SIZE: usize = 64;
/// Frames a second past the kernel over the bare port's.
const DPDK_FRAMES_MIN: f64 = 0.5;
/// The rate over that of a thread for each connection with blocking IO.
const THREADS_RATE_MIN: f64 = 6.9;
/// A protobuf codec's time over this one's.
const CODEC_MIN: f64 = 2.0;
/// Microseconds from readiness to handler that 999 of 1000 messages take at most, at half load.
const DISPATCH_MAX_US: f64 = 15.0;
/// Half load, give or take: outside of it a delay is of another load.
const HALF_LOAD: std::ops::RangeInclusive<f64> = 0.35..=0.65;

/// A floor below this is none.
const FLOOR_BEATEN: f64 = 0.95;
/// Others may use this share of a processor while codecs are measured, or delays.
const OTHERS_MAX: f64 = 0.12;

/// All bars in all cases of a report.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let mut all: Vec<Verdict> = report.cases.iter().flat_map(of_case).collect();
    all.extend(report.codec.iter().flat_map(of_codec));
    all.extend(report.dispatch.iter().map(of_delays));
    all
}

/// The figure that a bar compares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// Processor time a message, with an upper bound.
    Cpu,
    /// A rate, with a lower bound.
    Rate,
    /// A rate of frames, with a lower bound.
    Frames,
}

impl Figure {
    fn of(self, run: &RunFigures) -> Option<f64> {
        match self {
            Figure::Cpu => run.server.cpu_ns,
            Figure::Rate => Some(run.rate),
            Figure::Frames => run.frame_rate,
        }
    }
}

/// A bar on the ratio of two rows of a case.
struct Bar {
    text: String,
    rows: (&'static str, &'static str),
    figure: Figure,
    bound: f64,
}

fn of_case(case: &CaseReport) -> Vec<Verdict> {
    let floor_max = if case.depth.is_some_and(|depth| depth > 1) { CPU_MAX_DEEP } else { CPU_MAX };
    let mut bars = vec![];
    let mut add = |text: String, rows, figure, bound| bars.push(Bar { text, rows, figure, bound });
    for rows in [(GATEWAY_URING, FLOOR_URING), (GATEWAY_EPOLL, FLOOR_EPOLL)] {
        add(format!("{}: CPU ≤ {floor_max:.2} × its floor's", rows.0), rows, Figure::Cpu, floor_max);
    }
    let rows = (GATEWAY_URING, GATEWAY_EPOLL);
    add(
        format!("gateway: io_uring ≥ {URING_RATE_MIN:.2} × epoll's rate"),
        rows,
        Figure::Rate,
        URING_RATE_MIN,
    );
    if case.size == DPDK_CPU_SIZE {
        let text = format!("{GATEWAY_DPDK}: processor time ≤ {DPDK_CPU_MAX:.2} × io_uring's");
        add(text, (GATEWAY_DPDK, GATEWAY_URING), Figure::Cpu, DPDK_CPU_MAX);
    }
    let text = format!("{GATEWAY_DPDK}: frames ≥ {DPDK_FRAMES_MIN:.2} × its floor's rate");
    add(text, (GATEWAY_DPDK, FLOOR_DPDK), Figure::Frames, DPDK_FRAMES_MIN);
    for peer in PEERS {
        let rows = (GATEWAY_EPOLL_WEBSOCKET, peer);
        add(format!("{}: less CPU than {peer}", rows.0), rows, Figure::Cpu, 1.0);
        add(format!("{}: a higher rate than {peer}", rows.0), rows, Figure::Rate, 1.0);
    }
    for gateway in [GATEWAY_URING, GATEWAY_DPDK] {
        let text = format!("{gateway}: ≥ {THREADS_RATE_MIN:.1} × the rate of a thread each");
        add(text, (gateway, THREADS), Figure::Rate, THREADS_RATE_MIN);
    }
    bars.iter().filter_map(|bar| judge(case, bar)).collect()
}

/// The verdict on a bar; `None` where the case does not have both rows.
fn judge(case: &CaseReport, bar: &Bar) -> Option<Verdict> {
    let rows = [case.row(bar.rows.0)?, case.row(bar.rows.1)?];
    let ratio = case.ratio(bar.rows.0, bar.rows.1, |run| bar.figure.of(run));
    let found = ratio.map_or("–".to_owned(), |ratio| ratio.to_string());
    let met = |ratio: &Ratio| match bar.figure {
        Figure::Cpu => ratio.spread.median <= bar.bound,
        Figure::Rate | Figure::Frames => ratio.spread.median >= bar.bound,
    };
    let failed = rows.iter().find_map(|row| Some((row.problem.as_ref()?, row.could_not_start)));
    let noisy = rows.iter().find(|row| row.is_noisy());
    let (outcome, reason) = match (failed, &ratio) {
        (Some((problem, true)), _) => (Outcome::NoSamples, problem.clone()),
        (Some((problem, false)), _) => (Outcome::Failed, problem.clone()),
        (None, None) => (Outcome::NoSamples, why_no_ratio(case, bar)),
        (None, Some(ratio)) if noisy.is_some() => {
            let name = noisy.map_or("", |row| &row.name);
            let text = format!(
                "others used {:.0} % of a processor; most runs of {name} were noisy in every try",
                ratio.others * 100.0
            );
            (Outcome::Invalid, text)
        }
        (None, Some(ratio)) if met(ratio) => (Outcome::Met, remark(case, bar, ratio)),
        // A rate that the generator limits is a lower bound. The slower of two may well be limited
        // by the server itself.
        (None, Some(_)) if bar.figure != Figure::Cpu && rows[0].is_generator_bound() => {
            (Outcome::Invalid, "the generator was the bottleneck: a lower bound".to_owned())
        }
        (None, Some(ratio)) => (Outcome::Missed, why_missed(case, bar, ratio)),
    };
    Some(Verdict { bar: bar.text.clone(), case: case.name.clone(), found, outcome, reason })
}

fn why_no_ratio(case: &CaseReport, bar: &Bar) -> String {
    let work = case.ratio(bar.rows.0, bar.rows.1, |run| run.server.work_ns());
    match work {
        Some(work) if bar.figure == Figure::Cpu => {
            format!("the report has no processor time of {}; its busy time is {work} ×", bar.rows.0)
        }
        _ => NO_SAMPLES.to_owned(),
    }
}

/// What goes with a bar that is met.
fn remark(case: &CaseReport, bar: &Bar, ratio: &Ratio) -> String {
    let is_floor = case.row(bar.rows.0).is_some_and(|row| row.floor.as_deref() == Some(bar.rows.1));
    if bar.figure == Figure::Cpu && is_floor && ratio.spread.median < FLOOR_BEATEN {
        return "below the floor: it bounds nothing here".to_owned();
    }
    String::new()
}

/// Why a bar is missed, as far as the report itself shows it.
fn why_missed(case: &CaseReport, bar: &Bar, ratio: &Ratio) -> String {
    let Spread { low, high, .. } = ratio.spread;
    let apart = if (low..=high).contains(&bar.bound) {
        format!("the bar lies within the quartiles of {} pairs", ratio.pairs)
    } else {
        format!("all quartiles of {} pairs are beyond the bar", ratio.pairs)
    };
    let between = |one, other, figure: Figure| case.ratio(one, other, |run| figure.of(run));
    let more = match (bar.rows, bar.figure) {
        ((GATEWAY_URING, GATEWAY_EPOLL), _) => between(FLOOR_URING, FLOOR_EPOLL, Figure::Rate)
            .map(|floors| format!("the bare floors' rates are {floors} × apart")),
        ((GATEWAY_DPDK, GATEWAY_URING), _) => case
            .ratio(GATEWAY_DPDK, GATEWAY_URING, |run| run.server.work_ns())
            .map(|work| format!("busy time is {work} ×: it polls, and pays for rounds that find nothing")),
        ((_, THREADS), _) => between(FLOOR_URING, THREADS, Figure::Rate)
            .map(|floor| format!("a bare io_uring echo comes to {floor} ×: the rest is the kernel's TCP")),
        _ => None,
    };
    [Some(apart), more].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn of_codec(report: &CodecReport) -> Vec<Verdict> {
    report.rows.iter().filter(|row| row.judged).map(|row| of_codec_row(row, report.others)).collect()
}

/// A protobuf codec's time over this one's.
pub fn codec_ratio(row: &CodecRow) -> Option<Spread> {
    Spread::of(row.ns.iter().map(|[ours, prost]| prost / ours))
}

fn of_codec_row(row: &CodecRow, others: f64) -> Verdict {
    let ratio = codec_ratio(row);
    let found = ratio.map_or("–".to_owned(), |ratio| {
        format!("{:.1} ({:.1}–{:.1}; {:.0} %)", ratio.median, ratio.low, ratio.high, others * 100.0)
    });
    let (outcome, reason) = match ratio {
        None => (Outcome::NoSamples, NO_SAMPLES.to_owned()),
        Some(_) if others > OTHERS_MAX => (Outcome::Invalid, used_by_others(others)),
        Some(ratio) if ratio.median >= CODEC_MIN => (Outcome::Met, String::new()),
        Some(_) => {
            let [ours, prost] = row.sizes;
            let text = format!("{ours:.0} bytes here, {prost:.0} there; both copy the payload");
            (Outcome::Missed, text)
        }
    };
    let bar = format!("codec: prost takes ≥ {CODEC_MIN:.0} × the time");
    Verdict { bar, case: format!("{}, {}", row.direction, row.message), found, outcome, reason }
}

fn used_by_others(others: f64) -> String {
    format!("others used {:.0} % of a processor", others * 100.0)
}

fn of_delays(row: &DispatchRow) -> Verdict {
    let DispatchRow { name, problem, could_not_start, windows } = row;
    let failed = if *could_not_start { Outcome::NoSamples } else { Outcome::Failed };
    let spread = |figure: fn(&LoadFigures) -> f64| Spread::of(windows.iter().map(figure));
    let others = spread(|window| window.foreign).map_or(0.0, |others| others.median);
    let (outcome, found, reason) = match (problem, spread(|window| window.p999_us)) {
        (Some(problem), _) => (failed, "–".to_owned(), problem.clone()),
        (None, None) => (Outcome::NoSamples, "–".to_owned(), NO_SAMPLES.to_owned()),
        (None, Some(p999)) => {
            let found =
                format!("{:.1} µs ({:.1}–{:.1}; {:.0} %)", p999.median, p999.low, p999.high, others * 100.0);
            let (outcome, reason) = judge_delays(windows, p999.median, others);
            (outcome, found, reason)
        }
    };
    Verdict {
        bar: format!("{name}: 999 of 1000 messages reach their handler within {DISPATCH_MAX_US:.0} µs"),
        case: "dispatch delay at half load".to_owned(),
        found,
        outcome,
        reason,
    }
}

fn judge_delays(windows: &[LoadFigures], p999_us: f64, others: f64) -> (Outcome, String) {
    let median = |figure: fn(&LoadFigures) -> f64| {
        Spread::of(windows.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
    };
    let share = median(|window| window.server_share);
    if others > OTHERS_MAX {
        return (Outcome::Invalid, used_by_others(others));
    }
    if 2 * windows.iter().filter(|window| window.late).count() > windows.len() {
        return (Outcome::Invalid, "the generator did not send what was due".to_owned());
    }
    if !HALF_LOAD.contains(&share) {
        let text = format!("the server's processor was {:.0} % busy, not half", share * 100.0);
        return (Outcome::Invalid, text);
    }
    if p999_us <= DISPATCH_MAX_US {
        return (Outcome::Met, String::new());
    }
    let reason = format!(
        "half of the messages take {:.1} µs or less, of which the peer's write is {:.1}: the rest of the tail is waiting, \
         for a wake-up of the processor or behind other messages",
        median(|window| window.p50_us),
        median(|window| window.write_p50_us),
    );
    (Outcome::Missed, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::figures::tests::run_of;
    use crate::run::report::RowReport;

    fn row(name: &str, floor: Option<&str>, runs: Vec<RunFigures>) -> RowReport {
        RowReport {
            name: name.to_owned(),
            floor: floor.map(str::to_owned),
            problem: None,
            could_not_start: false,
            runs,
        }
    }

    fn case(rows: Vec<RowReport>) -> CaseReport {
        CaseReport { name: "case".to_owned(), depth: Some(1), size: 64, rows }
    }

    /// The verdict on the gateway's CPU beside its floor's.
    fn beside_floor(gateway: RowReport, floor: RowReport) -> Verdict {
        of_case(&case(vec![gateway, floor])).remove(0)
    }

    fn at(cpu_ns: f64) -> RunFigures {
        run_of(Some(cpu_ns), None, 1e6)
    }

    #[test]
    fn a_bar_is_met_missed_or_not_judged() {
        let gateway = |runs| row(GATEWAY_URING, Some(FLOOR_URING), runs);
        let floor = || row(FLOOR_URING, None, vec![at(100.0), at(100.0)]);
        let verdict = |runs| beside_floor(gateway(runs), floor());
        assert_eq!(verdict(vec![at(105.0), at(109.0)]).outcome, Outcome::Met);
        let missed = verdict(vec![at(112.0), at(114.0)]);
        assert_eq!(missed.outcome, Outcome::Missed);
        assert_eq!(missed.found, "1.13 (1.12–1.14; 2 %)");
        assert!(missed.reason.contains("beyond the bar"), "{}", missed.reason);
        let noisy = RunFigures { noisy: true, foreign: 0.3, ..at(101.0) };
        let invalid = verdict(vec![noisy.clone(), noisy]);
        assert_eq!((invalid.outcome, invalid.outcome.exit().code()), (Outcome::Invalid, 3));
        assert!(invalid.reason.contains("30 %"), "{}", invalid.reason);
        assert_eq!(verdict(vec![]).outcome, Outcome::NoSamples);
        let wrong = RowReport { problem: Some("byte 7".into()), ..gateway(vec![at(1.0)]) };
        assert_eq!(beside_floor(wrong.clone(), floor()).outcome.exit().code(), 1);
        let absent = RowReport { could_not_start: true, ..wrong };
        assert_eq!(beside_floor(absent, floor()).outcome.exit().code(), 4);
    }

    #[test]
    fn past_the_kernel_processor_time_is_judged_and_busy_time_is_named() {
        let dpdk = |cpu_ns| row(GATEWAY_DPDK, None, vec![run_of(cpu_ns, Some(150.0), 1e6)]);
        let uring = || row(GATEWAY_URING, None, vec![at(1000.0)]);
        let verdict = |cpu_ns| of_case(&case(vec![dpdk(cpu_ns), uring()])).remove(0);
        assert_eq!(verdict(Some(190.0)).outcome, Outcome::Met);
        let missed = verdict(Some(900.0));
        assert_eq!(missed.outcome, Outcome::Missed);
        assert!(missed.reason.contains("busy time is 0.15"), "{}", missed.reason);
        let older = verdict(None);
        assert_eq!(older.outcome, Outcome::NoSamples);
        assert!(older.reason.contains("no processor time"), "{}", older.reason);
    }

    #[test]
    fn a_rate_that_the_generator_limits_decides_only_what_it_meets() {
        let bound = |rate| RunFigures { client_busy: 0.99, ..run_of(Some(1.0), None, rate) };
        let threads = || row(THREADS, None, vec![run_of(Some(1.0), None, 1.0)]);
        let verdict =
            |rate| of_case(&case(vec![row(GATEWAY_URING, None, vec![bound(rate)]), threads()])).remove(0);
        assert_eq!(verdict(7.0).outcome, Outcome::Met);
        assert_eq!(verdict(6.0).outcome, Outcome::Invalid);
    }

    #[test]
    fn delays_are_judged_at_half_load_on_a_quiet_machine_only() {
        let window = LoadFigures {
            p50_us: 5.0,
            p99_us: 9.0,
            p999_us: 14.0,
            samples: 1000,
            rate: 5e4,
            server_share: 0.5,
            write_p50_us: 4.0,
            foreign: 0.01,
            late: false,
        };
        let row = |windows: &[LoadFigures]| DispatchRow {
            name: "gateway".to_owned(),
            problem: None,
            could_not_start: false,
            windows: windows.to_vec(),
        };
        let outcome = |window: LoadFigures| of_delays(&row(&[window])).outcome;
        assert_eq!(outcome(window.clone()), Outcome::Met);
        assert_eq!(outcome(LoadFigures { p999_us: 16.0, ..window.clone() }), Outcome::Missed);
        assert_eq!(outcome(LoadFigures { foreign: 0.2, ..window.clone() }), Outcome::Invalid);
        assert_eq!(outcome(LoadFigures { server_share: 0.9, ..window.clone() }), Outcome::Invalid);
        assert_eq!(outcome(LoadFigures { late: true, ..window }), Outcome::Invalid);
        assert_eq!(of_delays(&row(&[])).outcome, Outcome::NoSamples);
    }

    #[test]
    fn a_codec_without_pairs_has_no_verdict() {
        let row = |ns: &[[f64; 2]]| CodecRow {
            message: "push".into(),
            direction: "encode".into(),
            judged: true,
            sizes: [80.0, 90.0],
            ns: ns.to_vec(),
            allocations: [0.0, 1.0],
        };
        let outcome = |ns: &[[f64; 2]], others| of_codec_row(&row(ns), others).outcome;
        assert_eq!(outcome(&[[10.0, 25.0], [10.0, 30.0]], 0.0), Outcome::Met);
        assert_eq!(outcome(&[[10.0, 19.0]], 0.0), Outcome::Missed);
        assert_eq!(outcome(&[[10.0, 25.0]], 0.5), Outcome::Invalid);
        assert_eq!(outcome(&[], 0.0), Outcome::NoSamples);
    }
}
