//! Goals: what must hold for exit code 0.
//!
//! `name=value`, where the name says which way it is bounded: latencies, losses and costs from
//! above, `rate` and `ready` from below.

use crate::error::RunError;
use crate::settings::units::Span;
use serde::{Deserialize, Serialize};

/// The quantity that a goal bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// A latency percentile of every flow; thousandths of a percent.
    Latency(u32),
    /// The longest latency.
    LatencyMax,
    /// A percentile from connect to ready.
    Connect(u32),
    /// Achieved over offered.
    Rate,
    /// Deliveries lost.
    Loss,
    /// Duplicates, out of order, misdelivered, damaged; and broken protocol rules.
    Violations,
    /// Connections ready over asked for.
    Ready,
    /// The server's processor time per message.
    Cpu,
    /// The server's RSS growth per connection.
    Memory,
    /// Deliveries (or answers) per second.
    Throughput,
}

/// One goal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) text: String,
    pub(crate) measure: Measure,
    /// Nanoseconds, bytes, a ratio or a count.
    pub(crate) bound: f64,
}

/// The result of a goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub goal: String,
    pub found: String,
    pub met: bool,
}

/// The names, for messages.
pub(crate) const NAMES: &str =
    "p50 p90 p99 p999 p9999 max connect-p99 rate loss violations ready cpu memory throughput";

/// What values look like.
pub(crate) const VALUES: &str = "times look like 5ms, ratios like 0.99, sizes like 512 or 8KiB";

impl Goal {
    /// Reads `name=value`.
    ///
    /// # Errors
    /// A name or a value that makes no sense.
    pub(crate) fn parse(text: &str) -> Result<Goal, RunError> {
        let wrong = |advice: &str| RunError::new(format!("goal `{text}` makes no sense"), advice);
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("write it like p99=5ms or loss=0"))?;
        let measure = Measure::named(name.trim()).ok_or_else(|| wrong(&format!("goals are: {NAMES}")))?;
        let bound = measure.value(value.trim()).ok_or_else(|| wrong(VALUES))?;
        Ok(Goal { text: text.to_owned(), measure, bound })
    }

    /// Whether `found` satisfies it.
    pub(crate) fn is_met(&self, found: f64) -> bool {
        match self.measure {
            Measure::Rate | Measure::Ready | Measure::Throughput => found >= self.bound,
            _ => found <= self.bound,
        }
    }

    /// Formats a measured value in the goal's unit.
    pub(crate) fn format(&self, found: f64) -> String {
        self.measure.format(found)
    }
}

impl Measure {
    /// The measure of this name.
    pub(crate) fn named(name: &str) -> Option<Measure> {
        Some(match name {
            "max" => Measure::LatencyMax,
            "rate" => Measure::Rate,
            "loss" => Measure::Loss,
            "violations" => Measure::Violations,
            "ready" => Measure::Ready,
            "cpu" => Measure::Cpu,
            "memory" => Measure::Memory,
            "throughput" => Measure::Throughput,
            name => match name.strip_prefix("connect-") {
                Some(rest) => Measure::Connect(percentile(rest)?),
                None => Measure::Latency(percentile(name)?),
            },
        })
    }

    /// Formats a value in the measure's unit.
    pub(crate) fn format(self, found: f64) -> String {
        use crate::report::units::{bytes, nanos, number};
        match self {
            Measure::Latency(_) | Measure::LatencyMax | Measure::Connect(_) | Measure::Cpu => nanos(found),
            Measure::Memory => bytes(found),
            Measure::Rate | Measure::Ready => format!("{found:.4}"),
            Measure::Loss | Measure::Violations | Measure::Throughput => number(found),
        }
    }

    /// Reads a value in the measure's unit.
    pub(crate) fn value(self, text: &str) -> Option<f64> {
        let value = match self {
            Measure::Latency(_) | Measure::LatencyMax | Measure::Connect(_) | Measure::Cpu => {
                text.parse::<Span>().ok()?.0.as_nanos() as f64
            }
            Measure::Memory => size(text)?,
            _ => match text.strip_suffix('%') {
                Some(percent) => percent.parse::<f64>().ok()? / 100.0,
                None => text.parse().ok()?,
            },
        };
        (value.is_finite() && value >= 0.0).then_some(value)
    }
}

/// `p99` is 99 000, `p999` 99 900, in thousandths of a percent.
fn percentile(name: &str) -> Option<u32> {
    let digits = name.strip_prefix('p').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let padded = format!("{digits:0<5}");
    (2..=5).contains(&digits.len()).then(|| padded.parse().ok())?
}

fn size(value: &str) -> Option<f64> {
    let (number, factor) = match value {
        _ if value.ends_with("KiB") => (value.trim_end_matches("KiB"), 1024.0),
        _ if value.ends_with("MiB") => (value.trim_end_matches("MiB"), 1024.0 * 1024.0),
        _ => (value.trim_end_matches('B'), 1.0),
    };
    Some(number.trim().parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_read_their_units_and_know_their_direction() {
        let goal = |text: &str| Goal::parse(text).unwrap();
        assert_eq!(goal("p99=5ms").measure, Measure::Latency(99_000));
        assert_eq!(goal("p999=5ms").measure, Measure::Latency(99_900));
        assert_eq!(goal("p50=1us").bound, 1000.0);
        assert_eq!(goal("connect-p99=1s").measure, Measure::Connect(99_000));
        assert_eq!(goal("memory=8KiB").bound, 8192.0);
        assert_eq!(goal("rate=99%").bound, 0.99);
        assert!(goal("p99=5ms").is_met(5e6) && !goal("p99=5ms").is_met(5.1e6));
        assert!(goal("rate=0.99").is_met(0.995) && !goal("rate=0.99").is_met(0.98));
        assert!(goal("loss=0").is_met(0.0) && !goal("loss=0").is_met(1.0));
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        for text in ["p99", "p99=5", "speed=1", "p9=1ms", "px=1ms", "rate=fast", "loss=-1", "memory=x"] {
            let error = Goal::parse(text).unwrap_err().to_string();
            assert!(error.contains('→'), "{error}");
        }
    }
}
