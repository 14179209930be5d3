//! The cryptographic library of records, behind four functions: make, seal, open, expand.
//!
//! ring keeps an expanded key in its own structure, without a heap, so a cipher lives on the stack
//! for as long as a flush or a batch of records takes.

use crate::suite::{IV_SIZE, Suite};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey,
};
use ring::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};

/// Bytes of the authentication tag, with every suite.
pub(crate) const TAG_SIZE: usize = MAX_TAG_LEN;

/// An expanded key. Costs 33 to 181 ns to make (docs/decisions/0032).
pub(crate) struct Cipher(LessSafeKey);

/// A record that does not open.
#[derive(Debug)]
pub(crate) struct BadTag;

impl Cipher {
    /// Expands the first [`Suite::key_size`] bytes of `key`.
    pub(crate) fn new(suite: Suite, key: &[u8]) -> Cipher {
        let algorithm = match suite {
            Suite::Aes128Gcm => &AES_128_GCM,
            Suite::Aes256Gcm => &AES_256_GCM,
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, &key[..suite.key_size()]);
        Cipher(LessSafeKey::new(key.expect("the key has the suite's size")))
    }

    /// Encrypts `plaintext` in place and returns its tag. No nonce may be used twice with a key.
    pub(crate) fn seal(&self, nonce: [u8; IV_SIZE], aad: &[u8], plaintext: &mut [u8]) -> [u8; TAG_SIZE] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), plaintext);
        let tag = tag.expect("a record is shorter than the cipher's limit");
        tag.as_ref().try_into().expect("tags have 16 bytes")
    }

    /// Decrypts in place what a tag ends, and returns the number of bytes of plaintext.
    pub(crate) fn open(
        &self,
        nonce: [u8; IV_SIZE],
        aad: &[u8],
        ciphertext: &mut [u8],
    ) -> Result<usize, BadTag> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plaintext = self.0.open_in_place(nonce, Aad::from(aad), ciphertext);
        plaintext.map(|plaintext| plaintext.len()).map_err(|_| BadTag)
    }
}

/// How many bytes are expanded.
struct OutputSize(usize);

impl KeyType for OutputSize {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446, 7.1):
/// `HKDF-Expand(secret, length ‖ "tls13 " label ‖ "", length)`.
pub(crate) fn expand_label(suite: Suite, secret: &[u8], label: &[u8], output: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    let algorithm = match suite {
        Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => HKDF_SHA256,
        Suite::Aes256Gcm => HKDF_SHA384,
    };
    let secret = Prk::new_less_safe(algorithm, &secret[..suite.secret_size()]);
    let length = (output.len() as u16).to_be_bytes();
    let label_length = [(PREFIX.len() + label.len()) as u8];
    let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
    let expanded = secret.expand(&info, OutputSize(output.len()));
    let filled = expanded.and_then(|expanded| expanded.fill(output));
    filled.expect("keys are shorter than 255 hashes");
}
