//! The seam: what every IO backend does, in one shape.
//!
//! Readiness (epoll), completion (io_uring) and poll mode (DPDK) all collapse to [`Backend::poll`],
//! which appends [`Completion`]s to a batch, and to three calls that queue work for the next poll.
//! Dispatch is static; completions are data, there are no callbacks.
//!
//! ```text
//!   Backend     poll, send, finish, close, connect, listen, accepting, unread, pools, clock, waker
//!    ├ Queues       bytes, blocks and pieces queued; which sockets have stopped taking
//!    └ Introspect   name, counts, counters, details
//!   SharesThread    a backend that waits together with others, in a SharedWait
//!   Handover        a backend that can pass its connections to a successor
//! ```
//!
//! The life of a connection, as the owner of a backend sees it:
//!
//! ```text
//!   Accepted ─┐                         ┌─ Received* (in order, pooled buffers)
//!             ├─► open ── send*, ───────┼─ Sent (a queue that had to wait is empty again)
//!   Connected ┘      finish or close    ├─ PeerFinished, behind the last Received
//!                                       └─ Closed, exactly once; the id is dead from here on
//! ```
//!
//! Promises that the contract suite (`netpoll-contract`) holds every backend to:
//! * bytes of one connection arrive, and leave, in order and once;
//! * each `Accepted` or `connect` is followed by exactly one `Closed`, also when the owner closes;
//! * nothing is reported for a connection after its `Closed`;
//! * an idle connection owns no buffer, and an empty pool pauses receiving without losing a byte;
//! * a connection that the owner has stopped ([`Backend::set_receiving`]) is left unread and holds
//!   no receive buffer;
//! * what has not begun to leave can be dropped, whole sends only ([`Backend::drop_unsent`]);
//! * a full send queue returns the buffer; an empty one always takes a piece, whatever other
//!   connections hold;
//! * what is sent before `Connected` is queued, and leaves when the connection is open;
//! * a peer's end overtakes nothing: what came before it is reported, the owner handles that, and
//!   what the owner sends then leaves before the connection ends ([`Completion::Closed`]);
//! * a connection that its owner finished or closed ends with `Closed { Local }`, whichever side's
//!   FIN came first; only an error in between has another reason;
//! * after [`Backend::finish`] what the peer still sends is received and discarded, whether or not
//!   a buffer is free: bytes left unread would make the system reset the connection in the end, and
//!   the peer could lose a last message that it has not read yet.
//!   [`BackendCounters::receive_bytes`] counts them, too;
//! * memory of an operation in flight stays until the operation has ended.

mod completion;
mod config;
mod handover;
mod introspect;
mod queues;

pub use completion::{CloseReason, Completion, Completions};
pub use config::{BackendConfig, ListenerConfig, ListenerId};
pub use handover::{AdoptError, Handover, Held, Phase, ReleaseError, Released};
pub use introspect::{BackendCounters, Introspect};
pub use queues::{Priority, Queues, SendError, SendStoreLevel, Waiting};

use crate::{Buffer, BufferPools, ConnectionId, SharedBuffer, Timestamp, WaitSlot, Waker};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why [`Backend::connect`] could not even start.
#[derive(Debug)]
pub enum ConnectError {
    /// The backend holds `connections_max` connections.
    TableFull,
    /// The system refused, for example for lack of descriptors or of a free local port.
    Io(io::Error),
}

/// An IO backend: listeners, connections and their buffers, owned by one thread.
pub trait Backend: Queues + Introspect {
    /// Opens a listener and returns its id with the address that it got.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2); `QuotaExceeded` beyond 255 listeners.
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)>;

    /// Stops or resumes accepting on all listeners. Stopping closes nothing that was accepted.
    fn set_accepting(&mut self, accepting: bool);

    /// Closes all listeners for good, as soon as no accept is under way. A peer that connects from
    /// then on is refused, or reaches another process that listens at the same address. Connections
    /// that wait to be accepted are reset; accepted ones stay.
    fn close_listeners(&mut self);

    /// Begins to connect to `remote`, from `local` if given (port 0: any). Ends in `Connected` or
    /// `Closed`.
    ///
    /// # Errors
    /// [`ConnectError`]; then no completion follows.
    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError>;

    /// Hands queued sends to the system, waits at most `wait` for something to happen, and appends
    /// what happened to `batch`, as far as it has room. It does not wait when work is left over
    /// from before, or when the waker was used.
    ///
    /// # Errors
    /// Only what makes the backend unusable; a failure of one connection is its `Closed`.
    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()>;

    /// Queues `buffer` behind earlier sends of the connection, using of its queue and of the store
    /// of pieces what `priority` may. It leaves at the next poll, together with them.
    ///
    /// # Errors
    /// [`SendError`], with the buffer.
    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError>;

    /// [`Backend::send_as`] with [`Priority::Reply`].
    ///
    /// # Errors
    /// [`SendError`], with the buffer.
    fn send(&mut self, connection: ConnectionId, buffer: SharedBuffer) -> Result<(), SendError> {
        self.send_as(connection, buffer, Priority::Reply)
    }

    /// Takes received bytes back, because the owner has no block of the `size` that it needs for
    /// them. They are reported again, before anything newer of the connection, when such a block
    /// may be free. Whatever else the owner received of the connection goes back behind them.
    ///
    /// A backend that keeps what it sends in the owner's blocks takes bytes back: there blocks
    /// return by themselves, when the peer acknowledges.
    ///
    /// # Errors
    /// The bytes: this backend takes none back, or blocks have been short for too long.
    fn unread(&mut self, _connection: ConnectionId, buffer: Buffer, _size: usize) -> Result<(), Buffer> {
        Err(buffer)
    }

    /// Whether bytes of the connection were taken back and have not been reported again since.
    fn has_unread(&self, _connection: ConnectionId) -> bool {
        false
    }

    /// Stops receiving from one connection, or resumes it; a new connection receives.
    ///
    /// * A stopped connection's socket is left unread, so the peer's own window stops the peer. A
    ///   stopped connection holds no receive buffer. What was taken from the socket before is still
    ///   reported: at most the rest of the batch, and the receive buffers that the system was lent.
    /// * Bytes that arrive meanwhile are reported after the resume, in order and once.
    /// * The peer's end may lie behind unread bytes, where no system reports it: it is reported at
    ///   the latest after the resume. One that was reported ([`Completion::PeerFinished`]) ends the
    ///   connection after the resume. An owner that stops a connection therefore resumes or ends it
    ///   within a bounded time.
    /// * [`Backend::finish`] overrules it: what the peer sends is received and discarded, as
    ///   always. [`Backend::close`] finds unread bytes, and resets.
    /// * Repeating it, or naming a dead id, does nothing.
    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool);

    /// Drops what is queued for the connection and has not begun to leave, so that a last message
    /// is not behind it, and passes the bytes to `dropped`: piece by piece, in order. No send is
    /// cut: the piece that leaves next stays whole, whether or not it has begun, and each piece is
    /// one send or several whole ones. (That does not hold of a queue which [`Handover::adopt`]
    /// has taken over.) Does nothing once the owner has finished.
    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8]));

    /// Queues `last` as [`Backend::send`] does, even over the queue's bound on bytes, and goes on
    /// receiving: the owner's protocol has an answer to it. At most once for each connection; only
    /// [`Backend::finish`] or [`Backend::close`] follows.
    ///
    /// # Errors
    /// [`SendError`], with the buffer: the store of pieces is full, or the connection is closing.
    fn send_last(&mut self, connection: ConnectionId, last: SharedBuffer) -> Result<(), SendError> {
        self.send_as(connection, last, Priority::Last)
    }

    /// Sends what is queued, then `last` (even over the queue's bound), then FIN; what the peer
    /// still sends is discarded until it ends its side. The owner bounds the time with
    /// [`Backend::close`]; the table bounds how many connections linger.
    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>);

    /// Ends the connection now and drops what is queued. `Closed { Local }` follows in a later
    /// poll. Where bytes of the peer lie unread the system resets the connection, and the peer may
    /// lose what it has not read yet: a last message goes by [`Backend::finish`].
    fn close(&mut self, connection: ConnectionId);

    /// Returns memory of emptied tables and pools to the system, for an owner that has had no
    /// connection for a while. What is in use stays, and every promise holds: in particular, ids of
    /// the past stay dead.
    fn trim(&mut self) {}

    /// The buffers of this backend.
    fn pools(&mut self) -> &mut BufferPools;

    /// What ends a wait in [`Backend::poll`] from any thread.
    fn waker(&self) -> Waker;

    /// The present, on this backend's clock.
    fn now(&self) -> Timestamp;
}

/// A backend that can share its thread with others: the thread's owner waits for all of them at
/// once, in [`SharedWait::sleep`](crate::SharedWait::sleep).
///
/// ```text
///   poll(0) ─► owner handles the batch ─► flush_before_wait ─► nothing to do? ─► watch, is_ready?
///      ▲                                                                            │ none is
///      └──────────────── those that are ready, or woken ◄──────────── sleep ◄───────┘
/// ```
pub trait SharesThread: Backend {
    /// Takes a wait slot: from now on [`Backend::waker`] wakes the ring group, and
    /// [`Backend::poll`] is only called with no wait. Called before any wait.
    ///
    /// # Errors
    /// What the system returns for watching the slot's descriptor.
    fn join_wait(&mut self, slot: WaitSlot) -> io::Result<()>;

    /// Does what a poll does before it waits, and returns for how long it would wait, at most
    /// `wait`.
    ///
    /// # Errors
    /// Only what makes the backend unusable.
    fn flush_before_wait(&mut self, wait: Duration) -> io::Result<Duration>;

    /// Tells the kernel whether an event ends the shared sleep. The caller passes a fence
    /// afterwards and asks [`SharesThread::is_ready`].
    fn watch(&mut self, watch: bool);

    /// Whether the kernel has something for the next poll. No system call.
    fn is_ready(&mut self) -> bool;
}
