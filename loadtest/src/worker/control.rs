//! What the workers and the coordinator share: a few atomics, each written by one side.

use crate::histogram;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The coordinator's orders to all workers. A stage's times are written before it is started; only
/// its end may move after that.
#[derive(Debug)]
pub(crate) struct Control {
    clocks: Box<[Clock]>,
    /// Stages that were started; 0 while connections are being made.
    started: AtomicUsize,
    /// Orders the workers to close everything and to report.
    pub(crate) finish: AtomicBool,
}

/// The times of one stage, ns on the run's clock.
#[derive(Debug, Default)]
struct Clock {
    traffic_start: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

/// The measured window of a stage.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) stage: usize,
    /// When its traffic starts: the warm-up lies before `start`.
    pub(crate) traffic_start: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Window {
    pub(crate) fn contains(&self, time: u64) -> bool {
        time >= self.start && time < self.end
    }

    /// Length of the measured window, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1e9
    }
}

impl Control {
    /// The orders of a run with so many stages.
    pub(crate) fn new(stages: usize) -> Control {
        let clocks = (0..stages).map(|_| Clock::default()).collect();
        Control { clocks, started: AtomicUsize::new(0), finish: AtomicBool::new(false) }
    }

    /// The number of stages of the run.
    pub(crate) fn stages(&self) -> usize {
        self.clocks.len()
    }

    /// The number of stages that were started.
    pub(crate) fn started(&self) -> usize {
        self.started.load(Relaxed)
    }

    /// The window of the present stage, once one was started.
    pub(crate) fn window(&self) -> Option<Window> {
        Some(self.window_of(self.started.load(Acquire).checked_sub(1)?))
    }

    /// The window of `stage`, which was started.
    pub(crate) fn window_of(&self, stage: usize) -> Window {
        let clock = &self.clocks[stage];
        let of = |time: &AtomicU64| time.load(Relaxed);
        let (traffic_start, start, end) = (of(&clock.traffic_start), of(&clock.start), of(&clock.end));
        Window { stage, traffic_start, start, end }
    }

    /// Starts the stage of `window`, the one after the present.
    pub(crate) fn start(&self, window: Window) {
        let clock = &self.clocks[window.stage];
        clock.traffic_start.store(window.traffic_start, Relaxed);
        clock.start.store(window.start, Relaxed);
        clock.end.store(window.end, Relaxed);
        self.started.store(window.stage + 1, Release);
    }

    /// Moves the end of the window of `stage` to `time`.
    pub(crate) fn end(&self, stage: usize, time: u64) {
        self.clocks[stage].end.store(time, Relaxed);
    }
}

/// One worker's figures for the coordinator, refreshed every turn.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The stage that the worker is in, counted from 1; 0 before the first.
    pub(crate) stage: AtomicUsize,
    /// Connections (and HTTP connections) that are ready.
    pub(crate) ready: AtomicU64,
    /// Connections that were given up.
    pub(crate) failed: AtomicU64,
    /// Deliveries owed for what was sent, in all stages.
    pub(crate) owed: AtomicU64,
    /// Deliveries that came.
    pub(crate) delivered: AtomicU64,
    /// Heartbeats and other requests without an answer.
    pub(crate) unanswered: AtomicU64,
    /// Processor time of the thread, ns.
    pub(crate) cpu: AtomicU64,
}

/// The gauges of some workers, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Readings {
    /// Of the worker that is furthest behind.
    stage: usize,
    ready: u64,
    failed: u64,
    owed: u64,
    delivered: u64,
    unanswered: u64,
    cpu: u64,
}

impl Gauges {
    /// The sum over `all`.
    pub(crate) fn sum<'a>(all: impl IntoIterator<Item = &'a Arc<Gauges>>) -> Readings {
        let mut sum = Readings { stage: usize::MAX, ..Readings::default() };
        for gauges in all {
            // Loaded first: the other numbers are then at least of that stage.
            sum.stage = sum.stage.min(gauges.stage.load(Acquire));
            sum.ready += gauges.ready.load(Relaxed);
            sum.failed += gauges.failed.load(Relaxed);
            sum.owed += gauges.owed.load(Relaxed);
            sum.delivered += gauges.delivered.load(Relaxed);
            sum.unanswered += gauges.unanswered.load(Relaxed);
            sum.cpu += gauges.cpu.load(Relaxed);
        }
        sum
    }

    /// Publishes the readings of another process.
    pub(crate) fn store(&self, readings: &Readings) {
        self.ready.store(readings.ready, Relaxed);
        self.failed.store(readings.failed, Relaxed);
        self.owed.store(readings.owed, Relaxed);
        self.delivered.store(readings.delivered, Relaxed);
        self.unanswered.store(readings.unanswered, Relaxed);
        self.cpu.store(readings.cpu, Relaxed);
        self.stage.store(readings.stage, Release);
    }
}

/// One second of one flow on one worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Seconds since the stage's traffic started.
    pub(crate) second: u32,
    /// Operations sent, and those that were sent late by the generator's own doing.
    pub(crate) operations: u64,
    pub(crate) late: u64,
    /// Deliveries owed for them.
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    #[serde(with = "histogram::wire")]
    pub(crate) latency: Histogram<u64>,
}
