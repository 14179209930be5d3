//! Bytes that a connection has received and not used yet: one allocation of known size.
//!
//! `BytesMut` shares its allocation with what is split off and hides what was consumed at its
//! front, so its capacity says less than it holds. A bound on memory needs the real size
//! ([`Input::held`]).

use super::budget::INPUT_OWN;
use bytes::Bytes;
use std::ops::Deref;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Bytes at the front that were used.
    used: usize,
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.used..]
    }
}

impl Input {
    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes of memory that it holds once there is room for `more`.
    pub(super) fn held_with(&self, more: usize) -> usize {
        self.held().max(self.len() + more)
    }

    /// Makes room for `more` bytes, and holds no more than [`Input::held_with`] says.
    pub(super) fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.drain(..std::mem::take(&mut self.used));
            self.bytes.reserve_exact(more);
        }
    }

    /// Where bytes are received to; they go behind what is there.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The first `count` bytes were used.
    pub(super) fn advance(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len());
        if self.used == self.bytes.len() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.used = 0;
    }

    /// Takes the first `count` bytes, and says how much memory they hold from now on. A large part
    /// keeps the allocation.
    pub(super) fn take(&mut self, count: usize) -> (Bytes, usize) {
        let follows = self.len() - count;
        if count <= INPUT_OWN || follows > count {
            let taken = Bytes::copy_from_slice(&self[..count]);
            self.advance(count);
            return (taken, count);
        }
        self.bytes.drain(..std::mem::take(&mut self.used));
        let rest = self.bytes.split_off(count);
        let taken = std::mem::replace(&mut self.bytes, rest);
        let held = taken.capacity();
        (Bytes::from(taken), held)
    }

    /// Releases an allocation larger than a connection's own part, unless most of it is in use.
    pub(super) fn shrink(&mut self) {
        if self.held() > INPUT_OWN && self.len() <= self.held() / 2 {
            self.bytes = self.to_vec();
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Input {
        let mut input = Input::default();
        input.reserve(bytes.len());
        input.end().extend_from_slice(bytes);
        input
    }

    #[test]
    fn bytes_leave_in_their_order_and_all_memory_is_known() {
        let text: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        for (used, count) in [(0, 10), (7, 10), (0, 90_000), (7, 90_000), (7, 99_993), (0, 40_000), (0, 0)] {
            let mut input = input(&text);
            assert_eq!(input.held(), text.len());
            input.advance(used);
            assert_eq!(input.held(), text.len(), "what was used is still held");
            let (taken, held) = input.take(count);
            assert_eq!(taken, text[used..used + count]);
            assert!(held >= count);
            assert_eq!(*input, text[used + count..]);
            input.shrink();
            assert!(input.held() <= INPUT_OWN || input.held() < 2 * input.len(), "{used} {count}");
            assert_eq!(*input, text[used + count..]);
        }
    }

    #[test]
    fn room_is_made_at_the_front_first_and_never_more_than_announced() {
        let mut input = input(&[1; 10_000]);
        input.advance(9000);
        assert_eq!(input.held_with(9000), 10_000);
        input.reserve(9000);
        assert_eq!((input.held(), input.len()), (10_000, 1000));
        assert_eq!(input.held_with(9001), 10_001);
        input.reserve(9001);
        assert_eq!((input.held(), input.len()), (10_001, 1000));
    }
}
