//! How busy the machine was with other work, and what limited the generator, in words.

use crate::figures::cores;
use loadtest::report::Report;

/// See the module's text.
pub(crate) fn noise(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut others: Vec<f64> = report.samples.iter().map(|sample| sample.other_cpu).collect();
    others.sort_unstable_by(f64::total_cmp);
    if let (Some(middle), Some(high)) = (others.get(others.len() / 2), others.get(others.len() * 9 / 10)) {
        let cores = report.machine.get("cores").cloned().unwrap_or_default();
        lines.push(format!(
            "Everything else on the machine's {cores} processors, the kernel's own threads included, used {middle:.2} of \
             them at the median and {high:.2} at the 90th percentile of all samples."
        ));
    }
    let mut waits = Vec::new();
    for stage in &report.stages {
        let Some(server) = &stage.server else { continue };
        let share = server.starved_seconds / stage.watched_seconds();
        if share > 0.05 && share > 0.2 * cores(stage).unwrap_or(0.0) {
            waits.push(format!(
                "{} {:.1} of {:.1} s",
                stage.name,
                server.starved_seconds,
                stage.watched_seconds()
            ));
        }
    }
    if !waits.is_empty() {
        lines.push(format!(
            "The gateway's threads, all together, waited for processors that others (the generator among them) had: {}. \
             Latencies of these stages are upper bounds.",
            waits.join(", ")
        ));
    }
    if report.server.as_ref().is_some_and(|server| server.is_busy_time) {
        lines.push(
            "The gateway polls: its workers use their processors whether or not there is something to do. A share of a processor is \
             all that was used, user and system; busy time, in the stages' tables and costs too, is the time that they had something to do, \
             by their own count and the clock (what other threads took of it meanwhile is in it), and all that its other threads used."
                .to_owned(),
        );
    }
    let held = &report.verdict.generator_reasons;
    lines.extend(held.iter().map(|reason| format!("Generator: {reason}.")));
    lines
}
