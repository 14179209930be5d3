//! Streams whose every byte is known, so that loss, repetition and reordering show.

use crate::Rng;
use std::sync::OnceLock;

/// A prime: no power of two, and no multiple of a buffer's size, maps the stream onto itself.
const PERIOD: usize = 65_521;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut rng = Rng::new(0x7465_7374);
        let period: Vec<u8> = (0..PERIOD).map(|_| rng.next_u64() as u8).collect();
        period.repeat(2) // any start has a whole period behind it
    })
}

/// An endless stream of bytes, one of 65 521.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    key: usize,
}

impl Pattern {
    /// The stream number `key`; neighbors differ from the first byte on.
    pub fn new(key: u64) -> Pattern {
        Pattern { key: (key.wrapping_mul(7_919) % PERIOD as u64) as usize }
    }

    /// Writes the bytes from `offset` on.
    pub fn fill(self, offset: usize, into: &mut [u8]) {
        let mut at = offset;
        for chunk in into.chunks_mut(PERIOD) {
            let start = (self.key + at) % PERIOD;
            chunk.copy_from_slice(&table()[start..start + chunk.len()]);
            at += chunk.len();
        }
    }

    /// The first `size` bytes.
    pub fn bytes(self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.fill(0, &mut bytes);
        bytes
    }

    /// Checks that `bytes` are the stream's from `offset` on.
    ///
    /// # Panics
    /// At the first byte that is not.
    pub fn check(self, offset: usize, bytes: &[u8]) {
        let mut expected = vec![0; bytes.len()];
        self.fill(offset, &mut expected);
        if expected != bytes {
            let wrong = expected.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(0);
            panic!("the stream is broken at byte {}", offset + wrong);
        }
    }
}
