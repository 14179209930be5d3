//! One io_uring with the memory that its operations refer to, behind a safe interface.
//!
//! ```text
//!   Ring ── submission queue ── enter ── completion queue ──► reap: Event
//!     ├ SendMemory       payloads, headers and vectors of sends, until the submission is consumed
//!     ├ ReceiveRing      buffers lent to the kernel, until a completion returns them
//!     ├ AcceptAddresses  where an accept writes its peer's address, until its completion
//!     └ connect addresses, until the kernel has consumed the submission
//! ```
//!
//! Whatever a submission points to is owned by the [`ring::Ring`] itself, so callers need no
//! `unsafe` and cannot free it early. Two rules of the kernel carry the argument:
//! 1. what an operation only *reads at its start* (addresses, message headers, vectors) is copied
//!    before `io_uring_enter` returns with the submission consumed (`IORING_FEAT_SUBMIT_STABLE`);
//! 2. a send with `MSG_DONTWAIT` is tried during that same call and never again (the kernel marks
//!    it `REQ_F_NOWAIT`: it is neither armed for polling nor passed to a worker thread), so its
//!    payload, too, is needed only until the submission is consumed, however the send ends.
//!
//! What the kernel *writes* (receive buffers, peer addresses) stays with the ring until the
//! completion that delivers it, and past the ring's end if the kernel could not be made to release
//! it.

mod buffers;
mod memory;
mod register;
pub(crate) mod ring;
pub(crate) mod setup;

use crate::ConnectionId;

/// Tags of `user_data` ([`ConnectionId::pack`]): what a completion is about.
pub(crate) mod tag {
    /// A look at whether the connection has ended.
    pub(crate) const LOOK: u8 = 0;
    /// A receive of the connection.
    pub(crate) const RECEIVE: u8 = 1;
    /// A wait for bytes to receive.
    pub(crate) const READABLE: u8 = 2;
    /// A wait for room to send.
    pub(crate) const WRITABLE: u8 = 3;
    /// A connect.
    pub(crate) const CONNECT: u8 = 4;
    /// The closing of a direct descriptor.
    pub(crate) const CLOSE: u8 = 5;
    /// A send that failed or fell short (those that succeed complete silently).
    pub(crate) const SEND: u8 = 6;
    /// A shutdown.
    pub(crate) const SHUTDOWN: u8 = 7;
    /// An accept; the index is that of the operation, the generation that of the listener.
    pub(crate) const ACCEPT: u8 = 8;
    /// A cancellation that found nothing to cancel.
    pub(crate) const CANCEL: u8 = 9;
    /// The waker's descriptor.
    pub(crate) const WAKER: u8 = 10;
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The kind of operation, one of [`tag`].
    pub(crate) tag: u8,
    /// The connection that the operation belongs to.
    pub(crate) id: ConnectionId,
    /// The result of the operation, or a negated error number.
    pub(crate) result: i32,
    /// Whether the operation goes on and more completions will follow.
    pub(crate) more: bool,
    /// The receive buffer that holds the bytes.
    pub(crate) buffer: Option<u16>,
}
