//! What every message carries: the first 24 bytes of its payload, from which its receiver knows the
//! sender, whether a message is missing before it, and when it was meant to leave.
//!
//! ```text
//!  0     4          8          12     14     15      16           24
//!  ┌─────┬──────────┬──────────┬──────┬──────┬───────┬────────────┬─────────────
//!  │ run │ audience │ sequence │ slot │ flow │ check │ intended   │ filler …
//!  └─────┴──────────┴──────────┴──────┴──────┴───────┴────────────┴─────────────
//! ```
//!
//! An audience is a set of receivers that are sent to together: one connection (echo), a batch of
//! users (push), a room, or all (broadcast). A slot numbers the senders of an audience; `sequence`
//! counts by audience and slot.

/// Size of the stamp, and so of the smallest payload, in bytes.
pub(crate) const STAMP_SIZE: usize = 24;

/// The stamp of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) audience: u32,
    pub(crate) sequence: u32,
    pub(crate) slot: u16,
    pub(crate) flow: u8,
    /// Nanoseconds on the run's clock.
    pub(crate) intended: u64,
}

impl Stamp {
    /// The bytes.
    pub(crate) fn to_bytes(self) -> [u8; STAMP_SIZE] {
        let mut out = [0; STAMP_SIZE];
        out[0..4].copy_from_slice(&self.run.to_be_bytes());
        out[4..8].copy_from_slice(&self.audience.to_be_bytes());
        out[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..14].copy_from_slice(&self.slot.to_be_bytes());
        out[14] = self.flow;
        out[16..24].copy_from_slice(&self.intended.to_be_bytes());
        out[15] = check(&out);
        out
    }

    /// The stamp at the front of `payload`; `None` if it is too short or was damaged.
    pub(crate) fn parse(payload: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; STAMP_SIZE] = payload.first_chunk()?;
        if check(bytes) != bytes[15] {
            return None;
        }
        let [r0, r1, r2, r3, a0, a1, a2, a3, s0, s1, s2, s3, l0, l1, flow, _, time @ ..] = *bytes;
        Some(Stamp {
            run: u32::from_be_bytes([r0, r1, r2, r3]),
            audience: u32::from_be_bytes([a0, a1, a2, a3]),
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            slot: u16::from_be_bytes([l0, l1]),
            flow,
            intended: u64::from_be_bytes(time),
        })
    }
}

/// A sum over all bytes but its own place, in which neighbors do not commute.
fn check(bytes: &[u8; STAMP_SIZE]) -> u8 {
    let sum = bytes.iter().enumerate().filter(|(at, _)| *at != 15);
    sum.fold(0x5a, |sum: u8, (_, byte)| sum.rotate_left(1) ^ byte)
}

/// The filler behind the stamp: the same for every message, so that receivers compare it.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    // Letters only, so that servers which log or parse a payload as text work as usual.
    (0..size).map(|at| b'a' + (at * 7 % 26) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_wire_and_damage_is_seen() {
        let stamp =
            Stamp { run: 0xdead_beef, audience: 7, sequence: 1 << 31, slot: 513, flow: 3, intended: 1 << 60 };
        let bytes = stamp.to_bytes();
        assert_eq!(Stamp::parse(&bytes), Some(stamp));
        assert_eq!(Stamp::parse(&bytes[..23]), None);
        for at in 0..STAMP_SIZE {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert_eq!(Stamp::parse(&damaged), None, "byte {at}");
        }
    }
}
