//! When a ClientHello is whole: until then its bytes lie in blocks, and nothing is made for them.

use crate::alert::{Alert, RecordError};
use crate::record::{Cut, HEADER_SIZE, content, look};

/// The most bytes of a ClientHello, head included. One with a ticket and ML-KEM has some 2 KiB.
pub const HELLO_SIZE_MAX: usize = 16 << 10;
/// The most bytes, headers of records included, that a ClientHello may come in.
pub const HELLO_BYTES_MAX: usize = 20 << 10;

/// Bytes of a handshake message's head: type and length.
const HEAD_SIZE: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// Follows the records of a ClientHello. Each byte is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelloScan {
    /// Where the record begins that is not looked at yet.
    at: u32,
    /// Bytes of the message in the records before it.
    seen: u32,
    head: [u8; HEAD_SIZE],
}

impl HelloScan {
    /// Looks at all bytes that have come from the peer, which are those of the call before and
    /// more. Returns the number of bytes, from the front, of the records that hold the
    /// ClientHello, or `None` while it is not whole.
    ///
    /// # Errors
    /// The alert that answers what cannot become a ClientHello.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Option<usize>, Alert> {
        loop {
            let front = &bytes[self.at as usize..];
            // Said before the record is whole: other protocols send less and wait.
            if front.first().is_some_and(|kind| *kind != content::HANDSHAKE) {
                return Err(Alert::UnexpectedMessage);
            }
            let cut = look(front).map_err(RecordError::alert)?;
            let (Cut::Whole(size) | Cut::Needs(size)) = cut;
            if self.at as usize + size > HELLO_BYTES_MAX {
                return Err(Alert::IllegalParameter);
            }
            let Cut::Whole(size) = cut else { return Ok(None) };
            self.take(&front[HEADER_SIZE..size])?;
            self.at += size as u32;
            if self.length().is_some_and(|length| self.seen as usize >= length) {
                return Ok(Some(self.at as usize));
            }
        }
    }

    fn take(&mut self, body: &[u8]) -> Result<(), Alert> {
        if body.is_empty() {
            return Err(Alert::UnexpectedMessage);
        }
        let seen = (self.seen as usize).min(HEAD_SIZE);
        self.head[seen..].iter_mut().zip(body).for_each(|(head, byte)| *head = *byte);
        self.seen += body.len() as u32;
        if self.head[0] != CLIENT_HELLO {
            return Err(Alert::UnexpectedMessage);
        }
        match self.length() {
            Some(length) if length > HELLO_SIZE_MAX => Err(Alert::IllegalParameter),
            _ => Ok(()),
        }
    }

    /// Bytes of the message, as soon as its head is there.
    fn length(&self) -> Option<usize> {
        let [_, high, middle, low] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        (self.seen as usize >= HEAD_SIZE).then_some(HEAD_SIZE + length)
    }
}
