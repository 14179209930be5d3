//! Where a thread runs.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;

/// Binds the calling thread to processor `cpu` (`sched_setaffinity(2)`).
///
/// # Errors
/// `EINVAL` when the processor does not exist or the process's cpuset does not allow it.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
