//! The measured window: what was used and done between two instants.

use super::Problem;
use crate::cpu;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// When to measure.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Left out before it.
    pub warm_up: Duration,
    /// Measured.
    pub length: Duration,
}

/// Whom to watch.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The server's process.
    pub server: u32,
    /// Its processor.
    pub server_cpu: usize,
    /// The generator's processor.
    pub client_cpu: usize,
}

/// Counters at one instant.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    at: Instant,
    messages: u64,
    server: Duration,
    client: Duration,
    server_core: Duration,
    client_core: Duration,
}

/// What a window showed.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How long it was.
    pub elapsed: Duration,
    /// Messages echoed, or delivered.
    pub messages: u64,
    /// CPU time of the server.
    pub server: Duration,
    /// CPU time of the generator.
    pub client: Duration,
    /// Share of the server's processor that others used.
    pub foreign_server: f64,
    /// Share of the generator's processor that others used.
    pub foreign_client: f64,
    /// Nanoseconds from a write to its last answer.
    pub latency: Histogram<u64>,
}

impl Measured {
    /// Nanoseconds of the server's CPU per message.
    pub fn server_per_message(&self) -> f64 {
        self.server.as_nanos() as f64 / self.messages.max(1) as f64
    }

    /// Nanoseconds of the generator's CPU per message.
    pub fn client_per_message(&self) -> f64 {
        self.client.as_nanos() as f64 / self.messages.max(1) as f64
    }

    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// Share of the time that the server ran.
    pub fn server_busy(&self) -> f64 {
        self.server.as_secs_f64() / self.elapsed.as_secs_f64()
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
    /// Not armed yet: counts, but measures nothing.
    pub(super) fn new(probe: Probe) -> Result<Watch, Problem> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Problem::of("histogram", error))?;
        Ok(Watch { probe, window: None, begin: None, messages: 0, latency })
    }

    /// The warm-up begins.
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

    /// Once a turn; what was measured, when the window is over.
    pub(super) fn tick(&mut self) -> Result<Option<Measured>, Problem> {
        let Some((from, until)) = self.window else { return Ok(None) };
        let now = Instant::now();
        match self.begin {
            None if now >= from => {
                self.begin = Some(self.snapshot()?);
                Ok(None)
            }
            Some(begin) if now >= until => Ok(Some(self.measured(begin, self.snapshot()?))),
            _ => Ok(None),
        }
    }

    fn snapshot(&self) -> Result<Snapshot, Problem> {
        let probe = &self.probe;
        let server =
            cpu::of_process(probe.server).map_err(|error| Problem::of("the server is gone", error))?;
        Ok(Snapshot {
            at: Instant::now(),
            messages: self.messages,
            server,
            client: cpu::of_this_thread(),
            server_core: cpu::busy(probe.server_cpu)?,
            client_core: cpu::busy(probe.client_cpu)?,
        })
    }

    fn measured(&self, begin: Snapshot, end: Snapshot) -> Measured {
        let elapsed = end.at - begin.at;
        let (server, client) = (end.server - begin.server, end.client - begin.client);
        let foreign =
            |core: Duration, own: Duration| core.saturating_sub(own).as_secs_f64() / elapsed.as_secs_f64();
        Measured {
            elapsed,
            messages: end.messages - begin.messages,
            server,
            client,
            foreign_server: foreign(end.server_core.saturating_sub(begin.server_core), server),
            foreign_client: foreign(end.client_core.saturating_sub(begin.client_core), client),
            latency: self.latency.clone(),
        }
    }
}
