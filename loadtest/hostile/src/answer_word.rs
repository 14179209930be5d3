//! What a gateway answered, in few words: the same words for a table's right answers and for what
//! came.
//!
//! | word | means |
//! | --- | --- |
//! | `closed 3500` | the last word, in a Closed or a close frame |
//! | `error 501` | an Error frame |
//! | `answered 404` | a reply with a code that is not 0 |
//! | `taken` | a reply with code 0, or one that has no code |
//! | `200` | a status of HTTP |
//! | `ended`, `reset` | the end of the connection without a last word |
//! | `malformed` | bytes that no gateway may send |

use crate::wire::{Frame, Item, op};
use std::collections::BTreeMap;
use std::fmt;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AnswerWord {
    Closed(i32),
    Error(i32),
    Answered(i32),
    Taken,
    Status(u16),
    Ended,
    Reset,
    Malformed,
}

impl AnswerWord {
    /// `None`: it answers nothing, as a push.
    pub(crate) fn of(item: &Item) -> Option<AnswerWord> {
        match item {
            Item::Frame(frame) => AnswerWord::of_frame(frame),
            Item::Close(code) => Some(AnswerWord::Closed(i32::from(*code))),
            Item::Pong => Some(AnswerWord::Taken),
            Item::Ping(_) => None,
        }
    }

    /// The same of a frame.
    pub(crate) fn of_frame(frame: &Frame) -> Option<AnswerWord> {
        Some(match frame.operation {
            op::CLOSED => AnswerWord::Closed(frame.code()),
            op::ERROR => AnswerWord::Error(frame.code()),
            op::SEND_REPLY | op::PUBLISH_REPLY | op::JOIN_REPLY | op::LEAVE_REPLY if frame.code() != 0 => {
                AnswerWord::Answered(frame.code())
            }
            op::DELIVER | op::RECONNECT => return None,
            operation if operation >= op::PUSH => return None,
            _ => AnswerWord::Taken,
        })
    }
}

impl fmt::Display for AnswerWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerWord::Closed(code) => write!(f, "closed {code}"),
            AnswerWord::Error(code) => write!(f, "error {code}"),
            AnswerWord::Answered(code) => write!(f, "answered {code}"),
            AnswerWord::Taken => f.write_str("taken"),
            AnswerWord::Status(status) => write!(f, "{status}"),
            AnswerWord::Ended => f.write_str("ended"),
            AnswerWord::Reset => f.write_str("reset"),
            AnswerWord::Malformed => f.write_str("malformed"),
        }
    }
}

/// Answers, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<AnswerWord, u64>);

impl Tally {
    pub(crate) fn add(&mut self, word: AnswerWord) {
        *self.0.entry(word).or_insert(0) += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AnswerWord, u64)> + '_ {
        self.0.iter().map(|(word, count)| (*word, *count))
    }
}

/// Cuts responses of HTTP/1.1 out of a stream: their statuses. Bodies have a length.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    head: Vec<u8>,
    /// Bytes of the body that are still to come.
    body: usize,
}

/// No gateway sends a longer head.
const HEAD_SIZE_MAX: usize = 16 << 10;

impl Responses {
    pub(crate) fn push(&mut self, mut bytes: &[u8], tally: &mut Tally) {
        while !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            let Some(size) = self.take_head(bytes) else { return };
            bytes = &bytes[size..];
            let word = self.parse_head().unwrap_or(AnswerWord::Malformed);
            self.head.clear();
            tally.add(word);
            if word == AnswerWord::Malformed {
                return;
            }
        }
    }

    /// Adds what belongs to the head; how much that was, once the head is whole.
    fn take_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let before = self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_SIZE_MAX)]);
        let from = before.saturating_sub(3);
        let end = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
        match end {
            Some(end) => {
                self.head.truncate(end);
                Some(end - before)
            }
            None if self.head.len() > HEAD_SIZE_MAX => Some(bytes.len().min(HEAD_SIZE_MAX)),
            None => None,
        }
    }

    fn parse_head(&mut self) -> Option<AnswerWord> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        self.body = length.map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
        Some(AnswerWord::Status(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    #[test]
    fn responses_are_counted_however_they_are_cut_and_bodies_are_none() {
        let one = "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nHTTP/1.1 999 a body\r\n\r\n1234567";
        let two = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        let all = [one, two, one].concat();
        for size in [1, 7, all.len()] {
            let (mut responses, mut tally) = (Responses::default(), Tally::default());
            all.as_bytes().chunks(size).for_each(|chunk| responses.push(chunk, &mut tally));
            let found: Vec<_> = tally.iter().collect();
            assert_eq!(found, [(AnswerWord::Status(200), 2), (AnswerWord::Status(503), 1)], "{size}");
        }
        let (mut responses, mut tally) = (Responses::default(), Tally::default());
        responses.push(b"garbage\r\n\r\n", &mut tally);
        assert_eq!(tally.iter().collect::<Vec<_>>(), [(AnswerWord::Malformed, 1)]);
    }

    #[test]
    fn answers_have_their_words() {
        let word = |operation, body: &[u8]| {
            let bytes = frame(operation, 1, body);
            let item = Frame { operation, sequence: 1, body: bytes[16..].to_vec() };
            AnswerWord::of_frame(&item).map(|word| word.to_string())
        };
        assert_eq!(word(op::CLOSED, &[0x0d, 0xac]).as_deref(), Some("closed 3500"));
        assert_eq!(word(op::ERROR, &[1, 0xad]).as_deref(), Some("error 429"));
        assert_eq!(word(op::SEND_REPLY, &[0, 0, 1, 0x94]).as_deref(), Some("answered 404"));
        assert_eq!(word(op::SEND_REPLY, &[0; 8]).as_deref(), Some("taken"));
        assert_eq!(word(op::HEARTBEAT_REPLY, &[0, 0, 0, 9]).as_deref(), Some("taken"));
        assert_eq!(word(op::PUSH, b"x"), None);
    }
}
