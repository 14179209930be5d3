//! What a worker returns at its end.

use super::answers::Answers;
use super::flow::{Flow, Sender};
use super::recorder::Recorder;
use super::{StageStats, Worker};
use crate::conservation::Checker;
use crate::plan::{Duty, Role};
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
    pub(crate) answers: Answers,
    pub(crate) total_senders: u32,
    pub(crate) held: (u64, u64),
}

/// Everything of one worker.
pub(crate) struct WorkerResult {
    pub(crate) role: Role,
    pub(crate) duty: Duty,
    /// Its stages have the thread's share of the processors.
    pub(crate) counts_thread: bool,
    /// The stages: first the opening, then each stage.
    pub(crate) stages: Vec<StageStats>,
    pub(crate) flows: Vec<FlowResult>,
    pub(crate) notices: BTreeMap<String, u64>,
    pub(crate) violations: BTreeMap<String, u64>,
    pub(crate) stalls: u64,
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
            answers: flow.answers,
            total_senders: flow.total_senders,
            held: flow.room.held,
        }
    }
}

impl<B: Backend, P> Worker<B, P> {
    /// The result, and the backend, which may have work left.
    pub(super) fn into_result(self) -> (WorkerResult, B) {
        let result = WorkerResult {
            role: self.to.duty.role,
            duty: self.to.duty,
            counts_thread: self.to.counts_thread,
            stages: self.finished,
            flows: self.flows.into_iter().map(FlowResult::from).collect(),
            notices: self.counts.notices,
            violations: self.counts.violations,
            stalls: self.counts.stalls,
            counters: self.backend.counters(),
            backend: self.backend.name(),
            network_error: self.counts.network_error,
        };
        (result, self.backend)
    }
}
