//! What threads share, under one name each: the standard library's, or loom's where models of this
//! code are built (`netpoll/loom`). Code between threads takes its atomics, fences and cells from
//! here, so a model explores the code that runs.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// A cell that one thread at a time uses, by its owner's protocol. A model checks that each use
/// happens before the next one.
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell with this content.
    pub(crate) fn new(content: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(content))
    }

    /// Passes the content to `read`.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Passes the content to `write`.
    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// A note of each use of memory outside a cell, such as a block's bytes. Only a model looks at it:
/// here it is empty, in no bytes.
#[derive(Default)]
pub(crate) struct Access(());

impl Access {
    /// Notes that the bytes are about to be read.
    #[inline]
    pub(crate) fn read(&self) {}

    /// Notes that the bytes are about to be written.
    #[inline]
    pub(crate) fn write(&self) {}
}
