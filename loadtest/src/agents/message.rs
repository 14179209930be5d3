//! What a coordinator and an agent say to each other.

use crate::settings::Settings;
use crate::worker::WorkerResult;
use crate::worker::control::{Interval, Readings, Window};
use serde::{Deserialize, Serialize};

/// A part of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// Both must be of one version, so that they make the same plan.
    pub(super) version: String,
    /// The scenario's file.
    pub(super) scenario: String,
    pub(super) settings: Settings,
    /// It is no part of stored settings.
    pub(super) token: Option<String>,
    /// The number of the run.
    pub(super) run: u32,
    /// This agent, and how many there are.
    pub(super) index: u32,
    pub(super) of: u32,
}

/// The coordinator's orders.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Job(Box<Job>),
    /// Asks for the time; the number is the coordinator's.
    Ping(u64),
    /// Starts the workers, with a clock that is ahead by so much.
    Start {
        ahead: i64,
    },
    Stage(Window),
    /// Moves the end of a stage.
    End {
        stage: usize,
        time: u64,
    },
    Finish,
}

/// An agent's news.
#[derive(Serialize, Deserialize)]
pub(super) enum News {
    Ready,
    Refused(String),
    Pong {
        asked: u64,
        own: u64,
    },
    Readings(Readings),
    Interval {
        flow: usize,
        interval: Interval,
    },
    Results(Vec<WorkerResult>),
    /// Its workers could not go on.
    Failed(String),
}
