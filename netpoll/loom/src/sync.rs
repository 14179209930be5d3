//! loom's side of netpoll's `sync`.

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// As in netpoll; loom fails the model when two uses of the content race.
pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(content: T) -> UnsafeCell<T> {
        UnsafeCell(loom::cell::UnsafeCell::new(content))
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.0.with(read)
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(write)
    }
}

/// As in netpoll; loom fails the model when a read and a write, or two writes, race.
pub(crate) struct Access(loom::cell::UnsafeCell<()>);

impl Default for Access {
    fn default() -> Access {
        Access(loom::cell::UnsafeCell::new(()))
    }
}

impl Access {
    pub(crate) fn read(&self) {
        self.0.with(drop);
    }

    pub(crate) fn write(&self) {
        self.0.with_mut(drop);
    }
}
