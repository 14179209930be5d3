//! SYN cookies (RFC 4987, 3.6): a handshake without memory, for when the SYN cache is full.
//!
//! ```text
//!   our ISN:   epoch (5 bits, 64 s) │ MSS index (3 bits) │ keyed hash (24 bits)
//!              of tuple, peer's ISN, epoch, MSS index
//!   our TSval: clock, its low 6 bits replaced by: SACK │ scaled │ peer's window scale (4 bits)
//! ```
//!
//! A cookie is valid for two epochs. Stray acknowledgements are checked only within two epochs
//! after a cookie was sent. Without timestamps the peer gets neither window scaling nor SACK.

use crate::keys::Keys;
use crate::time::Now;
use crate::wire::flow::Tuple;

/// MSS values that a cookie can carry. The largest value that the peer's MSS allows is used.
const MSS: [u16; 8] = [216, 536, 1024, 1220, 1360, 1440, 1460, 8960];
const EPOCH_SHIFT: u32 = 16;
/// The lifetime of a cookie, in milliseconds.
const LIFE_MS: u32 = 2 << EPOCH_SHIFT;

/// What a cookie carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// The peer's MSS, rounded down.
    pub(crate) mss: u16,
}

/// What the timestamp carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    pub(crate) sack: bool,
    /// The peer's window scale.
    pub(crate) scale: Option<u8>,
}

/// The time of the last cookie.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cookies {
    last_ms: Option<u32>,
}

fn hash(keys: &Keys, tuple: &Tuple, irs: u32, epoch: u32, index: u32) -> u32 {
    keys.cookie(tuple, irs, epoch << 3 | index) & 0x00ff_ffff
}

impl Cookies {
    /// Our ISN for a SYN that is not stored.
    pub(crate) fn make(&mut self, keys: &Keys, tuple: &Tuple, irs: u32, mss: u16, now: Now) -> u32 {
        self.last_ms = Some(now.ms);
        let index = MSS.iter().rposition(|value| *value <= mss).unwrap_or(0) as u32;
        let epoch = (now.ms >> EPOCH_SHIFT) & 0x1f;
        epoch << 27 | index << 24 | hash(keys, tuple, irs, epoch, index)
    }

    /// Whether a cookie may still be returned.
    pub(crate) fn are_out(&self, now: Now) -> bool {
        self.last_ms.is_some_and(|last| now.since(last) < LIFE_MS)
    }

    /// The cookie in `iss`, if it is valid for a peer with the ISN `irs`.
    pub(crate) fn check(&self, keys: &Keys, tuple: &Tuple, irs: u32, iss: u32, now: Now) -> Option<Cookie> {
        if !self.are_out(now) {
            return None;
        }
        let epoch = iss >> 27;
        let age = (now.ms >> EPOCH_SHIFT).wrapping_sub(epoch) & 0x1f;
        let index = iss >> 24 & 7;
        let is_ours = age < 2 && iss & 0x00ff_ffff == hash(keys, tuple, irs, epoch, index);
        is_ours.then(|| Cookie { mss: MSS[index as usize] })
    }
}

impl Extras {
    /// Puts the extras into a timestamp; the clock loses its low 6 bits.
    pub(crate) fn stamp(self, clock: u32) -> u32 {
        let bits = u32::from(self.sack) << 5
            | u32::from(self.scale.is_some()) << 4
            | u32::from(self.scale.unwrap_or(0) & 0xf);
        // Never ahead of the clock, so that the next timestamp is not smaller.
        (clock.wrapping_sub(63) & !63) | bits
    }

    /// Reads them from the echo.
    pub(crate) fn read(echo: u32) -> Extras {
        Extras { sack: echo & 0x20 != 0, scale: (echo & 0x10 != 0).then_some((echo & 0xf).min(14) as u8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ip;

    fn at(ms: u32) -> Now {
        Now { ms, us: 0 }
    }

    fn tuple(port: u16) -> Tuple {
        let ip = Ip::from_v4([10, 0, 0, 1]);
        Tuple { remote: ip, local: ip, remote_port: port, local_port: 80 }
    }

    #[test]
    fn a_cookie_is_good_for_its_peer_and_its_time() {
        let keys = Keys::new([3, 4]);
        let mut cookies = Cookies::default();
        assert_eq!(cookies.check(&keys, &tuple(1), 5, 0, at(0)), None, "none was ever sent");
        let iss = cookies.make(&keys, &tuple(1), 5, 1400, at(100_000));
        assert_eq!(cookies.check(&keys, &tuple(1), 5, iss, at(130_000)), Some(Cookie { mss: 1360 }));
        assert_eq!(cookies.check(&keys, &tuple(2), 5, iss, at(130_000)), None);
        assert_eq!(cookies.check(&keys, &tuple(1), 6, iss, at(130_000)), None);
        assert_eq!(cookies.check(&keys, &tuple(1), 5, iss ^ 1 << 24, at(130_000)), None);
        assert_eq!(cookies.check(&keys, &tuple(1), 5, iss, at(300_000)), None);
    }

    #[test]
    fn guesses_fail() {
        let keys = Keys::new([3, 4]);
        let mut cookies = Cookies::default();
        cookies.make(&keys, &tuple(1), 5, 1400, at(0));
        let mut rng = netpoll::sim::Rng::new(1);
        let hits = (0..100_000)
            .filter(|_| cookies.check(&keys, &tuple(1), 5, rng.next_u64() as u32, at(1)).is_some());
        assert_eq!(hits.count(), 0);
    }

    #[test]
    fn extras_survive_the_echo() {
        for scale in [None, Some(0), Some(14)] {
            for sack in [false, true] {
                let extras = Extras { sack, scale };
                let stamp = extras.stamp(1_000_000);
                assert_eq!(Extras::read(stamp), extras);
                assert!(stamp <= 1_000_000);
            }
        }
    }
}
