//! What follows from a traffic secret: keys, IVs, the next secret (RFC 8446, 7.2 and 7.3).

use crate::cipher::expand_label;
use crate::suite::{IV_SIZE, KEY_SIZE_MAX, SECRET_SIZE_MAX, Suite};

/// Derives key and IV of a traffic secret. Of `key` the first [`Suite::key_size`] bytes count.
pub(crate) fn derive_keys(
    suite: Suite,
    secret: &[u8; SECRET_SIZE_MAX],
    key: &mut [u8; KEY_SIZE_MAX],
    iv: &mut [u8; IV_SIZE],
) {
    expand_label(suite, secret, b"key", &mut key[..suite.key_size()]);
    expand_label(suite, secret, b"iv", iv);
}

/// Derives the secret that follows `secret` after a KeyUpdate.
pub(crate) fn next_secret(suite: Suite, secret: &[u8; SECRET_SIZE_MAX], next: &mut [u8; SECRET_SIZE_MAX]) {
    expand_label(suite, secret, b"traffic upd", &mut next[..suite.secret_size()]);
}
