//! A fixed shuffle of `0..size` that needs no table: neighbors in the order are not neighbors in
//! number.
//!
//! Four rounds of a Feistel network over the smallest even number of bits that holds `size`; a
//! value outside is sent through again until it falls inside (cycle walking). It is the same in
//! every run, and it can be inverted.

/// Rounds of the network.
const ROUNDS: u32 = 4;

/// See the module's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    size: u32,
    half_bits: u32,
    key: u32,
}

impl Permutation {
    /// The shuffle of `0..size` for a `key`.
    pub(crate) fn new(size: u32, key: u32) -> Permutation {
        let bits = u32::BITS - size.saturating_sub(1).leading_zeros();
        Permutation { size, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// The image of `index`; itself outside of `0..size`.
    pub(crate) fn at(&self, index: u32) -> u32 {
        self.walk(index, |value| (0..ROUNDS).fold(value, |value, round| self.forth(value, round)))
    }

    /// The index whose image is `value`.
    pub(crate) fn inverse(&self, value: u32) -> u32 {
        self.walk(value, |value| (0..ROUNDS).rev().fold(value, |value, round| self.back(value, round)))
    }

    fn walk(&self, mut value: u32, step: impl Fn(u32) -> u32) -> u32 {
        if value >= self.size {
            return value;
        }
        loop {
            value = step(value);
            if value < self.size {
                return value;
            }
        }
    }

    fn forth(&self, value: u32, round: u32) -> u32 {
        let (left, right) = self.split(value);
        (right << self.half_bits) | (left ^ self.mix(right, round))
    }

    fn back(&self, value: u32, round: u32) -> u32 {
        let (left, right) = self.split(value);
        ((right ^ self.mix(left, round)) << self.half_bits) | left
    }

    fn split(&self, value: u32) -> (u32, u32) {
        (value >> self.half_bits, value & ((1 << self.half_bits) - 1))
    }

    /// The finisher of MurmurHash3, cut to half the bits.
    fn mix(&self, half: u32, round: u32) -> u32 {
        let mut hash = half ^ self.key.wrapping_add(round.wrapping_mul(0x9e37_79b9));
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        (hash ^ (hash >> 16)) & ((1 << self.half_bits) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_once_and_can_be_undone() {
        for size in [1, 2, 3, 7, 64, 1000, 4097, 65_536] {
            let shuffle = Permutation::new(size, 7);
            let mut seen = vec![false; size as usize];
            for index in 0..size {
                let value = shuffle.at(index);
                assert!(!std::mem::replace(&mut seen[value as usize], true), "{value} twice of {size}");
                assert_eq!(shuffle.inverse(value), index);
            }
        }
    }

    #[test]
    fn neighbors_part() {
        let shuffle = Permutation::new(1_000_000, 1);
        let close = (0..10_000_u32).filter(|at| shuffle.at(*at).abs_diff(shuffle.at(at + 1)) < 1000).count();
        assert!(close < 60, "{close} of 10 000 stay close: 20 would be chance");
        assert!(shuffle.at(1_000_000) == 1_000_000, "outside is left alone");
    }
}
