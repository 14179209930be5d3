//! What one connection may do in a tick and at once, by the configured rates.

use super::UNITS;
use crate::settings::RateLimits;

/// What one connection may do: its share of its user's rate, or its own rate if that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Units of messages that a tick pays for; `u32::MAX`: no limit.
    pub(super) messages_per_tick: u32,
    /// Units of messages.
    pub(super) messages_burst: u32,
    /// Bytes that a tick pays for; `u32::MAX`: no limit.
    pub(super) bytes_per_tick: u32,
    pub(super) bytes_burst: u32,
}

/// The less of a rate and a share of another; 0: no limit. With its burst, in the same proportion.
fn least(own: u32, burst: u32, of_user: u32, sharers: u8) -> Option<(u32, u32)> {
    let share = of_user / u32::from(sharers.max(1));
    match (own, of_user) {
        (0, 0) => None,
        (own, of_user) if of_user == 0 || (own > 0 && own <= share) => Some((own, burst)),
        (own, of_user) => {
            let whole = u64::from(if own > 0 { own } else { of_user });
            let burst = u64::from(burst) * u64::from(share) / whole;
            Some((share.max(1), burst.max(1) as u32))
        }
    }
}

impl Allowance {
    /// Of one of `sharers` connections of a user.
    pub fn new(limits: &RateLimits, sharers: u8) -> Allowance {
        let RateLimits { messages_per_second, messages_burst, user_messages_per_second, .. } = *limits;
        let RateLimits { bytes_per_second, bytes_burst, user_bytes_per_second, .. } = *limits;
        let messages = least(messages_per_second, messages_burst, user_messages_per_second, sharers);
        let bytes = least(bytes_per_second, bytes_burst, user_bytes_per_second, sharers);
        let (messages_per_tick, messages_burst) = messages.unwrap_or((u32::MAX, u32::MAX));
        let (bytes, bytes_burst) = bytes.unwrap_or((u32::MAX, u32::MAX));
        Allowance {
            messages_per_tick,
            messages_burst: messages_burst.saturating_mul(UNITS),
            bytes_per_tick: if bytes == u32::MAX { bytes } else { (bytes / UNITS).max(1) },
            bytes_burst,
        }
    }
}
