//! One direction of a connection: its keys, and the numbers that make nonces.
//!
//! | | additional data | nonce |
//! |---|---|---|
//! | TLS 1.3 (RFC 8446, 5.2, 5.3) | the header | IV xor sequence number |
//! | TLS 1.2, ChaCha20 (RFC 7905, 2) | number, type, version, length | IV xor sequence number |
//! | TLS 1.2, AES-GCM (RFC 5288, 3) | the same | 4 bytes of the IV, 8 bytes from the record |
//!
//! The 8 bytes that a record of TLS 1.2 carries are, on sending, the rest of the IV xor the
//! sequence number, as rustls makes them: nonces go on in the row that the handshake began, and
//! none comes twice.

use crate::alert::RecordError;
use crate::cipher::{Cipher, TAG_SIZE};
use crate::record::{
    BODY_SIZE_MAX, EXPLICIT_NONCE_SIZE, HEADER_SIZE, PLAINTEXT_SIZE_MAX, content, write_header,
};
use crate::schedule::{derive_keys, next_secret};
use crate::suite::{IV_SIZE, KEY_SIZE_MAX, SECRET_SIZE_MAX, Suite, Version};
use zeroize::Zeroize;

/// Bytes of the IV that TLS 1.2 with AES-GCM does not send.
const SALT_SIZE: usize = 4;

/// Plain data, overwritten with zeros when it is dropped.
pub(crate) struct Direction {
    /// All zeros in TLS 1.2, which has no KeyUpdate.
    secret: [u8; SECRET_SIZE_MAX],
    key: [u8; KEY_SIZE_MAX],
    iv: [u8; IV_SIZE],
    suite: Suite,
    version: Version,
    /// Number of the next record under `key`. No number is used twice: it rises before the caller
    /// has the record.
    sequence: u64,
}

/// What an opened record holds: its type, and where in the record the content is.
#[derive(Debug)]
pub(crate) struct Plaintext {
    pub(crate) content: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Direction {
    /// A direction of TLS 1.3; its next record has number `sequence`.
    pub(crate) fn of_secret(suite: Suite, secret: &[u8], sequence: u64) -> Direction {
        let mut direction = Direction::empty(suite, Version::Tls13, sequence);
        direction.secret[..suite.secret_size()].copy_from_slice(secret);
        derive_keys(suite, &direction.secret, &mut direction.key, &mut direction.iv);
        direction
    }

    /// A direction of TLS 1.2; its next record has number `sequence`.
    pub(crate) fn of_key(suite: Suite, key: &[u8], iv: &[u8; IV_SIZE], sequence: u64) -> Direction {
        let mut direction = Direction::empty(suite, Version::Tls12, sequence);
        direction.key[..suite.key_size()].copy_from_slice(key);
        direction.iv = *iv;
        direction
    }

    fn empty(suite: Suite, version: Version, sequence: u64) -> Direction {
        let (secret, key, iv) = ([0; SECRET_SIZE_MAX], [0; KEY_SIZE_MAX], [0; IV_SIZE]);
        Direction { secret, key, iv, suite, version, sequence }
    }

    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The expanded key, for one or several records.
    pub(crate) fn cipher(&self) -> Cipher {
        Cipher::new(self.suite, &self.key)
    }

    /// Goes on with the secret that follows (RFC 8446, 7.2).
    pub(crate) fn renew(&mut self) {
        debug_assert_eq!(self.version, Version::Tls13);
        let mut next = [0; SECRET_SIZE_MAX];
        next_secret(self.suite, &self.secret, &mut next);
        self.secret = next;
        next.zeroize();
        derive_keys(self.suite, &self.secret, &mut self.key, &mut self.iv);
        self.sequence = 0;
    }

    /// Bytes of the nonce that a record carries.
    pub(crate) fn explicit_nonce_size(&self) -> usize {
        match (self.version, self.suite) {
            (Version::Tls12, Suite::Aes128Gcm | Suite::Aes256Gcm) => EXPLICIT_NONCE_SIZE,
            _ => 0,
        }
    }

    /// IV xor sequence number, the number at the end.
    fn nonce(&self) -> [u8; IV_SIZE] {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        nonce[SALT_SIZE..].iter_mut().zip(number).for_each(|(byte, number)| *byte ^= number);
        nonce
    }

    /// Additional data of TLS 1.2 (RFC 5246, 6.2.3.3).
    fn tls12_aad(&self, content: u8, version: [u8; 2], plaintext_size: usize) -> [u8; 13] {
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(&self.sequence.to_be_bytes());
        aad[8] = content;
        aad[9..11].copy_from_slice(&version);
        aad[11..].copy_from_slice(&(plaintext_size as u16).to_be_bytes());
        aad
    }

    /// Opens a whole record in place.
    pub(crate) fn open(&mut self, cipher: &Cipher, record: &mut [u8]) -> Result<Plaintext, RecordError> {
        let (header, body) = record.split_first_chunk_mut::<HEADER_SIZE>().ok_or(RecordError::Malformed)?;
        if body.len() != usize::from(u16::from_be_bytes([header[3], header[4]])) {
            return Err(RecordError::Malformed);
        }
        if body.len() > BODY_SIZE_MAX {
            return Err(RecordError::TooLong);
        }
        match self.version {
            Version::Tls13 => self.open_tls13(cipher, header, body),
            Version::Tls12 => self.open_tls12(cipher, header, body),
        }
    }

    fn open_tls13(
        &mut self,
        cipher: &Cipher,
        header: &[u8; HEADER_SIZE],
        body: &mut [u8],
    ) -> Result<Plaintext, RecordError> {
        if header[0] != content::APPLICATION_DATA {
            return Err(RecordError::Unprotected);
        }
        let opened = if body.len() > TAG_SIZE { cipher.open(self.nonce(), header, body).ok() } else { None };
        let size = opened.ok_or(RecordError::BadTag)?;
        self.sequence += 1;
        if size > PLAINTEXT_SIZE_MAX + 1 {
            return Err(RecordError::TooLong);
        }
        // TLSInnerPlaintext: content, type, zeros (RFC 8446, 5.4).
        let end = body[..size].iter().rposition(|byte| *byte != 0).ok_or(RecordError::NoContent)?;
        Ok(Plaintext { content: body[end], start: HEADER_SIZE, end: HEADER_SIZE + end })
    }

    fn open_tls12(
        &mut self,
        cipher: &Cipher,
        header: &[u8; HEADER_SIZE],
        body: &mut [u8],
    ) -> Result<Plaintext, RecordError> {
        let explicit = self.explicit_nonce_size();
        let size = body.len().checked_sub(explicit + TAG_SIZE).ok_or(RecordError::BadTag)?;
        if size > PLAINTEXT_SIZE_MAX {
            return Err(RecordError::TooLong);
        }
        let (carried, ciphertext) = body.split_at_mut(explicit);
        let mut nonce = self.nonce();
        nonce[IV_SIZE - explicit..].copy_from_slice(carried);
        let aad = self.tls12_aad(header[0], [header[1], header[2]], size);
        let opened = cipher.open(nonce, &aad, ciphertext).map_err(|_| RecordError::BadTag)?;
        debug_assert_eq!(opened, size);
        self.sequence += 1;
        let start = HEADER_SIZE + explicit;
        Ok(Plaintext { content: header[0], start, end: start + size })
    }

    /// Bytes that a record has before its plaintext.
    pub(crate) fn plaintext_start(&self) -> usize {
        HEADER_SIZE + self.explicit_nonce_size()
    }

    /// Bytes of the record of a plaintext of `size` bytes.
    pub(crate) fn record_size(&self, size: usize) -> usize {
        let inner_type = usize::from(self.version == Version::Tls13);
        self.plaintext_start() + size + inner_type + TAG_SIZE
    }

    /// Seals the plaintext that lies at [`Direction::plaintext_start`] in `record`, which is as
    /// long as [`Direction::record_size`] says.
    pub(crate) fn seal(&mut self, content: u8, record: &mut [u8]) {
        let cipher = self.cipher();
        let body_size = record.len() - HEADER_SIZE;
        let nonce = self.nonce();
        match self.version {
            Version::Tls13 => {
                write_header(record, content::APPLICATION_DATA, body_size);
                let (header, body) = record.split_at_mut(HEADER_SIZE);
                let (inner, tag) = body.split_at_mut(body_size - TAG_SIZE);
                *inner.last_mut().expect("room for the type") = content;
                tag.copy_from_slice(&cipher.seal(nonce, header, inner));
            }
            Version::Tls12 => {
                write_header(record, content, body_size);
                let explicit = self.explicit_nonce_size();
                let (head, rest) = record.split_at_mut(HEADER_SIZE + explicit);
                head[HEADER_SIZE..].copy_from_slice(&nonce[IV_SIZE - explicit..]);
                let (plaintext, tag) = rest.split_at_mut(rest.len() - TAG_SIZE);
                let aad = self.tls12_aad(content, [head[1], head[2]], plaintext.len());
                tag.copy_from_slice(&cipher.seal(nonce, &aad, plaintext));
            }
        }
        self.sequence += 1;
    }

    #[cfg(test)]
    pub(crate) fn keys(&self) -> (&[u8], &[u8]) {
        (&self.key[..self.suite.key_size()], &self.iv)
    }

    #[cfg(test)]
    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    fn wipe(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_direction_leaves_no_key() {
        let mut direction = Direction::of_secret(Suite::Aes256Gcm, &[7; SECRET_SIZE_MAX], 1);
        assert!(direction.key.iter().any(|byte| *byte != 0));
        assert!(std::mem::needs_drop::<Direction>(), "a drop wipes");
        direction.wipe();
        let left = [&direction.secret[..], &direction.key, &direction.iv].concat();
        assert!(left.iter().all(|byte| *byte == 0));
    }
}
