//! Sequence numbers: arithmetic modulo 2^32 (RFC 9293, 3.4).

/// Whether `a` comes before `b`.
#[inline]
pub(crate) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` comes before `b` or equals it.
#[inline]
pub(crate) const fn at_or_before(a: u32, b: u32) -> bool {
    !before(b, a)
}

/// The later of both.
#[inline]
pub(crate) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

/// How far `b` is ahead of `a`; 0 when it is not ahead.
#[inline]
pub(crate) const fn ahead(a: u32, b: u32) -> u32 {
    if before(a, b) { b.wrapping_sub(a) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_survive_the_wrap() {
        assert!(before(u32::MAX, 0) && !before(0, u32::MAX) && !before(7, 7));
        assert!(at_or_before(7, 7) && at_or_before(u32::MAX - 1, 3));
        assert_eq!(later(u32::MAX, 2), 2);
        assert_eq!((ahead(u32::MAX, 2), ahead(2, u32::MAX)), (3, 0));
    }
}
