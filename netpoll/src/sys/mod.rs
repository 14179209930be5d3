//! The only system calls of this crate, as thin wrappers without policy.

pub(crate) mod affinity;
pub(crate) mod pages;
pub(crate) mod socket;
pub(crate) mod uring;
pub(crate) mod waker;
