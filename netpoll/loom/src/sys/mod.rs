//! netpoll's own sources, and what the kernel does in their models.

#[path = "../../../src/sys/pages.rs"]
pub(crate) mod pages;
#[path = "../../../src/sys/queue.rs"]
pub(crate) mod queue;
#[path = "../../../src/sys/ring.rs"]
mod ring;
#[path = "../../../src/sys/shared_wait.rs"]
pub(crate) mod shared_wait;
mod signal;
#[path = "../../../src/sys/sleep_flag.rs"]
pub(crate) mod sleep_flag;
pub(crate) mod waker;
mod zeroed;
