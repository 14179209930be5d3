//! What was found for each goal, and what the run comes to.

use super::super::{Conservation, FlowReport, Judgment, Latency, Report, StageReport};
use crate::goals::{Goal, Measure, Outcome};

/// Judges `goals` by the whole run and those of each stage by that stage alone, then the run.
pub(super) fn judge_goals(goals: &[Goal], of_stages: &[Vec<Goal>], report: &mut Report) {
    let mut judged: Vec<Judged> = goals.iter().map(|goal| judge(goal, report, "")).collect();
    for (stage, goals) in report.stages.iter().zip(of_stages) {
        let alone = alone(report, stage);
        let name = format!("{}: ", stage.name);
        judged.extend(goals.iter().map(|goal| judge(goal, &alone, &name)));
    }
    let is_doubtful = judged.iter().any(|judged| judged.is_excused);
    for Judged { outcome, found, is_excused } in judged {
        match (outcome.met, found) {
            (true, _) => {}
            (false, None) => report.verdict.unjudged.push(format!("cannot judge {}", outcome.goal)),
            (false, Some(_)) if is_excused => {}
            (false, Some(_)) => report.verdict.reasons.push(format!("goal {} missed", outcome.goal)),
        }
        report.goals.push(outcome);
    }
    let verdict = &mut report.verdict;
    verdict.judgment = match () {
        () if !verdict.reasons.is_empty() => Judgment::Failed,
        () if !verdict.unjudged.is_empty() => Judgment::NoSamples,
        () if is_doubtful || !verdict.invalid.is_empty() => Judgment::Invalid,
        () => Judgment::Passed,
    };
    verdict.passed = verdict.judgment == Judgment::Passed;
}

/// A goal with what was found for it.
struct Judged {
    outcome: Outcome,
    found: Option<f64>,
    /// It is missed, and would have been met but for the generator; or met, and agents' clocks may
    /// be wrong by more than it has to spare.
    is_excused: bool,
}

fn judge(goal: &Goal, report: &Report, stage: &str) -> Judged {
    let found = found(goal.measure, report);
    let outcome = outcome(goal, found);
    let is_excused = found.is_some_and(|found| match outcome.met {
        true => is_uncertain(goal, found, report),
        false => excuses(goal, found, report),
    });
    Judged { outcome: Outcome { goal: format!("{stage}{}", outcome.goal), ..outcome }, found, is_excused }
}

/// A stage as a report of its own, as far as goals look.
fn alone(report: &Report, stage: &StageReport) -> Report {
    Report {
        flows: stage.flows.clone(),
        heartbeats: stage.heartbeats.clone(),
        churn: stage.churn.clone(),
        connect: stage.connect.clone().unwrap_or_else(|| report.connect.clone()),
        server: stage.server.clone(),
        generator: stage.generator.clone(),
        measured_seconds: stage.measured_seconds(),
        verdict: report.verdict.clone(),
        metrics: report.metrics.clone(),
        ..Report::default()
    }
}

fn outcome(goal: &Goal, found: Option<f64>) -> Outcome {
    let (text, met) = match found {
        Some(found) => (goal.format(found), goal.is_met(found)),
        None => ("no samples: cannot judge".to_owned(), false),
    };
    Outcome { goal: goal.text.clone(), found: text, met }
}

/// Whether a goal that was missed would have been met but for the generator: without its own send
/// lag, or where it stood still for a larger share of the time than the percentile leaves out.
fn excuses(goal: &Goal, found: f64, report: &Report) -> bool {
    let lag = |of: &dyn Fn(&Latency) -> u64| report.flows.iter().map(|flow| of(&flow.lag)).max().unwrap_or(0);
    let blind = super::validity::blind_share(report);
    let found = found - clock_uncertainty(goal.measure, report);
    match goal.measure {
        Measure::Latency(percentile) => {
            let lag = lag(&|lag| lag.at(percentile)) as f64;
            let left_out = 1.0 - f64::from(percentile) / 100_000.0;
            goal.is_met(found - lag) || blind > left_out
        }
        Measure::LatencyMax => {
            let own = lag(&|lag| lag.max).max(report.generator.gaps.longest);
            goal.is_met(found - own as f64)
        }
        Measure::Rate | Measure::Throughput => !report.verdict.invalid.is_empty(),
        _ => false,
    }
}

/// Whether a goal that was met might be missed by a latency that is as much longer as the clocks of
/// agents may be wrong.
fn is_uncertain(goal: &Goal, found: f64, report: &Report) -> bool {
    !goal.is_met(found + clock_uncertainty(goal.measure, report))
}

fn clock_uncertainty(measure: Measure, report: &Report) -> f64 {
    match measure {
        Measure::Latency(_) | Measure::LatencyMax => report.verdict.clock_uncertainty.unwrap_or(0) as f64,
        _ => 0.0,
    }
}

/// The value of a measure; `None` without samples.
pub(crate) fn found(measure: Measure, report: &Report) -> Option<f64> {
    let worst = |of: &dyn Fn(&FlowReport) -> Option<f64>| {
        let all: Option<Vec<f64>> = report.flows.iter().map(of).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.into_iter().fold(f64::MIN, f64::max))
    };
    let sampled =
        |latency: &Latency, of: &dyn Fn(&Latency) -> u64| (latency.count > 0).then(|| of(latency) as f64);
    let others = report.churn.as_ref().or(report.heartbeats.as_ref()).map(|requests| &requests.latency);
    let latency = |of: &dyn Fn(&Latency) -> u64| match report.flows.is_empty() {
        false => worst(&|flow| sampled(&flow.latency, of)),
        true => sampled(others.unwrap_or(&report.connect.ready_latency), of),
    };
    let all = || (!report.flows.is_empty()).then_some(&report.flows);
    match measure {
        Measure::Latency(percentile) => latency(&|latency| latency.at(percentile)),
        Measure::LatencyMax => latency(&|latency| latency.max),
        Measure::Connect(percentile) => {
            sampled(&report.connect.ready_latency, &|latency| latency.at(percentile))
        }
        Measure::Rate => match &report.churn {
            Some(churn) if report.flows.is_empty() => {
                (churn.sent > 0).then(|| churn.answered as f64 / churn.sent as f64)
            }
            _ => worst(&|flow| (flow.latency.count > 0).then_some(-flow.ratio)).map(|worst| -worst),
        },
        Measure::Loss => {
            let owed = |flow: &FlowReport| flow.conservation.owed;
            let flows = all().filter(|flows| flows.iter().all(|flow| owed(flow) > 0));
            flows.map(|flows| flows.iter().map(|flow| flow.conservation.lost).sum::<u64>() as f64)
        }
        Measure::Violations => Some(violations(report)),
        Measure::Ready => Some(report.connect.ready as f64 / report.connect.asked.max(1) as f64),
        Measure::Cpu => {
            let server = report.server.as_ref().filter(|server| server.messages > 0);
            server.map(|server| server.cpu_nanos_per_message)
        }
        Measure::Memory => {
            let server = report.server.as_ref().filter(|_| !report.server_was_used());
            server.map(|server| server.rss_bytes_per_connection)
        }
        Measure::Throughput => all().map(|flows| flows.iter().map(|flow| flow.delivered).sum()),
    }
}

fn violations(report: &Report) -> f64 {
    let of = |c: &Conservation| c.duplicated + c.reordered + c.misdelivered + c.damaged;
    let flows: u64 = report.flows.iter().map(|flow| of(&flow.conservation)).sum();
    (flows + report.violations.values().sum::<u64>()) as f64
}

#[cfg(test)]
mod tests {
    use super::super::super::Generator;
    use super::*;
    use crate::worker::ClockGaps;

    fn latency(nanos: u64) -> Latency {
        Latency { count: 1000, p50: nanos, p90: nanos, p99: nanos, max: nanos, ..Latency::default() }
    }

    /// A run of ten seconds with this latency and send lag, its generator still for `gap` ns.
    fn judged(found: u64, lag: u64, gap: u64, goals: &[&str]) -> Report {
        let flow = FlowReport {
            latency: latency(found),
            lag: latency(lag),
            offered: Some(100.0),
            ..FlowReport::default()
        };
        let gaps = ClockGaps { count: 1, total: gap, longest: gap };
        let generator = Generator { gaps, ..Generator::default() };
        let mut report = Report { flows: vec![flow], generator, measured_seconds: 10.0, ..Report::default() };
        report.verdict = super::super::verdict::verdict(&report);
        let goals: Vec<Goal> = goals.iter().map(|text| Goal::parse(text).unwrap()).collect();
        judge_goals(&goals, &[], &mut report);
        report
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn a_miss_is_the_servers_only_if_the_generator_cannot_explain_it() {
        let judgment = |found, lag, gap, goals: &[&str]| judged(found, lag, gap, goals).verdict.judgment;
        assert_eq!(judgment(3 * MS, 0, 0, &["p99=5ms"]), Judgment::Passed);
        assert_eq!(judgment(40 * MS, MS / 10, 0, &["p99=5ms"]), Judgment::Failed, "a slow server");
        assert_eq!(judgment(40 * MS, 36 * MS, 0, &["p99=5ms"]), Judgment::Invalid, "a late generator");
        assert_eq!(judgment(90 * MS, 36 * MS, 0, &["p99=5ms"]), Judgment::Failed, "late, and yet");
        assert_eq!(judgment(452 * MS, 0, 450 * MS, &[]), Judgment::Invalid, "a generator that stopped");
        assert_eq!(judgment(452 * MS, 0, 450 * MS, &["p99=5ms"]), Judgment::Invalid);
        assert_eq!(judgment(452 * MS, 0, 450 * MS, &["p50=5ms"]), Judgment::Failed);
        assert_eq!(judgment(452 * MS, 0, 20 * MS, &["p99=5ms"]), Judgment::Failed);
    }

    #[test]
    fn what_the_clocks_of_agents_cannot_tell_is_not_judged() {
        let judgment = |found, uncertainty| {
            let mut report = judged(found, 0, 0, &[]);
            report.goals.clear();
            report.verdict.clock_uncertainty = Some(uncertainty);
            judge_goals(&[Goal::parse("p99=5ms").unwrap()], &[], &mut report);
            report.verdict.judgment
        };
        assert_eq!(judgment(4 * MS, MS / 2), Judgment::Passed);
        assert_eq!(judgment(4 * MS, 2 * MS), Judgment::Invalid, "it may be missed");
        assert_eq!(judgment(6 * MS, 2 * MS), Judgment::Invalid, "it may be met");
        assert_eq!(judgment(6 * MS, MS / 2), Judgment::Failed);
    }

    #[test]
    fn without_samples_there_is_no_verdict() {
        let mut report = Report { flows: vec![FlowReport::default()], ..Report::default() };
        report.verdict = super::super::verdict::verdict(&report);
        judge_goals(&[Goal::parse("p99=1us").unwrap()], &[], &mut report);
        assert_eq!((report.verdict.judgment, report.goals[0].met), (Judgment::NoSamples, false));
        assert!(report.goals[0].found.starts_with("no samples"));
        // A fault is a fault, whatever else is known.
        report.goals.clear();
        report.verdict.reasons.push("1 deliveries lost".to_owned());
        judge_goals(&[], &[], &mut report);
        assert_eq!(report.verdict.judgment, Judgment::Failed);
    }

    #[test]
    fn the_side_that_stood_still_is_named() {
        let stalled = |found, gap| {
            let mut report = judged(found, 0, gap, &[]);
            report.flows[0].latency.p50 = MS;
            super::super::validity::stalled(&report)
        };
        assert!(stalled(4000 * MS, 0).starts_with("the server"), "{}", stalled(4000 * MS, 0));
        assert!(stalled(452 * MS, 450 * MS).starts_with("the generator"), "{}", stalled(452 * MS, 450 * MS));
        assert_eq!(stalled(8 * MS, 0), "");
    }

    #[test]
    fn a_goal_of_a_stage_is_judged_by_that_stage() {
        let stage = |name: &str, nanos| StageReport {
            name: name.to_owned(),
            flows: vec![FlowReport { latency: latency(nanos), ..FlowReport::default() }],
            ..StageReport::default()
        };
        let mut report =
            Report { stages: vec![stage("calm", MS), stage("storm", 40 * MS)], ..Report::default() };
        let goal = || vec![Goal::parse("p99=5ms").unwrap()];
        judge_goals(&[], &[goal(), goal()], &mut report);
        let met: Vec<(&str, bool)> = report.goals.iter().map(|goal| (goal.goal.as_str(), goal.met)).collect();
        assert_eq!(met, [("calm: p99=5ms", true), ("storm: p99=5ms", false)]);
        assert_eq!(report.verdict.reasons, ["goal storm: p99=5ms missed"]);
        assert_eq!(report.verdict.judgment, Judgment::Failed);
    }
}
