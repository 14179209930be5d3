//! Bytes of an incomplete frame: the one copy that a payload may undergo on its way.

use super::CoarseInstant;
use netpoll::{Buffer, BufferPools};

/// The received part of an incomplete frame or message, in one block that grows as bytes come.
///
/// A length that a peer merely claims takes no memory: the block is sized by what has arrived, to
/// at most twice that.
///
/// ```text
///   [ fragments of a message, payloads only ][ bytes not decoded yet ]
///   0                                 assembled                    len
/// ```
///
/// While a login waits for its verdict nothing is decoded; then the first part is what the message
/// of the Auth frame has behind it.
#[derive(Debug)]
pub struct Carry {
    buffer: Option<Buffer>,
    assembled: u32,
    /// When the first byte came; kept when the carry is used up, for as long as the connection is
    /// in the list of
    /// [`super::PartialFrames`], and [`CoarseInstant::NEVER`] while it is not.
    since: CoarseInstant,
}

impl Default for Carry {
    fn default() -> Carry {
        Carry { buffer: None, assembled: 0, since: CoarseInstant::NEVER }
    }
}

/// No block was free for the bytes: the worker's pools are exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolExhausted;

impl Carry {
    /// Whether nothing is carried.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    /// The block that holds it.
    pub fn block(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// Whether the connection is in the list of [`super::PartialFrames`].
    pub fn is_listed(&self) -> bool {
        self.since != CoarseInstant::NEVER
    }

    /// The connection has been taken off the list of [`super::PartialFrames`].
    pub fn unlist(&mut self) {
        debug_assert!(self.is_empty());
        self.since = CoarseInstant::NEVER;
    }

    /// When the first byte came of what is carried.
    pub fn since(&self) -> CoarseInstant {
        self.since
    }

    /// The first byte has come, at `now`.
    pub fn begin(&mut self, now: CoarseInstant) {
        self.since = now;
    }

    /// Bytes not decoded yet.
    #[inline]
    pub fn pending(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len() - self.assembled as usize)
    }

    /// Bytes of fragments, decoded.
    #[inline]
    pub fn assembled(&self) -> usize {
        self.assembled as usize
    }

    /// The block that `count` bytes more need, if the present one does not hold them.
    pub fn block_for(&self, count: usize) -> Option<usize> {
        let (have, capacity) =
            self.buffer.as_ref().map_or((0, 0), |buffer| (buffer.len(), buffer.capacity()));
        (have + count > capacity).then_some(have + count)
    }

    /// Appends `bytes`, growing to what is `needed` for progress but not far beyond what is there.
    ///
    /// # Errors
    /// [`PoolExhausted`]; the carry is as before.
    pub fn append(
        &mut self,
        pools: &mut BufferPools,
        bytes: &[u8],
        needed: usize,
    ) -> Result<(), PoolExhausted> {
        let have = self.buffer.as_ref().map_or(0, Buffer::len);
        let total = have + bytes.len();
        let fits = self.buffer.as_ref().is_some_and(|buffer| buffer.capacity() >= total);
        if !fits {
            let wanted = (2 * total).min(self.assembled as usize + needed).max(total);
            let mut larger = pools.take(wanted).or_else(|| pools.take(total)).ok_or(PoolExhausted)?;
            if let Some(old) = &self.buffer {
                larger.append(old.as_slice());
            }
            self.buffer = Some(larger);
        }
        if let Some(buffer) = &mut self.buffer {
            let appended = buffer.append(bytes);
            debug_assert_eq!(appended, bytes.len());
        }
        Ok(())
    }

    /// The bytes not decoded yet, to be decoded in place.
    pub fn pending_mut(&mut self) -> &mut [u8] {
        let assembled = self.assembled as usize;
        self.buffer.as_mut().map_or(&mut [], |buffer| &mut buffer.as_mut_slice()[assembled..])
    }

    /// Keeps `payload` (a range of the pending bytes) as the next fragment and drops the `consumed`
    /// bytes around it.
    pub fn keep_fragment(&mut self, payload: std::ops::Range<usize>, consumed: usize) {
        let Some(buffer) = &mut self.buffer else { return };
        let base = self.assembled as usize;
        let size = payload.len();
        let len = buffer.len();
        let bytes = buffer.as_mut_slice();
        bytes.copy_within(base + payload.start..base + payload.end, base);
        bytes.copy_within(base + consumed..len, base + size);
        buffer.truncate(len - consumed + size);
        self.assembled += size as u32;
    }

    /// Drops the first `count` pending bytes.
    pub fn skip(&mut self, count: usize) {
        let Some(buffer) = &mut self.buffer else { return };
        if count == buffer.len() {
            self.buffer = None;
        } else if self.assembled == 0 {
            buffer.advance(count);
        } else {
            self.keep_fragment(0..0, count);
        }
    }

    /// Takes the first `count` bytes, fragments included, out as a buffer of their own; the rest
    /// stays.
    pub fn take(&mut self, count: usize) -> Option<Buffer> {
        self.assembled = 0;
        let mut buffer = self.buffer.take()?;
        if count == buffer.len() {
            return Some(buffer);
        }
        let front = buffer.split_to(count);
        self.buffer = Some(buffer);
        Some(front)
    }

    /// Puts the rest of a message back, in front of the bytes that are not decoded yet: it waits to
    /// be handled.
    ///
    /// # Errors
    /// [`PoolExhausted`]; the carry is as before.
    pub fn put_first(&mut self, pools: &mut BufferPools, rest: &[u8]) -> Result<(), PoolExhausted> {
        debug_assert_eq!(self.assembled, 0);
        let mut whole = pools.take(rest.len() + self.pending()).ok_or(PoolExhausted)?;
        whole.append(rest);
        whole.append(self.pending_mut());
        self.buffer = Some(whole);
        self.assembled = rest.len() as u32;
        Ok(())
    }

    /// Appends a fragment that was decoded elsewhere.
    ///
    /// # Errors
    /// [`PoolExhausted`]; the carry is as before.
    pub fn append_fragment(&mut self, pools: &mut BufferPools, payload: &[u8]) -> Result<(), PoolExhausted> {
        debug_assert_eq!(self.pending(), 0);
        self.append(pools, payload, 2 * payload.len())?;
        self.assembled += payload.len() as u32;
        Ok(())
    }
}
