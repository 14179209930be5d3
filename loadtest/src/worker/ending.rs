//! The end of a run: everything is closed.

use super::Worker;
use super::fleet::count;
use super::stage::Departures;
use crate::client::{HALF_FRAME, Protocol, Stage};
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
        self.turn_page(now);
        self.held.clear();
        self.count_missing();
        let connections = self.fleet.connections.iter();
        let unready = connections.filter(|one| one.link.stage != Stage::Ready).filter_map(|one| one.id);
        unready.for_each(|id| self.backend.close(id));
        self.pushers.iter().filter_map(|pusher| pusher.id).for_each(|id| self.backend.close(id));
        self.departures = Departures::default();
    }
}
