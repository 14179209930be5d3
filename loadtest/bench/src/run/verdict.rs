//! What a bar came to, and why.

use crate::exit::Exit;
use serde::{Deserialize, Serialize};

/// What a bar came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The bar is met.
    Met,
    /// The bar is missed.
    Missed,
    /// A server answered wrongly.
    Failed,
    /// The measurement says nothing.
    Invalid,
    /// There is nothing to judge by.
    NoSamples,
}

impl Outcome {
    /// The exit code of a run with this outcome alone.
    pub fn exit(self) -> Exit {
        match self {
            Outcome::Met => Exit::Met,
            Outcome::Missed | Outcome::Failed => Exit::Missed,
            Outcome::Invalid => Exit::Invalid,
            Outcome::NoSamples => Exit::CouldNotRun,
        }
    }

    /// In a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Met => "met",
            Outcome::Missed => "missed",
            Outcome::Failed => "FAILED",
            Outcome::Invalid => "measurement invalid",
            Outcome::NoSamples => "no samples",
        }
    }
}

/// One bar in one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The bar.
    pub bar: String,
    /// The case.
    pub case: String,
    /// The measured value, with its quartiles and what others used of the processors.
    pub found: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, where it is not met; a remark, where it is.
    pub reason: String,
}
