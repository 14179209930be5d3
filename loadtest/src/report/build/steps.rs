//! What a flow did in each step of its course.

use super::super::{Latency, StepReport};
use crate::histogram::fresh;
use crate::load::{Agenda, Load};
use crate::worker::StepCounts;
use crate::worker::control::Window;

/// The steps of a flow, added up over the workers.
pub(super) struct Sums {
    all: Vec<StepCounts>,
}

impl Sums {
    /// Adds up the steps that each worker counted: all have the same.
    pub(super) fn of<'a>(workers: impl Iterator<Item = &'a [StepCounts]>) -> Sums {
        let mut all: Vec<StepCounts> = Vec::new();
        for list in workers {
            for (at, step) in list.iter().enumerate() {
                if at == all.len() {
                    all.push(StepCounts { latency: fresh(3), sent: 0, owed: 0, delivered: 0, ..*step });
                }
                all[at].add(step);
            }
        }
        Sums { all }
    }

    /// The steps, to which deliveries are added that never came.
    pub(super) fn list_mut(&mut self) -> &mut [StepCounts] {
        &mut self.all
    }

    /// Their reports: times since the window began.
    pub(super) fn reports(&self, load: &Load, agenda: &Agenda, window: &Window) -> Vec<StepReport> {
        let rates = load.course.steps();
        let report = |(step, rates): (&StepCounts, [f64; 2])| {
            let to = step.to.min(window.end);
            let seconds = to.saturating_sub(step.from) as f64 / 1e9;
            let since = |time: u64| time.saturating_sub(window.start) as f64 / 1e9;
            let a_second = |count: u64| count as f64 / seconds.max(1e-9);
            let offered = agenda.offered(step.from, to.max(step.from));
            let fan_out = step.owed as f64 / step.sent.max(1) as f64;
            let wanted = offered as f64 * fan_out;
            StepReport {
                from: since(step.from),
                to: since(to),
                rates,
                offered: a_second(offered),
                sent: a_second(step.sent),
                delivered: a_second(step.delivered),
                ratio: if wanted > 0.0 { step.delivered as f64 / wanted } else { 0.0 },
                // A curve for each step would make the largest part of a report.
                latency: Latency { curve: Vec::new(), ..Latency::of(&step.latency) },
            }
        };
        self.all.iter().zip(rates.iter().map(|step| step.rates)).map(report).collect()
    }
}
