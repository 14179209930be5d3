//! Each message once and in order: numbers that senders write and receivers check.
//!
//! A flow is what one sender sends to one receiver in one way. Numbers begin at 0 with each
//! connection of the sender (its generation). A receiver that had to reconnect accepts whatever
//! comes first: its loss was counted as a closed connection.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

const MAGIC: &[u8; 8] = b"bystand1";
const HEAD_SIZE: usize = 44;
/// Refused numbers that a flow remembers.
const REFUSED_MAX: usize = 256;

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    Own = 0,
    Peer = 1,
    Room = 2,
    Push = 3,
}

/// The content of a bystander's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) way: Way,
    pub(crate) from: u32,
    pub(crate) generation: u32,
    pub(crate) number: u64,
    /// Since the start of the bystanders.
    pub(crate) sent_at: Duration,
}

impl Stamp {
    /// The payload: the stamp, and a filler whose size depends on the number.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_SIZE + 320);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[self.way as u8, 0, 0, 0]);
        out.extend_from_slice(&self.from.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&(self.sent_at.as_nanos() as u64).to_be_bytes());
        let filler = (self.number % 4 * 80) as u32;
        out.extend_from_slice(&filler.to_be_bytes());
        out.extend((0..filler).map(|_| self.number as u8));
        // A check of the whole would add nothing: a changed byte of the filler is found, and so is
        // its length.
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// `None`: not a bystander's payload. `Some(None)`: one that was damaged.
    pub(crate) fn parse(payload: &[u8]) -> Option<Option<Stamp>> {
        let rest = payload.strip_prefix(MAGIC)?;
        Some(Stamp::parse_rest(rest))
    }

    fn parse_rest(rest: &[u8]) -> Option<Stamp> {
        let word = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        let way = match rest.first()? {
            0 => Way::Own,
            1 => Way::Peer,
            2 => Way::Room,
            3 => Way::Push,
            _ => return None,
        };
        let (number, filler) = (long(12)?, word(28)? as usize);
        let body = rest.get(32..)?;
        let whole = body.len() == filler + 4 && body[..filler].iter().all(|byte| *byte == number as u8);
        whole.then_some(Stamp {
            way,
            from: word(4)?,
            generation: word(8)?,
            number,
            sent_at: Duration::from_nanos(long(20)?),
        })
    }
}

/// What a receiver expects next of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Anything,
    Number { generation: u32, number: u64 },
}

/// What was wrong with a message's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    InOrder,
    /// So many before it are missing.
    Gap(u64),
    /// The message, or a later one, came before.
    Again,
}

/// Numbers of all flows, of sender and receiver.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    sent: HashMap<(Way, u32, u32), (u32, u64)>,
    next: HashMap<(Way, u32, u32), Next>,
    /// Receivers that had to reconnect.
    rejoined: HashSet<u32>,
    /// Numbers that the gateway refused with an answer, the newest of each flow: they are not lost.
    refused: HashMap<(Way, u32, u32), Vec<u64>>,
}

impl Flows {
    /// The number of the next message of this flow; `to` is 0 for rooms.
    pub(crate) fn number(&mut self, way: Way, from: u32, to: u32, generation: u32) -> u64 {
        let (known, next) = self.sent.entry((way, from, to)).or_insert((generation, 0));
        if *known != generation {
            (*known, *next) = (generation, 0);
        }
        *next += 1;
        *next - 1
    }

    /// Takes the last number back: the gateway refused it with an answer.
    pub(crate) fn take_back(&mut self, way: Way, from: u32, to: u32) {
        if let Some((_, next)) = self.sent.get_mut(&(way, from, to)) {
            *next = next.saturating_sub(1);
        }
    }

    /// Notes that the gateway refused a message with an answer: no receiver has to get it.
    pub(crate) fn refused(&mut self, way: Way, from: u32, to: u32, number: u64) {
        let numbers = self.refused.entry((way, from, to)).or_default();
        if numbers.len() == REFUSED_MAX {
            numbers.remove(0);
        }
        numbers.push(number);
    }

    /// How many of these numbers were not refused.
    fn not_refused(&self, stamp: &Stamp, to: u32, numbers: std::ops::Range<u64>) -> u64 {
        let to = if stamp.way == Way::Room { 0 } else { to };
        let refused = self.refused.get(&(stamp.way, stamp.from, to));
        let excused = refused.map_or(0, |all| all.iter().filter(|number| numbers.contains(number)).count());
        (numbers.end - numbers.start).saturating_sub(excused as u64)
    }

    /// Judges a message that `to` received.
    pub(crate) fn receive(&mut self, stamp: &Stamp, to: u32) -> Verdict {
        let key = (stamp.way, stamp.from, to);
        let from_zero = Next::Number { generation: stamp.generation, number: 0 };
        let first = if self.rejoined.contains(&to) { Next::Anything } else { from_zero };
        let next = *self.next.get(&key).unwrap_or(&first);
        let verdict = match next {
            Next::Anything => Verdict::InOrder,
            Next::Number { generation, number } => {
                let expected = if stamp.generation == generation { number } else { 0 };
                if stamp.generation < generation || stamp.number < expected {
                    return Verdict::Again;
                }
                match self.not_refused(stamp, to, expected..stamp.number) {
                    0 => Verdict::InOrder,
                    missing => Verdict::Gap(missing),
                }
            }
        };
        self.next.insert(key, Next::Number { generation: stamp.generation, number: stamp.number + 1 });
        verdict
    }

    /// Notes that `to` has a new connection.
    pub(crate) fn reconnected(&mut self, to: u32) {
        self.rejoined.insert(to);
        for (key, next) in &mut self.next {
            if key.2 == to {
                *next = Next::Anything;
            }
        }
    }

    /// Messages that were sent and not received, once nothing is sent any more and everything has
    /// had time to arrive. Rooms are judged at each member that received from that sender before;
    /// others by what was sent to them.
    pub(crate) fn missing(&self) -> Vec<(Way, u32, u32, u64)> {
        let mut missing = vec![];
        for (&(way, from, to), &(generation, sent)) in &self.sent {
            let receivers: Vec<u32> = match way {
                Way::Room => {
                    self.next.keys().filter(|key| (key.0, key.1) == (way, from)).map(|key| key.2).collect()
                }
                _ => vec![to],
            };
            for to in receivers {
                let received = match self.next.get(&(way, from, to)) {
                    Some(Next::Anything) => continue,
                    Some(Next::Number { generation: known, number }) if *known == generation => *number,
                    None if self.rejoined.contains(&to) => continue,
                    _ => 0,
                };
                let stamp = Stamp { way, from, generation, number: sent, sent_at: Duration::ZERO };
                let lost = self.not_refused(&stamp, to, received.min(sent)..sent);
                if lost > 0 {
                    missing.push((way, from, to, lost));
                }
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(generation: u32, number: u64) -> Stamp {
        Stamp { way: Way::Peer, from: 4, generation, number, sent_at: Duration::from_micros(7) }
    }

    #[test]
    fn a_stamp_survives_its_payload_and_damage_is_seen() {
        for number in 0..5 {
            let payload = stamp(1, number).payload();
            assert_eq!(Stamp::parse(&payload), Some(Some(stamp(1, number))));
            assert_eq!(Stamp::parse(&payload[..payload.len() - 1]), Some(None));
        }
        let mut payload = stamp(1, 3).payload();
        payload[60] ^= 1;
        assert_eq!(Stamp::parse(&payload), Some(None));
        assert_eq!(Stamp::parse(b"something else"), None);
    }

    #[test]
    fn gaps_doubles_and_reorders_are_found() {
        let mut flows = Flows::default();
        let mut verdicts = |numbers: &[u64]| -> Vec<Verdict> {
            numbers.iter().map(|number| flows.receive(&stamp(0, *number), 5)).collect()
        };
        assert_eq!(verdicts(&[0, 1]), [Verdict::InOrder, Verdict::InOrder]);
        assert_eq!(
            verdicts(&[3, 2, 3, 4]),
            [Verdict::Gap(1), Verdict::Again, Verdict::Again, Verdict::InOrder]
        );
    }

    #[test]
    fn a_first_message_that_is_missing_is_found() {
        assert_eq!(Flows::default().receive(&stamp(0, 2), 5), Verdict::Gap(2));
    }

    #[test]
    fn what_was_refused_is_not_lost() {
        let mut flows = Flows::default();
        flows.refused(Way::Peer, 4, 5, 1);
        assert_eq!(flows.receive(&stamp(0, 0), 5), Verdict::InOrder);
        assert_eq!(flows.receive(&stamp(0, 2), 5), Verdict::InOrder);
        flows.refused(Way::Peer, 4, 5, 4);
        assert_eq!(flows.receive(&stamp(0, 5), 5), Verdict::Gap(1), "3 was not refused");
    }

    #[test]
    fn connections_that_are_new_begin_anew() {
        let mut flows = Flows::default();
        assert_eq!(flows.number(Way::Peer, 4, 5, 0), 0);
        flows.receive(&stamp(0, 0), 5);
        assert_eq!(flows.number(Way::Peer, 4, 5, 1), 0, "the sender's connection is new");
        assert_eq!(flows.receive(&stamp(1, 0), 5), Verdict::InOrder);
        flows.reconnected(5);
        assert_eq!(flows.receive(&stamp(1, 9), 5), Verdict::InOrder, "the receiver's is");
        assert_eq!(flows.receive(&stamp(1, 11), 5), Verdict::Gap(1));
    }

    #[test]
    fn what_is_missing_at_the_end_is_found() {
        let mut flows = Flows::default();
        for _ in 0..3 {
            flows.number(Way::Peer, 4, 5, 0);
        }
        assert_eq!(flows.missing(), [(Way::Peer, 4, 5, 3)]);
        flows.receive(&stamp(0, 0), 5);
        assert_eq!(flows.missing(), [(Way::Peer, 4, 5, 2)]);
        for number in 1..3 {
            flows.receive(&stamp(0, number), 5);
        }
        assert_eq!(flows.missing(), []);
        flows.number(Way::Peer, 4, 5, 0);
        flows.reconnected(5);
        assert_eq!(flows.missing(), [], "a closed connection was counted as such");
    }
}
