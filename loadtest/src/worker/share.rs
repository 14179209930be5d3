//! What a thread has of the processors.

use crate::monitor::run_queue_wait;

/// What the calling thread had of the processors, ns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// On one.
    pub(crate) cpu: u64,
    /// Ready to run, while something else ran.
    pub(crate) waited: u64,
}

impl Share {
    /// Until now.
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
