//! Wakers of a lone sleeper and of a seat in a gang; netpoll's write to a descriptor.

use super::gang::GangSeat;
use super::signal::Signal;
use std::io;
use std::time::Duration;

/// As in netpoll.
#[derive(Clone, Debug)]
pub struct Waker(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Signal(Signal),
    Gang(GangSeat),
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
    pub fn seat(seat: GangSeat) -> Waker {
        Waker(Kind::Gang(seat))
    }

    /// Wakes.
    pub fn wake(&self) {
        match &self.0 {
            Kind::Signal(signal) => signal.signal(),
            Kind::Gang(seat) => seat.wake(),
        }
    }

    /// Waits for a wake-up, without an end of its own. A gang waits by its own sleep.
    pub fn wait(&self, _: Duration) -> bool {
        match &self.0 {
            Kind::Signal(signal) => {
                signal.to_wait_for().is_ok_and(|signal| signal.wait(Duration::ZERO).is_ok())
            }
            Kind::Gang(_) => false,
        }
    }
}
