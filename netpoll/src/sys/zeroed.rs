//! Slices of zeros that become resident as they are used: pages that the system has not given out
//! yet.
#![allow(unsafe_code)]

/// `count` values of all zeros. Models, whose values are not zeros, make each by `_zero`.
///
/// # Safety
/// Memory of zeros is what `_zero` makes.
pub(super) unsafe fn zeroed_slice<T>(count: usize, _zero: impl Fn() -> T) -> Box<[T]> {
    let slice = Box::<[T]>::new_zeroed_slice(count);
    // SAFETY: the caller guarantees that zeros are valid.
    unsafe { slice.assume_init() }
}
