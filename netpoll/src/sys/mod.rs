//! The only system calls of this crate, as thin wrappers without policy, and the queue under a mailbox.

pub(crate) mod descriptors;
pub(crate) mod gang;
pub(crate) mod pages;
pub(crate) mod queue;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod thread;
pub(crate) mod uring;
pub(crate) mod waker;
