//! The measured window: what was used and done between two instants.

use super::{Line, Problem};
use crate::cost::ServerCost;
use crate::cpu;
use crate::tally::{Resent, Tally, TallyClient};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// The problem of a window in which nothing was answered: it has no verdict.
pub const NO_SAMPLES: &str = "no samples: not one message was answered in the window";

/// When to measure.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The warm-up before it, which is left out.
    pub warm_up: Duration,
    /// The measured time.
    pub length: Duration,
}

/// The processes and processors to watch.
#[derive(Debug)]
pub struct Probe {
    /// The server's process.
    pub server: u32,
    /// Its processor.
    pub server_cpu: usize,
    /// The generator's processor.
    pub client_cpu: usize,
    /// The figures of a server that polls, where its processor time says nothing.
    pub tally: Option<TallyClient>,
}

/// The times of a process, or thread, at one instant.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// Processor time, by the scheduler.
    ran: Duration,
    /// How long its processor was not idle.
    core: Duration,
}

/// Counters at one instant.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    /// When reading began, and when it was complete: a server that polls may take milliseconds to
    /// answer.
    taken: (Instant, Instant),
    messages: u64,
    /// The server's counts of its frames.
    tally: Option<Tally>,
    /// What the generator's TCP sent again.
    resent: Option<Resent>,
    server: Side,
    client: Side,
    /// How long the generator had something to do: what it ran, unless it polls.
    client_worked: Duration,
}

impl Snapshot {
    fn resent_since(&self, begin: &Snapshot) -> Option<Resent> {
        let of_server = |one: &Snapshot| one.tally.and_then(|tally| tally.resent);
        let server = of_server(self)?.since(of_server(begin)?);
        Some(server.and(self.resent?.since(begin.resent?)))
    }
}

/// The result of a window.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How long it was.
    pub elapsed: Duration,
    /// Messages echoed, or delivered; at least 1.
    pub messages: u64,
    /// CPU time of the server.
    pub server: Duration,
    /// Where it polls: the time that it had something to do.
    pub server_busy: Option<Duration>,
    /// CPU time of the generator; where it polls, the time that it had something to do.
    pub client: Duration,
    /// Frames that the server took and sent, where it sees them.
    pub frames: Option<u64>,
    /// What both ends sent again, where both count it.
    pub resent: Option<Resent>,
    /// Share of the server's processor that other processes used.
    pub foreign_server: f64,
    /// Share of the generator's processor that other processes used.
    pub foreign_client: f64,
    /// Nanoseconds from a write to its last answer.
    pub latency: Histogram<u64>,
}

impl Measured {
    /// What a message cost the server.
    pub fn server_cost(&self) -> ServerCost {
        ServerCost::of(self.elapsed, self.messages, self.server, self.server_busy)
    }

    /// Nanoseconds of the generator's CPU per message.
    pub fn client_per_message(&self) -> f64 {
        self.client.as_nanos() as f64 / self.messages as f64
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// Frames a second, in and out.
    pub fn frame_rate(&self) -> Option<f64> {
        self.frames.map(|frames| frames as f64 / self.elapsed.as_secs_f64())
    }

    /// Share of the time that the generator ran.
    pub fn client_busy(&self) -> f64 {
        self.client.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// The larger of the foreign shares.
    pub fn foreign(&self) -> f64 {
        self.foreign_server.max(self.foreign_client)
    }
}

/// A window in progress.
pub(super) struct Watch {
    probe: Probe,
    /// Begin and end, once armed.
    window: Option<(Instant, Instant)>,
    begin: Option<Snapshot>,
    messages: u64,
    latency: Histogram<u64>,
}

impl Watch {
    /// A window that is not armed yet: it counts, but measures nothing.
    pub(super) fn new(probe: Probe) -> Result<Watch, Problem> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Problem::of("histogram", error))?;
        Ok(Watch { probe, window: None, begin: None, messages: 0, latency })
    }

    /// Begins the warm-up.
    pub(super) fn arm(&mut self, window: Window) {
        let from = Instant::now() + window.warm_up;
        self.window = Some((from, from + window.length));
    }

    /// Counts a complete answer.
    pub(super) fn record(&mut self, messages: u64, latency: Duration) {
        self.messages += messages;
        if self.begin.is_some() {
            self.latency.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Called once a turn; returns the measurement when the window is over.
    ///
    /// # Errors
    /// [`Problem`]: a window without a message, or a server that is gone.
    pub(super) fn tick<L: Line>(&mut self, line: &mut L) -> Result<Option<Measured>, Problem> {
        let Some((from, until)) = self.window else { return Ok(None) };
        let now = Instant::now();
        match self.begin {
            None if now >= from => {
                self.begin = Some(self.snapshot(line)?);
                Ok(None)
            }
            Some(begin) if now >= until => {
                let end = self.snapshot(line)?;
                self.measured(begin, end).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn snapshot<L: Line>(&mut self, line: &mut L) -> Result<Snapshot, Problem> {
        let begun = Instant::now();
        let probe = &mut self.probe;
        let tally = probe.tally.as_mut().map(TallyClient::ask).transpose();
        let tally = tally.map_err(|error| Problem::of("the server publishes no figures", error))?;
        let ran = cpu::of_process(probe.server).map_err(|error| Problem::of("the server is gone", error))?;
        let server = Side { ran, core: cpu::busy(probe.server_cpu)? };
        let ran = cpu::of_this_thread();
        let client = Side { ran, core: cpu::busy(probe.client_cpu)? };
        let client_worked = line.busy().unwrap_or(ran);
        let (messages, resent) = (self.messages, line.resent());
        let taken = (begun, Instant::now());
        Ok(Snapshot { taken, messages, tally, resent, server, client, client_worked })
    }

    fn measured(&self, begin: Snapshot, end: Snapshot) -> Result<Measured, Problem> {
        let elapsed = end.taken.0.saturating_duration_since(begin.taken.1);
        let messages = end.messages - begin.messages;
        if messages == 0 || elapsed.is_zero() {
            return Err(Problem(NO_SAMPLES.into()));
        }
        let foreign = |begin: Side, end: Side| {
            let others = end.core.saturating_sub(begin.core).saturating_sub(end.ran - begin.ran);
            others.as_secs_f64() / elapsed.as_secs_f64()
        };
        Ok(Measured {
            elapsed,
            messages,
            server: end.server.ran.saturating_sub(begin.server.ran),
            server_busy: end.tally.zip(begin.tally).map(|(end, begin)| end.busy - begin.busy),
            client: end.client_worked - begin.client_worked,
            resent: end.resent_since(&begin),
            frames: end.tally.zip(begin.tally).map(|(end, begin)| end.frames - begin.frames),
            foreign_server: foreign(begin.server, end.server),
            foreign_client: foreign(begin.client, end.client),
            latency: self.latency.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(at: Instant, messages: u64, ran: Duration, busy: Option<Duration>) -> Snapshot {
        let tally = busy.map(|busy| Tally { busy, frames: 0, resent: None });
        let side = Side { ran, core: ran };
        let taken = (at, at);
        Snapshot { taken, messages, tally, resent: None, server: side, client: side, client_worked: ran }
    }

    fn watch() -> Watch {
        Watch::new(Probe { server: 0, server_cpu: 0, client_cpu: 0, tally: None }).unwrap()
    }

    #[test]
    fn an_empty_window_is_no_measurement() {
        let now = Instant::now();
        let (begin, end) = (now, now + Duration::from_secs(1));
        let at = |at, messages| snapshot(at, messages, Duration::ZERO, None);
        let problem = watch().measured(at(begin, 7), at(end, 7)).unwrap_err();
        assert_eq!(problem.0, NO_SAMPLES);
        assert!(watch().measured(at(begin, 7), at(begin, 8)).is_err(), "it took no time");
        assert!(watch().measured(at(begin, 7), at(end, 8)).is_ok());
    }

    #[test]
    fn processor_time_and_busy_time_are_both_measured() {
        let now = Instant::now();
        let end = now + Duration::from_secs(1);
        let (full, half) = (Duration::from_secs(1), Duration::from_millis(400));
        let begin = snapshot(now, 0, Duration::ZERO, Some(Duration::ZERO));
        let measured = watch().measured(begin, snapshot(end, 1000, full, Some(half))).unwrap();
        let cost = measured.server_cost();
        assert_eq!((cost.cpu_ns, cost.busy_ns), (Some(1e6), Some(4e5)));
    }
}
