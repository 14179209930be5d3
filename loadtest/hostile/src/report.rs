//! One row per abuse: on the terminal when it is over, and all of them as JSON.

use crate::bystanders::ledger::{Counts, Window};
use crate::error::{Exit, RunError};
use crate::profile::Profile;
use crate::suite::{LatencyLimit, SuitePlan};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Samples that a percentile needs.
const SAMPLES_MIN: u64 = 200;
const REASONS_MAX: usize = 24;

/// The verdict on an abuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Held,
    Noticed,
    NotTried,
}

/// One abuse.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) abuse: String,
    pub(crate) kind: String,
    pub(crate) profile: &'static str,
    pub(crate) backend: String,
    pub(crate) verdict: Verdict,
    /// What the abuse did, and the answers.
    pub(crate) did: String,
    /// Why it did not hold.
    pub(crate) reasons: Vec<String>,
    pub(crate) counts: Counts,
    pub(crate) notes: BTreeMap<String, u64>,
    /// Microseconds of messages, p99, quiet and during the abuse, of each round.
    pub(crate) p99_us: Vec<(u64, u64)>,
    /// The same of logins.
    pub(crate) login_p99_us: Vec<(u64, u64)>,
    pub(crate) rss_peak: u64,
    pub(crate) log_bytes: u64,
    pub(crate) residue: Vec<String>,
    /// Drops, refusals and closes that the gateway counted meanwhile.
    pub(crate) counted: Vec<String>,
}

impl Row {
    pub(crate) fn new(abuse: &str, kind: &str, profile: Profile, backend: &str) -> Row {
        Row {
            abuse: abuse.into(),
            kind: kind.into(),
            profile: profile.name(),
            backend: backend.into(),
            verdict: Verdict::Held,
            did: String::new(),
            reasons: vec![],
            counts: Counts::default(),
            notes: BTreeMap::new(),
            p99_us: vec![],
            login_p99_us: vec![],
            rss_peak: 0,
            log_bytes: 0,
            residue: vec![],
            counted: vec![],
        }
    }

    pub(crate) fn fail(&mut self, reason: String) {
        self.verdict = Verdict::Noticed;
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub(crate) fn not_tried(&mut self, reason: String) {
        if self.verdict == Verdict::Held {
            self.verdict = Verdict::NotTried;
        }
        self.reasons.push(reason);
    }

    /// Adds what bystanders noticed in a window.
    pub(crate) fn noticed(&mut self, window: &Window) {
        self.counts.add(&window.counts);
        if !window.counts.noticed() {
            return;
        }
        for (what, count) in &window.notes {
            *self.notes.entry(what.clone()).or_insert(0) += count;
        }
        self.verdict = Verdict::Noticed;
    }

    /// Adds a round's latencies, where there are enough of both.
    pub(crate) fn compare(&mut self, quiet: &Window, loud: &Window) {
        let p99 = |window: &Window| window.messages.value_at_quantile(0.99);
        if quiet.messages.len() >= SAMPLES_MIN && loud.messages.len() >= SAMPLES_MIN {
            self.p99_us.push((p99(quiet), p99(loud)));
        }
        if !quiet.logins.is_empty() && !loud.logins.is_empty() {
            self.login_p99_us
                .push((quiet.logins.value_at_quantile(0.99), loud.logins.value_at_quantile(0.99)));
        }
    }

    /// Median over the rounds of the ratio of p99 of messages during the abuse to p99 when quiet.
    pub(crate) fn ratio(&self) -> Option<f64> {
        median(self.p99_us.iter().map(|(quiet, loud)| *loud as f64 / (*quiet).max(1) as f64))
    }

    /// The same as `limit` counts it: latencies beside the abuse without `pause`, and none that is
    /// within the floor is more than its quiet value.
    pub(crate) fn ratio_by(&self, limit: &LatencyLimit, pause: Duration) -> Option<f64> {
        let by_limit = |(quiet, loud): &(u64, u64)| {
            let loud = loud.saturating_sub(pause.as_micros() as u64);
            let ratio = loud as f64 / (*quiet).max(1) as f64;
            if loud <= limit.floor.as_micros() as u64 { ratio.min(1.0) } else { ratio }
        };
        median(self.p99_us.iter().map(by_limit))
    }

    fn print(&self) {
        let counts = &self.counts;
        let ratio = match (self.ratio(), self.p99_us.last()) {
            (Some(ratio), Some((quiet, loud))) => {
                format!("{:>7.2} → {:>8.2} {ratio:>6.1}", *quiet as f64 / 1e3, *loud as f64 / 1e3)
            }
            _ => format!("{:>25}", "–"),
        };
        let verdict = match self.verdict {
            Verdict::Held => "held",
            Verdict::Noticed => "NOTICED",
            Verdict::NotTried => "NOT TRIED",
        };
        println!(
            "{:<34} {:<11} {:>6} {:>6} {:>6} {:>6} {ratio} {:>6} {:>5}  {verdict}",
            self.abuse,
            self.profile,
            counts.closed,
            counts.missing(),
            counts.logins_failed,
            counts.requests_failed,
            self.rss_peak >> 20,
            self.residue.len(),
        );
        if self.verdict != Verdict::Held {
            println!("    did: {}", self.did);
            self.reasons.iter().for_each(|reason| println!("    {reason}"));
            self.notes.iter().for_each(|(what, count)| println!("    {what} × {count}"));
            self.counted.iter().for_each(|count| println!("    counted: {count}"));
            self.residue.iter().take(12).for_each(|left| println!("    left: {left}"));
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.received += other.received;
        self.logins += other.logins;
        self.requests += other.requests;
        self.noise += other.noise;
        self.lost += other.lost;
        self.misordered += other.misordered;
        self.late += other.late;
        self.forged += other.forged;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.closed += other.closed;
        self.logins_failed += other.logins_failed;
        self.requests_failed += other.requests_failed;
    }
}

/// All rows, and the parameters of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    gateway: String,
    backend: String,
    well_behaved: u32,
    budget_ms: u64,
    rounds: u32,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(plan: &SuitePlan) -> Report {
        Report {
            gateway: plan.program.display().to_string(),
            backend: plan.backend.clone(),
            well_behaved: plan.well_behaved,
            budget_ms: plan.budget.as_millis() as u64,
            rounds: plan.rounds,
            rows: vec![],
        }
    }

    pub(crate) fn print_head(&self) {
        println!(
            "{} on {}: {} well-behaved connections, {} ms an abuse",
            self.gateway, self.backend, self.well_behaved, self.budget_ms
        );
        println!(
            "{:<34} {:<11} {:>6} {:>6} {:>6} {:>6} {:>25} {:>6} {:>5}",
            "abuse", "profile", "closed", "lost", "logins", "http", "p99 ms quiet → beside, ×", "MiB", "left"
        );
    }

    pub(crate) fn add(&mut self, row: Row) {
        row.print();
        self.rows.push(row);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict != Verdict::Held)
    }

    pub(crate) fn print_end(&self) {
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let (held, noticed, not_tried) =
            (count(Verdict::Held), count(Verdict::Noticed), count(Verdict::NotTried));
        println!("hostile: {held} held, {noticed} noticed, {not_tried} not tried");
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), RunError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(path, text + "\n").map_err(|error| {
            RunError::new(
                format!("{} cannot be written: {error}", path.display()),
                "name another file with --report",
            )
        })
    }

    pub(crate) fn exit(&self) -> Exit {
        let any = |verdict| self.rows.iter().any(|row| row.verdict == verdict);
        match (any(Verdict::Noticed), any(Verdict::NotTried)) {
            (true, _) => Exit::Noticed,
            (false, true) => Exit::CouldNotRun,
            (false, false) => Exit::Held,
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bystanders::ledger::Ledger;

    #[test]
    fn a_window_with_a_closed_bystander_is_noticed_and_a_quiet_one_is_not() {
        let mut row = Row::new("one", "kind", Profile::Production, "epoll");
        let ledger = Ledger::new();
        ledger.lock().counts.sent = 5;
        row.noticed(&ledger.take());
        assert_eq!((row.verdict, row.counts.sent), (Verdict::Held, 5));
        ledger.lock().counts.closed = 1;
        ledger.lock().note("closed: reset");
        row.noticed(&ledger.take());
        assert_eq!((row.verdict, row.notes["closed: reset"]), (Verdict::Noticed, 1));
    }

    #[test]
    fn ratios_are_medians_of_rounds_with_enough_samples() {
        let mut row = Row::new("one", "kind", Profile::Production, "epoll");
        let window = |us: u64, samples: u64| {
            let ledger = Ledger::new();
            (0..samples).for_each(|_| ledger.lock().messages.saturating_record(us));
            ledger.take()
        };
        row.compare(&window(100, 10), &window(100, 10));
        assert_eq!(row.ratio(), None);
        [200, 900, 300].iter().for_each(|loud| row.compare(&window(100, 300), &window(*loud, 300)));
        assert!((row.ratio().unwrap() - 3.0).abs() < 0.1);
    }

    #[test]
    fn a_floor_holds_and_a_pause_does_not_count() {
        let mut row = Row::new("one", "kind", Profile::Production, "epoll");
        row.p99_us = vec![(300, 2_000)];
        let limit = |ms| LatencyLimit { ratio_max: 3.0, floor: Duration::from_millis(ms) };
        let by = |row: &Row, ms, pause| row.ratio_by(&limit(ms), Duration::from_millis(pause)).unwrap();
        assert!(by(&row, 1, 0) > 6.0 && by(&row, 2, 0) <= 1.0, "2 ms are within a floor of 2 ms");
        row.p99_us = vec![(300, 501_500)];
        assert!(by(&row, 0, 0) > 1000.0);
        assert!((by(&row, 0, 500) - 5.0).abs() < 0.1, "what is late beyond the pause counts");
        assert!(by(&row, 2, 500) <= 1.0);
    }

    #[test]
    fn what_could_not_be_tried_does_not_count_as_held() {
        let mut row = Row::new("one", "kind", Profile::Production, "epoll");
        row.not_tried("no echo listener".into());
        assert_eq!(row.verdict, Verdict::NotTried);
        row.fail("closed".into());
        row.not_tried("again".into());
        assert_eq!(row.verdict, Verdict::Noticed);
    }
}
