//! When the memory of the machine, or of the container, runs short: which connections are not
//! admitted, and which are closed.
//!
//! Pools and tables cannot outgrow what was reserved; what clients make the kernel hold can. The
//! order (DESIGN, "Time, limits, overload"), each step with those before it:
//!
//! 1. new connections are refused ([`Level::Refuse`], [`super::admission`]);
//! 2. messages that may be dropped are not queued for receivers that have not taken earlier ones
//!    ([`Level::Shed`], see `deliver`);
//! 3. the slowest consumers are closed, some for each reading of the gauge, so that what one gives
//!    back is seen before the next ones go ([`Level::Close`]).
//!
//! Memory is read some times a second, and a storm of connections could fill it between two
//! readings. So each reading says how many it leaves room for, and the workers' shares of that
//! bound what they take on until the next.

use super::Handler;
use super::state::memory_pressure::Admissions;
use super::state::relief::{Shortage, Uptake, Wanted};
use crate::memory::Level;
use netpoll::Backend;

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

    /// Closes the slowest consumers while memory is nearly at its end.
    pub(crate) fn relieve_memory(&mut self) {
        let state = self.memory.state;
        if state.level != Level::Close || state.reading == self.memory.served {
            return;
        }
        self.memory.served = state.reading;
        for _ in 0..CLOSES_PER_READING {
            let wanted = Wanted { what: Shortage::Memory, least: Uptake::Reads, asker: None };
            if !self.close_holder(&wanted) {
                return;
            }
        }
    }
}
