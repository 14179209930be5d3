//! What the workers and the coordinator share: a few atomics, written by one side each.

use hdrhistogram::Histogram;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The coordinator's word to all workers.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// When traffic starts, ns on the run's clock; 0 while connections are being made.
    pub(crate) traffic_start: AtomicU64,
    /// When the measured window starts.
    pub(crate) measure_start: AtomicU64,
    /// When it ends; moved to the present by Ctrl-C.
    pub(crate) measure_end: AtomicU64,
    /// Close everything and report.
    pub(crate) finish: AtomicBool,
}

/// The measured window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) traffic_start: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Window {
    pub(crate) fn contains(&self, time: u64) -> bool {
        time >= self.start && time < self.end
    }
}

impl Control {
    /// The window, once traffic was started.
    pub(crate) fn window(&self) -> Option<Window> {
        let traffic_start = self.traffic_start.load(Acquire);
        let (start, end) = (self.measure_start.load(Relaxed), self.measure_end.load(Relaxed));
        (traffic_start != 0).then_some(Window { traffic_start, start, end })
    }

    /// Starts traffic.
    pub(crate) fn start(&self, window: Window) {
        self.measure_start.store(window.start, Relaxed);
        self.measure_end.store(window.end, Relaxed);
        self.traffic_start.store(window.traffic_start, Release);
    }
}

/// One worker's word to the coordinator, refreshed every turn.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Connections (and HTTP connections) that are ready.
    pub(crate) ready: AtomicU64,
    /// Connections that were given up.
    pub(crate) failed: AtomicU64,
    /// Operations sent.
    pub(crate) sent: AtomicU64,
    /// Deliveries owed for them.
    pub(crate) owed: AtomicU64,
    /// Deliveries that came.
    pub(crate) delivered: AtomicU64,
    /// Heartbeats and other requests without an answer.
    pub(crate) unanswered: AtomicU64,
    /// Processor time of the thread, ns.
    pub(crate) cpu: AtomicU64,
}

/// One second of one flow on one worker.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Seconds since traffic started.
    pub(crate) second: u32,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) latency: Histogram<u64>,
}
