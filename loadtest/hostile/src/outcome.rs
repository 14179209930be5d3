//! What an abuse did, what the gateway answered, and which of the answers were wrong.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kinds of answers kept of one abuse; more are counted under `other`.
const ANSWERS_MAX: usize = 12;
const WRONG_MAX: usize = 8;

/// The attacker's side of an abuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How many of `unit` were done. 0: the abuse could not be tried.
    pub(crate) did: u64,
    pub(crate) unit: String,
    /// What was answered, and how often.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Answers that are not the right ones.
    pub(crate) wrong: Vec<String>,
}

impl Outcome {
    pub(crate) fn of(unit: &str) -> Outcome {
        Outcome { unit: unit.into(), ..Outcome::default() }
    }

    pub(crate) fn did(mut self, count: u64) -> Outcome {
        self.did += count;
        self
    }

    pub(crate) fn add(&mut self, count: u64) {
        self.did += count;
    }

    pub(crate) fn answer(&mut self, what: impl Into<String>) {
        let what = what.into();
        let known = self.answers.contains_key(&what) || self.answers.len() < ANSWERS_MAX;
        *self.answers.entry(if known { what } else { "other".into() }).or_insert(0) += 1;
    }

    /// Records `what` as wrong unless `right`.
    pub(crate) fn expect(&mut self, right: bool, what: impl Into<String>) {
        if !right && self.wrong.len() < WRONG_MAX {
            self.wrong.push(what.into());
        }
    }

    /// In a few words.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!("{} {}", self.did, self.unit);
        for (what, count) in &self.answers {
            text += &if *count == 1 { format!("; {what}") } else { format!("; {what} × {count}") };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_and_summed() {
        let mut outcome = Outcome::of("frames").did(3);
        (0..40).for_each(|number| outcome.answer(format!("code {number}")));
        assert_eq!(outcome.answers.len(), ANSWERS_MAX + 1);
        assert_eq!(outcome.answers["other"], 28);
        outcome.expect(true, "fine");
        outcome.expect(false, "bad");
        assert_eq!(outcome.wrong, ["bad"]);
        assert!(outcome.summary().starts_with("3 frames"));
    }
}
