//! What a run, or a comparison, was checked for, one by one: for tools that show checks.

use super::{Conservation, FlowReport, Report};

/// One check and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    /// goals, conservation, run, measurement or fail-if.
    pub(crate) class: &'static str,
    pub(crate) name: String,
    pub(crate) outcome: CheckOutcome,
}

/// The outcome of a check, with what was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CheckOutcome {
    Passed,
    Failed(String),
    /// Cannot be judged: no samples, or a measurement that is invalid.
    Unjudged(String),
}

/// The checks of a run.
pub(crate) fn of(report: &Report) -> Vec<Check> {
    let mut checks = goals(report);
    checks.extend(report.flows.iter().flat_map(conservation));
    checks.push(faults(report));
    checks.push(measurement(report));
    checks
}

fn goals(report: &Report) -> Vec<Check> {
    let verdict = &report.verdict;
    let check = |goal: &crate::goals::Outcome| {
        let found = format!("found {}", goal.found);
        let outcome = match () {
            () if goal.met => CheckOutcome::Passed,
            () if verdict.reasons.contains(&format!("goal {} missed", goal.goal)) => {
                CheckOutcome::Failed(found)
            }
            () if verdict.invalid.is_empty() => CheckOutcome::Unjudged(found),
            () => CheckOutcome::Unjudged(format!("{found}; {}", verdict.invalid.join("; "))),
        };
        Check { class: "goals", name: goal.goal.clone(), outcome }
    };
    report.goals.iter().map(check).collect()
}

/// The rules of delivery, of one flow.
fn conservation(flow: &FlowReport) -> Vec<Check> {
    let Conservation { lost, duplicated, reordered, misdelivered, damaged, refused, answers, .. } =
        flow.conservation;
    let rules = [
        ("nothing is lost", lost),
        ("nothing is delivered twice", duplicated),
        ("everything is in order", reordered),
        ("everything is for its receiver", misdelivered),
        ("nothing is damaged", damaged),
        ("nothing is refused", refused),
        ("every operation is answered", answers.unanswered),
        ("nothing is answered twice", answers.duplicated),
    ];
    let owed = flow.conservation.owed;
    let check = |(rule, count)| Check {
        class: "conservation",
        name: format!("{}: {rule}", flow.name),
        outcome: match count {
            0 => CheckOutcome::Passed,
            _ => CheckOutcome::Failed(format!("{count} of {owed} deliveries")),
        },
    };
    rules.into_iter().map(check).collect()
}

/// Every other fault of the server.
fn faults(report: &Report) -> Check {
    let faults = report.verdict.reasons.iter().filter(|reason| !reason.starts_with("goal "));
    let faults: Vec<&str> = faults.map(String::as_str).collect();
    let outcome = match faults.is_empty() {
        true => CheckOutcome::Passed,
        false => CheckOutcome::Failed(faults.join("; ")),
    };
    Check { class: "run", name: "the server makes no fault".to_owned(), outcome }
}

fn measurement(report: &Report) -> Check {
    let verdict = &report.verdict;
    let reasons: Vec<&str> = verdict.invalid.iter().chain(&verdict.unjudged).map(String::as_str).collect();
    let outcome = match reasons.is_empty() {
        true => CheckOutcome::Passed,
        false => CheckOutcome::Unjudged(reasons.join("; ")),
    };
    Check { class: "measurement", name: "the generator is fit to measure".to_owned(), outcome }
}

#[cfg(test)]
mod tests {
    use super::super::Answers;
    use super::*;
    use crate::goals::Outcome;

    #[test]
    fn each_rule_and_goal_is_a_check_of_its_own() {
        let conservation = Conservation {
            owed: 10,
            lost: 3,
            answers: Answers { duplicated: 1, ..Answers::default() },
            ..Conservation::default()
        };
        let flow = FlowReport { name: "push".to_owned(), conservation, ..FlowReport::default() };
        let goal = |goal: &str, met| Outcome { goal: goal.to_owned(), found: "7 ms".to_owned(), met };
        let mut report = Report {
            flows: vec![flow],
            goals: vec![goal("p50=9ms", true), goal("p99=5ms", false), goal("max=6ms", false)],
            ..Report::default()
        };
        report.verdict.reasons = vec!["3 deliveries lost".to_owned(), "goal p99=5ms missed".to_owned()];
        report.verdict.invalid = vec!["the generator stood still".to_owned()];
        let checks = of(&report);
        let failed: Vec<&str> = checks
            .iter()
            .filter(|check| matches!(check.outcome, CheckOutcome::Failed(_)))
            .map(|check| check.name.as_str())
            .collect();
        let wanted = [
            "p99=5ms",
            "push: nothing is lost",
            "push: nothing is answered twice",
            "the server makes no fault",
        ];
        assert_eq!(failed, wanted);
        let unjudged =
            checks.iter().filter(|check| matches!(check.outcome, CheckOutcome::Unjudged(_))).count();
        assert_eq!((unjudged, checks.len()), (2, 3 + 8 + 2), "{checks:?}");
    }
}
