//! How much each address holds: connections, or places in a queue.
//!
//! An address is where a client comes from, as far as its owner can't choose it freely: all of
//! IPv4, the network's 64 bits of IPv6 (RFC 4291 §2.5.4). All workers count in one table of
//! counters without names, each address in two of them that a keyed hash chooses, and the smaller
//! one counts (Cormode, Muthukrishnan, "An improved data stream summary", 2005): it is never less
//! than what the address holds, and more only if others share both. So the table has a fixed size,
//! no client fills it, and without the key none can choose which address to share with.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An address, as the table knows it: a hash. To be given back with what it was counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u32);

/// Counts by address.
pub struct Sources {
    /// Two rows of the same size, a power of two.
    counts: Box<[AtomicU32]>,
    key: RandomState,
}

/// Connections by address, and how many one may have.
pub type AddressCounts = (Arc<Sources>, u32);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({} counters)", self.counts.len())
    }
}

impl Sources {
    /// Bytes for so many things to count.
    pub fn bytes(things_max: usize) -> usize {
        2 * row(things_max) * size_of::<AtomicU32>()
    }

    /// For so many things to count at a time, in twice to four times as many counters a row, with a
    /// secret of its own.
    pub fn new(things_max: usize) -> Sources {
        let counts = (0..2 * row(things_max)).map(|_| AtomicU32::new(0)).collect();
        Sources { counts, key: RandomState::new() }
    }

    /// The address as the table knows it.
    pub fn source(&self, ip: IpAddr) -> Source {
        let hash = match ip.to_canonical() {
            IpAddr::V4(ip) => self.key.hash_one(ip.octets()),
            IpAddr::V6(ip) => self.key.hash_one(&ip.octets()[..8]),
        };
        Source(hash as u32)
    }

    fn counters(&self, source: Source) -> [&AtomicU32; 2] {
        let half = self.counts.len() / 2;
        // Two places of one hash: the second by the upper bits of a product, which depend on all of
        // it (Knuth, TAOCP 6.4).
        let (first, second) =
            (source.0 as usize % half, (source.0.wrapping_mul(0x9e37_79b1) >> 8) as usize % half);
        [&self.counts[first], &self.counts[half + second]]
    }

    /// Counts one more of an address; returns how many it holds with it.
    pub fn add(&self, source: Source) -> u32 {
        let [first, second] = self.counters(source).map(|count| count.fetch_add(1, Ordering::Relaxed) + 1);
        first.min(second)
    }

    /// Counts one less of an address, which was counted before.
    pub fn remove(&self, source: Source) {
        for count in self.counters(source) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many an address holds.
    pub fn of(&self, source: Source) -> u32 {
        let [first, second] = self.counters(source).map(|count| count.load(Ordering::Relaxed));
        first.min(second)
    }

    /// How many the address with the most holds, or a little more: an address counts in one counter
    /// of either row, and none of a row has more than its fullest. Reads all counters, 16 bytes or
    /// more for each thing that may be counted.
    pub fn busiest(&self) -> u32 {
        let (first, second) = self.counts.split_at(self.counts.len() / 2);
        let fullest = |row: &[AtomicU32]| row.iter().map(|count| count.load(Ordering::Relaxed)).max();
        fullest(first).min(fullest(second)).unwrap_or(0)
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

/// Counters of a row.
const fn row(things_max: usize) -> usize {
    let wanted = 2 * things_max;
    if wanted < 1024 { 1024 } else { wanted.next_power_of_two() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_all_of_ipv4_and_a_network_of_ipv6() {
        let sources = Sources::new(100);
        let source = |text: &str| sources.source(text.parse().unwrap());
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
    }

    #[test]
    fn nobody_counts_for_much_less_or_more_than_it_holds() {
        let sources = Sources::new(4096);
        let source = |number: u32| sources.source(IpAddr::V4(number.into()));
        // One with a thousand, three thousand with one each.
        let add = |number: u32| assert!(sources.add(source(number)) >= 1);
        (0..1000).for_each(|_| add(0));
        (1..=3000).for_each(add);
        assert!((1000..1010).contains(&sources.of(source(0))));
        assert!((1000..1010).contains(&sources.busiest()));
        let off = (1..=3000).filter(|number| sources.of(source(*number)) > 3).count();
        assert!(off < 20, "{off} of 3000 count for more than they hold");
        assert!((1..=3000).all(|number| sources.of(source(number)) >= 1));
        (0..1000).for_each(|_| sources.remove(source(0)));
        (1..=3000).for_each(|number| sources.remove(source(number)));
        assert!(sources.is_empty());
    }
}
