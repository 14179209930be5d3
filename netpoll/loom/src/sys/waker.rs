//! Wakers of a single sleeper and of a slot in a shared wait; netpoll's write to a descriptor.

use super::shared_wait::WaitSlot;
use super::signal::Signal;
use std::io;
use std::time::Duration;

/// As in netpoll.
#[derive(Clone, Debug)]
pub struct Waker(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Signal(Signal),
    Shared(WaitSlot),
}

impl Waker {
    /// A waker of a thread that sleeps by [`Waker::wait`].
    ///
    /// # Errors
    /// None; as in netpoll.
    pub fn event_fd() -> io::Result<Waker> {
        Ok(Waker(Kind::Signal(Signal::new()?)))
    }

    /// A waker over a flag; here the same as [`Waker::event_fd`].
    pub fn flag() -> Waker {
        Waker(Kind::Signal(Signal::new().unwrap()))
    }

    /// A waker of one backend in a shared wait.
    pub fn slot(slot: WaitSlot) -> Waker {
        Waker(Kind::Shared(slot))
    }

    /// Wakes.
    pub fn wake(&self) {
        match &self.0 {
            Kind::Signal(signal) => signal.signal(),
            Kind::Shared(slot) => slot.wake(),
        }
    }

    /// Waits for a wake-up without a time limit. A shared wait has its own sleep.
    pub fn wait(&self, _: Duration) -> bool {
        match &self.0 {
            Kind::Signal(signal) => {
                signal.to_wait_for().is_ok_and(|signal| signal.wait(Duration::ZERO).is_ok())
            }
            Kind::Shared(_) => false,
        }
    }
}
