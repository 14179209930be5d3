//! Why the generator could not run, always with advice; and the exit codes.

use std::fmt;

/// A run that could not start, or could not go on.
#[derive(Debug)]
pub struct RunError {
    what: String,
    advice: String,
    /// The run went on for a while, and its measurement is invalid.
    is_invalid: bool,
}

impl RunError {
    /// An error from what is wrong, and what to do about it.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> RunError {
        RunError { what: what.into(), advice: advice.into(), is_invalid: false }
    }

    /// Makes it an error of the measurement: something that it needs went away meanwhile.
    pub(crate) fn of_measurement(self) -> RunError {
        RunError { is_invalid: true, ..self }
    }

    /// Why the measurement is invalid; `None` for one that was never begun.
    pub(crate) fn invalid(&self) -> Option<&str> {
        self.is_invalid.then_some(self.what.as_str())
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  → {}", self.what, self.advice)
    }
}

impl std::error::Error for RunError {}

/// The outcome of a whole run, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All goals met, nothing lost, nothing out of place.
    Met,
    /// A goal missed or a delivery rule broken.
    Missed,
    /// Could not run: bad flags, server unreachable, too few descriptors.
    CouldNotRun,
    /// No fault was found, but times cannot be judged: the generator stood still or was late.
    Invalid,
    /// No fault was found, but a goal, or the run, has nothing to judge it by.
    NoSamples,
}

impl Exit {
    /// The exit code: 0 to 4.
    pub fn code(self) -> u8 {
        match self {
            Exit::Met => 0,
            Exit::Missed => 1,
            Exit::CouldNotRun => 2,
            Exit::Invalid => 3,
            Exit::NoSamples => 4,
        }
    }
}
