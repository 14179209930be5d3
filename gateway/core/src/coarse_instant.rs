//! Times of a session, in four bytes each.

use netpoll::Timestamp;
use std::cmp::Ordering;
use std::time::Duration;

/// A point in time in sixteenths of a second, of which 32 bits are kept: they begin anew every 8.5
/// years.
///
/// Rounded up, so that what is counted from it is never over early: a time-out may be late by a
/// tick, and a session is never called idle for longer than it was. There is no order but with a
/// present at hand: an instant is at most 8.5 years before it ([`CoarseInstant::before`]), and two
/// are less than half of that apart ([`CoarseInstant::compare`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoarseInstant(u32);

impl CoarseInstant {
    const PER_TICK_NANOS: u64 = 62_500_000;
    /// Ticks of a second.
    pub const PER_SECOND: u32 = 16;
    /// The zero of the clock.
    pub(crate) const ZERO: CoarseInstant = CoarseInstant(0);
    /// No time: no instant has this value.
    pub const NEVER: CoarseInstant = CoarseInstant(u32::MAX);

    /// The number of the first tick that is not before `now`, but for those that would be
    /// [`CoarseInstant::NEVER`].
    fn tick(now: Timestamp) -> u64 {
        let tick = now.as_nanos().div_ceil(Self::PER_TICK_NANOS);
        tick + u64::from(tick as u32 == u32::MAX)
    }

    /// The first tick that is not before `now`; once in 8.5 years, the one after it.
    pub fn of(now: Timestamp) -> CoarseInstant {
        CoarseInstant(Self::tick(now) as u32)
    }

    /// The tick's time, which is not after that of `now`.
    pub fn before(self, now: Timestamp) -> Timestamp {
        let tick = Self::tick(now);
        let age = (tick as u32).wrapping_sub(self.0);
        Timestamp::from_nanos(tick.saturating_sub(u64::from(age)) * Self::PER_TICK_NANOS)
    }

    /// How long so many ticks are.
    pub const fn duration(ticks: u32) -> Duration {
        Duration::from_nanos(ticks as u64 * Self::PER_TICK_NANOS)
    }

    /// Which of two came first.
    pub fn compare(self, other: CoarseInstant) -> Ordering {
        (self.0.wrapping_sub(other.0) as i32).cmp(&0)
    }

    /// Ticks from `earlier` to this one; 0 when that came later.
    pub fn ticks_since(self, earlier: CoarseInstant) -> u32 {
        (self.0.wrapping_sub(earlier.0) as i32).max(0) as u32
    }

    /// Whole seconds of the clock that have begun since `earlier`.
    pub fn seconds_since(self, earlier: CoarseInstant) -> u32 {
        (earlier.0 % Self::PER_SECOND + self.ticks_since(earlier)) / Self::PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = CoarseInstant::PER_TICK_NANOS;

    #[test]
    fn a_noted_instant_is_never_before_the_real_one_and_less_than_a_tick_after() {
        let wrap = TICK << 32;
        for nanos in
            [0, 1, TICK - 1, TICK, TICK + 1, 1_000_000_000, 86_400_000_000_123, wrap, wrap + 1, 3 * wrap + 7]
        {
            let now = Timestamp::from_nanos(nanos);
            let noted = CoarseInstant::of(now).before(now);
            assert!(noted >= now, "{nanos}: {noted:?} would make time-outs early");
            assert!(noted.since(now) < Duration::from_nanos(TICK), "{nanos}: {noted:?}");
        }
    }

    #[test]
    fn the_wrap_of_its_bits_is_a_time_like_any_other() {
        for wrap in [TICK << 16, TICK << 31, TICK << 32, TICK << 33] {
            for early in 0..64 {
                let noted_at = Timestamp::from_nanos(wrap - early * TICK / 2);
                let noted = CoarseInstant::of(noted_at);
                assert_ne!(noted, CoarseInstant::NEVER);
                for late in [0, 1, TICK, 40 * TICK, TICK << 31] {
                    let now = noted_at + Duration::from_nanos(late);
                    let told = noted.before(now);
                    // The value of NEVER is left out, which costs a tick.
                    assert!(
                        told >= noted_at && told.since(noted_at) < Duration::from_nanos(2 * TICK),
                        "{told:?}"
                    );
                }
                let later = CoarseInstant::of(noted_at + Duration::from_nanos(40 * TICK));
                assert_eq!((noted.compare(later), later.compare(noted)), (Ordering::Less, Ordering::Greater));
                assert_eq!(noted.compare(noted), Ordering::Equal);
                assert!((39..=41).contains(&later.ticks_since(noted)) && noted.ticks_since(later) == 0);
                assert!((2..=3).contains(&later.seconds_since(noted)) && noted.seconds_since(later) == 0);
            }
        }
    }
}
