//! Processors: which process runs where, and how much processor time each uses.
//!
//! CPU times come from the scheduler's own nanosecond counts (`/proc/PID/task/*/schedstat`). They
//! include what the kernel does on behalf of a thread: its system calls, and on loopback also the
//! receiving side's TCP work, which runs in the sender's context.

use rustix::time::ClockId;
use std::fs;
use std::io;
use std::time::Duration;

/// Binds this process to processor `cpu`, gives it the priority `nice`, and ends it with its
/// parent.
///
/// Where the scheduler groups processes by session (autogroup), a priority counts only among those
/// of one session: so the process gets a session of its own, and the session the priority. Steps
/// that need a missing privilege are left out: that only makes results noisier.
///
/// # Errors
/// `EINVAL` when there is no such processor.
pub fn isolate_process(cpu: usize, nice: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    netpoll::pin_current_thread(cpu)?;
    if nice != 0 {
        let _ = rustix::process::setsid();
        let _ = fs::write("/proc/self/autogroup", nice.to_string());
        let _ = rustix::process::setpriority_process(None, nice);
    }
    Ok(())
}

/// Makes the kernel end this process when `parent`, which started it, ends for any reason.
///
/// # Errors
/// The parent has ended already; the system's errors.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let now = rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get());
    if i64::from(now) == i64::from(parent) {
        return Ok(());
    }
    Err(io::Error::other(format!("process {parent} is not, or no longer, the parent of this one")))
}

/// CPU time that a process has used, all its threads together.
///
/// # Errors
/// Those of `/proc`; the process may be gone.
pub fn of_process(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => nanos += first_number(&text),
            // The kernel's own workers of a ring come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// CPU time of the calling thread.
pub fn of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time that processor `cpu` was not idle since the system's start, including what the hypervisor
/// took; in ticks of 10 ms.
///
/// # Errors
/// Those of `/proc/stat`.
pub fn busy(cpu: usize) -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{cpu} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).ok_or(io::ErrorKind::NotFound)?;
    // user nice system idle iowait irq softirq steal
    let columns: Vec<u64> = line.split_whitespace().map(first_number).collect();
    let ticks: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|column| columns.get(*column)).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
