//! Ending a wait from another thread.

use super::shared_wait::WaitSlot;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ends another thread's wait in `Backend::poll`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Kind);

#[derive(Clone, Debug)]
enum Kind {
    EventFd(Arc<OwnedFd>),
    Flag(Arc<AtomicBool>),
    Shared(WaitSlot),
}

impl Waker {
    /// A waker over an `eventfd(2)`, for backends that wait in the kernel.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` when no descriptor is free.
    pub fn event_fd() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Kind::EventFd(Arc::new(fd))))
    }

    /// A waker that writes eight bytes to `fd`, which must not block: for a consumer that sleeps in
    /// a foreign event loop and reads the other end there. [`Waker::wait`] does not apply to it.
    pub fn writing_to(fd: OwnedFd) -> Waker {
        Waker(Kind::EventFd(Arc::new(fd)))
    }

    /// A waker over a flag, for backends that never sleep in the kernel.
    pub fn flag() -> Waker {
        Waker(Kind::Flag(Arc::new(AtomicBool::new(false))))
    }

    /// A waker of one backend in a shared wait.
    pub(crate) fn slot(slot: WaitSlot) -> Waker {
        Waker(Kind::Shared(slot))
    }

    /// Wakes. Wakes before the wait count; several count as one.
    pub fn wake(&self) {
        match &self.0 {
            // The only error is a counter at 2^64 - 2 (EAGAIN), and then the wake-up is pending
            // anyway.
            Kind::EventFd(fd) => drop(rustix::io::write(&**fd, &1_u64.to_ne_bytes())),
            Kind::Flag(flag) => flag.store(true, Ordering::Release),
            Kind::Shared(slot) => slot.wake(),
        }
    }

    /// Takes a pending wake-up of a flag waker.
    pub(crate) fn take(&self) -> bool {
        match &self.0 {
            Kind::EventFd(_) | Kind::Shared(_) => false,
            Kind::Flag(flag) => flag.swap(false, Ordering::Acquire),
        }
    }

    /// Waits for a wake-up on the thread itself, for at most `timeout`; true when it came. A shared
    /// wait has its own sleep.
    pub fn wait(&self, timeout: Duration) -> bool {
        match &self.0 {
            Kind::Flag(_) | Kind::Shared(_) => self.take(),
            Kind::EventFd(fd) => {
                let timeout =
                    Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
                let ready = poll(&mut [PollFd::new(&**fd, PollFlags::IN)], Some(&timeout)).unwrap_or(0) > 0;
                ready && rustix::io::read(&**fd, &mut [0; 8]).is_ok()
            }
        }
    }

    /// The descriptor to watch, if there is one.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Kind::EventFd(fd) => Some(fd.as_fd()),
            Kind::Flag(_) | Kind::Shared(_) => None,
        }
    }
}
