//! The aims, and whether they were reached.

use super::plan::{FLOOR_EPOLL, FLOOR_URING, GATEWAY_EPOLL, GATEWAY_URING, GATEWAY_WEBSOCKET, PEERS};
use super::report::{CaseReport, Report, ratio_text};
use super::stats::Spread;
use serde::Serialize;

/// CPU per message over the floor's at depth 1, and of a delivery.
const CPU_MAX: f64 = 1.10;
/// CPU per message over the floor's at greater depths.
const CPU_MAX_DEEP: f64 = 1.5;
/// io_uring's rate over epoll's.
const URING_RATE_MIN: f64 = 1.15;

/// One aim in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The aim.
    pub aim: String,
    /// The case.
    pub case: &'static str,
    /// What was found.
    pub found: String,
    /// Whether that reaches it.
    pub reached: bool,
    /// The generator was the bottleneck: a rate is a lower bound.
    pub generator_bound: bool,
}

impl Verdict {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match (self.reached, self.generator_bound) {
            (true, _) => "reached",
            (false, true) => "open: the generator was the bottleneck",
            (false, false) => "missed",
        }
    }
}

/// All aims in all cases of a report.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    report.cases.iter().flat_map(of_case).collect()
}

fn of_case(case: &CaseReport) -> Vec<Verdict> {
    let floor_max = if case.depth.is_some_and(|depth| depth > 1) { CPU_MAX_DEEP } else { CPU_MAX };
    let mut all = vec![];
    let mut add =
        |aim: String, ratio: Option<Spread>, reached: fn(f64, f64) -> bool, bound: f64, rows: &[&str]| {
            let Some(ratio) = ratio else { return };
            let generator_bound =
                rows.iter().any(|row| case.row(row).is_some_and(|row| row.generator_bound()));
            all.push(Verdict {
                aim,
                case: case.name,
                found: ratio_text(&ratio),
                reached: reached(ratio.median, bound),
                generator_bound,
            });
        };
    let at_most = |found: f64, bound: f64| found <= bound;
    let at_least = |found: f64, bound: f64| found >= bound;
    for (gateway, floor) in [(GATEWAY_URING, FLOOR_URING), (GATEWAY_EPOLL, FLOOR_EPOLL)] {
        let aim = format!("{gateway}: CPU ≤ {floor_max:.2} × its floor");
        add(aim, case.ratio(gateway, floor, |run| run.server_ns), at_most, floor_max, &[]);
    }
    let aim = format!("gateway: io_uring ≥ {URING_RATE_MIN:.2} × epoll's rate");
    let ratio = case.ratio(GATEWAY_URING, GATEWAY_EPOLL, |run| run.rate);
    add(aim, ratio, at_least, URING_RATE_MIN, &[GATEWAY_URING, GATEWAY_EPOLL]);
    for peer in PEERS {
        let aim = format!("{GATEWAY_WEBSOCKET}: less CPU than {peer}");
        add(aim, case.ratio(GATEWAY_WEBSOCKET, peer, |run| run.server_ns), at_most, 1.0, &[]);
        let aim = format!("{GATEWAY_WEBSOCKET}: a higher rate than {peer}");
        add(aim, case.ratio(GATEWAY_WEBSOCKET, peer, |run| run.rate), at_least, 1.0, &[GATEWAY_WEBSOCKET]);
    }
    all
}
