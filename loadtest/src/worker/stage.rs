//! The stages of a run on one worker: turning from one to the next, and what each does to the
//! connections.
//!
//! A stage's counts are its own. What arrives late counts for the flow that it belongs to, by the
//! window of the flow's own stage; what happens to connections counts in the stage in which it
//! happens.

use super::fleet::FleetStats;
use super::turns::Turns;
use super::{ClockGaps, Share, Worker};
use crate::client::{Protocol, Stage};
use crate::histogram::{growing, merge};
use crate::plan::{Role, StageKind};
use crate::worker::control::Window;
use hdrhistogram::Histogram;
use netpoll::Backend;
use serde::{Deserialize, Serialize};

/// At most so many closes wait for the backend's confirmation: closing all at once is paced by what
/// gets done.
const CLOSES_IN_FLIGHT: u32 = 512;

/// Heartbeats of one stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Beats {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Answers within the window.
    pub(crate) measured: u64,
    /// Heartbeats whose connection closed before the answer.
    pub(crate) void: u64,
    /// Answered again, and answered before an earlier one.
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    #[serde(with = "crate::histogram::wire")]
    pub(crate) latency: Histogram<u64>,
}

/// Reconnects of one stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChurnStats {
    pub(crate) operations: u64,
    pub(crate) completed: u64,
    /// Completed within the window.
    pub(crate) measured: u64,
    /// Not over at the end: under way, or not begun because the connection was not back.
    pub(crate) missed: u64,
    #[serde(with = "crate::histogram::wire")]
    pub(crate) latency: Histogram<u64>,
}

/// What one stage yields on one worker, apart from its flows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StageStats {
    pub(crate) fleet: FleetStats,
    pub(crate) beats: Beats,
    pub(crate) churn: ChurnStats,
    /// The thread's share, within the window; on one worker of each thread.
    pub(crate) share: Option<Share>,
    pub(crate) gaps: ClockGaps,
}

impl StageStats {
    /// Empty counts.
    pub(crate) fn new() -> StageStats {
        StageStats {
            fleet: FleetStats::new(),
            beats: Beats {
                sent: 0,
                answered: 0,
                measured: 0,
                void: 0,
                duplicated: 0,
                reordered: 0,
                latency: growing(),
            },
            churn: ChurnStats { operations: 0, completed: 0, measured: 0, missed: 0, latency: growing() },
            share: None,
            gaps: ClockGaps::default(),
        }
    }

    /// Adds another worker's or stage's counts.
    pub(crate) fn add(&mut self, other: &StageStats) {
        self.fleet.add(&other.fleet);
        self.gaps.add(&other.gaps);
        let (beats, others) = (&mut self.beats, &other.beats);
        beats.sent += others.sent;
        beats.answered += others.answered;
        beats.measured += others.measured;
        beats.void += others.void;
        beats.duplicated += others.duplicated;
        beats.reordered += others.reordered;
        merge(&mut beats.latency, &others.latency);
        let (churn, others) = (&mut self.churn, &other.churn);
        churn.operations += others.operations;
        churn.completed += others.completed;
        churn.measured += others.measured;
        churn.missed += others.missed;
        merge(&mut churn.latency, &others.latency);
    }
}

/// The order of closing, in a stage that closes connections.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// By the clock, in a churn.
    pub(super) turns: Option<Turns>,
    /// Next connection to close, when all are to.
    next: u32,
    /// Closes that the backend has not confirmed.
    pub(super) in_flight: u32,
}

impl<B: Backend, P: Protocol> Worker<B, P> {
    /// Follows the coordinator's orders.
    pub(super) fn follow_phase(&mut self, now: u64) {
        let Some(window) = self.to.control.window() else { return };
        if self.window.map(|own| own.stage) != Some(window.stage) {
            self.start_stage(window, now);
        }
        self.window = Some(window);
        if self.to.counts_thread {
            if now >= window.start && self.counts.share_before.is_none() {
                self.counts.share_before = Some(Share::read());
            }
            if now >= window.end && self.counts.share_after.is_none() {
                self.counts.share_after = Some(Share::read());
            }
        }
        for flow in self.flows.iter_mut().filter(|flow| flow.plan.stage == window.stage) {
            flow.window = Some(window);
            flow.recorder.tick(now, &window);
        }
    }

    /// What the present stage does to the connections; before the first one they only stay.
    pub(super) fn stage_kind(&self) -> StageKind {
        self.window.map_or(StageKind::Hold, |window| self.to.plan.stages[window.stage].kind)
    }

    fn start_stage(&mut self, window: Window, now: u64) {
        self.turn_page(now);
        for flow in &mut self.flows {
            flow.recorder.flush();
            if flow.plan.stage != window.stage {
                continue;
            }
            for (local, connection) in self.fleet.connections.iter().enumerate() {
                if connection.link.stage == Stage::Ready && self.to.duty.role == Role::Measured {
                    flow.checker.admit(local as u32);
                }
            }
            flow.begin(window);
        }
        self.departures = Departures { turns: self.turns(&window), ..Departures::default() };
        if self.to.plan.stages[window.stage].kind == StageKind::Reconnect {
            self.fleet.begin(now);
        }
    }

    /// The window of the present stage, which may have ended early.
    pub(super) fn window_as_it_ended(&self) -> Window {
        self.window.map_or(Window::default(), |window| self.to.control.window_of(window.stage))
    }

    /// Moves the counts of the stage that ends here to the finished ones.
    pub(super) fn turn_page(&mut self, now: u64) {
        self.miss_turns(now);
        let window = self.window_as_it_ended();
        for flow in
            self.flows.iter_mut().filter(|flow| flow.window.is_some() && flow.plan.stage == window.stage)
        {
            flow.end(&window);
        }
        let mut stats = std::mem::replace(&mut self.stats, StageStats::new());
        stats.fleet = self.fleet.turn_page(now);
        let after = self.counts.share_after.take();
        stats.share =
            self.counts.share_before.take().map(|before| after.unwrap_or_else(Share::read).since(before));
        self.finished.push(stats);
    }

    /// Closes the connections that are due.
    pub(super) fn close_connections(&mut self, now: u64) {
        match self.stage_kind() {
            StageKind::Disconnect if self.to.duty.role == Role::Measured => self.close_all(now),
            _ => self.churn_connections(now),
        }
    }

    /// Closes all that are left, as fast as the backend confirms.
    pub(super) fn close_all(&mut self, now: u64) {
        let departures = &mut self.departures;
        while departures.in_flight < CLOSES_IN_FLIGHT {
            let Some(connection) = self.fleet.connections.get_mut(departures.next as usize) else { return };
            departures.next += 1;
            if let (Stage::Ready, Some(id)) = (connection.link.stage, connection.id) {
                connection.begun = now;
                connection.link.stage = Stage::Leaving;
                departures.in_flight += 1;
                self.backend.close(id);
            }
        }
    }
}
