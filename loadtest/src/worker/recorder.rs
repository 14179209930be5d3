//! Counts and latencies of one flow on one worker.

use super::control::{Interval, Window};
use super::steps::Steps;
use crate::histogram::{fresh, growing, record, record_open};
use crate::schedule::SECOND;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::mpsc::Sender;

/// An operation that leaves later than this, in ns, left late.
const LATE_MIN: u64 = 1_000_000;

/// See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recorder {
    /// From intended time to delivery, of operations intended within the window.
    #[serde(with = "crate::histogram::wire")]
    pub(crate) latency: Histogram<u64>,
    /// From intended time, or from when the server had made room, to the call that sent it: how far
    /// the generator itself slipped.
    #[serde(with = "crate::histogram::wire")]
    pub(crate) lag: Histogram<u64>,
    /// From intended time to the HTTP answer.
    #[serde(with = "crate::histogram::wire")]
    pub(crate) answer: Histogram<u64>,
    /// Operations sent, those within the window, and the deliveries owed for both.
    pub(crate) sent: u64,
    pub(crate) sent_measured: u64,
    pub(crate) owed: u64,
    pub(crate) owed_measured: u64,
    /// Deliveries, and those that arrived within the window.
    pub(crate) delivered: u64,
    pub(crate) delivered_measured: u64,
    /// Operations that were due in the window and never sent.
    pub(crate) never_sent: u64,
    /// What of it belongs to each step of the flow's course.
    pub(crate) steps: Steps,
    #[serde(skip, default = "Second::of_none")]
    second: Second,
}

#[derive(Debug)]
struct Second {
    number: u32,
    operations: u64,
    late: u64,
    sent: u64,
    delivered: u64,
    latency: Histogram<u64>,
    intervals: Sender<Interval>,
}

impl Second {
    /// Of a recorder that only holds what was found.
    fn of_none() -> Second {
        Second::new(std::sync::mpsc::channel().0)
    }

    fn new(intervals: Sender<Interval>) -> Second {
        Second { number: 0, operations: 0, late: 0, sent: 0, delivered: 0, latency: fresh(2), intervals }
    }
}

impl Recorder {
    pub(crate) fn new(intervals: Sender<Interval>) -> Recorder {
        Recorder {
            latency: growing(),
            lag: growing(),
            answer: growing(),
            sent: 0,
            sent_measured: 0,
            owed: 0,
            owed_measured: 0,
            delivered: 0,
            delivered_measured: 0,
            never_sent: 0,
            steps: Steps::default(),
            second: Second::new(intervals),
        }
    }

    /// An operation intended at `intended`, for which there was room at `ready`, was sent at `now`
    /// to `receivers`.
    pub(crate) fn sent(&mut self, now: u64, (intended, ready): (u64, u64), receivers: u64, window: &Window) {
        self.sent += 1;
        self.owed += receivers;
        self.second.operations += 1;
        self.second.late += u64::from(now.saturating_sub(ready) > LATE_MIN);
        self.second.sent += receivers;
        if window.contains(intended) {
            self.sent_measured += 1;
            self.owed_measured += receivers;
            record(&mut self.lag, now.saturating_sub(ready));
            if let Some(step) = self.steps.of(intended) {
                step.sent += 1;
                step.owed += receivers;
            }
        }
    }

    /// A message intended at `intended` arrived at `now`.
    pub(crate) fn delivered(&mut self, now: u64, intended: u64, window: &Window) {
        let latency = now.saturating_sub(intended);
        self.delivered += 1;
        self.second.delivered += 1;
        record(&mut self.second.latency, latency);
        if window.contains(now) {
            self.delivered_measured += 1;
        }
        if window.contains(intended) {
            record(&mut self.latency, latency);
            if let Some(step) = self.steps.of(intended) {
                step.delivered += 1;
                record(&mut step.latency, latency);
            }
        }
    }

    /// `count` operations for `receivers` each, intended at even distances in a time, were not sent
    /// when their stage ended; `is_held`: for lack of room, and not of time.
    pub(crate) fn never_sent(
        &mut self,
        times: (u64, u64),
        count: u64,
        receivers: u64,
        is_held: bool,
        window: &Window,
    ) {
        self.never_sent += count;
        let within = |intended| window.contains(intended);
        record_open(&mut self.latency, times, count * receivers, within, window.end);
        for step in self.steps.list_mut() {
            let within = |intended| window.contains(intended) && step.from <= intended && intended < step.to;
            record_open(&mut step.latency, times, count * receivers, within, window.end);
        }
        if !is_held {
            record_open(&mut self.lag, times, count, within, window.end);
        }
    }

    /// Passes a second that has ended to the coordinator.
    pub(crate) fn tick(&mut self, now: u64, window: &Window) {
        let number = (now.saturating_sub(window.traffic_start) / SECOND) as u32;
        if number != self.second.number {
            self.flush();
            self.second.number = number;
        }
    }

    /// Passes on what the present second has so far.
    pub(crate) fn flush(&mut self) {
        let second = &mut self.second;
        if second.operations + second.delivered == 0 {
            return;
        }
        let interval = Interval {
            second: second.number,
            operations: std::mem::take(&mut second.operations),
            late: std::mem::take(&mut second.late),
            sent: std::mem::take(&mut second.sent),
            delivered: std::mem::take(&mut second.delivered),
            latency: second.latency.clone(),
        };
        second.latency.reset();
        // A coordinator that is gone needs no more intervals.
        let _ = second.intervals.send(interval);
    }
}
