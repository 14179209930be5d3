//! When the memory of the machine, or of the container, runs short: who is not let in, and who
//! goes.
//!
//! Pools and tables cannot outgrow what was reserved; what clients make the kernel hold can. The
//! order (DESIGN, "Time, limits, overload"), each step with those before it:
//!
//! 1. new connections are refused, with a reason that they can see ([`Level::Refuse`]);
//! 2. messages that may be dropped are not queued for receivers that have not taken earlier ones
//!    ([`Level::Shed`], see `deliver`);
//! 3. the slowest consumers are closed, some for each reading of the gauge, so that what one gives
//!    back is seen before the next ones go ([`Level::Close`]).
//!
//! Memory is read some times a second, and a storm of connections could fill it between two
//! readings. So each reading says how many it leaves room for, and the workers' shares of that
//! bound what they take on until the next.
//!
//! A reason is kept for its client until he has read it or a moment has passed, and with it all
//! that a connection takes. So it is given to some in a moment; a storm of others, and all at the
//! very end of memory, are reset.

use super::Handler;
use super::goodbye::Goodbye;
use super::state::memory_pressure::Admissions;
use super::state::relief::{Shortage, Wanted};
use crate::listener::Framing;
use crate::memory::Level;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, ConnectionId};

/// Slow consumers that a worker closes for one reading at most.
const CLOSES_PER_READING: usize = 8;

impl<B: Backend> Handler<B> {
    /// Whether memory lasts for one more connection; then it is counted.
    pub(crate) fn has_memory_for_one(&mut self) -> bool {
        let state = self.memory.state;
        let admissions = &mut self.memory.admissions;
        if admissions.reading != state.reading {
            *admissions = Admissions { reading: state.reading, count: 0 };
        }
        let has = state.level == Level::Normal && admissions.count < state.room;
        admissions.count += u32::from(has);
        has
    }

    /// Turns away a connection that was just accepted. Over WebSocket the answer waits for the
    /// upgrade request: a client hears nothing before.
    pub(crate) fn refuse_for_memory(&mut self, connection: ConnectionId) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let framing = session.framing;
        if self.memory.state.level == Level::Close || !self.memory.refusals.admit(self.turn.now) {
            self.io.metrics.memory_refusals.add(1);
            self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
        } else if framing == Framing::Tcp {
            self.io.metrics.memory_refusals.add(1);
            self.close(
                connection,
                Goodbye::Closed(
                    CloseCode::OVERLOAD,
                    &"memory is short: come back later, or try another server",
                ),
            );
        }
    }

    /// Closes the slowest consumers while memory is nearly at its end.
    pub(crate) fn relieve_memory(&mut self) {
        let state = self.memory.state;
        if state.level != Level::Close || state.reading == self.memory.served {
            return;
        }
        self.memory.served = state.reading;
        for _ in 0..CLOSES_PER_READING {
            let wanted = Wanted { what: Shortage::Memory, is_last_resort: true, asker: None };
            if !self.close_holder(&wanted) {
                return;
            }
        }
    }
}
