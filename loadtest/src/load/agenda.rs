//! When each operation of a flow is due, on the run's clock.
//!
//! Operations go round the senders: in round `r`, the sender at position `p` of `total` does
//! operation `r × total + p`. A sender therefore does one operation a round, and its own sequence
//! number is the round.

use super::arrivals::{Drawn, UNIT};
use super::{Course, Load};
use crate::schedule::Schedule;
use std::sync::Arc;

/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// A part of a course with what is before it, in ns since the start and in operations.
#[derive(Clone, Copy, Debug)]
struct Leg {
    begins: f64,
    before: f64,
    /// Operations per ns at its begin, and by how much that changes in a ns.
    rate: f64,
    slope: f64,
}

impl Leg {
    /// Operations of this leg within its first `time` ns.
    fn operations(&self, time: f64) -> f64 {
        self.rate * time + self.slope * time * time / 2.0
    }

    /// The time that its first `operations` take: the root of the quadratic, in the form that is
    /// exact for slopes near 0.
    fn time(&self, operations: f64) -> f64 {
        let root = (self.rate * self.rate + 2.0 * self.slope * operations).max(0.0).sqrt();
        2.0 * operations / (self.rate + root)
    }
}

/// How far the operations of a flow are, and when each is due.
#[derive(Debug)]
pub(crate) struct Agenda {
    /// ns on the run's clock.
    start: u64,
    total: u64,
    times: Times,
    /// The operation that was turned to last, where it lies among the drawn ones, and its time.
    turned_to: (u64, u64),
    due: u64,
}

#[derive(Debug)]
enum Times {
    /// One rate and even gaps: exact in integers.
    Even(Schedule),
    Along {
        legs: Box<[Leg]>,
        drawn: Option<Arc<Drawn>>,
    },
}

impl Agenda {
    /// The agenda of `load` among `total` senders; traffic starts at `traffic_start`, the course at
    /// `start`.
    pub(crate) fn new(load: &Load, traffic_start: u64, start: u64, total: u64) -> Agenda {
        let times = match (load.course.rate(), &load.drawn) {
            (Some(rate), None) => Times::Even(Schedule::new(traffic_start, rate)),
            (_, drawn) => {
                let legs = legs(&load.course, start.saturating_sub(traffic_start));
                Times::Along { legs, drawn: drawn.clone() }
            }
        };
        let (start, total) = (traffic_start, total.max(1));
        let mut agenda = Agenda { start, total, times, turned_to: (0, 0), due: 0 };
        agenda.turned_to.1 = agenda.units(0).unwrap_or(NEVER);
        agenda.due = agenda.intended(0);
        agenda
    }

    /// When the operation is due that was turned to.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Turns to the sender at `position` in the `round`-th round.
    pub(crate) fn turn_to(&mut self, round: u32, position: u32) {
        let index = self.index(round, position);
        self.due = match &self.times {
            Times::Along { drawn: Some(drawn), legs } => match drawn.after(self.turned_to, index) {
                Some(units) => {
                    self.turned_to = (index, units);
                    self.start.saturating_add(along(legs, units as f64 / UNIT as f64))
                }
                None => NEVER,
            },
            _ => self.intended(index),
        };
    }

    fn index(&self, round: u32, position: u32) -> u64 {
        u64::from(round) * self.total + u64::from(position)
    }

    fn units(&self, index: u64) -> Option<u64> {
        match &self.times {
            Times::Along { drawn: Some(drawn), .. } => drawn.at(index),
            _ => None,
        }
    }

    fn intended(&self, index: u64) -> u64 {
        match &self.times {
            Times::Even(schedule) => schedule.intended(index),
            Times::Along { legs, drawn } => {
                let operations = match drawn {
                    None => Some(index as f64),
                    Some(drawn) => drawn.at(index).map(|units| units as f64 / UNIT as f64),
                };
                operations.map_or(NEVER, |done| self.start.saturating_add(along(legs, done)))
            }
        }
    }

    /// When the sender at `position` is due for the `round`-th time; for a drawn one beyond the end
    /// never.
    pub(crate) fn intended_round(&self, round: u32, position: u32) -> u64 {
        self.intended(self.index(round, position))
    }

    /// Operations due in `[from, to)`: what was offered.
    pub(crate) fn offered(&self, from: u64, to: u64) -> u64 {
        self.due_before(to).saturating_sub(self.due_before(from))
    }

    /// The number of operations that are due before `time`.
    pub(crate) fn due_before(&self, time: u64) -> u64 {
        let (legs, drawn) = match &self.times {
            Times::Even(schedule) => return schedule.due_before(time),
            Times::Along { legs, drawn } => (legs, drawn),
        };
        let elapsed = time.saturating_sub(self.start) as f64;
        let leg = legs[legs.partition_point(|leg| leg.begins <= elapsed).saturating_sub(1)];
        let done = leg.before + leg.operations((elapsed - leg.begins).max(0.0));
        let mut count = match drawn {
            None => done as u64,
            Some(drawn) => drawn.before((done * UNIT as f64) as u64),
        };
        // Rounding may be off by an operation.
        while count > 0 && self.intended(count - 1) >= time {
            count -= 1;
        }
        while self.intended(count) < time {
            count += 1;
        }
        count
    }
}

/// The time since the start at which so many operations were due, in ns.
fn along(legs: &[Leg], operations: f64) -> u64 {
    let leg = legs[legs.partition_point(|leg| leg.before <= operations).saturating_sub(1)];
    (leg.begins + leg.time(operations - leg.before)) as u64
}

/// The legs of a course that begins `warmup` ns after traffic starts: the warm-up has its first
/// rate, and its last one holds.
fn legs(course: &Course, warmup: u64) -> Box<[Leg]> {
    let per_ns = |rate: f64| rate / 1e9;
    let hold = |begins, before, rate| Leg { begins, before, rate: per_ns(rate), slope: 0.0 };
    let mut legs = Vec::with_capacity(course.parts().len() + 2);
    let (mut begins, mut before) = (0.0, 0.0);
    let mut add = |leg: Leg, length: f64, begins: &mut f64, before: &mut f64| {
        legs.push(leg);
        *before += leg.operations(length);
        *begins += length;
    };
    if warmup > 0 {
        add(hold(0.0, 0.0, course.first()), warmup as f64, &mut begins, &mut before);
    }
    let mut last = course.first();
    for part in course.parts() {
        last = part.to;
        let Some(time) = part.time else { break };
        let length = time.as_nanos() as f64;
        let slope = per_ns(part.to - part.from) / length;
        let leg = Leg { begins, before, rate: per_ns(part.from), slope };
        add(leg, length, &mut begins, &mut before);
    }
    legs.push(hold(begins, before, last));
    legs.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Arrivals;
    use crate::schedule::SECOND;
    use std::time::Duration;

    fn load(text: &str, arrivals: &str) -> Load {
        let arrivals: Arrivals = arrivals.parse().unwrap();
        let times = (Duration::from_secs(1), Duration::from_secs(12));
        Load::even(text.parse().unwrap()).with_arrivals(arrivals, 0, times).unwrap()
    }

    const COURSES: [&str; 5] = ["777.7", "100..1000/10s", "1000..100/10s", "50:3s,500:3s,5", "10..400x5/10s"];

    #[test]
    fn what_was_offered_is_the_area_under_the_course() {
        let offered = |text| {
            let agenda = Agenda::new(&load(text, "uniform"), 5 * SECOND, 6 * SECOND, 1);
            [(5, 6), (6, 7), (6, 16), (16, 17)].map(|(from, to)| agenda.offered(from * SECOND, to * SECOND))
        };
        let near = |found: [u64; 4], wanted: [u64; 4]| {
            let each = found.iter().zip(wanted);
            assert!(each.clone().all(|(found, wanted)| found.abs_diff(wanted) <= 1), "{found:?} {wanted:?}");
        };
        near(offered("100..1000/10s"), [100, 145, 5500, 1000]);
        near(offered("1000..100/10s"), [1000, 955, 5500, 100]);
        near(offered("100:1s,200:1s,400"), [100, 100, 100 + 200 + 8 * 400, 400]);
        near(offered("300"), [300, 300, 3000, 300]);
    }

    #[test]
    fn counts_are_those_of_the_intended_times() {
        for (text, arrivals) in COURSES.iter().flat_map(|text| [(text, "uniform"), (text, "poisson:5")]) {
            let agenda = Agenda::new(&load(text, arrivals), 7, 7 + SECOND, 1);
            let times: Vec<u64> = (0..4000).map(|index| agenda.intended(index)).collect();
            assert!(times.is_sorted(), "{text} {arrivals}");
            let known = times.iter().copied().filter(|time| *time != NEVER).max().unwrap();
            for time in [0, 7, 8, SECOND / 3, SECOND + 7, 3 * SECOND + 1, times[99], times[99] + 1] {
                let count = times.iter().filter(|due| **due < time).count() as u64;
                assert_eq!(agenda.due_before(time.min(known)), count, "{text} {arrivals} {time}");
            }
        }
    }

    #[test]
    fn senders_and_workers_share_one_schedule() {
        for (text, arrivals) in COURSES.iter().flat_map(|text| [(text, "uniform"), (text, "poisson:9")]) {
            let load = load(text, arrivals);
            let whole = Agenda::new(&load, 0, SECOND, 5);
            let wanted: Vec<u64> = (0..1000).map(|index| whole.intended(index)).collect();
            let mut found = Vec::new();
            for worker in 0..2 {
                let mut own = Agenda::new(&load, 0, SECOND, 5);
                for (round, position) in (0..200).flat_map(|round| (0..5).map(move |at| (round, at))) {
                    if position % 2 == worker {
                        own.turn_to(round, position);
                        assert_eq!(own.due(), own.intended_round(round, position));
                        found.push(own.due());
                    }
                }
            }
            found.sort_unstable();
            assert_eq!(found, wanted, "{text} {arrivals}");
        }
    }

    #[test]
    fn a_poisson_course_has_the_rates_of_the_course() {
        let agenda = Agenda::new(&load("1000..5000/10s", "poisson"), 0, SECOND, 1);
        let second = |at: u64| agenda.offered(at * SECOND, (at + 1) * SECOND) as f64;
        for (at, wanted) in [(0, 1000.0), (1, 1200.0), (5, 2800.0), (10, 4800.0)] {
            assert!((second(at) - wanted).abs() < 5.0 * f64::sqrt(wanted), "second {at}: {}", second(at));
        }
        assert_ne!(agenda.offered(0, SECOND), 1000, "this seed is not even");
    }
}
