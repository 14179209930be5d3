//! Where a thread runs, which threads its waking interrupts, and which it lets go first.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::time::Duration;

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

/// Asks for the processor in slices of `slice` for the calling thread, from 0.1 to 100 ms: the
/// shorter, the sooner it runs when it is woken, for the same share of the processor in all. What
/// the kernel otherwise gives is 3 ms or so, and a thread that is woken meanwhile waits for it.
/// Its policy and its nice value stay. Needs no privilege; kernels before 6.12 ignore it.
///
/// # Errors
/// `EPERM` where a sandbox forbids the calls; `EINVAL` under a policy of deadlines.
#[allow(unsafe_code)]
pub fn shorten_current_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = attributes_of_current_thread()?;
    attributes.size = size_of::<libc::sched_attr>() as u32;
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: the kernel reads a live structure, and changes nothing but how the calling thread (0)
    // is scheduled.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How the calling thread is scheduled.
#[allow(unsafe_code)]
fn attributes_of_current_thread() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: all fields are integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: sched_getattr(2) writes `size` bytes at most, to a live structure of that size.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

/// Adds `by` to the nice value of the calling thread (nice(2), 19 at most): threads with a lower
/// one get more of a processor that both want. What a thread starts inherits it.
///
/// # Errors
/// `EPERM` where a sandbox forbids the call.
pub fn lower_current_priority(by: u8) -> io::Result<()> {
    rustix::process::nice(i32::from(by)).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of proc_pid_stat(5) of the calling thread, the third or a later one.
    fn stat(field: usize) -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(field - 3).unwrap().parse().unwrap()
    }

    const NICE: usize = 19;

    #[test]
    fn a_thread_lowers_only_its_own_priority() {
        let before = stat(NICE);
        let lowered = || lower_current_priority(3).map(|()| stat(NICE));
        let of_the_other = std::thread::spawn(lowered).join().unwrap();
        assert_eq!((of_the_other.unwrap(), stat(NICE)), ((before + 3).min(19), before));
    }

    #[test]
    fn a_shorter_slice_leaves_policy_and_nice_value() {
        let shortened = || {
            batch_current_thread()?;
            lower_current_priority(2)?;
            let before = (policy(), stat(NICE));
            let slice = |attributes: libc::sched_attr| attributes.sched_runtime;
            let usual = slice(attributes_of_current_thread()?);
            shorten_current_slice(Duration::from_micros(100))?;
            let short = slice(attributes_of_current_thread()?);
            io::Result::Ok(((before, (policy(), stat(NICE))), (usual, short)))
        };
        let ((before, after), (usual, short)) = std::thread::spawn(shortened).join().unwrap().unwrap();
        assert_eq!(before, after);
        // Kernels before 6.12 have no slices for these policies, and say zero.
        assert!(usual == 0 || short == 100_000, "{usual} ns, then {short}");
    }

    /// The policy that the calling thread runs under.
    fn policy() -> i64 {
        stat(41)
    }

    #[test]
    fn a_thread_changes_only_its_own_policy() {
        let before = policy();
        let of_the_other = std::thread::spawn(|| batch_current_thread().map(|()| policy())).join().unwrap();
        assert_eq!((of_the_other.unwrap(), policy()), (i64::from(libc::SCHED_BATCH), before));
    }
}
