//! Answers to the requests of one flow, matched to them one by one: messages of clients that the
//! server acknowledges (SendMessage), and pushes over HTTP.
//!
//! A SendMessage has a number on its connection, which its answer brings back. Answers may come in
//! any order, because receivers are in different places; each must come once. HTTP answers have no
//! number: they come in the order of the requests, so what is missing shows at the end.

use crate::numbers::{Arrival, Gaps, number_of};
use crate::report::Answers as Counts;
use serde::{Deserialize, Serialize};

/// Stands in place of an expected number: this connection asks nothing.
const ABSENT: u32 = u32::MAX;

/// See the module's text.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// The number of the next answer to each connection; empty where requests are not numbered.
    expected: Vec<u32>,
    gaps: Gaps,
    /// Requests that are answered only if they fail, by the number of this worker's last.
    pub(super) quiet: u32,
    pub(crate) counts: Counts,
}

impl Answers {
    /// For so many connections, of which these send and are answered.
    pub(super) fn of(connections: usize, senders: impl Iterator<Item = u32>) -> Answers {
        let mut expected = vec![ABSENT; connections];
        senders.for_each(|local| expected[local as usize] = 0);
        Answers { expected, ..Answers::default() }
    }

    /// Takes the answer with this sequence to connection `local` (run-wide `global`), which has
    /// asked `asked` times on `stream`. False when that stream knows no such request.
    pub(super) fn take(&mut self, local: u32, global: u32, stream: u8, sequence: u32, asked: u32) -> bool {
        let number = number_of(sequence, global, stream);
        if number >= asked {
            return false;
        }
        let Some(expected) = self.expected.get_mut(local as usize) else {
            self.counts.answered += 1;
            return true;
        };
        if *expected == ABSENT {
            return false;
        }
        match self.gaps.take(local, 0, expected, number) {
            Arrival::Again => self.counts.duplicated += 1,
            Arrival::Next | Arrival::Ahead(_) | Arrival::Late => self.counts.answered += 1,
        }
        true
    }

    /// Whether every request is answered.
    pub(crate) fn are_due(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Requests of connection `local`, which asked `asked` times, that are behind the last answer.
    pub(crate) fn behind(&self, local: u32, asked: u32) -> u64 {
        let expected = self.expected.get(local as usize).filter(|expected| **expected != ABSENT);
        expected.map_or(0, |expected| u64::from(asked.saturating_sub(*expected)))
    }

    /// Requests before the last answers that were not answered.
    pub(crate) fn skipped(&self) -> u64 {
        self.gaps.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::ticket;

    #[test]
    fn an_answer_counts_for_its_own_request_and_a_doubled_one_hides_no_lost_one() {
        let mut answers = Answers::of(3, [1].into_iter());
        let mut take = |local, number| answers.take(local, 10 + local, 0, ticket(11, 0, number), 5);
        assert!(take(1, 0) && take(1, 2) && take(1, 1), "any order");
        assert!(take(1, 2), "twice");
        assert!(!take(1, 5), "not asked yet");
        assert!(!take(2, 3), "of another connection");
        assert_eq!((answers.behind(1, 5), answers.skipped()), (2, 0));
        assert_eq!((answers.counts.answered, answers.counts.duplicated), (3, 1));
    }
}
