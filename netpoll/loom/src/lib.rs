//! What netpoll's threads share, compiled from netpoll's own sources with loom's atomics, cells and
//! fences in place of the standard library's. The models in `tests/` run them in every order that
//! threads may take, and with every value that a load may return under the memory model.
//!
//! ```text
//!   netpoll/src/{mailbox, buffer/*, sys/{queue, ring, shared_wait, sleep_flag, pages}}.rs, as is
//!                     │ crate::sync                    │ super::{signal, waker, zeroed}
//!                     ▼                                ▼
//!              loom's atomics, cells, Arc       what the kernel does, as little of it as needed
//! ```
//!
//! loom treats SeqCst accesses as AcqRel ones, which can only report faults that are none; the
//! sources have SeqCst fences only.

// The sources are private modules of another crate: what is not part of a model is unused here.
#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "../../src/buffer/mod.rs"]
mod buffer;
#[path = "../../src/mailbox.rs"]
mod mailbox;
mod sync;
mod sys;

pub use buffer::{
    Arena, Buffer, BufferPools, Filled, LentMemory, PoolLevel, PoolSize, PoolsConfig, SharedBuffer,
};
pub use mailbox::{Mailbox, MailboxSender, mailbox, mailbox_bytes};
pub use sys::pages::release_spare;
pub use sys::shared_wait::{SharedWait, WaitSlot};
pub use sys::waker::Waker;

/// [`SharedBuffer`]'s way to grow, which only netpoll's own queues use.
pub fn try_append(buffer: &mut SharedBuffer, bytes: &[u8]) -> bool {
    buffer.try_append(bytes)
}

/// Explores `model` in every order of its threads in which at most `preemptions` of them are
/// interrupted at a point where they could have gone on. Faults that need more than two or three
/// are unheard of, and the number of orders grows exponentially with it.
pub fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}
