//! Handshake messages behind Finished: KeyUpdate, tickets, and requests for another handshake.
//!
//! A message may be split over records (RFC 8446, 5.1), so what has come of its head is kept. The
//! bodies of messages that have no effect are skipped and kept nowhere.

use crate::alert::RecordError;
use crate::suite::{Role, Version};

/// Bytes of a handshake message's head: type and length.
const HEAD_SIZE: usize = 4;
/// The most bytes of a message that is skipped.
const SKIPPED_SIZE_MAX: usize = 1 << 14;

mod kind {
    pub(super) const HELLO_REQUEST: u8 = 0;
    pub(super) const CLIENT_HELLO: u8 = 1;
    pub(super) const NEW_SESSION_TICKET: u8 = 4;
    pub(super) const KEY_UPDATE: u8 = 24;
}

/// A message that has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The peer goes on with its next key, and asks for ours if `requested`.
    KeyUpdate { requested: bool },
    /// TLS 1.2: the peer asks for another handshake.
    Renegotiation,
}

/// The message that has come in part.
#[derive(Default)]
pub(crate) struct Messages {
    head: [u8; HEAD_SIZE],
    filled: u8,
    /// Bytes of a skipped message that are still to come.
    skip: u16,
}

impl Messages {
    /// Whether a message has come in part.
    pub(crate) fn is_within(&self) -> bool {
        self.filled > 0 || self.skip > 0
    }

    /// Takes the content of a handshake record. `None`: nothing in it has an effect.
    pub(crate) fn take(
        &mut self,
        version: Version,
        role: Role,
        content: &[u8],
    ) -> Result<Option<Message>, RecordError> {
        // Handshake records are not empty (RFC 8446, 5.1; RFC 5246, 6.2.1).
        if content.is_empty() {
            return Err(RecordError::Unexpected);
        }
        let mut rest = content;
        let mut message = None;
        while let Some((byte, behind)) = rest.split_first() {
            if self.skip > 0 {
                let count = rest.len().min(usize::from(self.skip));
                self.skip -= count as u16;
                rest = &rest[count..];
            } else if usize::from(self.filled) < HEAD_SIZE {
                self.head[usize::from(self.filled)] = *byte;
                self.filled += 1;
                rest = behind;
                message = self.decide(version, role)?.or(message);
            } else {
                self.filled = 0;
                return key_update(*byte, behind).map(Some);
            }
        }
        Ok(message)
    }

    /// Looks at the head as soon as there is something to say: at its first byte, and when it is
    /// whole.
    fn decide(&mut self, version: Version, role: Role) -> Result<Option<Message>, RecordError> {
        let whole = usize::from(self.filled) == HEAD_SIZE;
        let length =
            usize::from(self.head[1]) << 16 | usize::from(self.head[2]) << 8 | usize::from(self.head[3]);
        match (version, role, self.head[0]) {
            (Version::Tls13, _, kind::KEY_UPDATE) => {
                if whole && length != 1 {
                    Err(RecordError::Malformed)
                } else {
                    Ok(None)
                }
            }
            (Version::Tls13, Role::Client, kind::NEW_SESSION_TICKET) => {
                if whole {
                    self.skip(length)?;
                }
                Ok(None)
            }
            (Version::Tls12, Role::Server, kind::CLIENT_HELLO)
            | (Version::Tls12, Role::Client, kind::HELLO_REQUEST) => {
                if !whole {
                    return Ok(None);
                }
                self.skip(length)?;
                Ok(Some(Message::Renegotiation))
            }
            _ => Err(RecordError::Unexpected),
        }
    }

    fn skip(&mut self, length: usize) -> Result<(), RecordError> {
        if length > SKIPPED_SIZE_MAX {
            return Err(RecordError::Malformed);
        }
        self.filled = 0;
        self.skip = length as u16;
        Ok(())
    }
}

/// A KeyUpdate's body, and what stands behind it in the record: nothing, for the next record has
/// another key (RFC 8446, 5.1 and 4.6.3).
fn key_update(body: u8, behind: &[u8]) -> Result<Message, RecordError> {
    match body {
        _ if !behind.is_empty() => Err(RecordError::KeyUpdateNotLast),
        0 | 1 => Ok(Message::KeyUpdate { requested: body == 1 }),
        _ => Err(RecordError::BadKeyUpdate),
    }
}

/// The bytes of a KeyUpdate.
pub(crate) fn write_key_update(requested: bool) -> [u8; HEAD_SIZE + 1] {
    [kind::KEY_UPDATE, 0, 0, 1, u8::from(requested)]
}
