//! The only system calls of this crate, as thin wrappers without policy, and what threads share:
//! the queue and the sleep protocol.

pub(crate) mod descriptors;
pub(crate) mod pages;
pub(crate) mod queue;
mod ring;
pub(crate) mod shared_wait;
mod signal;
pub(crate) mod signals;
pub(crate) mod sleep_flag;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod thread;
pub(crate) mod uring;
pub(crate) mod waker;
mod zeroed;
