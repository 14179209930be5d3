//! Certificates by the name that a client asks for: exact, then wildcard, then the first one.

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A certificate with its key, and the names that it is for.
pub struct CertificateEntry<'a> {
    /// Names in any case; one that begins with `*.` is for all names with one more label.
    pub names: &'a [&'a str],
    /// The chain, the server's own certificate first, as PEM.
    pub chain_pem: &'a [u8],
    /// The private key as PEM (PKCS #8, PKCS #1 or SEC 1).
    pub key_pem: &'a [u8],
}

/// Why certificates cannot be used; `entry` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// There is no certificate at all.
    Empty,
    /// An entry's chain has no certificate, or is not PEM.
    NoCertificate {
        /// The entry.
        entry: usize,
    },
    /// An entry has no private key, one of an unknown kind, or not as PEM.
    NoKey {
        /// The entry.
        entry: usize,
    },
    /// An entry's key is not that of its certificate.
    Mismatch {
        /// The entry.
        entry: usize,
    },
    /// Two entries have the same name.
    Twice {
        /// The later entry.
        entry: usize,
        /// The name.
        name: String,
    },
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Empty => f.write_str("there is no certificate: name one and its key"),
            CertificateError::NoCertificate { entry } => {
                write!(f, "certificate {entry}: the file has no certificate: write PEM, the server's first")
            }
            CertificateError::NoKey { entry } => {
                write!(f, "certificate {entry}: the file has no usable private key: write PEM, not encrypted")
            }
            CertificateError::Mismatch { entry } => {
                write!(f, "certificate {entry}: the key belongs to another certificate")
            }
            CertificateError::Twice { entry, name } => {
                write!(f, "certificate {entry}: {name} has another certificate already: remove one")
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// All certificates of a listener: never changed, replaced as a whole.
pub struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the name behind `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name none of these, or nothing.
    first: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads certificates and keys. The first entry is also for clients that ask for no known
    /// name.
    ///
    /// # Errors
    /// [`CertificateError`], at the first entry that cannot be used.
    pub fn new(entries: &[CertificateEntry<'_>]) -> Result<Certificates, CertificateError> {
        let (mut exact, mut wildcard, mut first) = (HashMap::new(), HashMap::new(), None);
        for (entry, one) in entries.iter().enumerate() {
            let key = Arc::new(certified(entry, one)?);
            for name in one.names {
                let lower = name.to_ascii_lowercase();
                let before = match lower.strip_prefix("*.") {
                    Some(parent) => wildcard.insert(parent.to_owned(), Arc::clone(&key)),
                    None => exact.insert(lower, Arc::clone(&key)),
                };
                if before.is_some() {
                    return Err(CertificateError::Twice { entry, name: (*name).to_owned() });
                }
            }
            first.get_or_insert(key);
        }
        let first = first.ok_or(CertificateError::Empty)?;
        Ok(Certificates { exact, wildcard, first })
    }

    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name.map(str::to_ascii_lowercase) else { return &self.first };
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let wildcard = || parent.and_then(|parent| self.wildcard.get(parent));
        self.exact.get(&name).or_else(wildcard).unwrap_or(&self.first)
    }
}

fn certified(entry: usize, one: &CertificateEntry<'_>) -> Result<CertifiedKey, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(one.chain_pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or(CertificateError::NoCertificate { entry })?;
    let key = PrivateKeyDer::from_pem_slice(one.key_pem).ok();
    let key = key.and_then(|key| default_provider().key_provider.load_private_key(key).ok());
    let certified = CertifiedKey::new(chain, key.ok_or(CertificateError::NoKey { entry })?);
    match certified.keys_match() {
        // Unknown: a key that does not say its public half.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch { entry }),
        Err(_) => Err(CertificateError::NoCertificate { entry }),
    }
}

/// The certificates in force. Handshakes that begin after [`CertificateStore::replace`] use the
/// new ones; connections stay.
pub struct CertificateStore {
    certificates: RwLock<Arc<Certificates>>,
}

impl CertificateStore {
    /// A store with these certificates.
    pub fn new(certificates: Certificates) -> CertificateStore {
        CertificateStore { certificates: RwLock::new(Arc::new(certificates)) }
    }

    /// Replaces all certificates at once.
    pub fn replace(&self, certificates: Certificates) {
        *self.certificates.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(certificates.find(client_hello.server_name())))
    }
}

/// Shows no key.
impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateStore")
    }
}
