//! How two processes' clocks compare, from round trips.
//!
//! A coordinator asks at `asked` and has the answer at `answered`, both on its own clock; the
//! agent's clock said `own` in between. So the agent's clock is behind by something between
//! `asked - own` and `answered - own`: by their middle, give or take half the round trip.

/// One round trip, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundTrip {
    pub(super) asked: u64,
    pub(super) own: u64,
    pub(super) answered: u64,
}

impl RoundTrip {
    /// How far the coordinator's clock is ahead, and by how much that may be wrong.
    fn ahead(&self) -> (i64, u64) {
        let half = self.answered.saturating_sub(self.asked) / 2;
        let middle = self.asked + half;
        (middle.cast_signed() - self.own.cast_signed(), half + 1)
    }
}

/// The estimate from the quickest of several round trips; none without any.
pub(super) fn estimate(trips: &[RoundTrip]) -> Option<i64> {
    trips.iter().map(RoundTrip::ahead).min_by_key(|(_, uncertainty)| *uncertainty).map(|(ahead, _)| ahead)
}

/// Round trips that are looked at together: the clocks drift little in their time.
const TOGETHER: u32 = 8;

/// How well an agent's clock agrees with the coordinator's, once it was set to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreement {
    /// The most that it may have been wrong, in ns, as far as is known.
    worst: u64,
    /// The best bound of the present group, and how many round trips that has.
    best: u64,
    count: u32,
}

impl Agreement {
    /// Takes a round trip in which the agent answered by the clock that was set.
    pub(super) fn take(&mut self, trip: RoundTrip) {
        let (ahead, uncertainty) = trip.ahead();
        let bound = ahead.unsigned_abs() + uncertainty;
        self.best = if self.count == 0 { bound } else { self.best.min(bound) };
        self.count += 1;
        if self.count == TOGETHER {
            self.worst = self.worst.max(self.best);
            self.count = 0;
        }
    }

    /// The most that the clock may have been wrong, in ns; `None` before any round trip.
    pub(crate) fn uncertainty(&self) -> Option<u64> {
        let group = (self.count > 0).then_some(self.best);
        // A group that is not whole says something only where there is no other.
        [(self.worst > 0).then_some(self.worst), group].into_iter().flatten().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round trip at `asked` to an agent that is behind by `behind`, with ways of these lengths.
    fn trip(asked: u64, behind: i64, there: u64, back: u64) -> RoundTrip {
        let own = ((asked + there).cast_signed() - behind).cast_unsigned();
        RoundTrip { asked, own, answered: asked + there + back }
    }

    #[test]
    fn the_true_difference_is_within_the_uncertainty() {
        for (behind, there, back) in [(0, 10, 10), (5_000_000, 80, 20), (-7_000, 1, 900), (123, 0, 0)] {
            let (ahead, uncertainty) = trip(1_000_000_000, behind, there, back).ahead();
            assert!((ahead - behind).unsigned_abs() <= uncertainty, "{behind} {there} {back}: {ahead}");
        }
    }

    #[test]
    fn the_quickest_round_trip_decides() {
        let trips = [trip(1000, 500, 900, 100), trip(9000, 500, 10, 12), trip(20_000, 500, 0, 400)];
        assert!((estimate(&trips).unwrap() - 500).abs() <= 12);
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn a_drift_shows_and_a_slow_answer_does_not() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.uncertainty(), None);
        // One in two answers takes long; the clock is right.
        for number in 0..16 {
            agreement.take(trip(1000 * number, 0, 10, if number % 2 == 0 { 10 } else { 5000 }));
        }
        assert!(agreement.uncertainty().unwrap() <= 12, "{agreement:?}");
        (0..8).for_each(|number| agreement.take(trip(1000 * number, 700, 10, 10)));
        assert!((700..=720).contains(&agreement.uncertainty().unwrap()), "{agreement:?}");
    }
}
