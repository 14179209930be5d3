//! What a message cost a server: processor time, and busy time where it polls.
//!
//! A server that sleeps when it has nothing to do has one cost. One that polls uses its processor
//! whether or not there is something to do: its processor time is what an operator pays, its busy
//! time is what the work took. Both are named wherever one stands, and bars that compare it with
//! servers that sleep go by processor time.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a message cost the server, in two times that are the same unless it polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerCost {
    /// Processor time a message, user and system, in nanoseconds: what an operator pays. A report
    /// of before both were stored lacks it where the server polls.
    pub cpu_ns: Option<f64>,
    /// Busy time a message, in nanoseconds, of a server that polls: what the work took, by the
    /// clock, without the rounds that found nothing.
    pub busy_ns: Option<f64>,
    /// Share of the window that the server ran.
    pub cpu_share: Option<f64>,
    /// Share of the window that a server that polls had something to do.
    pub busy_share: Option<f64>,
}

impl ServerCost {
    /// Of a window of `elapsed` with `messages`, at least 1, in which the server's threads ran for
    /// `cpu` and, where it polls, had something to do for `busy`.
    pub fn of(elapsed: Duration, messages: u64, cpu: Duration, busy: Option<Duration>) -> ServerCost {
        let per_message = |time: Duration| time.as_nanos() as f64 / messages as f64;
        let share = |time: Duration| time.as_secs_f64() / elapsed.as_secs_f64();
        ServerCost {
            cpu_ns: Some(per_message(cpu)),
            busy_ns: busy.map(per_message),
            cpu_share: Some(share(cpu)),
            busy_share: busy.map(share),
        }
    }

    /// What the work took, in nanoseconds a message: busy time where the server polls, else its
    /// processor time.
    pub fn work_ns(&self) -> Option<f64> {
        self.busy_ns.or(self.cpu_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_polls_has_two_costs_and_one_that_sleeps_has_one() {
        let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
        let polling = ServerCost::of(second, 1000, second, Some(half));
        assert_eq!((polling.cpu_ns, polling.busy_ns), (Some(1e6), Some(5e5)));
        assert_eq!((polling.cpu_share, polling.busy_share), (Some(1.0), Some(0.5)));
        assert_eq!(polling.work_ns(), Some(5e5));
        let sleeping = ServerCost::of(second, 1000, half, None);
        assert_eq!((sleeping.work_ns(), sleeping.busy_share), (Some(5e5), None));
    }
}
