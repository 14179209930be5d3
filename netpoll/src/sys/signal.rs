//! A signal that ends a thread's wait: an eventfd, which rings signal as well, under an
//! edge-triggered epoll.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The side that signals.
#[derive(Debug)]
pub(super) struct Signal(OwnedFd);

/// The side that waits.
#[derive(Debug)]
pub(super) struct SignalWait {
    epoll: OwnedFd,
}

impl Signal {
    /// A signal that has not been given.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when no descriptor is free.
    pub(super) fn new() -> io::Result<Signal> {
        Ok(Signal(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The side that waits. A signal given before the wait ends it at once.
    ///
    /// # Errors
    /// As [`Signal::new`].
    pub(super) fn to_wait_for(&self) -> io::Result<SignalWait> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Edge-triggered, each signal ends one wait, and the counter need not be read.
        epoll::add(&epoll, &self.0, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
        Ok(SignalWait { epoll })
    }

    /// Gives the signal.
    pub(super) fn signal(&self) {
        // The only error is a counter at 2^64 - 2 (EAGAIN), and such a counter has ended the wait.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// The descriptor that a ring signals.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SignalWait {
    /// Waits for a signal since the last wait, for at most `wait`.
    ///
    /// # Errors
    /// None that a descriptor of one's own can cause.
    pub(super) fn wait(&self, wait: Duration) -> io::Result<()> {
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
        // SAFETY: the kernel writes at most one event to a live local of that size, and reads a
        // live timespec.
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
