//! Wakers of a lone sleeper and of a slot in a ring group; netpoll's write to a descriptor.

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
    /// Of a thread that sleeps by [`Waker::wait`].
    ///
    /// # Errors
    /// None; as in netpoll.
    pub fn event_fd() -> io::Result<Waker> {
        Ok(Waker(Kind::Signal(Signal::new()?)))
    }

    /// The same here.
    pub fn flag() -> Waker {
        Waker(Kind::Signal(Signal::new().unwrap()))
    }

    /// Of one backend among several that share a thread and its sleep.
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

    /// Waits for a wake-up, without an end of its own. A ring group waits by its own sleep.
    pub fn wait(&self, _: Duration) -> bool {
        match &self.0 {
            Kind::Signal(signal) => {
                signal.to_wait_for().is_ok_and(|signal| signal.wait(Duration::ZERO).is_ok())
            }
            Kind::Shared(_) => false,
        }
    }
}
