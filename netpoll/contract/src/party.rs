//! The owner of one side: what it does with what its backend reports, and what it still wants to
//! send.

use crate::{Ledger, Pattern};
use netpoll::{
    Backend, Buffer, CloseReason, Completion, Completions, ConnectionId, ListenerId, SendError, SharedBuffer,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// What a party does with received buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Collects the bytes by connection and returns the buffers to their pool.
    #[default]
    Collect,
    /// Keeps the buffers, so that the pool runs empty.
    Hold,
    /// Sends the bytes back on the connection that they came from.
    Echo,
}

/// A record of one `Accepted`.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The new connection.
    pub connection: ConnectionId,
    /// The listener that the peer connected to.
    pub listener: ListenerId,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// A stream that leaves piece by piece.
#[derive(Debug)]
struct Outgoing {
    pattern: Pattern,
    offset: usize,
    size: usize,
    piece_max: usize,
}

/// Ends of peers, as one side sees them.
#[derive(Debug, Default)]
pub struct Ends {
    /// Every `PeerFinished`, oldest first.
    pub reported: Vec<ConnectionId>,
    /// A `PeerFinished` stops its connection: its end waits for the resume.
    pub are_held: bool,
}

/// The owner of one side.
#[derive(Debug, Default)]
pub struct Party {
    /// The promises checked so far.
    pub ledger: Ledger,
    /// What the party does with received buffers.
    pub mode: Mode,
    /// Every `Accepted`, oldest first.
    pub accepted: Vec<Arrival>,
    /// Every `Connected`, oldest first.
    pub connected: Vec<ConnectionId>,
    /// Every `Closed`.
    pub closed: BTreeMap<ConnectionId, CloseReason>,
    /// What became of peers' ends.
    pub ends: Ends,
    /// How often `Sent` came.
    pub sent: BTreeMap<ConnectionId, usize>,
    /// Buffers kept in [`Mode::Hold`].
    pub held: Vec<(ConnectionId, Buffer)>,
    received: BTreeMap<ConnectionId, Vec<u8>>,
    /// Bytes received in all modes.
    received_bytes: BTreeMap<ConnectionId, usize>,
    outgoing: BTreeMap<ConnectionId, Outgoing>,
    /// Echoes that found the queue full.
    backlog: BTreeMap<ConnectionId, VecDeque<SharedBuffer>>,
}

impl Party {
    /// Takes in a batch: checks each completion, then acts on it.
    pub fn take(&mut self, backend: &mut impl Backend, batch: &mut Completions) {
        for completion in batch.drain() {
            self.ledger.observe(&completion);
            self.act(backend, completion);
        }
        assert!(backend.connection_count() >= self.ledger.live_count(), "live connections are counted");
        self.flush(backend);
    }

    fn act(&mut self, backend: &mut impl Backend, completion: Completion) {
        match completion {
            Completion::Accepted { connection, listener, peer } => {
                self.accepted.push(Arrival { connection, listener, peer });
            }
            Completion::Connected { connection } => self.connected.push(connection),
            Completion::Received { connection, buffer } => self.receive(backend, connection, buffer),
            Completion::PeerFinished { connection } => {
                self.ends.reported.push(connection);
                if self.ends.are_held {
                    backend.set_receiving(connection, false);
                }
            }
            Completion::Sent { connection } => *self.sent.entry(connection).or_default() += 1,
            Completion::Closed { connection, reason } => {
                assert_eq!(backend.queued_bytes(connection), 0, "a dead id has no queue");
                self.closed.insert(connection, reason);
                self.outgoing.remove(&connection);
                self.backlog.remove(&connection);
            }
        }
    }

    fn receive(&mut self, backend: &mut impl Backend, connection: ConnectionId, buffer: Buffer) {
        *self.received_bytes.entry(connection).or_default() += buffer.len();
        match self.mode {
            Mode::Collect => {
                self.received.entry(connection).or_default().extend_from_slice(buffer.as_slice());
            }
            Mode::Hold => self.held.push((connection, buffer)),
            Mode::Echo => {
                self.backlog.entry(connection).or_default().push_back(buffer.freeze());
                flush_backlog(backend, connection, &mut self.backlog);
            }
        }
    }

    /// Bytes collected from `connection`.
    pub fn received(&self, connection: ConnectionId) -> &[u8] {
        self.received.get(&connection).map_or(&[], |bytes| bytes)
    }

    /// The number of bytes that came from `connection`, in any mode.
    pub fn received_bytes(&self, connection: ConnectionId) -> usize {
        self.received_bytes.get(&connection).copied().unwrap_or(0)
    }

    /// Drops what was held and collects from here on; what was held counts as collected first.
    pub fn let_go(&mut self) {
        self.mode = Mode::Collect;
        for (connection, buffer) in std::mem::take(&mut self.held) {
            self.received.entry(connection).or_default().extend_from_slice(buffer.as_slice());
        }
    }

    /// Drops everything that is still to be sent.
    pub fn forget(&mut self) {
        self.outgoing.clear();
        self.backlog.clear();
        self.held.clear();
        self.mode = Mode::Collect;
    }

    /// Sends `size` bytes of `pattern` in pieces of up to `piece_max` bytes, as the queue takes
    /// them.
    pub fn stream(&mut self, connection: ConnectionId, pattern: Pattern, size: usize, piece_max: usize) {
        let before = self.outgoing.insert(connection, Outgoing { pattern, offset: 0, size, piece_max });
        assert!(before.is_none(), "one stream at a time");
    }

    /// Whether a stream has not been queued to its end.
    pub fn is_streaming(&self, connection: ConnectionId) -> bool {
        self.outgoing.contains_key(&connection)
    }

    /// Queues what the backend takes.
    pub fn flush(&mut self, backend: &mut impl Backend) {
        let waiting: Vec<ConnectionId> = self.backlog.keys().copied().collect();
        for connection in waiting {
            flush_backlog(backend, connection, &mut self.backlog);
        }
        self.outgoing.retain(|connection, outgoing| flush_stream(backend, *connection, outgoing));
    }
}

fn flush_backlog(
    backend: &mut impl Backend,
    connection: ConnectionId,
    backlog: &mut BTreeMap<ConnectionId, VecDeque<SharedBuffer>>,
) {
    let Some(pieces) = backlog.get_mut(&connection) else { return };
    while let Some(piece) = pieces.pop_front() {
        match backend.send(connection, piece) {
            Ok(()) => {}
            Err(SendError::Full(piece) | SendError::Exhausted(piece)) => {
                pieces.push_front(piece);
                return;
            }
            Err(SendError::Closed(_)) => pieces.clear(),
        }
    }
    backlog.remove(&connection);
}

/// Queues pieces of a stream; false when it has ended or its connection has gone.
fn flush_stream(backend: &mut impl Backend, connection: ConnectionId, outgoing: &mut Outgoing) -> bool {
    while outgoing.offset < outgoing.size {
        let size_max = outgoing.piece_max.min(backend.pools().block_size_max());
        let size = size_max.min(outgoing.size - outgoing.offset);
        let Some(mut buffer) = backend.pools().take(size) else { return true };
        buffer.set_len(size);
        outgoing.pattern.fill(outgoing.offset, buffer.as_mut_slice());
        match backend.send(connection, buffer.freeze()) {
            Ok(()) => outgoing.offset += size,
            Err(SendError::Full(_) | SendError::Exhausted(_)) => return true,
            Err(SendError::Closed(_)) => return false,
        }
    }
    false
}
