//! Latency recording: HDR histograms of three digits for the whole measured phase, and of two for
//! each second.

use hdrhistogram::Histogram;

/// Latencies above it count as it, in nanoseconds.
const HIGHEST: u64 = 120_000_000_000;

/// An empty histogram from 1 ns to two minutes.
pub(crate) fn fresh(digits: u8) -> Histogram<u64> {
    // The bounds are constants that hdrhistogram accepts; a failure would be a bug in them.
    Histogram::new_with_bounds(1, HIGHEST, digits).expect("constant histogram bounds are valid")
}

/// An empty histogram that grows with what is recorded: for what most stages of many workers never
/// count. It allocates when a latency exceeds all before it by half, so a few times in a run.
pub(crate) fn growing() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are valid")
}

/// Adds a latency; too long ones saturate.
pub(crate) fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    let _ = histogram.record(nanos.clamp(1, HIGHEST));
}

/// At most so many different ages stand for a row of evenly spaced times.
const STRATA: u64 = 256;

/// Adds `count` latencies that end at `now` and began at even distances in `from..to`, but only
/// those that began in `window`: operations of a schedule that are still open.
pub(crate) fn record_open(
    histogram: &mut Histogram<u64>,
    (from, to): (u64, u64),
    count: u64,
    window: impl Fn(u64) -> bool,
    now: u64,
) {
    let strata = count.min(STRATA);
    for stratum in 0..strata {
        let edge = |stratum: u64| (u128::from(stratum) * u128::from(count) / u128::from(strata)) as u64;
        let (first, end) = (edge(stratum), edge(stratum + 1));
        let share = end - first;
        // The operation in the middle of the stratum.
        let middle = u128::from(first + (share - 1) / 2);
        let part = u128::from(to.saturating_sub(from)) * middle / u128::from(count);
        let began = from + part as u64;
        if window(began) {
            let _ = histogram.record_n(now.saturating_sub(began).clamp(1, HIGHEST), share);
        }
    }
}

/// Adds `other` to `into`, which comes from [`fresh`] or grows, so that all of it fits.
pub(crate) fn merge(into: &mut Histogram<u64>, other: &Histogram<u64>) {
    let _ = into.add(other);
}

/// Histograms between processes: their values with their counts, so that nothing is lost.
pub(crate) mod wire {
    use hdrhistogram::Histogram;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wire {
        digits: u8,
        counts: Vec<(u64, u64)>,
    }

    pub(crate) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let counts =
            histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()));
        Wire { digits: histogram.sigfig(), counts: counts.collect() }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        use serde::de::Error;
        let Wire { digits, counts } = Wire::deserialize(deserializer)?;
        let mut histogram = Histogram::new(digits).map_err(D::Error::custom)?;
        for (value, count) in counts {
            histogram.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_operations_are_as_old_as_their_times() {
        let mut histogram = growing();
        let second = 1_000_000_000;
        record_open(&mut histogram, (second, 5 * second), 1_000_000, |began| began >= 2 * second, 6 * second);
        assert_eq!(histogram.len(), 750_000);
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e9;
        assert!((at(0.5) - 2.5).abs() < 0.03 && (at(1.0) - 4.0).abs() < 0.03 && at(0.0) < 1.03);
        let mut none = growing();
        record_open(&mut none, (5, 5), 0, |_| true, 9);
        assert!(none.is_empty());
    }

    #[test]
    fn what_comes_from_another_process_adds_up_as_if_it_were_from_this_one() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Message(#[serde(with = "wire")] Histogram<u64>);
        let (mut here, mut there) = (growing(), growing());
        (0..5000_u64).for_each(|at| record(&mut here, at * at * 7));
        (0..5000_u64).for_each(|at| record(&mut there, at * 1_000_003));
        let mut together = fresh(3);
        [&here, &there].into_iter().for_each(|histogram| merge(&mut together, histogram));
        let mut merged = fresh(3);
        for histogram in [here, there] {
            let text = serde_json::to_string(&Message(histogram)).unwrap();
            merge(&mut merged, &serde_json::from_str::<Message>(&text).unwrap().0);
        }
        assert_eq!(merged, together);
        assert_eq!((merged.max(), merged.min(), merged.len()), (together.max(), together.min(), 10_000));
    }

    #[test]
    fn both_kinds_hold_what_they_are_given_and_add_up() {
        for mut histogram in [fresh(3), growing()] {
            for nanos in [0, 1, 1_000_000, HIGHEST, u64::MAX] {
                record(&mut histogram, nanos);
            }
            assert_eq!(histogram.len(), 5);
            assert!(histogram.max() >= HIGHEST && histogram.max() < HIGHEST * 2);
            let mut sum = fresh(3);
            merge(&mut sum, &histogram);
            merge(&mut sum, &growing());
            assert_eq!((sum.len(), sum.max()), (5, histogram.max()));
        }
    }
}
