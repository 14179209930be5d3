//! What a worker returns at its end.

use super::answers::Answers;
use super::flow::{Flow, Sender};
use super::recorder::Recorder;
use super::{StageStats, Worker};
use crate::conservation::Checker;
use crate::plan::{Duty, Role};
use netpoll::{Backend, BackendCounters};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The counters of a backend that reports have, between processes.
mod counters {
    use netpoll::BackendCounters;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        counters: &BackendCounters,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let BackendCounters { polls, receives, sends, send_waits, .. } = *counters;
        [polls, receives, sends, send_waits].serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BackendCounters, D::Error> {
        let [polls, receives, sends, send_waits] = Deserialize::deserialize(deserializer)?;
        Ok(BackendCounters { polls, receives, sends, send_waits, ..BackendCounters::default() })
    }
}

/// One flow on one worker.
#[derive(Serialize, Deserialize)]
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
#[derive(Serialize, Deserialize)]
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
    #[serde(with = "counters")]
    pub(crate) counters: BackendCounters,
    pub(crate) backend: String,
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
            backend: self.backend.name().to_owned(),
            network_error: self.counts.network_error,
        };
        (result, self.backend)
    }
}
