//! The end of a token, in four bytes.

use netpoll::Timestamp;

/// The end of a token on the worker's clock, in quarters of a second: at most a quarter late, never
/// early. A token that is valid for longer than 34 years ends then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenEnd(u32);

impl TokenEnd {
    const QUARTER_MS: u64 = 250;
    /// There is no token, or it has no end.
    pub const NEVER: TokenEnd = TokenEnd(0);

    /// Of a token that is valid for so long from `now` on.
    pub fn after(now: Timestamp, valid_for_ms: u64) -> TokenEnd {
        let quarters = now.as_millis().saturating_add(valid_for_ms).div_ceil(Self::QUARTER_MS);
        TokenEnd(u32::try_from(quarters).unwrap_or(u32::MAX).max(1))
    }

    /// The time; `None`: never.
    pub fn time(self) -> Option<Timestamp> {
        let millis = u64::from(self.0) * Self::QUARTER_MS;
        (self != TokenEnd::NEVER).then(|| Timestamp::from_nanos(millis * 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_kept_to_a_quarter_of_a_second_and_never_early() {
        for (now_ms, valid_for_ms) in [(0, 0), (0, 1), (1, 249), (999, 1), (123_456_789, 86_400_001)] {
            let now = Timestamp::from_nanos(now_ms * 1_000_000);
            let end = TokenEnd::after(now, valid_for_ms).time().unwrap().as_millis();
            let late = end - (now_ms + valid_for_ms);
            assert!(
                late < 250 || now_ms + valid_for_ms == 0 && late == 250,
                "{now_ms} + {valid_for_ms}: {late}"
            );
        }
    }

    #[test]
    fn no_end_is_never_and_a_far_one_is_far() {
        assert_eq!(TokenEnd::NEVER.time(), None);
        let far = TokenEnd::after(Timestamp::ZERO, u64::MAX).time().unwrap();
        assert!(far.as_millis() / 1000 / 86_400 / 365 >= 34);
    }
}
