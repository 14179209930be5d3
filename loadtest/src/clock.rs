//! The clock of a run, which all of its processes share.

use netpoll::MonotonicClock;

/// This process's monotonic clock, moved to the run's: that of the coordinator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunClock {
    clock: MonotonicClock,
    /// The run's time less this process's, in ns.
    ahead: i64,
}

impl RunClock {
    /// A clock that begins now, as the run's.
    pub(crate) fn start() -> RunClock {
        RunClock { clock: MonotonicClock::start(), ahead: 0 }
    }

    /// The same clock, so far ahead, in ns.
    pub(crate) fn ahead_by(self, ahead: i64) -> RunClock {
        RunClock { ahead: self.ahead + ahead, ..self }
    }

    /// The present, in ns; 0 before the run's clock began.
    pub(crate) fn now(&self) -> u64 {
        let own = self.clock.now().as_nanos().cast_signed();
        own.saturating_add(self.ahead).max(0).cast_unsigned()
    }
}
