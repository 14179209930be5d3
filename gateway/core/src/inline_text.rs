//! Short text in a fixed place: for rows that a worker fills without allocating.

use std::fmt;

/// At most `N` bytes of UTF-8 (N ≤ 255), inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InlineText<const N: usize> {
    /// The first `len` bytes are UTF-8; the rest are 0.
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> InlineText<N> {
    /// No text.
    pub const EMPTY: Self = {
        assert!(N <= u8::MAX as usize, "the length is kept in one byte");
        InlineText { bytes: [0; N], len: 0 }
    };

    /// As much of `text` as fits, cut between characters.
    pub fn truncated(text: &str) -> Self {
        let len = text.floor_char_boundary(N);
        let mut inline = Self::EMPTY;
        inline.bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        inline.len = len as u8;
        inline
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for InlineText<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> fmt::Debug for InlineText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(InlineText::<4>::truncated("abc").as_str(), "abc");
        assert_eq!(InlineText::<4>::truncated("abcé").as_str(), "abc");
        assert!(InlineText::<4>::truncated("").is_empty());
    }
}
