//! Cipher suites, versions, roles.

/// Bytes of the longest traffic secret (SHA-384).
pub(crate) const SECRET_SIZE_MAX: usize = 48;
/// Bytes of the longest key.
pub(crate) const KEY_SIZE_MAX: usize = 32;
/// Bytes of an IV, and of a nonce.
pub(crate) const IV_SIZE: usize = 12;

/// The cipher of a connection, with the hash of its key schedule in TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// AES-128-GCM; SHA-256.
    Aes128Gcm,
    /// AES-256-GCM; SHA-384.
    Aes256Gcm,
    /// ChaCha20-Poly1305; SHA-256.
    ChaCha20Poly1305,
}

impl Suite {
    /// All suites.
    pub const ALL: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

    /// Bytes of a key.
    pub const fn key_size(self) -> usize {
        match self {
            Suite::Aes128Gcm => 16,
            Suite::Aes256Gcm | Suite::ChaCha20Poly1305 => 32,
        }
    }

    /// Bytes of a traffic secret, which is as long as the hash.
    pub const fn secret_size(self) -> usize {
        match self {
            Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => 32,
            Suite::Aes256Gcm => 48,
        }
    }
}

/// The version of a connection's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// TLS 1.2, with AEAD suites and the extended master secret only.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
}
