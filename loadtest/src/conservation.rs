//! The delivery check: each message once, in order by sender, to the right receivers, and nothing
//! else.
//!
//! A receiver expects the next sequence number of every sender (slot) of its audience (`numbers`).
//! At the end the numbers that senders reached are compared with those that receivers expect: the
//! difference is lost. Memory is four bytes per receiver and slot, and a bounded set of gaps.

use crate::numbers::{Arrival, Gaps};
use crate::stamp::Stamp;
use serde::{Deserialize, Serialize};

/// Violations described in words.
const EXAMPLES_MAX: usize = 8;
/// Stands in place of an expected number: this receiver takes no part.
const ABSENT: u32 = u32::MAX;

/// The counts of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Delivered for the first time.
    pub(crate) delivered: u64,
    /// Delivered again.
    pub(crate) duplicated: u64,
    /// Delivered, but behind a later one of the same sender.
    pub(crate) reordered: u64,
    /// For another audience, another run, or a sender that does not exist.
    pub(crate) misdelivered: u64,
    /// Payload damaged, or of the wrong size.
    pub(crate) damaged: u64,
    /// Never delivered; known at the end.
    pub(crate) lost: u64,
}

impl Counts {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.misdelivered += other.misdelivered;
        self.damaged += other.damaged;
        self.lost += other.lost;
    }
}

/// What a message counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Delivered, in order or late.
    Delivered,
    /// Not delivered by the rules.
    Refused,
}

/// One worker's check of one flow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checker {
    run: u32,
    slots: u16,
    expected: Vec<u32>,
    gaps: Gaps,
    counts: Counts,
    examples: Vec<String>,
}

impl Checker {
    /// The check for `receivers` receivers with `slots` senders each. All receivers are absent
    /// until [`Checker::admit`].
    pub(crate) fn new(run: u32, receivers: usize, slots: u16) -> Checker {
        let expected = vec![ABSENT; receivers * usize::from(slots)];
        let gaps = Gaps::default();
        Checker { run, slots, expected, gaps, counts: Counts::default(), examples: Vec::new() }
    }

    /// Admits the receiver: from now on every message is owed to it, beginning with sequence 0.
    pub(crate) fn admit(&mut self, receiver: u32) {
        let slots = usize::from(self.slots);
        let first = receiver as usize * slots;
        self.expected[first..first + slots].fill(0);
    }

    /// Judges a message that arrived at `receiver`, a member of `audience`.
    pub(crate) fn check(&mut self, receiver: u32, audience: u32, stamp: &Stamp) -> Verdict {
        let stream = receiver as usize * usize::from(self.slots) + usize::from(stamp.slot);
        let known = stamp.slot < self.slots && stamp.audience == audience && stamp.run == self.run;
        let Some(expected) = self.expected.get_mut(stream).filter(|next| known && **next != ABSENT) else {
            self.counts.misdelivered += 1;
            let what = if stamp.run == self.run { "for another receiver" } else { "of another run" };
            self.describe(receiver, what, stamp);
            return Verdict::Refused;
        };
        match self.gaps.take(receiver, stamp.slot, expected, stamp.sequence) {
            Arrival::Next => {}
            Arrival::Ahead(missing) => {
                self.describe(receiver, &format!("came with {missing} missing before it"), stamp);
            }
            Arrival::Late => {
                self.counts.reordered += 1;
                self.describe(receiver, "out of order", stamp);
            }
            Arrival::Again => {
                self.counts.duplicated += 1;
                self.describe(receiver, "delivered twice", stamp);
                return Verdict::Refused;
            }
        }
        self.counts.delivered += 1;
        Verdict::Delivered
    }

    /// Counts a payload that could not be read.
    pub(crate) fn damaged(&mut self, receiver: u32, size: usize) {
        self.counts.damaged += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("receiver {receiver}: damaged payload of {size} B"));
        }
    }

    /// Counts a message for another.
    pub(crate) fn stray(&mut self, receiver: u32, stamp: &Stamp) {
        self.counts.misdelivered += 1;
        self.describe(receiver, "for another receiver", stamp);
    }

    fn describe(&mut self, receiver: u32, what: &str, stamp: &Stamp) {
        if self.examples.len() < EXAMPLES_MAX {
            let Stamp { audience, slot, sequence, .. } = stamp;
            self.examples.push(format!(
                "receiver {receiver}: message {sequence} of sender {slot} to audience {audience} {what}"
            ));
        }
    }

    /// The run whose messages it accepts.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// The first violations, in words.
    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }

    /// Names the numbers that never came, of each receiver and slot, of which `sent` went out.
    pub(crate) fn missing(
        &self,
        sent: impl Fn(u32, u16) -> u32,
        mut each: impl FnMut(u32, u16, std::ops::Range<u32>),
    ) {
        self.gaps.remembered().for_each(|(receiver, slot, number)| each(receiver, slot, number..number + 1));
        for (stream, expected) in self.expected.iter().enumerate().filter(|(_, next)| **next != ABSENT) {
            let slots = usize::from(self.slots);
            let (receiver, slot) = ((stream / slots) as u32, (stream % slots) as u16);
            let sent = sent(receiver, slot);
            if *expected < sent {
                each(receiver, slot, *expected..sent);
            }
        }
    }

    /// Compares with the end: `audience_of` returns a receiver's audience, `sent` the number of
    /// messages that a slot of an audience sent. Returns the final counts, and how many deliveries
    /// were owed.
    pub(crate) fn reconcile(
        &self,
        audience_of: impl Fn(u32) -> u32,
        sent: impl Fn(u32, u16) -> u32,
    ) -> (Counts, u64) {
        let mut counts = self.counts;
        counts.lost = self.gaps.count();
        let mut owed = 0;
        for (stream, expected) in self.expected.iter().enumerate().filter(|(_, next)| **next != ABSENT) {
            let slots = usize::from(self.slots);
            let (receiver, slot) = ((stream / slots) as u32, (stream % slots) as u16);
            let sent = sent(audience_of(receiver), slot);
            owed += u64::from(sent);
            counts.lost += u64::from(sent.saturating_sub(*expected));
            // More arrived than was ever sent: sequence numbers were invented on the way.
            counts.misdelivered += u64::from(expected.saturating_sub(sent));
        }
        (counts, owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u32) -> Stamp {
        Stamp { run: 1, audience: 9, sequence, slot: 0, flow: 0, intended: 0 }
    }

    /// Ten messages are sent; what arrives is given. Returns the reconciled counts.
    fn after(arrivals: &[u32]) -> Counts {
        let mut checker = Checker::new(1, 1, 1);
        checker.admit(0);
        for sequence in arrivals {
            checker.check(0, 9, &stamp(*sequence));
        }
        checker.reconcile(|_| 9, |_, _| 10).0
    }

    #[test]
    fn a_faithful_server_passes() {
        let counts = after(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(counts, Counts { delivered: 10, ..Counts::default() });
    }

    #[test]
    fn each_mutation_is_caught_by_its_own_count() {
        let dropped = after(&[0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!(dropped, Counts { delivered: 9, lost: 1, ..Counts::default() });
        let tail_dropped = after(&[0, 1, 2]);
        assert_eq!(tail_dropped, Counts { delivered: 3, lost: 7, ..Counts::default() });
        let duplicated = after(&[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(duplicated, Counts { delivered: 10, duplicated: 1, ..Counts::default() });
        let reordered = after(&[0, 1, 3, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!(reordered, Counts { delivered: 10, reordered: 1, ..Counts::default() });
        let late_and_twice = after(&[0, 1, 3, 2, 2, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            late_and_twice,
            Counts { delivered: 10, reordered: 1, duplicated: 1, ..Counts::default() }
        );
        let invented = after(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(invented.misdelivered, 1);
    }

    #[test]
    fn the_wrong_receiver_run_and_sender_are_caught() {
        let mut checker = Checker::new(1, 2, 1);
        checker.admit(0);
        assert_eq!(checker.check(0, 8, &stamp(0)), Verdict::Refused, "another audience");
        assert_eq!(checker.check(0, 9, &Stamp { run: 2, ..stamp(0) }), Verdict::Refused);
        assert_eq!(checker.check(0, 9, &Stamp { slot: 1, ..stamp(0) }), Verdict::Refused);
        assert_eq!(checker.check(1, 9, &stamp(0)), Verdict::Refused, "not admitted");
        assert_eq!(checker.counts, Counts { misdelivered: 4, ..Counts::default() });
        assert_eq!(checker.examples().len(), 4);
    }

    #[test]
    fn an_absent_receiver_is_owed_nothing() {
        let mut checker = Checker::new(1, 3, 2);
        checker.admit(1);
        let (counts, owed) = checker.reconcile(|_| 9, |_, slot| 5 + u32::from(slot));
        assert_eq!((counts.lost, owed), (11, 11));
    }
}
