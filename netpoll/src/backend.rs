//! The seam: what every IO backend does, in one shape.
//!
//! Readiness (epoll), completion (io_uring) and poll mode (DPDK) all collapse to [`Backend::poll`], which appends
//! [`Completion`]s to a batch, and to three calls that queue work for the next poll. Dispatch is static; completions
//! are data, there are no callbacks.
//!
//! The life of a connection, as the owner of a backend sees it:
//!
//! ```text
//!   Accepted ─┐                         ┌─ Received* (in order, pooled buffers)
//!             ├─► open ── send*, ───────┼─ Sent (a queue that had to wait is empty again)
//!   Connected ┘      finish or close    └─ Closed, exactly once; the id is dead from here on
//! ```
//!
//! Promises that the contract suite (`netpoll-contract`) holds every backend to:
//! * bytes of one connection arrive, and leave, in order and once;
//! * each `Accepted` or `connect` is followed by exactly one `Closed`, also when the owner closes;
//! * nothing is reported for a connection after its `Closed`;
//! * an idle connection owns no buffer, and a pool run dry pauses receiving without losing a byte;
//! * a connection that the owner has stopped ([`Backend::set_receiving`]) is left unread and holds no receive buffer;
//! * a full send queue hands the buffer back, and an empty one always takes a piece, whatever other connections hold;
//! * what is sent before `Connected` is queued, and leaves when the connection is open;
//! * an owner that finished, or closed, is told `Closed { Local }`, whichever side's FIN came first; only an error in between
//!   has another reason;
//! * after [`Backend::finish`] what the peer still sends is received into nowhere, whether or not a buffer is free: bytes
//!   left unread would make the system reset the connection in the end, over a farewell that the peer may not have read.
//!   [`BackendCounters::receive_bytes`] counts them, too;
//! * memory of an operation in flight stays until the operation has ended.

use crate::{
    Buffer, BufferPools, ConnectionId, PoolId, PoolSet, PoolsConfig, SharedBuffer, Timestamp, WaitSlot, Waker,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Sizes of one backend. Everything is reserved when it is made.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Connections held at most; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Completions that one [`Backend::poll`] appends at most.
    pub batch_max: usize,
    /// Buffers.
    pub pools: PoolsConfig,
    /// Queued pieces (24 bytes each) that all connections share, beside one for every connection that nothing else can take.
    pub send_pieces_shared: usize,
    /// Bytes queued for one connection at most, what the socket has taken not counted; see [`Priority`].
    pub send_queue_bytes_max: usize,
    /// Bytes up to which a piece that has to wait is copied out of a larger block.
    pub copy_break: usize,
    /// Connections quiet for this long may be moved to a cheaper kind of waiting, in which new ones begin (io_uring only;
    /// `None`: never).
    pub idle_demote: Option<Duration>,
}

impl BackendConfig {
    /// A small backend, for tests and tools: `connections_max` connections, a few MiB of buffers.
    pub fn small(connections_max: usize) -> BackendConfig {
        use crate::PoolSize;
        BackendConfig {
            connections_max,
            batch_max: 256,
            pools: PoolsConfig {
                receive: PoolSize { size: 4096, count: 512 },
                blocks: vec![
                    PoolSize { size: 256, count: 1024 },
                    PoolSize { size: 4096, count: 256 },
                    PoolSize { size: 128 << 10, count: 16 },
                ],
                huge_pages: false,
            },
            send_pieces_shared: 16 << 10,
            send_queue_bytes_max: 1 << 20,
            copy_break: 512,
            idle_demote: None,
        }
    }
}

/// A listening socket's settings. Options are set on the listener and inherited by what it accepts.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Connections that may wait to be accepted (capped by net.core.somaxconn).
    pub backlog: u32,
    /// SO_SNDBUF in bytes; `None` leaves the kernel's own tuning.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF in bytes; `None` leaves the kernel's own tuning.
    pub receive_buffer: Option<usize>,
    /// TCP_NOTSENT_LOWAT in bytes: how much unsent data may hide in the kernel before a send has to wait.
    pub not_sent_low_water: Option<u32>,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay without an acknowledgement.
    pub user_timeout: Option<Duration>,
}

impl ListenerConfig {
    /// Listens on `address` with the system's own buffer tuning.
    pub fn new(address: SocketAddr) -> ListenerConfig {
        ListenerConfig {
            address,
            backlog: 4096,
            send_buffer: None,
            receive_buffer: None,
            not_sent_low_water: None,
            user_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// A listener of one backend, numbered from 0 in the order of [`Backend::listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u8);

/// Something that happened. The batch keeps the order in which it happened to each connection.
#[derive(Debug)]
pub enum Completion {
    /// A peer connected to `listener`.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Where it came in.
        listener: ListenerId,
        /// Where it came from.
        peer: SocketAddr,
    },
    /// A [`Backend::connect`] succeeded.
    Connected {
        /// The connection, now open.
        connection: ConnectionId,
    },
    /// Bytes came in; at least one.
    Received {
        /// From where.
        connection: ConnectionId,
        /// The bytes, the receiver's own now.
        buffer: crate::Buffer,
    },
    /// A send queue that had to wait for its peer is empty again.
    Sent {
        /// Whose queue.
        connection: ConnectionId,
    },
    /// The connection is gone and its id is dead.
    Closed {
        /// Which one.
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended, as far as the transport knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer ended its side.
    PeerClosed,
    /// The peer reset the connection.
    PeerReset,
    /// The peer stopped acknowledging (TCP_USER_TIMEOUT, keepalive) or could not be reached in time.
    TimedOut,
    /// Nobody listens at the address that was connected to.
    Refused,
    /// The owner closed it.
    Local,
    /// Another error of the network or the system.
    Failed,
}

impl CloseReason {
    /// All of them, for metrics.
    pub const ALL: [CloseReason; 6] = [
        CloseReason::PeerClosed,
        CloseReason::PeerReset,
        CloseReason::TimedOut,
        CloseReason::Refused,
        CloseReason::Local,
        CloseReason::Failed,
    ];

    /// Name as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerReset => "peer_reset",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Refused => "refused",
            CloseReason::Local => "local",
            CloseReason::Failed => "failed",
        }
    }

    /// The reason behind an error number of a socket.
    pub fn of_error(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::PeerReset,
            io::ErrorKind::ConnectionAborted => CloseReason::PeerReset,
            io::ErrorKind::TimedOut => CloseReason::TimedOut,
            io::ErrorKind::ConnectionRefused => CloseReason::Refused,
            _ => CloseReason::Failed,
        }
    }
}

/// What a send may use of a queue and of the store of pieces.
///
/// What others cause to be sent to a connection leaves room for what the connection itself asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The last of a connection: its queue has no bound for it, the store is as for a reply.
    Last,
    /// What the connection asked for, or must be told before it ends: all of [`BackendConfig::send_queue_bytes_max`], and the
    /// part of the store that is kept for replies.
    Reply,
    /// What comes from others and should not be lost: three quarters of the queue.
    Push,
    /// What comes from others and may be dropped: half of the queue.
    Droppable,
}

impl Priority {
    /// Bytes that the queue may hold behind such a send, of the most that any may.
    pub const fn bytes_max(self, queue_bytes_max: usize) -> usize {
        match self {
            Priority::Last => usize::MAX,
            Priority::Reply => queue_bytes_max,
            Priority::Push => queue_bytes_max / 4 * 3,
            Priority::Droppable => queue_bytes_max / 2,
        }
    }

    /// Whether others caused the send, not the connection itself.
    pub const fn is_of_others(self) -> bool {
        matches!(self, Priority::Push | Priority::Droppable)
    }
}

/// A connection whose socket has taken less than was offered, and whose queue has not been empty since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which one.
    pub connection: ConnectionId,
    /// When its socket took bytes last, or took none of the first that had to wait: milliseconds of the backend's clock, as far
    /// as 32 bits hold them.
    progress_ms: u32,
}

impl Waiting {
    /// A connection whose socket took bytes, or should have, at `progress`.
    pub fn new(connection: ConnectionId, progress: Timestamp) -> Waiting {
        Waiting { connection, progress_ms: progress.as_millis() as u32 }
    }

    /// The same under another id: of a backend that puts several together.
    pub fn known_as(self, connection: ConnectionId) -> Waiting {
        Waiting { connection, ..self }
    }

    /// How long its socket has taken nothing. A stall of 49 days begins anew.
    pub fn stalled_for(&self, now: Timestamp) -> Duration {
        let since = (now.as_millis() as u32).wrapping_sub(self.progress_ms);
        // The clock of the list may be a little ahead of the caller's.
        Duration::from_millis(if since > u32::MAX / 2 { 0 } else { u64::from(since) })
    }
}

/// How full a store of pieces or segments is that connections share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStoreLevel {
    /// Entries in use.
    pub used: usize,
    /// Entries in all.
    pub max: usize,
}

/// Why [`Backend::send`] did not take a buffer. The buffer comes back.
#[derive(Debug)]
pub enum SendError {
    /// The connection's own queue holds as much as it may: its bytes, or its share of the store of pieces.
    Full(SharedBuffer),
    /// The store of pieces is used up by other connections. An empty queue is never refused for that.
    Exhausted(SharedBuffer),
    /// The connection is closed, closing or was never there.
    Closed(SharedBuffer),
}

/// Why [`Backend::connect`] could not even start.
#[derive(Debug)]
pub enum ConnectError {
    /// The backend holds `connections_max` connections.
    TableFull,
    /// The system refused, e.g. for want of descriptors or of a free local port.
    Io(io::Error),
}

/// The batch that [`Backend::poll`] appends to: a vector of fixed capacity.
#[derive(Debug)]
pub struct Completions {
    items: Vec<Completion>,
    /// How long the poll under way (or the last one) may make it.
    bound: usize,
}

impl Completions {
    /// Room for `capacity` completions.
    pub fn with_capacity(capacity: usize) -> Completions {
        Completions { items: Vec::with_capacity(capacity), bound: capacity }
    }

    /// A poll begins that appends at most `count`, however much room there is. Backends call it first.
    pub fn admit(&mut self, count: usize) {
        self.bound = self.items.capacity().min(self.items.len().saturating_add(count));
    }

    /// Room left in this poll.
    pub fn room(&self) -> usize {
        self.bound.saturating_sub(self.items.len())
    }

    /// Whether no further completion fits.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Appends.
    ///
    /// # Panics
    /// If it is full: backends ask first.
    pub fn push(&mut self, completion: Completion) {
        assert!(self.items.len() < self.items.capacity(), "completion batch overrun");
        self.items.push(completion);
    }

    /// Takes everything out, oldest first; the capacity stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Completion> + '_ {
        self.items.drain(..)
    }

    /// Gives back the memory of what is not in use.
    pub fn trim(&mut self) {
        crate::release_spare(&mut self.items);
    }

    /// Completions in the batch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is in the batch.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What a backend has done since it was made. Plain numbers: their owner publishes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Waits in the kernel (epoll_wait, io_uring_enter) or rounds of polling.
    pub polls: u64,
    /// Completions or events that came out of them.
    pub events: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that failed; the listener rests a little after a shortage of descriptors or memory.
    pub accept_errors: u64,
    /// Receives that brought bytes.
    pub receives: u64,
    /// Bytes received, those included that were discarded after the owner had finished.
    pub receive_bytes: u64,
    /// Times that receiving paused because no buffer was free.
    pub receive_pauses: u64,
    /// Times that a receive found none of the buffers that the kernel was lent, though others were free: it is lent one more
    /// each time (io_uring only).
    pub lend_shortages: u64,
    /// Receive operations armed again after they had ended by themselves.
    pub rearms: u64,
    /// Send operations handed to the kernel.
    pub sends: u64,
    /// Bytes that they took.
    pub send_bytes: u64,
    /// Times that a peer took less than was offered and its queue had to wait.
    pub send_waits: u64,
    /// Waiting pieces copied to a smaller block.
    pub send_copies: u64,
    /// Completion-queue overflows (io_uring only).
    pub overflows: u64,
    /// Connections put to a cheaper kind of waiting: idle ones and, where there is that, new ones.
    pub demotions: u64,
    /// Those that received once and went on waiting in that way: their clients said something after a long time.
    pub samples: u64,
    /// Those moved back by traffic.
    pub promotions: u64,
    /// Times that the table of connections, empty for a while, was made anew ([`Backend::trim`]): a heap allocation each, and
    /// the only ones after the start.
    pub renewals: u64,
}

/// An IO backend: the owner of listeners, connections and their buffers on one thread.
pub trait Backend {
    /// Name of the backend as configured and as a metric label.
    fn name(&self) -> &'static str;

    /// Opens a listener and returns its id with the address that it got.
    ///
    /// # Errors
    /// What the system says to bind or listen; also beyond 255 listeners.
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)>;

    /// Stops (or resumes) accepting on all listeners. Stopping closes nothing that was accepted.
    fn set_accepting(&mut self, accepting: bool);

    /// Closes all listeners for good, as soon as no accept is under way: whoever connects from then on is refused, or
    /// reaches another process that listens at the same address. What waited to be accepted is reset; what was accepted
    /// stays.
    fn close_listeners(&mut self);

    /// Begins to connect to `remote`, from `local` if given (port 0: any). Ends in `Connected` or `Closed`.
    ///
    /// # Errors
    /// [`ConnectError`]; then no completion follows.
    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError>;

    /// Hands queued sends to the system, waits at most `wait` for something to happen (not at all when work is left
    /// over from before, or when the waker was used), and appends what happened to `batch`, as far as it has room.
    ///
    /// # Errors
    /// Only what makes the backend unusable; trouble with one connection is its `Closed`.
    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()>;

    /// Queues `buffer` behind earlier sends of the connection, using of its queue and of the store of pieces what `priority`
    /// may; it leaves at the next poll, together with them.
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

    /// Gives bytes back that were told as received: the owner has no block of the `size` that it needs for them. They are told
    /// again, before anything newer of the connection, when such a block may be free. Whatever else the owner was told of the
    /// connection goes back behind them. A backend that keeps what it sends in the owner's blocks takes it: there blocks come
    /// home by themselves.
    ///
    /// # Errors
    /// The bytes: this backend never takes any, or blocks have been short for too long.
    fn unread(&mut self, _connection: ConnectionId, buffer: Buffer, _size: usize) -> Result<(), Buffer> {
        Err(buffer)
    }

    /// Whether bytes of the connection were put back and not told again since.
    fn has_unread(&self, _connection: ConnectionId) -> bool {
        false
    }

    /// Stops receiving from one connection, or resumes it; a new connection receives.
    ///
    /// * A stopped connection's socket is left unread, so the peer's own window stops it. A stopped connection holds no receive
    ///   buffer. What had been taken from the socket before is still reported: at most the rest of the batch, and the
    ///   receive buffers that the system had been lent.
    /// * Bytes that arrive meanwhile are reported after the resume, in order and once.
    /// * The peer's end may lie behind unread bytes, where no system reports it: it is reported at the latest after the
    ///   resume. An owner that stops a connection therefore resumes or ends it within a bounded time.
    /// * [`Backend::finish`] overrules it: what the peer sends is received into nowhere, as ever. [`Backend::close`] finds
    ///   unread bytes, and resets.
    /// * Repeating it, or naming a dead id, does nothing.
    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool);

    /// Queues `last` as [`Backend::send`] does, even over the queue's bound on bytes, and goes on receiving: the owner's protocol
    /// has an answer to it. At most once for each connection; nothing but [`Backend::finish`] or [`Backend::close`] follows.
    ///
    /// # Errors
    /// [`SendError`], with the buffer: the store of pieces is full, or the connection is closing.
    fn send_last(&mut self, connection: ConnectionId, last: SharedBuffer) -> Result<(), SendError> {
        self.send_as(connection, last, Priority::Last)
    }

    /// Sends what is queued, then `last` (even over the queue's bound), then FIN; what the peer still sends is
    /// discarded until it ends its side. The owner bounds the time with [`Backend::close`]; the table bounds how many linger.
    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>);

    /// Ends the connection now and drops what is queued. `Closed { Local }` follows in a later poll. Where bytes of the peer
    /// lie unread the system resets the connection, and the peer may lose what it has not read yet: a farewell goes by
    /// [`Backend::finish`].
    fn close(&mut self, connection: ConnectionId);

    /// Bytes queued for the connection that its socket has not taken.
    fn queued_bytes(&self, connection: ConnectionId) -> usize;

    /// Bytes of the blocks of `pools` that the connection's queue holds: what those pools might get back by its end. Less
    /// comes back where others hold the same blocks.
    fn queued_blocks(&self, connection: ConnectionId, pools: PoolSet) -> usize {
        if pools.is_empty() { 0 } else { self.queued_bytes(connection) }
    }

    /// The same for one pool, which may be another owner's.
    fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize;

    /// Gives memory of emptied tables and pools back to the system, for an owner that has had no connection for a while. What
    /// is in use stays, and what was promised holds: in particular, ids of the past stay dead.
    fn trim(&mut self) {}

    /// Pieces of the store that the connection's queue holds.
    fn queued_pieces(&self, connection: ConnectionId) -> usize;

    /// How full the shared part of the store of pieces is.
    fn send_store(&self) -> SendStoreLevel;

    /// How full the store is of what has been sent and is not known to have arrived (segments of a backend with a TCP of its own)
    /// or to have been taken (sends of a ring). All zeros where there is no such store.
    fn flight_store(&self) -> SendStoreLevel {
        SendStoreLevel::default()
    }

    /// Connections that have something queued because their sockets took less than was offered. Each once, in no order; what
    /// was queued since the last poll is not in it yet. Whether a peer is slow is for its owner to say: by how long its socket
    /// has taken nothing ([`Waiting::stalled_for`]).
    fn waiting(&self) -> &[Waiting];

    /// How long the connection's socket has taken nothing of what waits for it; zero for a connection that is not
    /// among those of [`Backend::waiting`]. Does not search.
    fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> Duration;

    /// Whether the live connection is among those of [`Backend::waiting`]: asked for each delivery while memory is short, so
    /// it must not search.
    fn is_waiting(&self, connection: ConnectionId) -> bool;

    /// Live connections, those that are closing included.
    fn connection_count(&self) -> usize;

    /// Whether new peers have to wait in the backlog because as many connections are held as may be. False while
    /// accepting is off.
    fn is_full(&self) -> bool;

    /// Every index of a [`ConnectionId`] of this backend is below it: the size for tables that run parallel to its own.
    /// It may exceed `connections_max`, by connections that have been accepted but not reported.
    fn index_bound(&self) -> usize;

    /// The buffers of this backend.
    fn pools(&mut self) -> &mut BufferPools;

    /// Ends a wait in [`Backend::poll`] from any thread.
    fn waker(&self) -> Waker;

    /// The present, on this backend's clock.
    fn now(&self) -> Timestamp;

    /// Tells what only this backend counts, each by a name that is always the same.
    fn details(&mut self, _tell: &mut dyn FnMut(&'static str, u64)) {}

    /// What it has done so far.
    fn counters(&self) -> BackendCounters;
}

/// A backend that can share its thread with others: the thread's owner waits for all of them at once, in
/// [`SharedWait::sleep`](crate::SharedWait::sleep).
///
/// ```text
///   poll(0) ─► owner handles the batch ─► flush_before_wait ─► nothing to do? ─► watch, is_ready? ─► sleep ─► poll(0) of those ready
/// ```
pub trait SharesThread: Backend {
    /// Takes a wait slot: from now on `waker` wakes the ring group, and `poll` is only called with no wait. Before any wait.
    ///
    /// # Errors
    /// What the system says to being watched.
    fn join_wait(&mut self, slot: WaitSlot) -> io::Result<()>;

    /// Does what a poll does before it waits, and says for how long it would wait, at most `wait`.
    ///
    /// # Errors
    /// Only what makes the backend unusable.
    fn flush_before_wait(&mut self, wait: Duration) -> io::Result<Duration>;

    /// Tells the kernel whether to end the shared sleep when something happens. Followed by a fence of the owner's and a look
    /// at [`SharesThread::is_ready`].
    fn watch(&mut self, watch: bool);

    /// Whether the kernel has something for the next poll. No system call.
    fn is_ready(&mut self) -> bool;
}
