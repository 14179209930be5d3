//! Returns memory that is not needed to the system; its addresses stay.
//!
//! Tables are reserved once and become resident as they are used (`Vec::with_capacity`). An
//! allocator takes nothing back of what is still allocated, so an emptied table would stay resident
//! for ever. `MADV_DONTNEED` (madvise(2)) drops the pages behind an address range; the next touch
//! finds zeros, as at the beginning.
#![allow(unsafe_code)]

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;
use std::collections::VecDeque;
use std::ops::Range;
use std::ptr::NonNull;

/// Returns the whole pages within `size` bytes from `start` on to the system, and says which bytes
/// those are, counted from `start`.
///
/// # Safety
/// The bytes must be private anonymous memory whose content no code relies on, and no reference to
/// them may exist meanwhile: they are zeros afterwards, or as before.
pub(crate) unsafe fn release(start: NonNull<u8>, size: usize) -> Range<usize> {
    let page = page_size();
    let skipped = start.addr().get().next_multiple_of(page) - start.addr().get();
    let whole = size.saturating_sub(skipped) / page * page;
    if whole == 0 {
        return 0..0;
    }
    // SAFETY: `skipped` is below `size`, or nothing would be left.
    let first = unsafe { start.add(skipped) };
    // SAFETY: the range lies within the caller's, which meets the conditions.
    let result = unsafe { madvise(first.as_ptr().cast(), whole, Advice::LinuxDontNeed) };
    if result.is_ok() { skipped..skipped + whole } else { 0..0 }
}

/// Returns the memory of a vector's spare capacity to the system, as far as it is whole pages. The
/// capacity stays.
pub fn release_spare<T>(items: &mut Vec<T>) {
    let spare = items.spare_capacity_mut();
    let size = size_of_val(spare);
    // SAFETY: borrowed mutably, so no other reference exists; and spare capacity has no content.
    unsafe { release(NonNull::from(spare).cast(), size) };
}

/// The same for a queue, which must be empty; does nothing otherwise.
pub fn release_queue<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        // Neither step copies or allocates.
        let mut items = Vec::from(std::mem::take(queue));
        release_spare(&mut items);
        *queue = items.into();
    }
}

/// Sets all words to zero, and returns their memory to the system as far as it is whole pages.
pub fn release_zeroed(words: &mut [u64]) {
    let size = size_of_val(words);
    // SAFETY: borrowed mutably, so no other reference exists; and any bits are valid words.
    let released = unsafe { release(NonNull::from(&mut *words).cast(), size) };
    words[..released.start / 8].fill(0);
    words[released.end / 8..].fill(0);
}

/// Makes the C library map each allocation of 128 KiB and more by itself, as it does at first, so
/// that what is freed goes back to the system at once. Without this it raises that bound to the
/// largest size that was ever freed (mallopt(3), `M_MMAP_THRESHOLD`), and keeps later tables when
/// they are freed.
pub fn map_large_allocations() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets a parameter of the allocator, which takes its own locks.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the page at `address` is resident, by the kernel's account.
    fn is_resident(address: usize) -> bool {
        let mut state = 0_u8;
        let page = address / page_size() * page_size();
        // SAFETY: mincore(2) writes one byte for the one page asked for.
        let result = unsafe { libc::mincore(page as *mut _, 1, &raw mut state) };
        assert_eq!(result, 0, "mincore of a mapped page");
        state & 1 == 1
    }

    #[test]
    fn spare_capacity_goes_back_and_what_is_used_stays() {
        let mut items: Vec<u64> = Vec::with_capacity(100_000);
        items.resize(100_000, 7);
        let (first, last) = (items.as_ptr().addr(), items.as_ptr().addr() + 8 * 99_000);
        items.truncate(10);
        release_spare(&mut items);
        assert_eq!(items, [7; 10]);
        assert!(is_resident(first) && !is_resident(last));
        assert!(items.capacity() >= 100_000);
        items.resize(100_000, 8);
        assert!(items[10..].iter().all(|item| *item == 8) && is_resident(last));
        release_spare(&mut Vec::<u64>::new());
        release_spare(&mut vec![(); 5]);
    }

    #[test]
    fn an_empty_queue_goes_back_and_another_stays_as_it_is() {
        let mut queue: VecDeque<u64> = VecDeque::with_capacity(100_000);
        queue.extend(0..100_000);
        let last = queue.as_slices().0.as_ptr().addr() + 8 * 50_000;
        queue.drain(..99_999);
        release_queue(&mut queue);
        assert_eq!(queue, [99_999]);
        queue.clear();
        let capacity = queue.capacity();
        release_queue(&mut queue);
        assert!(queue.is_empty() && queue.capacity() == capacity && !is_resident(last));
    }

    #[test]
    fn words_are_zero_afterwards_wherever_pages_end() {
        for (start, len) in [(0, 100_000), (3, 99_000), (511, 1), (7, 600)] {
            let mut words = vec![5_u64; 100_000];
            let middle = words.as_ptr().addr() + 8 * 50_000;
            release_zeroed(&mut words[start..start + len]);
            let zeros = words.iter().enumerate().filter(|(_, word)| **word == 0).map(|(at, _)| at);
            assert!(zeros.eq(start..start + len), "{len} words from {start}");
            assert_eq!(words[0] == 0, start == 0);
            release_zeroed(&mut words);
            assert!(!is_resident(middle));
            assert!(words.iter().all(|word| *word == 0));
        }
    }
}
