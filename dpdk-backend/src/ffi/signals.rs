//! Real-time signals, by which some drivers (`net_tap`) say that a frame has come. They are for the
//! threads that poll: any other would only have its system calls interrupted.

use std::mem::MaybeUninit;

fn change(how: libc::c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written, whatever was in it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: the set was made empty above; the number is that of a signal.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set is complete; the old one is not asked for.
    unsafe { libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()) };
}

/// This thread, and those that it starts from now on, don't get them.
pub(super) fn block() {
    change(libc::SIG_BLOCK);
}

/// This thread gets them.
pub(super) fn unblock() {
    change(libc::SIG_UNBLOCK);
}
