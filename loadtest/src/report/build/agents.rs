//! What several generator processes mean for a report: their clocks.

use super::super::Report;
use super::super::units::nanos;
use crate::agents::AgentState;

/// The part of a latency that the clocks may be wrong by: more, and nothing is known of it.
const UNCERTAIN_MAX: f64 = 0.5;

/// Adds the agents, and how well their clocks are known, to `report`, which has its verdict.
pub(super) fn add(agents: &[AgentState], report: &mut Report) {
    for agent in agents {
        let clock = match agent.agreement.uncertainty() {
            Some(uncertainty) => format!("clock known to ± {}", nanos(uncertainty as f64)),
            None => "clock not compared during the run".to_owned(),
        };
        report.machine.insert(format!("agent {}", agent.address), clock);
    }
    let found = agents.iter().map(|agent| agent.agreement.uncertainty());
    let Some(mut each) = found.collect::<Option<Vec<u64>>>() else {
        report.verdict.invalid.push("the clocks of the agents were not compared".to_owned());
        return;
    };
    each.sort_unstable();
    // From one agent to another, both may be wrong.
    let Some(between) = each.iter().rev().take(2).copied().reduce(|one, other| one + other) else { return };
    report.verdict.clock_uncertainty = Some(between);
    // An echo comes back to the agent that sent it, and so do heartbeats and reconnects.
    let crosses = |name: &str| agents.len() > 1 && name != "echo";
    for flow in report.flows.iter().filter(|flow| flow.latency.count > 0 && crosses(&flow.name)) {
        if between as f64 > UNCERTAIN_MAX * flow.latency.p99 as f64 {
            report.verdict.invalid.push(format!(
                "the clocks of the agents are known to ± {}, which is much of a latency of {} ({}, p99)",
                nanos(between as f64),
                nanos(flow.latency.p99 as f64),
                flow.name
            ));
        }
    }
}
