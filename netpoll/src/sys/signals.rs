//! Which signals reach the process.

/// Unblocks the signals that the parent process had blocked, and ignores SIGXFSZ. A mask is
/// inherited across execve(2), and a blocked SIGTERM would never arrive. With SIGXFSZ ignored, a
/// write beyond RLIMIT_FSIZE fails with `EFBIG` instead of ending the process (setrlimit(2)).
/// Called before any other thread is started, because each inherits the mask.
#[allow(unsafe_code)]
pub fn take_signals() {
    // SAFETY: `sigset_t` is plain data, for which zero is a valid value.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes to a live set.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: reads a live set; no old one is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    // SAFETY: installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of a mask of the calling thread (proc_pid_status(5)).
    fn mask(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    #[allow(unsafe_code)]
    fn nothing_stays_blocked_and_a_large_file_ends_no_process() {
        // SAFETY: `sigset_t` is plain data, for which zero is a valid value.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes to a live set.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: reads a live set; no old one is asked for, and the mask is this thread's alone.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) };
        assert_ne!(mask("SigBlk:"), 0);
        take_signals();
        assert_eq!(mask("SigBlk:"), 0);
        assert_ne!(mask("SigIgn:") & 1 << (libc::SIGXFSZ - 1), 0);
    }
}
