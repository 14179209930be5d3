//! What an abuse did, what the gateway answered, and which of the answers were wrong.

use crate::abuse::answers::ADDRESS;
use crate::answer_word::AnswerWord;
use crate::attacker::NEVER_TAKEN;
use crate::client::{Flood, Peer};
use crate::wire::Frame;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// At most so many kinds of answers are kept of one abuse; further ones are counted under `other`.
const ANSWERS_MAX: usize = 24;
const WRONG_MAX: usize = 8;

/// The attacker's side of an abuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How many of `unit` were done. 0: the abuse could not be tried.
    pub(crate) did: u64,
    pub(crate) unit: String,
    /// The answers and their numbers, in the words of [`crate::answer_word`], which the abuse's
    /// table judges.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Further remarks.
    pub(crate) notes: Vec<String>,
    /// Wrong answers.
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
        self.answered(what.into(), 1);
    }

    /// The same so many times.
    pub(crate) fn answered(&mut self, what: String, count: u64) {
        let known = self.answers.contains_key(&what) || self.answers.len() < ANSWERS_MAX;
        *self.answers.entry(if known { what } else { "other".into() }).or_insert(0) += count;
    }

    /// The word for a reply.
    pub(crate) fn reply(&mut self, frame: &Frame) {
        self.answer(AnswerWord::of_frame(frame).map_or("a push".into(), |word| word.to_string()));
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// Takes over the answers to the connections of a flood; those that have not been read are read
    /// now.
    pub(crate) fn flooded(&mut self, mut flood: Flood) {
        flood.last_words();
        flood.answers.iter().for_each(|(word, count)| self.answered(word.to_string(), count));
        let Flood { opened, ended, bytes_out, bytes_back, .. } = flood;
        self.note(format!(
            "{ended} of {opened} closed, {} KiB in, {} KiB back",
            bytes_out >> 10,
            bytes_back >> 10
        ));
    }

    /// The same for connections that were held open.
    pub(crate) fn held(&mut self, peers: Vec<Peer>) {
        self.flooded(Flood::new(peers, true));
    }

    /// Records `what` as wrong unless `right`.
    pub(crate) fn expect(&mut self, right: bool, what: impl Into<String>) {
        if !right && self.wrong.len() < WRONG_MAX {
            self.wrong.push(what.into());
        }
    }

    /// Takes over the results of logins from the same address, during the abuse and after it.
    pub(crate) fn neighbors(&mut self, seen: BTreeMap<String, u64>) {
        for (how, count) in seen {
            // A login that takes longer than its patience is due to the machine; the last one has
            // to be accepted.
            let is_refusal = how == NEVER_TAKEN || how.starts_with("login closed");
            let right = !is_refusal || ADDRESS.contains(&how.as_str());
            self.expect(right, format!("a neighbor's {how}"));
            self.note(format!("neighbors: {how} × {count}"));
        }
    }

    /// A short summary.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!("{} {}", self.did, self.unit);
        for (what, count) in &self.answers {
            text += &if *count == 1 { format!("; {what}") } else { format!("; {what} × {count}") };
        }
        self.notes.iter().for_each(|note| text += &format!("; {note}"));
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
        assert_eq!(outcome.answers["other"], 40 - ANSWERS_MAX as u64);
        outcome
            .neighbors(["taken", "login closed 3001", "login reset"].map(|how| (how.to_owned(), 1)).into());
        assert!(outcome.wrong.is_empty(), "{:?}", outcome.wrong);
        outcome.expect(true, "fine");
        outcome.expect(false, "bad");
        assert_eq!(outcome.wrong, ["bad"]);
        assert!(outcome.summary().starts_with("3 frames"));
        outcome.neighbors([NEVER_TAKEN, "login closed 3501"].map(|how| (how.to_owned(), 1)).into());
        assert_eq!(outcome.wrong.len(), 3);
    }
}
