//! When heartbeats are meant to leave.

use super::fleet::Ticks;
use crate::client::template::Template;
use std::time::Duration;

/// When each connection sends its heartbeats: heartbeat `n` of a connection has its time, which
/// follows from the two numbers alone, whatever the server does. An answer brings the number back,
/// and so is counted from the time of its own heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Pacemaker {
    pub(super) template: Template,
    /// Interval of a connection, in ns.
    pub(super) every: u64,
    pub(super) ticks: Ticks,
}

impl Pacemaker {
    /// Heartbeats of these bytes.
    pub(super) fn new(template: Template, every: Duration, ticks: Ticks) -> Pacemaker {
        Pacemaker { template, every: every.as_nanos() as u64, ticks }
    }

    /// The place of connection `global` within the interval. Multiples of the golden ratio fill an
    /// interval evenly, and it is independent of when the connection came. So any time sees as many
    /// heartbeats as any other, from the first on, and a storm of reconnects does not become a
    /// storm of heartbeats.
    fn place(&self, global: u32) -> u64 {
        let place = u64::from(global).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(place) * u128::from(self.every)) >> 64) as u64
    }

    /// When heartbeat `number` is due, which its timer is set to.
    pub(super) fn nominal(&self, global: u32, number: u32) -> u64 {
        self.place(global) + u64::from(number) * self.every
    }

    /// When heartbeat `number` is meant to leave, in ns on the run's clock: with the tick of the
    /// timers.
    pub(super) fn intended(&self, global: u32, number: u32) -> u64 {
        self.ticks.after(self.nominal(global, number))
    }

    /// The first heartbeat after `now`.
    pub(super) fn first_after(&self, global: u32, now: u64) -> u32 {
        let since = now.checked_sub(self.place(global));
        since.map_or(0, |since| (since / self.every) as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ConnectPlan, Duty, Role};
    use crate::worker::fleet::Fleet;

    fn pacemaker(every: Duration) -> Pacemaker {
        let duty = Duty { role: Role::Measured, first: 1, step: 3, end: 10 };
        let plan = ConnectPlan { rate: None, in_flight: 1, timeout: every, retries: 0 };
        let ticks = Fleet::new(duty, plan, 1, every / 1000).ticks;
        Pacemaker::new(Template::new(Vec::new(), None, None, None), every, ticks)
    }

    #[test]
    fn beats_are_even_whenever_the_connections_came() {
        let pacemaker = pacemaker(Duration::from_secs(240));
        let second = |at: u64| at * 1_000_000_000;
        // 24 000 connections come within five seconds; then each second sees 100 heartbeats, from
        // the first one on.
        let came = |global: u32| u64::from(global) * second(5) / 24_000;
        for from in [6, 100, 240, 500] {
            let window = second(from)..second(from + 1);
            let beats = (0..24_000).filter(|global| {
                let mut number = pacemaker.first_after(*global, came(*global));
                while pacemaker.nominal(*global, number) < window.start {
                    number += 1;
                }
                window.contains(&pacemaker.nominal(*global, number))
            });
            let count = beats.count();
            assert!((97..=103).contains(&count), "{count} beats in second {from}");
        }
    }

    #[test]
    fn a_beat_is_intended_when_its_timer_fires() {
        let every = Duration::from_millis(500);
        let pacemaker = pacemaker(every);
        let duty = Duty { role: Role::Measured, first: 1, step: 3, end: 10 };
        let plan = ConnectPlan { rate: None, in_flight: 1, timeout: every, retries: 0 };
        for global in [1, 4, 7] {
            let mut fleet = Fleet::new(duty, plan, 1, every / 1000);
            let first = pacemaker.first_after(global, 3_000_000_000);
            assert!(pacemaker.nominal(global, first) > 3_000_000_000);
            fleet.set_timer(0, pacemaker.nominal(global, first));
            let intended = pacemaker.intended(global, first);
            assert_eq!(fleet.take_expired(intended - 1), None);
            assert_eq!(fleet.take_expired(intended), Some(0));
        }
    }
}
