//! When buffers run short: those who keep most of them waiting go first.
//!
//! The order under pressure (DESIGN): droppable messages are dropped by the bound of each queue, then the slowest
//! consumers are closed with a reason, and only when nobody is slow is the request at hand refused.

use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::Backend;

/// A queue below it keeps too little to be worth a connection.
const QUEUE_WORTH_CLOSING: usize = 16 << 10;

/// Connections closed in one turn at most.
const CLOSES_PER_TURN: usize = 4;

impl<B: Backend> Worker<B> {
    /// Closes the slowest consumers while a pool is nearly empty.
    pub(crate) fn relieve_pressure(&mut self) {
        for _ in 0..CLOSES_PER_TURN {
            if !self.backend.pools().is_short() || !self.close_slowest() {
                return;
            }
        }
    }

    /// Closes the connection with the longest queue among those whose peers have taken less than they were offered,
    /// without a word (its queue would have to wait for one), so that its buffers are free at once. False when no queue is
    /// worth it.
    pub(crate) fn close_slowest(&mut self) -> bool {
        let waiting = self.backend.waiting().iter().map(|id| (self.backend.queued_bytes(*id), *id));
        let worth_it = waiting.filter(|(queued, _)| *queued >= QUEUE_WORTH_CLOSING);
        let slowest = worth_it.max_by_key(|(queued, _)| *queued);
        let Some((_, connection)) = slowest else { return false };
        self.metrics.slow_closes.add(1);
        self.metrics.pressure_closes.add(1);
        self.abort(connection, CloseCode::SLOW_CONSUMER);
        true
    }
}
