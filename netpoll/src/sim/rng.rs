//! Choices from a seed.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014; the constants are those of Vigna's public-domain splitmix64.c): eight bytes of state, no
/// bad seed, about 1 ns a number.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound` (Lemire's multiplication; the bias is below 2^-32 for the bounds of
    /// simulations).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a choice of nothing");
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// True with the given probability. A probability of zero draws no number.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits, as many as the fraction of an f64 holds: the comparison is exact on every
        // machine.
        probability > 0.0 && ((self.next_u64() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first outputs of splitmix64.c for the seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn choices_keep_their_bounds_and_their_odds() {
        let mut rng = Rng::new(1);
        let mut hits = [0; 5];
        (0..5000).for_each(|_| hits[rng.below(5)] += 1);
        assert!(hits.iter().all(|count| (800..1200).contains(count)), "{hits:?}");
        let heads = (0..10_000).filter(|_| rng.chance(0.1)).count();
        assert!((800..1200).contains(&heads), "{heads}");
        assert!((0..100).all(|_| rng.chance(1.0) && !rng.chance(0.0)));
    }
}
