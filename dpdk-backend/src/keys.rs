//! Keyed hashes for everything that must not be guessed: the flow table's hash, initial sequence
//! numbers, timestamp offsets, cookies, ports. One boot secret, one key for each purpose.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012; the variant of Rust's own tables) over whole words.
//! Tuples have a fixed size, so the length byte of the general form is a constant of the word
//! count.

use crate::wire::Ip;
use crate::wire::flow::Tuple;

#[derive(Clone, Copy, Debug)]
struct Key(u64, u64);

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// SipHash-1-3 of whole little-endian words.
#[inline]
fn siphash13(key: Key, words: &[u64]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let length = (words.len() as u64 * 8) << 56;
    for word in words.iter().chain([&length]) {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn of_tuple(key: Key, tuple: &Tuple, extra: u64) -> u64 {
    let ports = u64::from(tuple.remote_port) << 16 | u64::from(tuple.local_port);
    if let (Some(remote), Some(local)) = (tuple.remote.v4(), tuple.local.v4()) {
        let addresses = u64::from(u32::from_be_bytes(remote)) << 32 | u64::from(u32::from_be_bytes(local));
        return siphash13(key, &[addresses, ports, extra]);
    }
    let (remote, local) = (words(tuple.remote), words(tuple.local));
    siphash13(key, &[remote.0, remote.1, local.0, local.1, ports, extra])
}

fn words(ip: Ip) -> (u64, u64) {
    let whole = u128::from_be_bytes(ip.octets());
    ((whole >> 64) as u64, whole as u64)
}

/// The keys of one stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    flow: Key,
    sequence: Key,
    timestamp: Key,
    cookie: Key,
    port: Key,
    prefix: Key,
}

impl Keys {
    /// Derives one key for each purpose from the boot secret.
    pub(crate) fn new(secret: [u64; 2]) -> Keys {
        let root = Key(secret[0], secret[1]);
        let derive = |label: u64| Key(siphash13(root, &[label, 0]), siphash13(root, &[label, 1]));
        Keys {
            flow: derive(1),
            sequence: derive(2),
            timestamp: derive(3),
            cookie: derive(4),
            port: derive(5),
            prefix: derive(6),
        }
    }

    /// The hash that the flow table is indexed by.
    #[inline]
    pub(crate) fn flow(&self, tuple: &Tuple) -> u64 {
        of_tuple(self.flow, tuple, 0)
    }

    /// RFC 6528, 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M a clock of
    /// 4 microseconds.
    pub(crate) fn initial_sequence(&self, tuple: &Tuple, now_us: u32) -> u32 {
        (of_tuple(self.sequence, tuple, 0) as u32).wrapping_add(now_us / 4)
    }

    /// RFC 7323, 5.4: a random offset for each tuple, so that timestamps do not reveal the time of
    /// the last start.
    pub(crate) fn timestamp_offset(&self, tuple: &Tuple) -> u32 {
        of_tuple(self.timestamp, tuple, 0) as u32
    }

    /// The keyed hash of a SYN cookie.
    pub(crate) fn cookie(&self, tuple: &Tuple, sequence: u32, data: u32) -> u32 {
        of_tuple(self.cookie, tuple, u64::from(sequence) << 32 | u64::from(data)) as u32
    }

    /// RFC 6056, algorithm 4: where the search for a port toward `remote` begins, and the number of
    /// the destination's group.
    pub(crate) fn port_offset(&self, remote: Ip, remote_port: u16) -> (u32, u32) {
        let (high, low) = words(remote);
        let hash = siphash13(self.port, &[high, low, u64::from(remote_port)]);
        (hash as u32, (hash >> 32) as u32)
    }

    /// A number for an address's network: its /24, or its /64 in IPv6.
    pub(crate) fn prefix(&self, ip: Ip) -> u64 {
        match ip.v4() {
            Some(v4) => siphash13(self.prefix, &[4, u64::from(u32::from_be_bytes(v4) >> 8)]),
            None => siphash13(self.prefix, &[6, words(ip).0]),
        }
    }

    /// A number for one address.
    pub(crate) fn address(&self, ip: Ip) -> u64 {
        let (high, low) = words(ip);
        siphash13(self.prefix, &[high, low, 1])
    }
}

/// A keyed hash of addresses, for tables elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressKey(Keys);

impl AddressKey {
    pub(crate) fn new(secret: u64) -> AddressKey {
        AddressKey(Keys::new([secret, !secret]))
    }

    pub(crate) fn hash(&self, ip: Ip) -> u64 {
        self.0.address(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    #[test]
    fn the_hash_is_siphash_1_3() {
        let words = [1_u64, u64::MAX, 0x0123_4567_89ab_cdef, 7];
        for count in 0..=words.len() {
            let mut other = SipHasher13::new_with_keys(11, 22);
            words[..count].iter().for_each(|word| other.write(&word.to_le_bytes()));
            assert_eq!(siphash13(Key(11, 22), &words[..count]), other.finish());
        }
    }

    #[test]
    fn purposes_and_tuples_differ() {
        let keys = Keys::new([1, 2]);
        let tuple = Tuple {
            remote: Ip::from_v4([10, 0, 0, 1]),
            local: Ip::from_v4([10, 0, 0, 2]),
            remote_port: 1000,
            local_port: 80,
        };
        let other = Tuple { remote_port: 1001, ..tuple };
        assert_ne!(keys.flow(&tuple), keys.flow(&other));
        assert_ne!(keys.timestamp_offset(&tuple), keys.timestamp_offset(&other));
        assert_ne!(keys.flow(&tuple) as u32, keys.timestamp_offset(&tuple));
        let later = keys.initial_sequence(&tuple, 4000);
        assert_eq!(later.wrapping_sub(keys.initial_sequence(&tuple, 0)), 1000, "a clock of 4 µs");
        assert_eq!(keys.prefix(Ip::from_v4([10, 0, 0, 1])), keys.prefix(Ip::from_v4([10, 0, 0, 9])));
        assert_ne!(keys.prefix(Ip::from_v4([10, 0, 0, 1])), keys.prefix(Ip::from_v4([10, 0, 1, 1])));
    }
}
