//! The search for the highest rate that holds, apart from how a rate is tried.
//!
//! ```text
//!   first rate ─► doubled while it holds ─► the gap halved until it is narrow ─► confirmed
//! ```
//!
//! Everything follows from the trials so far. A rate that misses is tried again, and the majority
//! of three decides: one unlucky second is no limit. A rate that holds is the result only after
//! fresh trials: the search itself picks lucky ones. A trial in which the generator failed counts
//! neither way; a rate that no trial can judge is where the generator ends.

/// The outcome of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    Held,
    Missed,
    /// The measurement was invalid.
    Invalid,
}

/// The bounds of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) first: f64,
    pub(crate) rate_max: f64,
    /// The gap between the rate that holds and the one that misses, as a share: it ends there.
    pub(crate) precision: f64,
    /// Fresh trials of the result.
    pub(crate) confirmations: u32,
}

/// The rate below which there is nothing to look for, as a part of the first.
const SHRINK_MAX: f64 = 1024.0;
/// Invalid trials of a rate after which it is not judged.
const INVALID_MAX: u32 = 3;
/// The share of the confirmations that must hold.
const CONFIRMED: f64 = 0.8;

/// What is known of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    rate: f64,
    held: u32,
    missed: u32,
    invalid: u32,
    /// The same of its confirmations.
    confirmed: u32,
    refuted: u32,
    confirmed_not: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Open,
    Holds,
    Misses,
    Unjudged,
}

/// What is tried next, and what for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    Search(f64),
    Confirm(f64),
    Done,
}

/// The result of a search, or of what there is of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// The highest rate that holds.
    pub(crate) rate: Option<f64>,
    /// Its confirmations that held, and all of them that were valid.
    pub(crate) held: u32,
    pub(crate) valid: u32,
    /// Confirmations that were invalid.
    pub(crate) invalid: u32,
    /// The lowest rate above it that does not hold, and whether that is for want of a valid trial.
    pub(crate) above: Option<(f64, bool)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Search {
    limits: Limits,
    /// By rate.
    tallies: Vec<Tally>,
}

impl Search {
    pub(crate) fn new(limits: Limits) -> Search {
        Search { limits, tallies: Vec::new() }
    }

    /// Confirmations that must hold.
    pub(crate) fn needed(&self) -> u32 {
        (CONFIRMED * f64::from(self.limits.confirmations)).ceil() as u32
    }

    fn status(&self, tally: &Tally) -> Status {
        let spare = self.limits.confirmations - self.needed();
        match () {
            () if tally.refuted > spare => Status::Misses,
            () if tally.held > tally.missed => Status::Holds,
            () if tally.missed >= 2 => Status::Misses,
            () if tally.invalid >= INVALID_MAX => Status::Unjudged,
            () => Status::Open,
        }
    }

    fn with(&self, wanted: Status) -> impl DoubleEndedIterator<Item = &Tally> {
        self.tallies.iter().filter(move |tally| self.status(tally) == wanted)
    }

    /// The lowest rate that does not hold.
    fn above(&self) -> Option<(f64, bool)> {
        let fails = |tally: &&Tally| matches!(self.status(tally), Status::Misses | Status::Unjudged);
        let lowest = self.tallies.iter().find(fails)?;
        Some((lowest.rate, self.status(lowest) == Status::Unjudged))
    }

    /// The highest rate that holds below all that do not.
    fn below(&self) -> Option<&Tally> {
        let above = self.above().map_or(f64::INFINITY, |(rate, _)| rate);
        self.with(Status::Holds).rfind(|tally| tally.rate < above)
    }

    /// Whether there are not enough valid confirmations, and more can be hoped for. A machine on
    /// which most of them are invalid confirms no lower rate either.
    fn needs_confirmation(&self, tally: &Tally) -> bool {
        let wanted = self.limits.confirmations;
        tally.confirmed + tally.refuted < wanted && tally.confirmed_not < wanted * INVALID_MAX
    }

    /// The next trial.
    pub(crate) fn next(&self) -> Next {
        if let Some(open) = self.with(Status::Open).next() {
            return Next::Search(open.rate);
        }
        let Limits { first, rate_max, precision, .. } = self.limits;
        match (self.below(), self.above()) {
            (None, None) => Next::Search(first.min(rate_max)),
            (None, Some((above, _))) if above / 2.0 < first / SHRINK_MAX => Next::Done,
            (None, Some((above, _))) => Next::Search(rounded(above / 2.0)),
            (Some(below), None) if below.rate < rate_max => {
                Next::Search(rounded(below.rate * 2.0).min(rate_max))
            }
            (Some(below), above) => {
                let between = above.and_then(|(above, _)| between(below.rate, above, precision));
                match between {
                    Some(rate) => Next::Search(rate),
                    None if self.needs_confirmation(below) => Next::Confirm(below.rate),
                    None => Next::Done,
                }
            }
        }
    }

    /// Takes the outcome of the trial that [`Search::next`] asked for.
    pub(crate) fn take(&mut self, next: Next, trial: Trial) {
        let (rate, confirms) = match next {
            Next::Search(rate) => (rate, false),
            Next::Confirm(rate) => (rate, true),
            Next::Done => return,
        };
        let at = self.tallies.partition_point(|tally| tally.rate < rate);
        if self.tallies.get(at).is_none_or(|tally| tally.rate != rate) {
            self.tallies.insert(at, Tally { rate, ..Tally::default() });
        }
        let tally = &mut self.tallies[at];
        let count = match (trial, confirms) {
            (Trial::Held, false) => &mut tally.held,
            (Trial::Missed, false) => &mut tally.missed,
            (Trial::Invalid, false) => &mut tally.invalid,
            (Trial::Held, true) => &mut tally.confirmed,
            (Trial::Missed, true) => &mut tally.refuted,
            (Trial::Invalid, true) => &mut tally.confirmed_not,
        };
        *count += 1;
    }

    /// What is known so far.
    pub(crate) fn found(&self) -> Found {
        let below = self.below();
        Found {
            rate: below.map(|tally| tally.rate),
            held: below.map_or(0, |tally| tally.confirmed),
            valid: below.map_or(0, |tally| tally.confirmed + tally.refuted),
            invalid: below.map_or(0, |tally| tally.confirmed_not),
            above: self.above(),
        }
    }
}

/// The rate in the middle of a gap, as ratios go; `None` where the gap is narrow enough.
fn between(below: f64, above: f64, precision: f64) -> Option<f64> {
    let middle = rounded((below * above).sqrt());
    (above > below * (1.0 + precision) && below < middle && middle < above).then_some(middle)
}

/// Three significant digits: a rate that can be read.
fn rounded(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.log10().floor() - 2.0);
    // Dividing by the inverse keeps decimal numbers exact.
    let rate = (rate / unit).round();
    if unit >= 1.0 { rate * unit } else { rate / (1.0 / unit).round() }
}

/// The share of runs that hold at least, with 95 % confidence, when `held` of `all` independent
/// ones did (Clopper and Pearson, 1934).
pub(crate) fn holds_at_least(held: u32, all: u32) -> f64 {
    // The share at which so many or more holding runs would be seen once in twenty times.
    let seen = |share: f64| -> f64 { (held..=all).map(|count| binomial(all, count, share)).sum() };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if seen(middle) < 0.05 { low = middle } else { high = middle }
    }
    if held == 0 { 0.0 } else { low }
}

fn binomial(all: u32, count: u32, share: f64) -> f64 {
    let ways: f64 = (0..count).map(|at| f64::from(all - at) / f64::from(at + 1)).product();
    ways * share.powi(count.cast_signed()) * (1.0 - share).powi((all - count).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { first: 100.0, rate_max: 1e9, precision: 0.05, confirmations: 3 };

    /// Searches a server that `judge`s rates; returns what was found and the number of trials.
    fn search(limits: Limits, mut judge: impl FnMut(f64, u32) -> Trial) -> (Found, u32) {
        let mut search = Search::new(limits);
        for number in 0..200 {
            let next = search.next();
            match next {
                Next::Done => return (search.found(), number),
                Next::Search(rate) | Next::Confirm(rate) => search.take(next, judge(rate, number)),
            }
        }
        panic!("it does not end: {:?}", search.found());
    }

    fn up_to(limit: f64) -> impl FnMut(f64, u32) -> Trial {
        move |rate, _| if rate <= limit { Trial::Held } else { Trial::Missed }
    }

    #[test]
    fn the_limit_of_a_steady_server_is_found_within_the_precision() {
        for limit in [0.7, 3.0, 99.0, 100.0, 101.0, 12_345.0, 999_999.0] {
            let (found, trials) = search(LIMITS, up_to(limit));
            let (rate, (above, unjudged)) = (found.rate.unwrap(), found.above.unwrap());
            assert!(rate <= limit && above > limit && !unjudged, "{limit}: {found:?}");
            assert!(above / rate <= 1.06, "{limit}: {found:?}");
            assert_eq!((found.held, found.valid), (3, 3));
            assert!(trials < 50, "{limit}: {trials} trials");
        }
    }

    #[test]
    fn one_unlucky_trial_is_no_limit() {
        // Every third trial misses, wherever it is below the limit.
        let judge = |rate: f64, number: u32| match rate <= 5000.0 && (number % 3 != 1) {
            true => Trial::Held,
            false => Trial::Missed,
        };
        let mut search = Search::new(LIMITS);
        while let Next::Search(rate) = search.next() {
            let number = search.tallies.iter().map(|tally| tally.held + tally.missed).sum();
            search.take(Next::Search(rate), judge(rate, number));
        }
        let found = search.found().rate.unwrap();
        assert!((4700.0..=5000.0).contains(&found), "{found}");
    }

    #[test]
    fn a_lucky_rate_is_refuted_and_a_lower_one_confirmed() {
        // At first it bears 8000, in the long run only 2000.
        let mut trials = 0;
        let (found, _) = search(LIMITS, |rate, _| {
            trials += 1;
            let limit = if trials <= 14 { 8000.0 } else { 2000.0 };
            if rate <= limit { Trial::Held } else { Trial::Missed }
        });
        let rate = found.rate.unwrap();
        assert!((1900.0..=2000.0).contains(&rate), "{found:?}");
        assert_eq!((found.held, found.valid), (3, 3));
    }

    #[test]
    fn invalid_trials_count_neither_way_and_bound_the_search() {
        let generator = |rate: f64, _| if rate <= 4000.0 { Trial::Held } else { Trial::Invalid };
        let (found, _) = search(LIMITS, generator);
        assert!((3800.0..=4000.0).contains(&found.rate.unwrap()), "{found:?}");
        assert!(found.above.unwrap().1, "{found:?}");
        // Every other trial is invalid: the same result, in more trials.
        let (found, _) = search(LIMITS, |rate, number| match number % 2 {
            0 => Trial::Invalid,
            _ if rate <= 4000.0 => Trial::Held,
            _ => Trial::Missed,
        });
        assert!((3800.0..=4000.0).contains(&found.rate.unwrap()), "{found:?}");
        assert_eq!((found.held, found.valid, found.above.unwrap().1), (3, 3, false));
        let (found, trials) = search(LIMITS, |_, _| Trial::Invalid);
        assert_eq!(found.rate, None);
        assert!(trials <= 50, "{trials} trials");
    }

    #[test]
    fn a_machine_too_busy_to_confirm_leaves_the_rate_unconfirmed() {
        let mut search = Search::new(LIMITS);
        loop {
            let next = search.next();
            match next {
                Next::Search(rate) if rate <= 4000.0 => search.take(next, Trial::Held),
                Next::Search(_) => search.take(next, Trial::Missed),
                Next::Confirm(_) => search.take(next, Trial::Invalid),
                Next::Done => break,
            }
        }
        let found = search.found();
        assert!((3800.0..=4000.0).contains(&found.rate.unwrap()), "{found:?}");
        assert_eq!((found.held, found.valid, found.invalid), (0, 0, 9));
    }

    #[test]
    fn a_server_that_bears_nothing_and_one_that_bears_everything() {
        assert_eq!(search(LIMITS, |_, _| Trial::Missed).0.rate, None);
        let limits = Limits { rate_max: 70_000.0, ..LIMITS };
        let (found, _) = search(limits, |_, _| Trial::Held);
        assert_eq!((found.rate, found.above, found.held), (Some(70_000.0), None, 3));
        let low = Limits { rate_max: 50.0, ..LIMITS };
        assert_eq!(search(low, |_, _| Trial::Held).0.rate, Some(50.0), "below the first");
    }

    #[test]
    fn the_confidence_is_that_of_the_binomial_distribution() {
        assert!((holds_at_least(3, 3) - 0.05_f64.powf(1.0 / 3.0)).abs() < 1e-9);
        assert!((holds_at_least(4, 5) - 0.3426).abs() < 1e-3, "{}", holds_at_least(4, 5));
        assert_eq!(holds_at_least(0, 3), 0.0);
    }

    #[test]
    fn rates_are_rounded_to_three_digits() {
        for (rate, wanted) in [(12_345.0, 12_300.0), (0.123_45, 0.123), (999.6, 1000.0), (7.0, 7.0)] {
            assert_eq!(rounded(rate), wanted);
        }
    }
}
