//! When the memory of the machine, or of the container, runs short: who is not let in, and who goes.
//!
//! Pools and tables cannot outgrow what was reserved; what clients make the kernel hold can. The order (DESIGN, "Time,
//! limits, overload"), each step with those before it:
//!
//! 1. new connections are refused, with a reason that they can see ([`Level::Refuse`]);
//! 2. messages that may be dropped are not queued for receivers that have not taken earlier ones ([`Level::Shed`],
//!    see `deliver`);
//! 3. the slowest consumers are closed, some for each reading of the gauge, so that what one gives back is seen before
//!    the next ones go ([`Level::Close`]). New connections do not even get a reason then: it would be kept for them in
//!    the kernel until they read it.

use crate::memory::Level;
use crate::settings::ListenerKind;
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};

/// Slow consumers that a worker closes for one reading at most.
const CLOSES_PER_READING: usize = 8;

impl<B: Backend> Worker<B> {
    /// Turns away a connection that was just accepted. Over WebSocket the answer waits for the upgrade request: a
    /// client hears nothing before.
    pub(crate) fn refuse_for_memory(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let is_tcp = self.listener_kind(session) == ListenerKind::Tcp;
        if self.pace.memory.level == Level::Close {
            self.metrics.memory_refusals.add(1);
            self.abort(connection, CloseCode::OVERLOAD);
        } else if is_tcp {
            self.metrics.memory_refusals.add(1);
            self.end(
                connection,
                CloseCode::OVERLOAD,
                "memory is short: come back later, or try another server",
            );
        }
    }

    /// Closes the slowest consumers while memory is nearly at its end.
    pub(crate) fn relieve_memory(&mut self) {
        let told = self.pace.memory;
        if told.level != Level::Close || told.reading == self.pace.memory_served {
            return;
        }
        self.pace.memory_served = told.reading;
        for _ in 0..CLOSES_PER_READING {
            let waiting = self.backend.waiting().iter().map(|id| (self.backend.queued_bytes(*id), *id));
            let Some((_, connection)) = waiting.max_by_key(|(held, _)| *held) else { return };
            if self.abort_slow(connection) {
                self.metrics.memory_closes.add(1);
            }
        }
    }
}
