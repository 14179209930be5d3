//! Moves bytes between sockets and pooled buffers; knows no protocol.
//!
//! ```text
//!   NIC / socket ── backend ── batch of completions ──► owner (a worker's turn)
//!                   epoll │ io_uring │ sim                  │
//!                     ▲                                     │
//!                     └──── send, finish, close, connect ◄──┘
//! ```
//!
//! * [`Backend`] is the seam: one shape for readiness and for completion. [`epoll`], [`uring`] and
//!   [`sim`] implement it.
//! * [`Buffer`] and [`SharedBuffer`] are holds on pooled memory ([`BufferPools`]): unique and
//!   writable, then counted and read-only.
//! * [`ConnectionId`] is an index with a generation; [`ConnectionTable`] is a table of fixed size
//!   over such ids.
//! * [`TimerWheel`] holds one lazily re-armed timer per connection; [`Timestamp`] is time as an
//!   argument.
//! * [`mailbox()`] passes messages between threads and wakes a sleeping backend through its
//!   [`Waker`].
//!
//! One thread owns a backend. Everything here belongs to that thread, except mailboxes, wakers and
//! shared buffers. After a backend is made, nothing in this crate allocates.

mod backend;
mod buffer;
mod clock;
mod connection_id;
mod connection_table;
mod discarding;
pub mod epoll;
mod fifo;
mod fixed_slab;
mod lifecycle;
mod mailbox;
mod piece_store;
mod send_queue;
mod shared_bytes;
pub mod sim;
mod sizes;
mod sync;
mod sys;
mod timer_wheel;
mod turns;
pub mod uring;

pub use backend::{
    AdoptError, Backend, BackendConfig, BackendCounters, CloseReason, Completion, Completions, ConnectError,
    Handover, Held, Introspect, ListenerConfig, ListenerId, Phase, Priority, Queues, ReleaseError, Released,
    SendError, SendStoreLevel, SharesThread, Waiting,
};
pub use buffer::{
    ASKED_MAX, Arena, Buffer, BufferPools, Filled, HUGE_PAGE_SIZE, LentMemory, PoolId, PoolLevel, PoolSet,
    PoolSize, PoolsConfig, SharedBuffer,
};
pub use clock::{MonotonicClock, Timestamp};
pub use connection_id::{CONNECTIONS_PER_BACKEND_MAX, ConnectionId};
pub use connection_table::ConnectionTable;
pub use fifo::Fifo;
pub use fixed_slab::{FixedSlab, Slot};
pub use mailbox::{Mailbox, MailboxSender, mailbox, mailbox_bytes};
pub use piece_store::{LastCopy, PIECE_BYTES, PieceList, PieceStore, PushedAt, Refusal, Shares};
pub use sizes::SIZES;
pub use sys::pages::{map_large_allocations, release_queue, release_spare, release_zeroed};
pub use sys::shared_wait::{SharedWait, WAIT_SLOTS_MAX, WaitSlot};
pub use sys::signals::take_signals;
pub use sys::spawn::spawn_thread;
pub use sys::thread::{
    batch_current_thread, lower_current_priority, pin_current_thread, shorten_current_slice,
};
pub use sys::waker::Waker;
pub use timer_wheel::TimerWheel;
pub use turns::{TakesTurns, take_turns};
pub use uring::{UringBackend, UringConfig};

/// Bytes of user space that a connection takes in its backend: the larger figure of epoll and
/// io_uring.
pub const CONNECTION_BYTES_MAX: usize = {
    let (epoll, uring) = (epoll::EpollBackend::BYTES_PER_CONNECTION, UringBackend::BYTES_PER_CONNECTION);
    if epoll > uring { epoll } else { uring }
};
