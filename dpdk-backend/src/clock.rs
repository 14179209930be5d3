//! The time of a backend, and what an idle backend does.

use netpoll::{MonotonicClock, Timestamp, Waker};
use rustix::thread::{Timespec, nanosleep};
use std::time::Duration;

/// The time source of a backend, and how time passes while there is no work.
pub trait Clock {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Lets at most `at_most` pass. May return at once, and returns early when the waker is used.
    fn idle(&mut self, at_most: Duration, waker: &Waker);

    /// Notes that there was work.
    fn busy(&mut self) {}
}

/// Rounds that an idle loop spins, and then rounds in which it yields its processor.
const SPINS: u32 = 1000;
const YIELDS: u32 = 100;
/// How much longer each sleep is than the one before.
const SLEEP_STEP: Duration = Duration::from_micros(5);

/// The system's clock. An idle loop spins, then yields, then sleeps in growing steps. A signal ends
/// a sleep.
#[derive(Debug)]
pub struct SystemClock {
    clock: MonotonicClock,
    idle_rounds: u32,
    sleep_max: Duration,
}

impl SystemClock {
    /// Starts at zero. Sleeps at most 500 µs.
    pub fn start() -> SystemClock {
        SystemClock::sleeping_at_most(Duration::from_micros(500))
    }

    /// Starts at zero. An idle loop sleeps at most `sleep_max`, which may delay the first frame
    /// after an idle period. Zero: it never sleeps, and its processor is never idle.
    pub fn sleeping_at_most(sleep_max: Duration) -> SystemClock {
        SystemClock { clock: MonotonicClock::start(), idle_rounds: 0, sleep_max }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn idle(&mut self, at_most: Duration, _waker: &Waker) {
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        if self.idle_rounds < SPINS || self.sleep_max.is_zero() {
            std::hint::spin_loop();
        } else if self.idle_rounds < SPINS + YIELDS {
            std::thread::yield_now();
        } else {
            let rounds = self.idle_rounds - SPINS - YIELDS;
            let step = SLEEP_STEP.saturating_mul(rounds + 1).min(self.sleep_max).min(at_most);
            let request = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
            // Interrupted: some devices signal that a frame was received.
            let _ = nanosleep(&request);
        }
    }

    fn busy(&mut self) {
        self.idle_rounds = 0;
    }
}
