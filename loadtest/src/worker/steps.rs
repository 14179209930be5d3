//! Counts and latencies of a flow by the steps of its course. An operation belongs to the step in
//! which it was intended, and so do its deliveries.

use super::control::Window;
use crate::histogram::{growing, merge};
use crate::load::Course;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One step, within the measured window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepCounts {
    /// ns on the run's clock.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Operations sent, and the deliveries owed for them.
    pub(crate) sent: u64,
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    #[serde(with = "crate::histogram::wire")]
    pub(crate) latency: Histogram<u64>,
}

impl StepCounts {
    /// Whether an operation that was intended at `time` belongs to it.
    pub(crate) fn contains(&self, time: u64) -> bool {
        time >= self.from && time < self.to
    }

    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &StepCounts) {
        self.sent += other.sent;
        self.owed += other.owed;
        self.delivered += other.delivered;
        merge(&mut self.latency, &other.latency);
    }
}

/// The steps of a course; none where its rate never changes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Steps {
    list: Vec<StepCounts>,
    /// The one that was asked for last: most often it is asked for again.
    last: usize,
}

impl Steps {
    /// The steps of `course`, which begins with `window`.
    pub(super) fn new(course: &Course, window: &Window) -> Steps {
        let step = |step: crate::load::Step| StepCounts {
            from: window.start.saturating_add(step.from),
            to: window.start.saturating_add(step.to),
            sent: 0,
            owed: 0,
            delivered: 0,
            latency: growing(),
        };
        let steps = course.steps().into_iter().map(step);
        Steps { list: steps.filter(|step| step.from < window.end).collect(), last: 0 }
    }

    /// The step that `time` is in.
    pub(super) fn of(&mut self, time: u64) -> Option<&mut StepCounts> {
        if !self.list.get(self.last)?.contains(time) {
            let after = self.list.partition_point(|step| step.from <= time);
            self.last = after.checked_sub(1)?;
        }
        self.list.get_mut(self.last).filter(|step| step.contains(time))
    }

    /// All steps, in their order.
    pub(crate) fn list(&self) -> &[StepCounts] {
        &self.list
    }

    pub(super) fn list_mut(&mut self) -> &mut [StepCounts] {
        &mut self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_belongs_to_one_step() {
        let second = 1_000_000_000;
        let window = Window { stage: 0, traffic_start: 0, start: second, end: 10 * second };
        let mut steps = Steps::new(&"5:2s,10:2s,20".parse().unwrap(), &window);
        assert_eq!(steps.list().len(), 3);
        for (time, place) in [(1, Some(0)), (6, Some(2)), (3, Some(1)), (2, Some(0)), (0, None), (9, Some(2))]
        {
            let found = steps.of(time * second).map(|step| step.from);
            assert_eq!(found, place.map(|place: u64| second + 2 * place * second), "second {time}");
        }
        let cut = Window { end: 2 * second, ..window };
        assert_eq!(Steps::new(&"5:2s,10:2s,20".parse().unwrap(), &cut).list().len(), 1, "of a short run");
        assert!(Steps::new(&"5".parse().unwrap(), &window).of(second).is_none());
    }
}
