//! The time of a backend, and what an idle one does with it.

use netpoll::{MonotonicClock, Timestamp, Waker};
use rustix::thread::{Timespec, nanosleep};
use std::time::Duration;

/// Where a backend's time comes from, and how it passes when there is nothing to do.
pub trait Clock {
    /// The present.
    fn now(&self) -> Timestamp;

    /// Lets at most `at_most` pass. May return at once; returns early when somebody used the waker.
    fn rest(&mut self, at_most: Duration, waker: &Waker);

    /// There was something to do.
    fn busy(&mut self) {}
}

/// Rounds that an idle loop spins, then those that it gives its core to whoever wants it.
const SPINS: u32 = 1000;
const YIELDS: u32 = 100;
/// Each sleep is longer than the one before by so much.
const SLEEP_STEP: Duration = Duration::from_micros(5);

/// The system's clock: an idle loop spins, then yields, then sleeps in growing steps. A signal ends
/// a sleep.
#[derive(Debug)]
pub struct SystemClock {
    clock: MonotonicClock,
    idle_rounds: u32,
    sleep_max: Duration,
}

impl SystemClock {
    /// Starts at zero. Sleeps 500 µs at most.
    pub fn start() -> SystemClock {
        SystemClock::sleeping_at_most(Duration::from_micros(500))
    }

    /// Starts at zero. An idle loop sleeps `sleep_max` at most, which is what the first frame after
    /// a silence may have to wait; zero: it never sleeps, and its core is never idle.
    pub fn sleeping_at_most(sleep_max: Duration) -> SystemClock {
        SystemClock { clock: MonotonicClock::start(), idle_rounds: 0, sleep_max }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn rest(&mut self, at_most: Duration, _waker: &Waker) {
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        if self.idle_rounds < SPINS || self.sleep_max.is_zero() {
            std::hint::spin_loop();
        } else if self.idle_rounds < SPINS + YIELDS {
            std::thread::yield_now();
        } else {
            let rounds = self.idle_rounds - SPINS - YIELDS;
            let step = SLEEP_STEP.saturating_mul(rounds + 1).min(self.sleep_max).min(at_most);
            let request = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
            // Interrupted: some devices signal that a frame has come.
            let _ = nanosleep(&request);
        }
    }

    fn busy(&mut self) {
        self.idle_rounds = 0;
    }
}
