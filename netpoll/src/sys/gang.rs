//! One sleep for several rings: an eventfd that rings and mailboxes signal, and the thread that waits on it.
//!
//! ```text
//!   mailbox ─ wake(seat) ─► bit of the seat; asleep? ──┐
//!   ring ─ the kernel has something, and is to tell ───┴─► eventfd ─ epoll, edge-triggered ─► the thread's sleep ends
//! ```
//!
//! While the thread is awake nobody pays for a wake-up: a waker sets a bit, and the kernel is told not to signal. Before the
//! thread sleeps it declares so and then looks once more, as in a mailbox's sleep protocol.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

/// Seats that a gang has.
pub const GANG_SEATS_MAX: usize = 256;

/// What other threads know of a gang.
#[derive(Debug)]
struct Bell {
    fd: OwnedFd,
    sleeping: AtomicBool,
    /// Seats that were woken, a bit each.
    woken: [AtomicU64; GANG_SEATS_MAX / 64],
}

/// The thread's side. See the module's text.
#[derive(Debug)]
pub struct Gang {
    bell: Arc<Bell>,
    epoll: OwnedFd,
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
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Edge-triggered, each signal ends one wait, and nobody has to read the counter.
        epoll::add(&epoll, &fd, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
        let bell = Bell { fd, sleeping: AtomicBool::new(false), woken: Default::default() };
        Ok(Gang { bell: Arc::new(bell), epoll })
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
        self.bell.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let woken = self.bell.woken.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        let slept = if woken || is_busy() { Ok(()) } else { self.wait(wait) };
        self.bell.sleeping.store(false, Ordering::Relaxed);
        slept
    }

    fn wait(&self, wait: Duration) -> io::Result<()> {
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let waited = match self.wait_precisely(&wait) {
            // An old kernel, or a filter that does not know the call.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                let mut events = [MaybeUninit::<Event>::uninit(); 1];
                epoll::wait(&self.epoll, &mut events, Some(&wait)).map(drop).map_err(io::Error::from)
            }
            waited => waited,
        };
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    /// `epoll_pwait2(2)`, Linux 5.11: the older call rounds the wait up to milliseconds.
    #[allow(unsafe_code)]
    fn wait_precisely(&self, wait: &Timespec) -> io::Result<()> {
        let mut event = MaybeUninit::<libc::epoll_event>::uninit();
        let none = std::ptr::null::<libc::sigset_t>();
        let wait = libc::timespec { tv_sec: wait.tv_sec, tv_nsec: wait.tv_nsec };
        // SAFETY: the kernel writes at most one event to a live local of that size, and reads a live timespec.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                event.as_mut_ptr(),
                1 as libc::c_int,
                &raw const wait,
                none,
                0_usize,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl GangSeat {
    /// Wakes the gang for this seat.
    pub(super) fn wake(&self) {
        self.bell.woken[self.number / 64].fetch_or(1 << (self.number % 64), Ordering::Release);
        fence(Ordering::SeqCst);
        if self.bell.sleeping.load(Ordering::Relaxed) && self.bell.sleeping.swap(false, Ordering::Relaxed) {
            // The only error is a counter at 2^64 - 2 (EAGAIN), and such a counter has ended the wait.
            let _ = rustix::io::write(&self.bell.fd, &1_u64.to_ne_bytes());
        }
    }

    /// What a ring signals.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.fd.as_fd()
    }
}
