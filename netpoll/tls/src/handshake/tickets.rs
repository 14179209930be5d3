//! Tickets: sessions that the client keeps, sealed under keys that all workers share.
//!
//! ```text
//!   name 16 │ nonce 12 │ AES-256-GCM(session) │ tag 16          additional data: the name
//! ```
//!
//! A ring of three keys: the current one seals, all three open. The next one is known before it is
//! in use, so that servers which rotate a moment apart open each other's tickets. The owner rotates
//! every 6 hours ([`TICKET_LIFETIME_S`] / 2); a ticket opens for that long at least, and for
//! [`TICKET_LIFETIME_S`] at most. Nonces are random: a key may seal 2^32 tickets (NIST SP 800-38D,
//! 8.3), of which 15 000 handshakes a second make a thirteenth in 6 hours.

use crate::cipher::{Cipher, TAG_SIZE};
use crate::suite::{IV_SIZE, KEY_SIZE_MAX, Suite};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroize;

/// Seconds for which a client may keep a ticket.
pub const TICKET_LIFETIME_S: u32 = 12 * 60 * 60;

const NAME_SIZE: usize = 16;
/// The most bytes of a ticket that is looked at: RFC 8446's limit is 2^16 - 1, and a session with a
/// client's certificate chain is the longest.
const TICKET_SIZE_MAX: usize = 16 << 10;

/// A key that seals tickets, and the name that tickets know it by. Overwritten when it is dropped.
#[derive(Clone)]
pub struct TicketKey {
    name: [u8; NAME_SIZE],
    key: [u8; KEY_SIZE_MAX],
}

impl TicketKey {
    /// Bytes that a key is made of.
    pub const SIZE: usize = NAME_SIZE + KEY_SIZE_MAX;

    /// A key from [`TicketKey::SIZE`] random bytes: a name and a secret.
    pub fn from_bytes(bytes: &[u8; TicketKey::SIZE]) -> TicketKey {
        let (mut name, mut key) = ([0; NAME_SIZE], [0; KEY_SIZE_MAX]);
        name.copy_from_slice(&bytes[..NAME_SIZE]);
        key.copy_from_slice(&bytes[NAME_SIZE..]);
        TicketKey { name, key }
    }

    /// A key of the system's random bytes; `None` when it has none.
    pub fn random() -> Option<TicketKey> {
        let mut bytes = [0; TicketKey::SIZE];
        let key = random(&mut bytes).map(|()| TicketKey::from_bytes(&bytes));
        bytes.zeroize();
        key
    }

    fn seal(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; IV_SIZE];
        random(&mut nonce)?;
        let mut ticket = Vec::with_capacity(NAME_SIZE + IV_SIZE + session.len() + TAG_SIZE);
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(session);
        let sealed = &mut ticket[NAME_SIZE + IV_SIZE..];
        let tag = Cipher::new(Suite::Aes256Gcm, &self.key).seal(nonce, &self.name, sealed);
        ticket.extend_from_slice(&tag);
        Some(ticket)
    }

    fn open(&self, nonce: [u8; IV_SIZE], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut session = sealed.to_vec();
        let cipher = Cipher::new(Suite::Aes256Gcm, &self.key);
        let size = cipher.open(nonce, &self.name, &mut session).ok()?;
        session.truncate(size);
        Some(session)
    }
}

impl Drop for TicketKey {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

fn random(bytes: &mut [u8]) -> Option<()> {
    SystemRandom::new().fill(bytes).ok()
}

/// The keys in force.
#[derive(Clone)]
pub struct TicketKeys {
    /// The key that seals after the next rotation.
    pub next: TicketKey,
    /// The key that seals.
    pub current: TicketKey,
    /// The key that sealed before; none at a first start.
    pub previous: Option<TicketKey>,
}

impl TicketKeys {
    /// Random keys, for a process that shares its tickets with no other; `None` when the system
    /// has no random bytes.
    pub fn random() -> Option<TicketKeys> {
        Some(TicketKeys { next: TicketKey::random()?, current: TicketKey::random()?, previous: None })
    }

    /// The keys one interval later: the next one seals, `next` is the one after it.
    pub fn rotated(&self, next: TicketKey) -> TicketKeys {
        TicketKeys { next, current: self.next.clone(), previous: Some(self.current.clone()) }
    }

    fn named(&self, name: &[u8]) -> Option<&TicketKey> {
        let keys = [Some(&self.current), self.previous.as_ref(), Some(&self.next)];
        keys.into_iter().flatten().find(|key| key.name == name)
    }
}

/// Seals and opens tickets for the handshakes of all threads.
pub struct Ticketer {
    keys: RwLock<Arc<TicketKeys>>,
}

impl Ticketer {
    /// A ticketer with these keys.
    pub fn new(keys: TicketKeys) -> Ticketer {
        Ticketer { keys: RwLock::new(Arc::new(keys)) }
    }

    /// Replaces all keys at once.
    pub fn replace(&self, keys: TicketKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<TicketKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a ticket; `None` for whatever no key of the ring has sealed.
    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_SIZE_MAX {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME_SIZE)?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        self.keys().named(name)?.open(*nonce, sealed)
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys().current.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher)
    }
}

/// Shows no key.
impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}
