//! Formats of the wire: for each a validated representation, parsed once at the boundary, and named
//! access to its bytes.
//!
//! `parse` checks every length against the bytes that exist and returns a small value that can hold
//! only what is valid, with the offset of its payload. `emit` writes the same header into a slice.
//! `Packet` gives the bytes of a header by field, for code that reads or changes one field. Nothing
//! is copied but header fields. No function here panics on any received bytes.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod flow;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The reason that bytes are no header of their format: always the sender's fault, or the line's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer bytes than the header, or than its length field says.
    Truncated,
    /// A length field contradicts itself.
    BadLength,
    /// Another version or kind.
    BadVersion,
    /// The checksum is wrong.
    BadChecksum,
    /// A part that is not supported.
    Unsupported,
    /// A fragment.
    Fragment,
}

/// A hardware address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All hosts on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Whether it names a group of hosts.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The group address of an IPv6 multicast group (RFC 2464, 7).
    pub const fn of_ipv6_group(group: [u8; 16]) -> Mac {
        Mac([0x33, 0x33, group[12], group[13], group[14], group[15]])
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address of either family in 16 bytes. IPv4 is kept as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2),
/// which never appears on the wire as an IPv6 address (it is rejected there).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ip([u8; 16]);

impl Ip {
    /// `::`, no address.
    pub const UNSPECIFIED: Ip = Ip([0; 16]);

    /// An IPv4 address.
    pub const fn from_v4(v4: [u8; 4]) -> Ip {
        Ip([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]])
    }

    /// An IPv6 address.
    pub const fn from_v6(v6: [u8; 16]) -> Ip {
        Ip(v6)
    }

    /// The four bytes, if it is an IPv4 address.
    pub const fn v4(self) -> Option<[u8; 4]> {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        }
    }

    /// Whether it is an IPv4 address.
    pub const fn is_v4(self) -> bool {
        self.v4().is_some()
    }

    /// Whether it stands for every address of `other`'s family. `::` stands for both families.
    pub fn is_any_of_family(self, other: Ip) -> bool {
        self == Ip::UNSPECIFIED || (self == Ip::from_v4([0; 4]) && other.is_v4())
    }

    /// Whether it names a group of hosts.
    pub const fn is_multicast(self) -> bool {
        match self.v4() {
            Some([first, ..]) => first >= 224 && first < 240,
            None => self.0[0] == 0xff,
        }
    }

    /// All sixteen bytes.
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// Whether the first `length` bits of both agree, counted from the first bit of the family.
    pub fn shares_prefix(self, other: Ip, length: u8) -> bool {
        if self.is_v4() != other.is_v4() {
            return false;
        }
        let skipped = if self.is_v4() { 96 } else { 0 };
        let bits = (u32::from(length) + skipped).min(128);
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        (u128::from_be_bytes(self.0) ^ u128::from_be_bytes(other.0)) & mask == 0
    }
}

impl From<IpAddr> for Ip {
    fn from(address: IpAddr) -> Ip {
        match address {
            IpAddr::V4(v4) => Ip::from_v4(v4.octets()),
            IpAddr::V6(v6) => Ip(v6.octets()),
        }
    }
}

impl From<Ip> for IpAddr {
    fn from(ip: Ip) -> IpAddr {
        match ip.v4() {
            Some(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            None => IpAddr::V6(Ipv6Addr::from(ip.0)),
        }
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// The two bytes at `at`, in network order; zero when they do not exist.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// The four bytes at `at`, in network order; zero when they do not exist.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// `N` bytes from `at` on, if they exist.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_fit_one_type() {
        for text in ["10.1.2.3", "fe80::1", "::1", "255.255.255.255"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Ip::from(address)), address);
            assert_eq!(Ip::from(address).is_v4(), address.is_ipv4());
        }
    }

    #[test]
    fn prefixes_count_from_the_familys_first_bit() {
        let ip = |text: &str| Ip::from(text.parse::<IpAddr>().unwrap());
        assert!(ip("10.0.0.1").shares_prefix(ip("10.0.0.200"), 24));
        assert!(!ip("10.0.0.1").shares_prefix(ip("10.0.1.1"), 24));
        assert!(ip("10.0.0.1").shares_prefix(ip("99.0.0.1"), 0));
        assert!(!ip("10.0.0.1").shares_prefix(ip("::a00:1"), 0), "families do not mix");
        assert!(ip("fd00::1").shares_prefix(ip("fd00::ffff"), 64));
    }
}
