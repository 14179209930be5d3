//! One sleep for several rings: an eventfd that rings and mailboxes signal, and the thread that waits on it.
//!
//! ```text
//!   mailbox ─ wake(seat) ─► bit of the seat; asleep? ──┐
//!   ring ─ the kernel has something, and is to tell ───┴─► eventfd ─ epoll, edge-triggered ─► the thread's sleep ends
//! ```
//!
//! While the thread is awake nobody pays for a wake-up: a waker sets a bit, and the kernel is told not to signal. Before the
//! thread sleeps it declares so and then looks once more (`sleep_flag`). Models explore every order (`netpoll/loom`).

use super::signal::{Signal, SignalWait};
use super::sleep_flag::SleepFlag;
use crate::sync::{Arc, AtomicU64, Ordering};
use std::array::from_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Seats that a gang has.
pub const GANG_SEATS_MAX: usize = 256;

/// What other threads know of a gang.
#[derive(Debug)]
struct Bell {
    signal: Signal,
    sleep: SleepFlag,
    /// Seats that were woken, a bit each.
    woken: [AtomicU64; GANG_SEATS_MAX / 64],
}

/// The thread's side. See the module's text.
#[derive(Debug)]
pub struct Gang {
    bell: Arc<Bell>,
    wait: SignalWait,
}

/// The place of one backend in a gang.
#[derive(Clone, Debug)]
pub struct GangSeat {
    bell: Arc<Bell>,
    number: usize,
}

impl Gang {
    /// A gang without backends yet.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when no descriptor is free.
    pub fn new() -> io::Result<Gang> {
        let signal = Signal::new()?;
        let wait = signal.to_wait_for()?;
        let bell = Bell { signal, sleep: SleepFlag::new(), woken: from_fn(|_| AtomicU64::new(0)) };
        Ok(Gang { bell: Arc::new(bell), wait })
    }

    /// Seat `number`, below [`GANG_SEATS_MAX`].
    pub fn seat(&self, number: usize) -> GangSeat {
        assert!(number < GANG_SEATS_MAX, "a gang has {GANG_SEATS_MAX} seats");
        GangSeat { bell: Arc::clone(&self.bell), number }
    }

    /// Whether the seat was woken since the last call.
    pub fn take_woken(&self, number: usize) -> bool {
        let (word, bit) = (&self.bell.woken[number / 64], 1 << (number % 64));
        // Looked at in every pass and seldom set: without the load each look would take the line from all wakers.
        word.load(Ordering::Relaxed) & bit != 0 && word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Sleeps until a seat is woken or a ring signals, for at most `wait`; not at all when a seat was woken before, or when
    /// `is_busy`, asked after the sleep has been declared, says so.
    ///
    /// # Errors
    /// None that a descriptor of one's own can cause.
    pub fn sleep(&self, wait: Duration, is_busy: impl FnOnce() -> bool) -> io::Result<()> {
        self.bell.sleep.declare();
        let woken = self.bell.woken.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        let slept = if woken || is_busy() { Ok(()) } else { self.wait.wait(wait) };
        self.bell.sleep.clear();
        slept
    }
}

impl GangSeat {
    /// Wakes the gang for this seat.
    pub(super) fn wake(&self) {
        self.bell.woken[self.number / 64].fetch_or(1 << (self.number % 64), Ordering::Release);
        if self.bell.sleep.take() {
            self.bell.signal.signal();
        }
    }

    /// What a ring signals.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.signal.as_fd()
    }
}
