//! The sleep protocol: no wake-up is lost between a thread that is about to sleep and one that has
//! just left it something.
//!
//! Each side writes its own variable, passes a fence, and then reads the other's, so at least one
//! of the two sees what the other has written:
//!
//! ```text
//!   sleeper: asleep = true; fence; anything there? ── no ─► sleep;  asleep = false
//!   waker:   leave something; fence; asleep.swap(false)? ── yes ─► wake
//! ```
//!
//! A thread that is awake costs its wakers a fence and a load, and no system call.

use crate::sync::{AtomicBool, Ordering, fence};

/// Whether a thread sleeps, or is about to. See the module's text.
#[derive(Debug)]
pub(crate) struct SleepFlag(AtomicBool);

impl SleepFlag {
    /// The flag of a thread that is awake.
    pub(crate) fn new() -> SleepFlag {
        SleepFlag(AtomicBool::new(false))
    }

    /// Declares that the thread is about to sleep. The thread checks afterwards whether anything
    /// was left for it.
    pub(crate) fn declare(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Declares that the thread is awake.
    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the thread sleeps and this call, made after leaving it something, has to wake it.
    pub(crate) fn take(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
