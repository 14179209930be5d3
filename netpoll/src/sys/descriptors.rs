//! A table of descriptors for one thread alone.
//!
//! RLIMIT_NOFILE bounds the highest number in a table, and a table belongs to the threads that
//! share it (`CLONE_FILES`, clone(2)): usually all threads of a process, but that is a choice. A
//! thread that leaves the shared table goes on with a copy. What was open stays open there under
//! the same number; what is opened or closed from then on is so for this thread only.

use std::io;

/// Gives the calling thread a table of its own, a copy of the one that it shared.
///
/// Uses `close_range(2)`, which is asked to close nothing: sandboxes forbid `unshare(2)` because it
/// makes namespaces, and allow this call as harmless.
///
/// # Errors
/// `ENOSYS` before Linux 5.9, `EPERM` where a sandbox forbids the call, `ENOMEM`.
///
/// # Safety
/// From here on to the thread's end nothing that owns or borrows a descriptor passes between this
/// thread and others: its number means another file there.
#[allow(unsafe_code)]
pub(crate) unsafe fn own_table() -> io::Result<()> {
    let none = libc::c_uint::MAX;
    // SAFETY: no descriptor has this number, so none is closed; the caller keeps the rule for those
    // of this thread.
    let result = unsafe { libc::syscall(libc::SYS_close_range, none, none, libc::CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tests the call, on a thread that ends with it.
///
/// # Errors
/// As [`own_table`].
#[allow(unsafe_code)]
pub(crate) fn try_own_table() -> io::Result<()> {
    // SAFETY: the thread opens nothing and ends.
    unsafe { own_table() }
}
