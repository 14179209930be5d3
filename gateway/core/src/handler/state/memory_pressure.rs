//! The state of memory, and what a worker has done about it.

use crate::memory::MemoryState;
use crate::settings::LINGER;
use netpoll::Timestamp;

/// Connections that a worker refuses with a reason in each [`LINGER`] at most.
const REASONS_MAX: u32 = 256;

/// How many connections a worker took on since the last reading.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::handler) struct Admissions {
    pub(in crate::handler) reading: u32,
    pub(in crate::handler) count: u32,
}

/// How many connections were refused with a reason since when.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::handler) struct Refusals {
    pub(in crate::handler) since: Timestamp,
    pub(in crate::handler) count: u32,
}

impl Refusals {
    /// Whether one more may be given a reason.
    pub(in crate::handler) fn admit(&mut self, now: Timestamp) -> bool {
        if now.since(self.since) >= LINGER {
            *self = Refusals { since: now, count: 0 };
        }
        self.count += 1;
        self.count <= REASONS_MAX
    }
}

/// The state of memory, and what this worker has done about it.
#[derive(Debug, Default)]
pub(in crate::handler) struct MemoryPressure {
    /// How near the end of memory is.
    pub(in crate::handler) state: MemoryState,
    /// The reading for which slow consumers were closed last.
    pub(in crate::handler) served: u32,
    /// Connections taken on since the last reading.
    pub(in crate::handler) admissions: Admissions,
    /// Connections refused with a reason lately.
    pub(in crate::handler) refusals: Refusals,
}
