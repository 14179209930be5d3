//! What a worker brings home.

use super::fleet::FleetStats;
use super::flow::{Flow, Sender};
use super::recorder::Recorder;
use super::{Share, Worker};
use crate::conservation::Checker;
use crate::plan::{Duty, Role};
use hdrhistogram::Histogram;
use netpoll::{Backend, BackendCounters};
use std::collections::BTreeMap;

/// One flow on one worker.
pub(crate) struct FlowResult {
    pub(crate) recorder: Recorder,
    pub(crate) checker: Checker,
    pub(crate) senders: Vec<Sender>,
    pub(crate) not_sent: u64,
    pub(crate) refused: u64,
    pub(crate) excused: u64,
    pub(crate) answered: u64,
    pub(crate) total_senders: u32,
}

/// Everything of one worker.
pub(crate) struct WorkerResult {
    pub(crate) role: Role,
    pub(crate) duty: Duty,
    pub(crate) fleet: FleetStats,
    pub(crate) flows: Vec<FlowResult>,
    pub(crate) beats_sent: u64,
    pub(crate) beats_answered: u64,
    pub(crate) beats_measured: u64,
    pub(crate) beats_void: u64,
    pub(crate) beat_latency: Histogram<u64>,
    pub(crate) churned: u64,
    pub(crate) churned_measured: u64,
    pub(crate) churn_missed: u64,
    pub(crate) churn_operations: u64,
    pub(crate) churn_latency: Histogram<u64>,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) violations: BTreeMap<String, u64>,
    pub(crate) stalls: u64,
    /// Processor time within the window, ns.
    pub(crate) cpu: u64,
    /// Time within the window that it waited for a processor, ns.
    pub(crate) waited: u64,
    pub(crate) counters: BackendCounters,
    pub(crate) backend: &'static str,
    pub(crate) network_error: Option<String>,
}

impl From<Flow> for FlowResult {
    fn from(flow: Flow) -> FlowResult {
        FlowResult {
            recorder: flow.recorder,
            checker: flow.checker,
            senders: flow.senders,
            not_sent: flow.not_sent,
            refused: flow.refused,
            excused: flow.excused,
            answered: flow.answered,
            total_senders: flow.total_senders,
        }
    }
}

impl<B: Backend, P> Worker<B, P> {
    pub(super) fn into_result(self) -> WorkerResult {
        let after = self.odds.cpu_after.unwrap_or_else(Share::read);
        let before = self.odds.cpu_before.unwrap_or(after);
        WorkerResult {
            role: self.to.duty.role,
            duty: self.to.duty,
            fleet: self.fleet.stats,
            flows: self.flows.into_iter().map(FlowResult::from).collect(),
            beats_sent: self.odds.beats_sent,
            beats_answered: self.odds.beats_answered,
            beats_measured: self.odds.beats_measured,
            beats_void: self.odds.beats_void,
            beat_latency: self.odds.beat_latency,
            churned: self.churn.completed,
            churned_measured: self.churn.measured,
            churn_missed: self.churn.missed,
            churn_operations: self.churn.operations,
            churn_latency: self.churn.latency,
            notices: self.odds.notices,
            violations: self.odds.violations,
            stalls: self.odds.stalls,
            cpu: after.cpu.saturating_sub(before.cpu),
            waited: after.waited.saturating_sub(before.waited),
            counters: self.backend.counters(),
            backend: self.backend.name(),
            network_error: self.odds.network_error,
        }
    }
}
