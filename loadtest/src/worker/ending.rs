//! The end of a run: everything is closed.

use super::Worker;
use super::fleet::count;
use super::stage::Departures;
use crate::client::{HALF_FRAME, Protocol, Stage};
use crate::histogram::{record, record_open};
use crate::plan::Role;
use netpoll::Backend;
use std::time::Duration;

/// At most so long closing may make no progress, in ns.
const CLOSE_PATIENCE: u64 = 5_000_000_000;
/// How long to wait for the backend's confirmations.
pub(super) const CLOSE_WAIT: Duration = Duration::from_millis(10);

/// The progress of closing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Connections that the backend still has.
    left: usize,
    /// When there were more of them for the last time.
    since: u64,
}

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Closes all connections, no faster than the backend completes them, as long as there is
    /// progress. False when that is over.
    pub(super) fn close_more(&mut self) -> bool {
        let now = self.now();
        let left = self.backend.connection_count();
        let before = self.ending.unwrap_or_else(|| {
            self.begin_closing(now);
            Ending { left, since: now }
        });
        let since = if left < before.left { now } else { before.since };
        self.ending = Some(Ending { left, since });
        self.behind = false;
        let done = before.left.saturating_sub(left) as u32;
        self.departures.in_flight = self.departures.in_flight.saturating_sub(done);
        self.close_all(now);
        left > 0 && now < since + CLOSE_PATIENCE
    }

    /// Counts as late as it is what has no answer: heartbeats, and in a closed loop the last
    /// messages. What a schedule sent is in the report, which knows all of its receivers.
    fn record_open(&mut self, now: u64) {
        let window = self.window_as_it_ended();
        let duty = self.to.duty;
        let mut beat = |local: u32, number: u32| {
            let Some(pacemaker) = &self.pacemaker else { return false };
            let intended = pacemaker.intended(duty.global(local), number);
            let is_due = window.contains(intended);
            if is_due {
                record(&mut self.stats.beats.latency, now.saturating_sub(intended));
            }
            intended < window.end
        };
        for (local, _, number) in self.counts.beat_gaps.remembered() {
            beat(local, number);
        }
        for (local, connection) in self.fleet.connections.iter().enumerate() {
            if connection.link.stage == Stage::Ready && duty.role != Role::Slow {
                // What is due and was not sent is behind what was.
                let open = (connection.pulse.awaited..).take_while(|number| beat(local as u32, *number));
                open.for_each(drop);
            }
            for flow in self.flows.iter_mut().filter(|_| connection.outstanding > 0) {
                if !flow.sender_of.is_empty() && window.contains(connection.begun) {
                    let count = u64::from(connection.outstanding);
                    let (from, latency) = (connection.begun, &mut flow.recorder.latency);
                    record_open(latency, (from, from), count, |_| true, now);
                }
            }
        }
    }

    /// Counts what the server has begun or owes, and now never will complete.
    fn count_missing(&mut self) {
        let partials = self.fleet.connections.iter().map(|one| &one.partial);
        let partials = partials.chain(self.pushers.iter().map(|pusher| &pusher.partial));
        let halves = partials.filter(|partial| partial.is_some()).count();
        (0..halves).for_each(|_| count(&mut self.counts.violations, HALF_FRAME));
        for request in self.pushers.iter_mut().flat_map(|pusher| pusher.pending.drain(..)) {
            if let Some(flow) = self.flows.get_mut(usize::from(request.flow)) {
                flow.answers.counts.unanswered += 1;
            }
        }
    }

    fn begin_closing(&mut self, now: u64) {
        self.flows.iter_mut().for_each(|flow| flow.recorder.flush());
        self.count_missing();
        self.record_open(now);
        self.turn_page(now);
        self.held.clear();
        let connections = self.fleet.connections.iter();
        let is_settled = |stage| matches!(stage, Stage::Ready | Stage::Leaving);
        let unready = connections.filter(|one| !is_settled(one.link.stage)).filter_map(|one| one.id);
        unready.for_each(|id| self.backend.close(id));
        self.pushers.iter().filter_map(|pusher| pusher.id).for_each(|id| self.backend.close(id));
        self.departures = Departures::default();
    }
}
