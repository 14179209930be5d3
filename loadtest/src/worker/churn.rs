//! Connections that close and come back by the clock.
//!
//! A turn is a close and the way back to ready. Turn `i` of a worker has its time and its
//! connection (each in turn, shuffled), whatever the server does. A connection that is due and not
//! back, or waits for the answer to a heartbeat, has its turn as soon as it can, and the turn is
//! counted from its own time. A turn that was not over when the stage ended is missed: it counts as
//! late as it is then.

use super::Worker;
use super::turns::Turns;
use crate::client::{Protocol, Stage};
use crate::histogram::record;
use crate::plan::{Role, StageKind};
use crate::schedule::{Rate, Schedule};
use crate::worker::control::Window;
use netpoll::Backend;

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// The turns of the stage of `window`, if connections come and go in it.
    pub(super) fn turns(&self, window: &Window) -> Option<Turns> {
        let duty = self.to.duty;
        let rate: Rate = match (duty.role, self.to.plan.churn, self.to.plan.stages[window.stage].kind) {
            (Role::Churn, Some(churn), _) => churn.rate,
            (Role::Measured, _, StageKind::Churn { rate }) => rate,
            _ => return None,
        };
        let step = u64::from(duty.step);
        let schedule = Schedule::new(window.traffic_start, rate);
        Some(Turns::new(schedule, self.fleet.connections.len() as u32, u64::from(duty.first) % step, step))
    }

    /// Begins the turns that are due.
    pub(super) fn churn_connections(&mut self, now: u64) {
        while let Some(turns) = &self.departures.turns {
            let Some(intended) = turns.next() else { return };
            if intended > now || intended >= self.window_as_it_ended().end {
                return;
            }
            let Some(turns) = &mut self.departures.turns else { return };
            let local = turns.take();
            self.stats.churn.operations += 1;
            self.take_turn(local);
        }
    }

    /// Closes connection `local` if one of its turns is due and nothing keeps it.
    pub(super) fn take_turn(&mut self, local: u32) {
        let Some(turns) = &mut self.departures.turns else { return };
        let connection = &mut self.fleet.connections[local as usize];
        let (Stage::Ready, Some(id), 0) =
            (connection.link.stage, connection.id, connection.pulse.under_way())
        else {
            return;
        };
        let Some(intended) = turns.next_of(local) else { return };
        turns.begun[local as usize] += 1;
        connection.link.stage = Stage::Leaving;
        (connection.begun, connection.takes_turn) = (intended, true);
        self.backend.close(id);
    }

    /// Connection `local` is ready: a turn that it takes is over, and the next may be due.
    pub(super) fn turn_is_over(&mut self, local: u32, now: u64) {
        let connection = &mut self.fleet.connections[local as usize];
        if std::mem::take(&mut connection.takes_turn) && self.departures.turns.is_some() {
            let (churn, window) = (&mut self.stats.churn, self.window.unwrap_or_default());
            churn.completed += 1;
            churn.measured += u64::from(window.contains(now));
            if window.contains(connection.begun) {
                record(&mut churn.latency, now.saturating_sub(connection.begun));
            }
        }
        self.take_turn(local);
    }

    /// Turns that are due before the window's end and not over. A worker that is late takes them
    /// after it, and settling waits for them.
    pub(super) fn turns_under_way(&self) -> u64 {
        let Some(turns) = &self.departures.turns else { return 0 };
        let end = self.window_as_it_ended().end;
        let is_next_due = turns.next().is_some_and(|intended| intended < end);
        let churn = &self.stats.churn;
        churn.operations - churn.completed + u64::from(is_next_due)
    }

    /// Counts the turns that are not over at the end of their stage.
    pub(super) fn miss_turns(&mut self, now: u64) {
        let window = self.window_as_it_ended();
        let Some(mut turns) = self.departures.turns.take() else { return };
        let churn = &mut self.stats.churn;
        let mut miss = |intended: u64| {
            churn.missed += 1;
            if window.contains(intended) {
                record(&mut churn.latency, now.saturating_sub(intended));
            }
        };
        for (local, connection) in self.fleet.connections.iter_mut().enumerate() {
            if std::mem::take(&mut connection.takes_turn) {
                miss(connection.begun);
            }
            while let Some(intended) = turns.next_of(local as u32) {
                turns.begun[local] += 1;
                miss(intended);
            }
        }
    }
}
