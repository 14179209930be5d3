//! How operations lie around their rate: evenly, or as independent users make them.
//!
//! Poisson arrivals are drawn from a seed: the gap before operation `i`, in units of the mean gap,
//! is exponential and follows from the seed and `i` alone. So every worker knows the time of every
//! operation, and a seed repeats a run. Sums of gaps are kept for every 64th operation.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One mean gap.
pub(super) const UNIT: u64 = 1 << 24;
/// At most so many operations are drawn for one flow: two seconds of a processor, 25 MB.
pub(super) const DRAWN_MAX: f64 = 2e8;
/// Gaps between two sums that are kept.
const STRIDE: u64 = 64;
/// The seed that is used if none is given.
const SEED: u64 = 1;

/// How operations are spread around their rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Arrivals {
    Uniform,
    Poisson { seed: u64 },
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Arrivals, String> {
        let wrong = || format!("`{text}` are no arrivals; write uniform, poisson or poisson:SEED");
        match text.split_once(':') {
            None if text == "uniform" => Ok(Arrivals::Uniform),
            None if text == "poisson" => Ok(Arrivals::Poisson { seed: SEED }),
            Some(("poisson", seed)) => {
                seed.parse().map(|seed| Arrivals::Poisson { seed }).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrivals::Uniform => f.write_str("uniform"),
            Arrivals::Poisson { seed } => write!(f, "poisson:{seed}"),
        }
    }
}

impl TryFrom<String> for Arrivals {
    type Error = String;

    fn try_from(text: String) -> Result<Arrivals, String> {
        text.parse()
    }
}

impl From<Arrivals> for String {
    fn from(arrivals: Arrivals) -> String {
        arrivals.to_string()
    }
}

/// The drawn arrivals of one flow, in units.
#[derive(Debug, PartialEq)]
pub(crate) struct Drawn {
    seed: u64,
    key: u64,
    /// The sum of the gaps before every 64th operation.
    sums: Box<[u64]>,
}

impl Drawn {
    /// Arrivals of `stream` (a flow) over `operations` mean gaps, and a little beyond them; `None`
    /// above [`DRAWN_MAX`].
    pub(super) fn new(seed: u64, stream: u64, operations: f64) -> Option<Drawn> {
        if !(0.0..=DRAWN_MAX).contains(&operations) {
            return None;
        }
        let key = mix(seed ^ mix(stream));
        let end = (operations * UNIT as f64) as u64;
        let (mut sums, mut sum, mut index) = (Vec::new(), 0, 0);
        while sum <= end || index % STRIDE != 0 {
            if index % STRIDE == 0 {
                sums.push(sum);
            }
            sum += gap(key, index);
            index += 1;
        }
        sums.push(sum);
        Some(Drawn { seed, key, sums: sums.into() })
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// When operation `index` arrives; `None` beyond what was drawn.
    pub(super) fn at(&self, index: u64) -> Option<u64> {
        let (from, first) = (*self.sums.get((index / STRIDE) as usize)?, index / STRIDE * STRIDE);
        (first / STRIDE + 1 < self.sums.len() as u64).then(|| self.sum(from, first, index))
    }

    /// As [`Drawn::at`], from the arrival of an earlier operation.
    pub(super) fn after(&self, (earlier, units): (u64, u64), index: u64) -> Option<u64> {
        match index.checked_sub(earlier) {
            Some(ahead) if ahead <= STRIDE / 2 && index / STRIDE + 1 < self.sums.len() as u64 => {
                Some(self.sum(units, earlier + 1, index))
            }
            _ => self.at(index),
        }
    }

    fn sum(&self, from: u64, first: u64, last: u64) -> u64 {
        (first..=last).fold(from, |sum, index| sum + gap(self.key, index))
    }

    /// Operations that arrive before `units`, of those that were drawn.
    pub(super) fn before(&self, units: u64) -> u64 {
        let block = (self.sums.partition_point(|sum| *sum < units) as u64).saturating_sub(1);
        let mut index = block * STRIDE;
        while self.at(index).is_some_and(|at| at < units) {
            index += 1;
        }
        index
    }
}

/// The exponential gap before operation `index`.
fn gap(key: u64, index: u64) -> u64 {
    // 53 random bits, from above 0 to 1.
    let draw = (mix(key ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11) + 1;
    let uniform = draw as f64 / (1_u64 << 53) as f64;
    (-uniform.ln() * UNIT as f64) as u64
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential() {
        let drawn = Drawn::new(7, 0, 210_000.0).unwrap();
        let gaps: Vec<f64> = (1..200_000)
            .map(|index| (drawn.at(index).unwrap() - drawn.at(index - 1).unwrap()) as f64 / UNIT as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > 2.0).count() as f64 / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.03, "variance {variance}");
        assert!((longer - (-2_f64).exp()).abs() < 0.005, "above two {longer}");
        // Counts of equal times have their mean as variance; evenly spaced ones have none.
        let counts: Vec<f64> = (0..1000)
            .map(|block| (drawn.before((block + 1) * 100 * UNIT) - drawn.before(block * 100 * UNIT)) as f64)
            .collect();
        let spread = counts.iter().map(|count| (count - 100.0).powi(2)).sum::<f64>() / 1000.0;
        assert!((80.0..120.0).contains(&spread), "variance of counts {spread}");
    }

    #[test]
    fn an_arrival_is_the_same_from_anywhere_and_for_a_seed() {
        let (one, same) = (Drawn::new(3, 1, 5000.0).unwrap(), Drawn::new(3, 1, 5000.0).unwrap());
        let mut earlier = (0, one.at(0).unwrap());
        for index in (1..4500).step_by(7) {
            let at = one.at(index).unwrap();
            assert_eq!((Some(at), Some(at)), (same.at(index), one.after(earlier, index)), "{index}");
            assert_eq!(one.before(at), index);
            earlier = (index, at);
        }
        assert_ne!(one.at(9), Drawn::new(4, 1, 5000.0).unwrap().at(9), "another seed");
        assert_ne!(one.at(9), Drawn::new(3, 2, 5000.0).unwrap().at(9), "another flow");
    }

    #[test]
    fn what_was_asked_for_is_drawn_whole_and_no_more() {
        let drawn = Drawn::new(1, 0, 1000.0).unwrap();
        let last = (0..).take_while(|index| drawn.at(*index).is_some()).last().unwrap();
        assert!(drawn.at(last).unwrap() >= 1000 * UNIT, "beyond the end");
        assert_eq!(drawn.before(u64::MAX), last + 1);
        assert_eq!(Drawn::new(1, 0, DRAWN_MAX * 1.1), None);
        assert_eq!(Drawn::new(1, 0, f64::NAN), None);
    }

    #[test]
    fn words_read_and_print() {
        for text in ["uniform", "poisson:1", "poisson:42"] {
            assert_eq!(text.parse::<Arrivals>().unwrap().to_string(), text);
        }
        assert_eq!("poisson".parse(), Ok(Arrivals::Poisson { seed: 1 }));
        for text in ["pareto", "poisson:x", "uniform:3", ""] {
            assert!(text.parse::<Arrivals>().unwrap_err().contains("poisson:SEED"), "{text}");
        }
    }
}
