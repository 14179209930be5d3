//! Real-time signals, by which some drivers (`net_tap`) report received frames. They are for
//! polling threads: they would only interrupt the system calls of others.

use std::mem::MaybeUninit;

fn change(how: libc::c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written, whatever was in it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: the set was made empty above; the number is that of a signal.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set is complete; the old one is not requested.
    unsafe { libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()) };
}

/// Blocks them for this thread, and for threads that it starts from now on.
pub(super) fn block() {
    change(libc::SIG_BLOCK);
}

/// Unblocks them for this thread.
pub(super) fn unblock() {
    change(libc::SIG_UNBLOCK);
}
