//! When a comparison fails, as `--fail-if` says it.
//!
//! ```text
//!   condition = measure operator bound        p99>1.1x   throughput<-5%   loss>0   memory>8KiB
//!   measure   = p50 p90 p99 p999 p9999 max connect-p99 rate loss violations ready cpu memory
//!               throughput, as of --goal
//!   operator  = ">" | ">=" | "<" | "<="
//!   bound     = number "x"                    times the first report's value
//!             | ("+" | "-") number "%"        the first report's value and so much more, or less
//!             | value                         in the measure's unit: 5ms, 0.99, 8KiB
//! ```
//!
//! It fails when the condition holds for any report but the first.

use super::build::found;
use super::checks::{Check, CheckOutcome};
use super::{Judgment, Report};
use crate::error::{Exit, RunError};
use crate::goals::{Measure, NAMES, VALUES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// In the order in which they are looked for: the longer first.
const OPERATORS: [(&str, Operator); 4] =
    [(">=", Operator::AtLeast), ("<=", Operator::AtMost), (">", Operator::Above), ("<", Operator::Below)];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// A multiple of the first report's value.
    Times(f64),
    Value(f64),
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    text: String,
    measure: Measure,
    operator: Operator,
    bound: Bound,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Condition, RunError> {
        let wrong = |advice: String| RunError::new(format!("condition `{text}` makes no sense"), advice);
        let example = || "write it like p99>1.1x, throughput<-5% or loss>0".to_owned();
        let (at, sign, operator) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)))
            .ok_or_else(|| wrong(example()))?;
        let (name, bound) = (text[..at].trim(), text[at + sign.len()..].trim());
        let measure = Measure::named(name).ok_or_else(|| wrong(format!("measures are: {NAMES}")))?;
        let bound = relative(bound).or_else(|| measure.value(bound).map(Bound::Value));
        let bound = bound.ok_or_else(|| wrong(format!("{}; {VALUES}", example())))?;
        Ok(Condition { text: text.to_owned(), measure, operator, bound })
    }

    fn holds(&self, found: f64, bound: f64) -> bool {
        match self.operator {
            Operator::Above => found > bound,
            Operator::AtLeast => found >= bound,
            Operator::Below => found < bound,
            Operator::AtMost => found <= bound,
        }
    }

    /// Judges a report against the first.
    pub(crate) fn judge(&self, (base_name, base): (&str, &Report), (name, report): (&str, &Report)) -> Check {
        let format = |value| self.measure.format(value);
        let values = (found(self.measure, base), found(self.measure, report));
        let outcome = match (values, self.bound) {
            ((_, None), _) => CheckOutcome::Unjudged(format!("{name} has no samples of it")),
            ((None, _), Bound::Times(_)) => {
                CheckOutcome::Unjudged(format!("{base_name} has no samples of it"))
            }
            ((base, Some(found)), bound) => {
                let bound = match bound {
                    Bound::Value(value) => value,
                    Bound::Times(times) => base.unwrap_or_default() * times,
                };
                let words = format!(
                    "{} in {name}, the bound is {} ({} in {base_name})",
                    format(found),
                    format(bound),
                    base.map_or_else(|| "unknown".to_owned(), format)
                );
                match self.holds(found, bound) {
                    true => CheckOutcome::Failed(words),
                    false => CheckOutcome::Passed,
                }
            }
        };
        let invalid = [(base_name, base), (name, report)].into_iter().find(|(_, report)| {
            // A run may have failed and be invalid.
            report.verdict.judgment == Judgment::Invalid || !report.verdict.invalid.is_empty()
        });
        let outcome = match invalid {
            Some((whose, report)) if self.is_of_time() => CheckOutcome::Unjudged(format!(
                "the measurement of {whose} is invalid: {}",
                report.verdict.invalid.join("; ")
            )),
            _ => outcome,
        };
        Check { class: "fail-if", name: format!("{}, {name} against {base_name}", self.text), outcome }
    }

    /// Whether a generator that stood still or was late moves the measure.
    fn is_of_time(&self) -> bool {
        match self.measure {
            Measure::Latency(_)
            | Measure::LatencyMax
            | Measure::Connect(_)
            | Measure::Rate
            | Measure::Throughput
            | Measure::Cpu => true,
            Measure::Loss | Measure::Violations | Measure::Ready | Measure::Memory => false,
        }
    }
}

/// Judges every report but the first by each condition.
///
/// # Errors
/// Conditions, and nothing to compare.
pub(crate) fn judge(conditions: &[Condition], reports: &[(String, Report)]) -> Result<Vec<Check>, RunError> {
    let Some(((base_name, base), others)) = reports.split_first().filter(|(_, others)| !others.is_empty())
    else {
        return match conditions.is_empty() {
            true => Ok(Vec::new()),
            false => Err(RunError::new("--fail-if compares with the first report", "name two or more")),
        };
    };
    let each = conditions.iter().flat_map(|condition| others.iter().map(move |other| (condition, other)));
    Ok(each.map(|(condition, (name, other))| condition.judge((base_name, base), (name, other))).collect())
}

/// Outcomes as lines.
pub(crate) fn text(checks: &[Check]) -> String {
    let line = |check: &Check| match &check.outcome {
        CheckOutcome::Passed => format!("  passed      {}\n", check.name),
        CheckOutcome::Failed(found) => format!("  FAILED      {}: {found}\n", check.name),
        CheckOutcome::Unjudged(why) => format!("  NOT JUDGED  {}: {why}\n", check.name),
    };
    checks.iter().map(line).collect()
}

/// What the outcomes come to.
pub(crate) fn exit(checks: &[Check]) -> Exit {
    let any = |of: fn(&CheckOutcome) -> bool| checks.iter().any(|check| of(&check.outcome));
    match () {
        () if any(|outcome| matches!(outcome, CheckOutcome::Failed(_))) => Exit::Missed,
        () if any(|outcome| matches!(outcome, CheckOutcome::Unjudged(_))) => Exit::Invalid,
        () => Exit::Met,
    }
}

/// `1.1x`, `+10%` or `-5%` as a multiple.
fn relative(text: &str) -> Option<Bound> {
    if let Some(times) = text.strip_suffix('x') {
        let times = times.trim().parse::<f64>().ok()?;
        return (times.is_finite() && times >= 0.0).then_some(Bound::Times(times));
    }
    let percent = text.strip_suffix('%').filter(|text| text.starts_with(['+', '-']))?;
    let times = 1.0 + percent.parse::<f64>().ok()? / 100.0;
    (times.is_finite() && times >= 0.0).then_some(Bound::Times(times))
}

#[cfg(test)]
mod tests {
    use super::super::{Conservation, FlowReport, Latency};
    use super::*;

    fn report(p99: u64, delivered: f64, lost: u64) -> Report {
        let flow = FlowReport {
            delivered,
            latency: Latency { count: 100, p99, ..Latency::default() },
            conservation: Conservation { owed: 100, lost, ..Conservation::default() },
            ..FlowReport::default()
        };
        let mut report = Report { flows: vec![flow], ..Report::default() };
        report.verdict.judgment = Judgment::Passed;
        report
    }

    fn judge(condition: &str, base: &Report, other: &Report) -> CheckOutcome {
        Condition::parse(condition).unwrap().judge(("a", base), ("b", other)).outcome
    }

    #[test]
    fn bounds_are_ratios_shares_or_values() {
        let (base, other) = (report(1_000_000, 100.0, 0), report(1_200_000, 96.0, 0));
        for (condition, fails) in [
            ("p99>1.1x", true),
            ("p99>1.2x", false),
            ("p99>=1.2x", true),
            ("p99 > +10%", true),
            ("p99>+30%", false),
            ("p99>1.1ms", true),
            ("p99<1ms", false),
            ("throughput<-5%", false),
            ("throughput<-3%", true),
            ("throughput<=96", true),
            ("loss>0", false),
        ] {
            let outcome = judge(condition, &base, &other);
            assert_eq!(matches!(outcome, CheckOutcome::Failed(_)), fails, "{condition}: {outcome:?}");
            assert!(!matches!(outcome, CheckOutcome::Unjudged(_)), "{condition}: {outcome:?}");
        }
        let CheckOutcome::Failed(words) = judge("p99>1.1x", &base, &other) else { panic!() };
        assert_eq!(words, "1.20 ms in b, the bound is 1.10 ms (1.00 ms in a)");
    }

    #[test]
    fn what_was_not_measured_well_is_not_judged() {
        let (base, mut other) = (report(1_000_000, 100.0, 0), report(9_000_000, 100.0, 3));
        other.verdict.judgment = Judgment::Invalid;
        assert!(matches!(judge("p99>1.1x", &base, &other), CheckOutcome::Unjudged(_)));
        assert!(matches!(judge("loss>0", &base, &other), CheckOutcome::Failed(_)), "no clock counts losses");
        assert!(matches!(judge("memory>1.1x", &base, &base), CheckOutcome::Unjudged(_)), "no samples");
    }

    #[test]
    fn mistakes_are_refused_with_an_example() {
        for text in ["p99", "p99=1.1x", "speed>1", "p99>fast", "p99>-101%", "p99>5", "loss>x"] {
            let error = Condition::parse(text).unwrap_err().to_string();
            assert!(error.contains('→'), "{error}");
        }
    }
}
