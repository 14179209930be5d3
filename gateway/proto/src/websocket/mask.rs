//! Masking (RFC 6455 §5.3), eight bytes at a time.

/// Applies `mask` to `payload` in place; the first byte of the payload is the first that was
/// masked.
///
/// Its own inverse. Correct at any alignment; the word loop is one the compiler turns into vector
/// code.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word_mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ word_mask).to_ne_bytes();
    }
    // Eight is a multiple of four, so the tail starts at the mask's first byte.
    for (byte, key) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}
