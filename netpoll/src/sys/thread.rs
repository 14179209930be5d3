//! Where a thread runs, and which threads its waking interrupts.

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

/// Puts the calling thread under `SCHED_BATCH` (sched(7)): when it is woken it waits until the
/// thread that runs on its processor sleeps or has had its slice, where an ordinary thread may take
/// the processor at once. Needs no privilege.
///
/// # Errors
/// `EPERM` where a sandbox forbids the call, or from a thread under a policy that may not be left.
#[allow(unsafe_code)]
pub fn batch_current_thread() -> io::Result<()> {
    // The kernel's `struct sched_param` has this field only.
    let priority: libc::c_int = 0;
    // The system call, because musl's function of the name is a stub that refuses. SAFETY: the
    // kernel reads a live integer, and changes nothing but how the calling thread (0) is scheduled.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0 as libc::pid_t, libc::SCHED_BATCH, &raw const priority)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy that the calling thread runs under: field 41 of proc_pid_stat(5), the 39th behind
    /// the name.
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(41 - 3).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_changes_only_its_own_policy() {
        let before = policy();
        let of_the_other = std::thread::spawn(|| batch_current_thread().map(|()| policy())).join().unwrap();
        assert_eq!((of_the_other.unwrap(), policy()), (libc::SCHED_BATCH, before));
    }
}
