//! Slices of values that are made one by one, because loom's atomics are not zeros.
#![allow(unsafe_code)]

/// As in netpoll, where it is unsafe.
pub(super) unsafe fn zeroed_slice<T>(count: usize, zero: impl Fn() -> T) -> Box<[T]> {
    (0..count).map(|_| zero()).collect()
}
