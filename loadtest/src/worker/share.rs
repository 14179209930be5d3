//! The calling thread's share of the processors.

use crate::monitor::run_queue_wait;
use serde::{Deserialize, Serialize};

/// Times of the calling thread, in ns.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Time on a processor.
    pub(crate) cpu: u64,
    /// Time ready to run, while another thread ran.
    pub(crate) waited: u64,
}

impl Share {
    /// The times until now.
    pub(super) fn read() -> Share {
        Share { cpu: thread_cpu(), waited: run_queue_wait("/proc/thread-self/schedstat") }
    }

    /// What was added since `before`.
    pub(super) fn since(self, before: Share) -> Share {
        Share { cpu: self.cpu.saturating_sub(before.cpu), waited: self.waited.saturating_sub(before.waited) }
    }
}

/// Processor time of the calling thread, ns.
pub(super) fn thread_cpu() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
