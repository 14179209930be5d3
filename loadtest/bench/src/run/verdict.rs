//! The targets, and whether they were met.

use super::plan::{
    FLOOR_DPDK, FLOOR_EPOLL, FLOOR_URING, GATEWAY_DPDK, GATEWAY_EPOLL, GATEWAY_URING, GATEWAY_WEBSOCKET,
    PEERS,
};
use super::report::{CaseReport, Report, ratio_text};
use serde::Serialize;

/// CPU per message over the floor's at depth 1, and of a delivery.
const CPU_MAX: f64 = 1.10;
/// CPU per message over the floor's at greater depths.
const CPU_MAX_DEEP: f64 = 1.5;
/// io_uring's rate over epoll's.
const URING_RATE_MIN: f64 = 1.15;
/// CPU per message past the kernel over io_uring's.
const DPDK_CPU_MAX: f64 = 0.2;
/// Payloads, in bytes, for which this is a target.
const DPDK_CPU_SIZE: usize = 64;
/// Frames a second past the kernel over the bare port's.
const DPDK_FRAMES_MIN: f64 = 0.5;

/// A floor below this is none.
const FLOOR_BEATEN: f64 = 0.95;

/// One target in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The target.
    #[serde(rename = "aim")]
    pub target: String,
    /// The case.
    pub case: &'static str,
    /// The measured value.
    pub found: String,
    /// Whether it meets the target.
    pub reached: bool,
    /// The generator was the bottleneck: a rate is a lower bound.
    pub generator_bound: bool,
    /// A run of one of the two failed.
    pub failed: bool,
    /// Most runs of one of the two were noisy.
    pub noisy: bool,
    /// The floor costs so much more that it bounds nothing.
    pub floor_beaten: bool,
}

impl Verdict {
    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        match (self.reached, self.noisy) {
            _ if self.failed => "FAILED",
            (true, _) if self.floor_beaten => "below the floor: it bounds nothing here",
            (true, true) => "reached (noisy)",
            (true, false) => "reached",
            (false, _) if self.generator_bound => "open: the generator was the bottleneck",
            (false, true) => "missed (noisy)",
            (false, false) => "missed",
        }
    }
}

/// All targets in all cases of a report.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    report.cases.iter().flat_map(of_case).collect()
}

fn of_case(case: &CaseReport) -> Vec<Verdict> {
    let floor_max = if case.depth.is_some_and(|depth| depth > 1) { CPU_MAX_DEEP } else { CPU_MAX };
    let mut all = vec![];
    for (gateway, floor) in [(GATEWAY_URING, FLOOR_URING), (GATEWAY_EPOLL, FLOOR_EPOLL)] {
        let target = format!("{gateway}: CPU ≤ {floor_max:.2} × its floor");
        let verdict = judge(case, target, (gateway, floor), Figure::Cpu, floor_max);
        all.extend(verdict.map(|(verdict, ratio)| Verdict { floor_beaten: ratio < FLOOR_BEATEN, ..verdict }));
    }
    let mut add =
        |target, rows, figure, bound| all.extend(judge(case, target, rows, figure, bound).map(|pair| pair.0));
    let target = format!("gateway: io_uring ≥ {URING_RATE_MIN:.2} × epoll's rate");
    add(target, (GATEWAY_URING, GATEWAY_EPOLL), Figure::Rate, URING_RATE_MIN);
    if case.size == DPDK_CPU_SIZE {
        let target = format!("{GATEWAY_DPDK}: CPU ≤ {DPDK_CPU_MAX:.2} × io_uring's");
        add(target, (GATEWAY_DPDK, GATEWAY_URING), Figure::Cpu, DPDK_CPU_MAX);
    }
    let target = format!("{GATEWAY_DPDK}: frames ≥ {DPDK_FRAMES_MIN:.2} × its floor's rate");
    add(target, (GATEWAY_DPDK, FLOOR_DPDK), Figure::Frames, DPDK_FRAMES_MIN);
    for peer in PEERS {
        let rows = (GATEWAY_WEBSOCKET, peer);
        add(format!("{GATEWAY_WEBSOCKET}: less CPU than {peer}"), rows, Figure::Cpu, 1.0);
        add(format!("{GATEWAY_WEBSOCKET}: a higher rate than {peer}"), rows, Figure::Rate, 1.0);
    }
    all
}

/// The compared figure: CPU has an upper bound, a rate a lower one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    Cpu,
    Rate,
    Frames,
}

/// The verdict on the first of two rows, and the ratio that it rests on; `None` where one has no
/// run.
fn judge(
    case: &CaseReport,
    target: String,
    (one, other): (&str, &str),
    figure: Figure,
    bound: f64,
) -> Option<(Verdict, f64)> {
    let rows = [case.row(one)?, case.row(other)?];
    let failed = rows.iter().any(|row| row.problem.is_some());
    let (found, ratio) = match figure {
        Figure::Cpu => case.ratio(one, other, |run| run.server_ns),
        Figure::Rate => case.ratio(one, other, |run| run.rate),
        Figure::Frames => case.ratio(one, other, |run| run.frame_rate.unwrap_or(f64::NAN)),
    }
    .map_or(("–".into(), f64::NAN), |ratio| (ratio_text(&ratio), ratio.median));
    let reached = if figure == Figure::Cpu { ratio <= bound } else { ratio >= bound };
    let verdict = Verdict {
        target,
        case: case.name,
        found,
        reached: reached && !failed,
        // The slower of two may well be limited by the server itself.
        generator_bound: figure != Figure::Cpu && !failed && rows[0].generator_bound(),
        failed,
        noisy: rows.iter().any(|row| row.is_noisy()),
        floor_beaten: false,
    };
    Some((verdict, ratio))
}
