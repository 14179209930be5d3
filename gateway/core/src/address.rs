//! Names that hold across workers.

use netpoll::ConnectionId;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::fmt;
use std::hash::Hasher;

/// Workers of one process at most: an [`Address`] has 8 bits for the worker.
pub const WORKERS_MAX: usize = 255;

/// Size of a key that the server made ([`Fingerprints::made_key`]), in bytes.
pub const MADE_KEY_SIZE: usize = 32;

/// A worker (thread) and its shard of the state, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A connection anywhere in this process: its worker and its id there, in 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(u64);

impl Address {
    /// The connection `connection` of `worker`.
    pub const fn new(worker: WorkerId, connection: ConnectionId) -> Address {
        Address(connection.pack(worker.0))
    }

    /// The worker that has the connection.
    pub const fn worker(self) -> WorkerId {
        WorkerId((self.0 >> 56) as u8)
    }

    /// Its id at that worker.
    pub const fn connection(self) -> ConnectionId {
        ConnectionId::unpack(self.0).1
    }

    /// The 64 bits that the operator sees (and gives back to `kick`).
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Undoes [`Address::to_bits`]. Any value is an address; it need not name a live connection.
    pub const fn from_bits(bits: u64) -> Address {
        Address(bits)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}/{:?}", self.worker().0, self.connection())
    }
}

/// A user, key or room by a 128-bit keyed hash of its name (SipHash-1-3, secret drawn at start).
///
/// Names are compared by fingerprint alone: without the secret key a collision cannot be searched
/// for, and among 2^30 names the chance of one is below 2^-68.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// The half that tables index by.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The worker, of `count`, that keeps the directory entry of this name.
    pub fn home(self, count: usize) -> WorkerId {
        debug_assert!(count > 0 && count <= WORKERS_MAX);
        WorkerId(((u128::from(self.1) * count as u128) >> 64) as u8)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The process's secret for fingerprints.
#[derive(Clone, Copy)]
pub struct Fingerprints {
    key: (u64, u64),
}

/// A user's number as text, if `text` is just what the number is printed as: `7` or `-2`. `007` and
/// `+7` are none, for elsewhere such a text is another user's name.
pub fn mid_from_text(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = text == "0" || !digits.starts_with(['0', '+']);
    text.parse().ok().filter(|_| is_plain)
}

impl Fingerprints {
    /// With a secret of 128 random bits.
    pub const fn new(key: (u64, u64)) -> Fingerprints {
        Fingerprints { key }
    }

    /// The user with goim's integer id.
    pub fn mid(&self, mid: i64) -> Fingerprint {
        self.hash(1, &mid.to_be_bytes())
    }

    /// The user with a string id.
    pub fn uid(&self, uid: &str) -> Fingerprint {
        self.hash(2, uid.as_bytes())
    }

    /// The room with this key.
    pub fn room(&self, room: &str) -> Fingerprint {
        self.hash(3, room.as_bytes())
    }

    /// The connection with this key.
    pub fn key(&self, key: &str) -> Fingerprint {
        self.hash(4, key.as_bytes())
    }

    /// The key of a connection that brought none: its address and 64 bits that only this process
    /// can tell, in hexadecimal. Such a key leads to the connection without a directory.
    pub fn made_key(&self, address: Address) -> [u8; MADE_KEY_SIZE] {
        let proof = self.hash(5, &address.to_bits().to_be_bytes()).bits();
        let bits = u128::from(address.to_bits()) << 64 | u128::from(proof);
        let mut key = [0; MADE_KEY_SIZE];
        for (index, digit) in key.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(bits >> (124 - 4 * index)) as usize & 15];
        }
        key
    }

    /// The connection that a made key names, which may have ended; `None` for any other key.
    pub fn address_in(&self, key: &str) -> Option<Address> {
        let bits = u64::from_str_radix(key.get(..16)?, 16).ok()?;
        let address = Address::from_bits(bits);
        (self.made_key(address) == *key.as_bytes()).then_some(address)
    }

    fn hash(&self, domain: u8, name: &[u8]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(domain);
        hasher.write(name);
        let hash = hasher.finish128();
        Fingerprint(hash.h1, hash.h2)
    }
}

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_worker_and_connection() {
        let connection = ConnectionId::new(netpoll::CONNECTIONS_PER_BACKEND_MAX - 1, u32::MAX);
        let address = Address::new(WorkerId(254), connection);
        assert_eq!((address.worker(), address.connection()), (WorkerId(254), connection));
        assert_eq!(Address::from_bits(address.to_bits()), address);
    }

    #[test]
    fn the_same_name_of_another_kind_is_another_name() {
        let names = Fingerprints::new((1, 2));
        let all = [names.uid("a"), names.room("a"), names.key("a"), Fingerprints::new((1, 3)).uid("a")];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one));
        }
        assert_eq!(names.mid(7), names.mid(7));
    }

    #[test]
    fn a_made_key_names_its_connection_and_cannot_be_guessed() {
        let names = Fingerprints::new((1, 2));
        let address = Address::new(WorkerId(3), ConnectionId::new(77, 5));
        let key = names.made_key(address);
        let key = std::str::from_utf8(&key).unwrap();
        assert_eq!(names.address_in(key), Some(address));
        assert_eq!(Fingerprints::new((1, 3)).address_in(key), None, "of another process");
        for at in 0..key.len() {
            let mut other = key.as_bytes().to_vec();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(names.address_in(std::str::from_utf8(&other).unwrap()), None, "digit {at} changed");
        }
        for odd in [
            "",
            "0",
            &key[..31],
            &key.to_uppercase(),
            "ööööööööööööööööö",
            "+123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(names.address_in(odd), None, "{odd}");
        }
    }

    #[test]
    fn homes_are_spread_evenly() {
        let names = Fingerprints::new((5, 6));
        let mut counts = [0_u32; 7];
        (0..70_000).for_each(|mid| counts[names.mid(mid).home(7).index()] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}
