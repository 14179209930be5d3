//! A table of descriptors for one thread alone.
//!
//! RLIMIT_NOFILE bounds the highest number in a table, and a table belongs to whoever shares it (`CLONE_FILES`, clone(2)):
//! usually all threads of a process, but that is a choice. A thread that leaves the shared table goes on with a copy. What was
//! open stays open there under the same number; what is opened or closed from then on is so for this thread only.

use std::io;

/// Gives the calling thread a table of its own, a copy of the one that it shared.
///
/// By `close_range(2)`, asked to close nothing: sandboxes know `unshare(2)` as what makes namespaces and forbid it, and this as
/// harmless.
///
/// # Errors
/// `ENOSYS` before Linux 5.9, `EPERM` where a sandbox forbids the call, `ENOMEM`.
#[allow(unsafe_code)]
pub(crate) fn own_table() -> io::Result<()> {
    let none = libc::c_uint::MAX;
    // SAFETY: no descriptor has this number, so none is closed. That numbers mean other files on other threads from now on is for
    // the caller to keep in mind: `EpollBackend`, which opens them, is not Send, and so neither are they.
    let result = unsafe { libc::syscall(libc::SYS_close_range, none, none, libc::CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
