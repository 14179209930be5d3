//! Why the suite could not run, and its exit codes.

use std::fmt;

/// A run that could not start or go on: what is wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct RunError {
    what: String,
    advice: String,
}

impl RunError {
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> RunError {
        RunError { what: what.into(), advice: advice.into() }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  → {}", self.what, self.advice)
    }
}

impl std::error::Error for RunError {}

/// The outcome of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every abuse held.
    Held,
    /// A bystander noticed an abuse, an answer was wrong, or something was left behind.
    Noticed,
    /// The suite could not run: bad flags, no gateway, too few descriptors, an abuse that could not
    /// be tried.
    CouldNotRun,
}

impl Exit {
    /// The exit code: 0, 1 or 2.
    pub fn code(self) -> u8 {
        match self {
            Exit::Held => 0,
            Exit::Noticed => 1,
            Exit::CouldNotRun => 2,
        }
    }
}
