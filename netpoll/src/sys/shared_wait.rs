//! One wait for several rings: an eventfd that rings and mailboxes signal, and the thread that
//! waits on it.
//!
//! ```text
//!   mailbox ─ wake(slot) ─► bit of the slot; asleep? ──┐
//!   ring ─ the kernel has something, and may signal ───┴─► eventfd ─► epoll ─► the wait ends
//! ```
//!
//! While the thread is awake a wake-up costs no system call: a waker sets a bit, and the kernel
//! does not signal. Before the thread sleeps it declares so and then looks once more
//! (`sleep_flag`). Models explore every order (`netpoll/loom`).

use super::signal::{Signal, SignalWait};
use super::sleep_flag::SleepFlag;
use crate::sync::{Arc, AtomicU64, Ordering};
use std::array::from_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// At most so many backends share a wait.
pub const WAIT_SLOTS_MAX: usize = 256;

/// The part of a shared wait that other threads reach.
#[derive(Debug)]
struct WakeFlags {
    signal: Signal,
    sleep: SleepFlag,
    /// A bit for each slot, set when the slot was woken.
    woken: [AtomicU64; WAIT_SLOTS_MAX / 64],
}

/// A wait that several backends of one thread share: the thread's side. See the module's text.
#[derive(Debug)]
pub struct SharedWait {
    flags: Arc<WakeFlags>,
    wait: SignalWait,
}

/// The place of one backend in a shared wait.
#[derive(Clone, Debug)]
pub struct WaitSlot {
    flags: Arc<WakeFlags>,
    number: usize,
}

impl SharedWait {
    /// A shared wait without backends yet.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when no descriptor is free.
    pub fn new() -> io::Result<SharedWait> {
        let signal = Signal::new()?;
        let wait = signal.to_wait_for()?;
        let flags = WakeFlags { signal, sleep: SleepFlag::new(), woken: from_fn(|_| AtomicU64::new(0)) };
        Ok(SharedWait { flags: Arc::new(flags), wait })
    }

    /// Slot `number`, below [`WAIT_SLOTS_MAX`].
    pub fn slot(&self, number: usize) -> WaitSlot {
        assert!(number < WAIT_SLOTS_MAX, "a ring group has {WAIT_SLOTS_MAX} wait slots");
        WaitSlot { flags: Arc::clone(&self.flags), number }
    }

    /// Whether the slot was woken since the last call.
    pub fn take_woken(&self, number: usize) -> bool {
        let (word, bit) = (&self.flags.woken[number / 64], 1 << (number % 64));
        // Read in every pass and seldom set: without the load each look would take the cache line
        // from all wakers.
        word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Sleeps until a slot is woken or a ring signals, for at most `wait`. Does not sleep when a
    /// slot was woken before, or when `is_busy`, which is called after the sleep has been declared,
    /// returns true.
    ///
    /// # Errors
    /// None that a descriptor of one's own can cause.
    pub fn sleep(&self, wait: Duration, is_busy: impl FnOnce() -> bool) -> io::Result<()> {
        self.flags.sleep.declare();
        let woken = self.flags.woken.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        let slept = if woken || is_busy() { Ok(()) } else { self.wait.wait(wait) };
        self.flags.sleep.clear();
        slept
    }
}

impl WaitSlot {
    /// Sets the slot's bit and ends the sleep of the thread, if it sleeps.
    pub(super) fn wake(&self) {
        self.flags.woken[self.number / 64].fetch_or(1 << (self.number % 64), Ordering::Release);
        if self.flags.sleep.take() {
            self.flags.signal.signal();
        }
    }

    /// The descriptor that a ring signals.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.flags.signal.as_fd()
    }
}
