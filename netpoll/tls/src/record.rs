//! Records on the wire: header, types, limits (RFC 8446, 5.1 and 5.2; RFC 5246, 6.2).
//!
//! ```text
//!   type 1 │ version 2 │ length 2 │ [explicit nonce 8: TLS 1.2 with AES-GCM] │ ciphertext │ tag 16
//! ```

use crate::alert::RecordError;
use crate::cipher::TAG_SIZE;

/// Bytes of a record's header.
pub const HEADER_SIZE: usize = 5;
/// The most bytes of plaintext in a record.
pub const PLAINTEXT_SIZE_MAX: usize = 1 << 14;
/// The most bytes behind a header. TLS 1.2 allows 2^14 + 2048, but no suite here adds more than
/// 24, so what is longer has too long a plaintext in any case.
pub(crate) const BODY_SIZE_MAX: usize = PLAINTEXT_SIZE_MAX + 256;
/// The most bytes of a record that is received.
pub const RECORD_SIZE_MAX: usize = HEADER_SIZE + BODY_SIZE_MAX;
/// Bytes of the nonce that a record of TLS 1.2 with AES-GCM carries (RFC 5288, 3).
pub(crate) const EXPLICIT_NONCE_SIZE: usize = 8;
/// The most bytes that sealing adds to a plaintext.
pub(crate) const OVERHEAD_SIZE_MAX: usize = HEADER_SIZE + EXPLICIT_NONCE_SIZE + TAG_SIZE;

/// Types of records, and of what is in them.
pub(crate) mod content {
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}

/// The version that all records are sent with, in TLS 1.3, too (RFC 8446, 5.1).
pub(crate) const LEGACY_VERSION: [u8; 2] = [3, 3];

/// Writes the header of a record with `body_size` bytes behind it.
pub(crate) fn write_header(record: &mut [u8], content: u8, body_size: usize) {
    debug_assert!(body_size <= BODY_SIZE_MAX);
    let length = (body_size as u16).to_be_bytes();
    record[..HEADER_SIZE].copy_from_slice(&[
        content,
        LEGACY_VERSION[0],
        LEGACY_VERSION[1],
        length[0],
        length[1],
    ]);
}

/// What the front of received bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A record of so many bytes, header included, is there as a whole.
    Whole(usize),
    /// So many bytes have to be there in all before more can be said.
    Needs(usize),
}

/// Looks at the front of received bytes. A record's version is ignored (RFC 8446, 5.1).
///
/// # Errors
/// [`RecordError::TooLong`], as soon as the header is there.
pub fn look(bytes: &[u8]) -> Result<Cut, RecordError> {
    let Some(header) = bytes.first_chunk::<HEADER_SIZE>() else { return Ok(Cut::Needs(HEADER_SIZE)) };
    let body_size = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if body_size > BODY_SIZE_MAX {
        return Err(RecordError::TooLong);
    }
    let size = HEADER_SIZE + body_size;
    Ok(if bytes.len() >= size { Cut::Whole(size) } else { Cut::Needs(size) })
}
