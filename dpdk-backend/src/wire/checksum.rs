//! The Internet checksum (RFC 1071): the ones'-complement sum of 16-bit words, in parts.
//!
//! A sum is associative, so a payload's share is computed once and added to the header of every
//! receiver it goes to. A part that begins at an odd offset is byte-swapped (RFC 1071, 2(B): the
//! sum does not depend on byte order).

use super::Ip;

/// A partial sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// Adds `bytes`, which begin at an even offset.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        Sum(self.0 + u64::from(of_bytes(bytes)))
    }

    /// Adds one 16-bit word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Sum {
        Sum(self.0 + word as u64)
    }

    /// Adds the folded sum of a part, which begins at an even or odd offset.
    #[inline]
    #[must_use]
    pub const fn part(self, folded: u16, at_odd_offset: bool) -> Sum {
        self.word(if at_odd_offset { folded.swap_bytes() } else { folded })
    }

    /// Adds the pseudo-header of TCP and ICMPv6 (RFC 9293, 3.1; RFC 8200, 8.1).
    #[must_use]
    pub fn pseudo_header(self, source: Ip, destination: Ip, protocol: u8, length: usize) -> Sum {
        let sum = self.word(u16::from(protocol)).word((length >> 16) as u16).word(length as u16);
        match (source.v4(), destination.v4()) {
            (Some(source), Some(destination)) => sum.bytes(&source).bytes(&destination),
            _ => sum.bytes(&source.octets()).bytes(&destination.octets()),
        }
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline]
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum field's value: the complement of the sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The folded sum of `bytes`, padded with a zero if their number is odd.
///
/// Words are added in the machine's own order, eight bytes at a time, and swapped once at the end.
/// A sum wraps after 2^32 additions, 32 GiB; only additions that may wrap are vectorized where
/// overflow is checked (1280 bytes in a quarter of the time).
#[inline]
pub fn of_bytes(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    let halves = |word: u64| (word & 0xffff_ffff).wrapping_add(word >> 32);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        sum = sum.wrapping_add(halves(u64::from_ne_bytes(*chunk)));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        sum = sum.wrapping_add(halves(u64::from_ne_bytes(last)));
    }
    u16::from_be(Sum(sum).fold())
}

/// Whether `bytes`, including their checksum field, have a correct checksum (RFC 1071, 1.(3)).
#[inline]
pub fn is_correct(sum: Sum, bytes: &[u8]) -> bool {
    sum.bytes(bytes).fold() == 0xffff
}

/// The checksum field after a change of one 16-bit word (RFC 1624, equation 3).
pub const fn update(field: u16, old: u16, new: u16) -> u16 {
    Sum(!field as u64 + !old as u64 + new as u64).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn slow(bytes: &[u8]) -> u16 {
        let words =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum = 0;
        for word in words {
            sum += word;
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(of_bytes(&bytes), 0xddf2);
    }

    #[test]
    fn any_cut_gives_the_same_sum() {
        let mut rng = netpoll::sim::Rng::new(3);
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
            assert_eq!(of_bytes(&bytes), slow(&bytes), "{length}");
            for cut in 0..=length {
                let (head, tail) = bytes.split_at(cut);
                let sum = Sum::ZERO.part(of_bytes(head), false).part(of_bytes(tail), cut % 2 == 1);
                assert_eq!(sum.fold() % 0xffff, slow(&bytes) % 0xffff, "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_largest_packet_of_ones_does_not_wrap() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(of_bytes(&bytes), slow(&bytes));
        assert_eq!(of_bytes(&bytes[..65_534]), 0xffff);
    }

    #[test]
    fn a_changed_word_changes_the_field_alone() {
        let mut bytes = [0x45, 0, 0, 40, 1, 2, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let before = Sum::ZERO.bytes(&bytes).finish();
        bytes[8] = 63;
        assert_eq!(update(before, 0x4006, 0x3f06), Sum::ZERO.bytes(&bytes).finish());
    }
}
