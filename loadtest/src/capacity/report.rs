//! What a search found, as text and as JSON.

use super::search::{Found, Limits, Search, Trial, holds_at_least};
use crate::report::Report;
use crate::report::units::{nanos, number};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Version of the stored form.
const SCHEMA_VERSION: u32 = 1;
/// A server that delivers a smaller part of what was offered does not keep up.
const KEPT_MIN: f64 = 0.98;

/// What ended the search above the rate that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    /// The server did not keep up, or broke a delivery rule.
    Server,
    /// The server kept up, and a goal was missed.
    Goal,
    /// No trial above it was valid.
    Generator,
    /// It holds at --rate-max.
    RateMax,
    /// --within was over, or the search was interrupted.
    Time,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Over,
    CutShort,
    /// Nothing listens at the server's address any more.
    ServerGone,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) rate: f64,
    /// It was a fresh trial of the result.
    pub(crate) is_confirmation: bool,
    /// held, missed or invalid.
    pub(crate) outcome: &'static str,
    pub(crate) reasons: Vec<String>,
    /// What was delivered of what was offered; of the worst flow.
    pub(crate) ratio: f64,
    /// ns, of the worst flow.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
    /// Processors that the server used, where its process is known.
    pub(crate) server_processors: Option<f64>,
    /// The generator's busiest worker, as a share of its time.
    pub(crate) generator_busy: f64,
    #[serde(skip)]
    bound: Bound,
}

impl Probe {
    pub(super) fn new(rate: f64, is_confirmation: bool, trial: Trial, report: &Report) -> Probe {
        let requests = report.churn.iter().map(|requests| &requests.latency);
        let latencies: Vec<_> = match report.flows.is_empty() {
            true => requests.collect(),
            false => report.flows.iter().map(|flow| &flow.latency).collect(),
        };
        let worst = |of: fn(&crate::report::Latency) -> u64| latencies.iter().map(|found| of(found)).max();
        let verdict = &report.verdict;
        let (outcome, reasons) = match trial {
            Trial::Held => ("held", &[][..]),
            Trial::Missed => ("missed", &verdict.reasons[..]),
            Trial::Invalid if verdict.invalid.is_empty() && verdict.unjudged.is_empty() => {
                ("invalid", &verdict.generator_reasons[..])
            }
            Trial::Invalid if verdict.invalid.is_empty() => ("invalid", &verdict.unjudged[..]),
            Trial::Invalid => ("invalid", &verdict.invalid[..]),
        };
        let ratio = match (&report.churn, report.flows.is_empty()) {
            (Some(churn), true) => churn.answered as f64 / churn.sent.max(1) as f64,
            _ => report.flows.iter().map(|flow| flow.ratio).fold(1.0, f64::min),
        };
        let is_fault = |reason: &String| !reason.starts_with("goal ");
        let bound = match ratio < KEPT_MIN || verdict.reasons.iter().any(is_fault) {
            true => Bound::Server,
            false => Bound::Goal,
        };
        let seconds = report.measured_seconds.max(1e-9);
        Probe {
            rate,
            is_confirmation,
            outcome,
            reasons: reasons.to_vec(),
            ratio,
            p50: worst(|latency| latency.p50).unwrap_or(0),
            p99: worst(|latency| latency.p99).unwrap_or(0),
            max: worst(|latency| latency.max).unwrap_or(0),
            server_processors: report.server.as_ref().map(|server| server.cpu_seconds / seconds),
            generator_busy: report.generator.busy.iter().copied().fold(0.0, f64::max),
            bound,
        }
    }

    /// As a line of progress.
    pub(super) fn line(&self) -> String {
        let Probe { rate, outcome, p99, is_confirmation, .. } = self;
        let what = if *is_confirmation { "confirm" } else { "try" };
        let reasons =
            if self.reasons.is_empty() { String::new() } else { format!(": {}", self.reasons.join("; ")) };
        format!("{what:>7}  {:>12}/s  {outcome:<7}  p99 {}{reasons}", number(*rate), nanos(*p99 as f64))
    }
}

/// The confirmations of the result.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Confirmations {
    pub(crate) held: u32,
    pub(crate) of: u32,
    pub(crate) needed: u32,
    /// Further ones in which the measurement was invalid.
    pub(crate) invalid: u32,
    /// The share of runs at this rate that hold at least, with 95 % confidence.
    pub(crate) holds_at_least: f64,
}

impl Confirmations {
    pub(super) fn is_enough(&self) -> bool {
        self.held >= self.needed
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// The highest rate that holds, in operations a second.
    pub(crate) rate: Option<f64>,
    pub(crate) confirmations: Confirmations,
    /// The limit is between `rate` and this one, the lowest that does not hold.
    pub(crate) below: Option<f64>,
    pub(crate) bounded_by: Bound,
    pub(crate) why: String,
}

/// A whole search.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CapacityReport {
    pub(crate) schema: &'static str,
    pub(crate) schema_version: u32,
    pub(crate) scenario: String,
    pub(crate) goals: Vec<String>,
    pub(crate) command: String,
    /// Seconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) seconds: f64,
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) found: Outcome,
    pub(crate) probes: Vec<Probe>,
}

impl CapacityReport {
    /// The report of a search that came to its end, or was cut short.
    pub(super) fn new(search: &Search, limits: &Limits, probes: Vec<Probe>, ended: Ended) -> CapacityReport {
        let found = search.found();
        let confirmations = Confirmations {
            held: found.held,
            of: found.valid,
            needed: search.needed(),
            invalid: found.invalid,
            holds_at_least: if found.valid > 0 { holds_at_least(found.held, found.valid) } else { 0.0 },
        };
        let (bounded_by, why) = bound(&found, limits, &probes, ended);
        let below = found.above.map(|(rate, _)| rate);
        CapacityReport {
            schema: "loadtest-capacity",
            schema_version: SCHEMA_VERSION,
            scenario: String::new(),
            goals: Vec::new(),
            command: String::new(),
            started_at: 0,
            seconds: 0.0,
            machine: BTreeMap::new(),
            found: Outcome { rate: found.rate, confirmations, below, bounded_by, why },
            probes,
        }
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        let Outcome { rate, confirmations, below, bounded_by, why } = &self.found;
        let mut out = String::new();
        let (goals, trials) = (self.goals.join(", "), self.probes.len());
        let _ = writeln!(out, "\n{} · {goals} · {trials} runs in {:.0} s\n", self.scenario, self.seconds);
        match rate {
            Some(rate) => {
                let least =
                    if matches!(bounded_by, Bound::Generator | Bound::Time) { "at least " } else { "" };
                let _ = writeln!(out, "  capacity     {least}{} operations a second", number(*rate));
            }
            None => {
                let _ = writeln!(out, "  capacity     no rate was found that holds");
            }
        }
        if let (Some(rate), Some(below)) = (rate, below) {
            let _ = writeln!(out, "  interval     holds at {}, not at {}", number(*rate), number(*below));
        }
        let Confirmations { held, of, needed, invalid, holds_at_least } = confirmations;
        let share = holds_at_least * 100.0;
        let _ = writeln!(
            out,
            "  confirmed    by {held} of {of} fresh runs ({needed} needed): with 95 % confidence at least {share:.0} % \
             of runs hold"
        );
        if *invalid > 0 {
            let _ = writeln!(
                out,
                "  not counted  {invalid} fresh runs with an invalid measurement: the machine is busy"
            );
        }
        let _ = writeln!(out, "  bounded by   {}: {why}", bounded_by.words());
        out
    }
}

impl Bound {
    fn words(self) -> &'static str {
        match self {
            Bound::Server => "the server",
            Bound::Goal => "a goal",
            Bound::Generator => "the generator",
            Bound::RateMax => "--rate-max",
            Bound::Time => "the time",
        }
    }
}

/// What ended the search, and why in words.
fn bound(found: &Found, limits: &Limits, probes: &[Probe], ended: Ended) -> (Bound, String) {
    if let (Ended::ServerGone, Some(last)) = (ended, probes.last()) {
        return (Bound::Server, format!("at {} {}", number(last.rate), last.reasons.join("; ")));
    }
    if ended != Ended::Over {
        let words = "the search was not over; give it more --within, or a --first-rate nearer to the limit";
        return (Bound::Time, words.to_owned());
    }
    let Some((above, is_unjudged)) = found.above else {
        return (
            Bound::RateMax,
            format!("it holds at {}, the highest rate allowed", number(limits.rate_max)),
        );
    };
    let wanted = if is_unjudged { "invalid" } else { "missed" };
    let all = probes.iter().rev().filter(|probe| probe.rate == above);
    let Some(probe) = all.clone().find(|probe| probe.outcome == wanted).or_else(|| all.clone().next()) else {
        return (Bound::Goal, String::new());
    };
    let mut why = format!("at {} {}", number(above), probe.reasons.join("; "));
    if is_unjudged {
        why += " (give the generator more --workers or --agents, or a machine of its own)";
        return (Bound::Generator, why);
    }
    if let Some(processors) = probe.server_processors {
        let _ = write!(why, "; the server used {processors:.2} processors");
    }
    let _ = write!(why, ", the generator's busiest worker {:.0} % of its time", probe.generator_busy * 100.0);
    (probe.bound, why)
}

#[cfg(test)]
mod tests {
    use super::super::search::Next;
    use super::*;
    use crate::report::{FlowReport, Latency};

    const LIMITS: Limits = Limits { first: 100.0, rate_max: 1e6, precision: 0.05, confirmations: 3 };

    /// A search over runs that `outcome` describes by rate: trial, ratio, reasons.
    fn searched(limits: Limits, outcome: impl Fn(f64) -> (Trial, f64, &'static str)) -> CapacityReport {
        let (mut search, mut probes) = (Search::new(limits), Vec::new());
        loop {
            let next = search.next();
            let (Next::Search(rate) | Next::Confirm(rate)) = next else { break };
            let (trial, ratio, reason) = outcome(rate);
            let latency = Latency { count: 1, p99: 7, ..Latency::default() };
            let flows = vec![FlowReport { ratio, latency, ..FlowReport::default() }];
            let mut report = Report { flows, measured_seconds: 1.0, ..Report::default() };
            match trial {
                Trial::Held => {}
                Trial::Missed => report.verdict.reasons.push(reason.to_owned()),
                Trial::Invalid => report.verdict.invalid.push(reason.to_owned()),
            }
            probes.push(Probe::new(rate, matches!(next, Next::Confirm(_)), trial, &report));
            search.take(next, trial);
        }
        CapacityReport::new(&search, &limits, probes, Ended::Over)
    }

    #[test]
    fn what_bounded_it_is_named() {
        let up_to = |limit: f64, trial, ratio, reason| {
            move |rate| if rate <= limit { (Trial::Held, 1.0, "") } else { (trial, ratio, reason) }
        };
        let of = |report: &CapacityReport| (report.found.bounded_by, report.found.why.clone());
        let slow = searched(LIMITS, up_to(900.0, Trial::Missed, 1.0, "goal p99=5ms missed"));
        assert!(of(&slow).0 == Bound::Goal && of(&slow).1.contains("goal p99=5ms missed"), "{:?}", of(&slow));
        let behind = searched(LIMITS, up_to(900.0, Trial::Missed, 0.7, "goal p99=5ms missed"));
        assert_eq!(of(&behind).0, Bound::Server);
        let loses = searched(LIMITS, up_to(900.0, Trial::Missed, 1.0, "3 deliveries lost"));
        assert_eq!(of(&loses).0, Bound::Server);
        let late = searched(LIMITS, up_to(900.0, Trial::Invalid, 1.0, "the generator sent echo late"));
        assert!(of(&late).0 == Bound::Generator && of(&late).1.contains("sent echo late"), "{:?}", of(&late));
        assert!(late.text().contains("at least"), "{}", late.text());
        let limits = Limits { rate_max: 5000.0, ..LIMITS };
        let all = searched(limits, |_| (Trial::Held, 1.0, ""));
        assert_eq!((of(&all).0, all.found.rate), (Bound::RateMax, Some(5000.0)));
    }

    #[test]
    fn a_report_has_its_schema_and_its_interval() {
        let report = searched(LIMITS, |rate| match rate <= 900.0 {
            true => (Trial::Held, 1.0, ""),
            false => (Trial::Missed, 1.0, "goal p99=5ms missed"),
        });
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["schema"], &json["schema_version"]), (&"loadtest-capacity".into(), &1.into()));
        let (rate, below) =
            (json["found"]["rate"].as_f64().unwrap(), json["found"]["below"].as_f64().unwrap());
        assert!(rate <= 900.0 && below > 900.0 && below / rate < 1.06, "{json}");
        assert_eq!(json["found"]["confirmations"]["held"], 3);
        assert_eq!(json["found"]["bounded_by"], "goal");
        assert!(report.text().contains("3 of 3"), "{}", report.text());
    }
}
