//! The verdict on a whole run, as an exit code.

use crate::client::Problem;
use std::fmt::{self, Display};

/// How a run ended. Of several endings the first in this order is the run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// A command that says something else than what there is.
    WrongUse,
    /// A bar was missed, or a server answered wrongly.
    Missed,
    /// No bar was missed, but a measurement says nothing: other processes used the processors, or
    /// the generator was the bottleneck.
    Invalid,
    /// Something could not be run, or a window has no samples.
    CouldNotRun,
    /// All bars are met.
    Met,
}

impl Exit {
    /// The exit code: 0 to 4.
    pub fn code(self) -> u8 {
        match self {
            Exit::Met => 0,
            Exit::Missed => 1,
            Exit::WrongUse => 2,
            Exit::Invalid => 3,
            Exit::CouldNotRun => 4,
        }
    }
}

/// Why a command did not come to a verdict.
#[derive(Debug)]
pub struct Failure {
    /// Wrong use, or what could not be run.
    pub exit: Exit,
    /// The reason, with what to do instead.
    pub text: String,
}

impl Failure {
    /// A wrong use of the command.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::WrongUse, text: text.into() }
    }

    /// Documents that differ from their reports.
    pub fn missed(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Missed, text: text.into() }
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure { exit: Exit::CouldNotRun, text: error.to_string() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure { exit: Exit::CouldNotRun, text: problem.0 }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure { exit: Exit::CouldNotRun, text: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_outweighs_what_is_invalid_and_both_outweigh_what_did_not_run() {
        let worst = |all: &[Exit]| all.iter().copied().min().unwrap().code();
        assert_eq!(worst(&[Exit::Met, Exit::Invalid, Exit::Missed, Exit::CouldNotRun]), 1);
        assert_eq!(worst(&[Exit::Met, Exit::CouldNotRun, Exit::Invalid]), 3);
        assert_eq!(worst(&[Exit::CouldNotRun, Exit::Met]), 4);
        assert_eq!(worst(&[Exit::Met]), 0);
        assert_eq!(Exit::WrongUse.code(), 2);
    }
}
