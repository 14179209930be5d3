//! Records from received buffers.
//!
//! ```text
//!   input:  [record][record][reco│          split_to: where it was received
//!   next:   │rd][record]                    the part and the missing bytes: gathered in a block
//! ```
//!
//! A part is kept in a block of the size that has come, which grows as more comes; the length that
//! the peer claims reserves nothing. So a part in 1-byte reads is copied once for each pool of
//! blocks, at most.

use crate::alert::RecordError;
use crate::record::{Cut, look};
use netpoll::{Buffer, BufferPools};

/// Cuts the received bytes of one connection into records. Holds at most one incomplete record, of
/// less than [`RECORD_SIZE_MAX`](crate::RECORD_SIZE_MAX) bytes.
#[derive(Debug, Default)]
pub struct Cutter {
    part: Option<Buffer>,
}

/// Why no record could be cut.
#[derive(Debug, PartialEq, Eq)]
pub enum CutError {
    /// The peer's record is not acceptable.
    Record(RecordError),
    /// No block of this many bytes is free for an incomplete record. The input is as it was, and
    /// the call may be repeated.
    NoBlock(usize),
}

impl Cutter {
    /// The next record of what has been received, header included. Takes it from the front of
    /// `input`; `None` means that `input` is used up and the record is not whole.
    ///
    /// # Errors
    /// [`CutError`]. After [`CutError::Record`] the connection has to end.
    pub fn next(
        &mut self,
        input: &mut Option<Buffer>,
        pools: &mut BufferPools,
    ) -> Result<Option<Buffer>, CutError> {
        while let Some(buffer) = input {
            let front = self.part.as_ref().map_or(buffer.as_slice(), Buffer::as_slice);
            let cut = look(front).map_err(CutError::Record)?;
            match (cut, &mut self.part) {
                (Cut::Whole(size), None) => {
                    let record = buffer.split_to(size);
                    input.take_if(|rest| rest.is_empty());
                    return Ok(Some(record));
                }
                // The loop returned it when its last byte came.
                (Cut::Whole(_), Some(_)) => unreachable!("a part is never whole"),
                (Cut::Needs(_), None) => {
                    if !buffer.is_empty() {
                        let part = pools.copy(buffer.as_slice());
                        self.part = Some(part.ok_or(CutError::NoBlock(buffer.len()))?);
                    }
                    *input = None;
                }
                (Cut::Needs(size), Some(part)) => {
                    let count = (size - part.len()).min(buffer.len());
                    append(part, &buffer.as_slice()[..count], pools)?;
                    buffer.advance(count);
                    input.take_if(|rest| rest.is_empty());
                    if let Cut::Whole(_) = look(part.as_slice()).map_err(CutError::Record)? {
                        return Ok(self.part.take());
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of the incomplete record.
    pub fn held(&self) -> usize {
        self.part.as_ref().map_or(0, Buffer::len)
    }
}

/// Appends to a part, in a larger block if it is full.
fn append(part: &mut Buffer, bytes: &[u8], pools: &mut BufferPools) -> Result<(), CutError> {
    let size = part.len() + bytes.len();
    if size > part.capacity() {
        let mut larger = pools.take(size).ok_or(CutError::NoBlock(size))?;
        larger.append(part.as_slice());
        *part = larger;
    }
    let appended = part.append(bytes);
    debug_assert_eq!(appended, bytes.len());
    Ok(())
}
