//! Passing live connections to a successor, as a restart that keeps them does.
//!
//! ```text
//!   predecessor: release(id) ──► Released { id, phase, socket }, queued bytes
//!                                     │ another backend of the same kind: in this process, or in
//!                                     ▼ another one that was sent the descriptor
//!   successor:   adopt(released, queued) ─► … ─► raise_generations(bound) ─► poll, accept
//! ```
//!
//! The owner carries what it knows itself: sessions, received bytes that are not handled yet, and
//! whether it has stopped a connection.

use crate::{Backend, ConnectionId};
use std::fmt;
use std::io;

/// A backend that can pass its connections to another backend of its kind.
///
/// Promises, which the contract suite checks: no byte is lost, doubled or reordered on either side
/// of a connection that is released and adopted, and neither its peer nor its owner sees an event.
/// Ids stay, so what an owner derived from an id stays valid, and an id of the past stays dead.
pub trait Handover: Backend {
    /// What a connection is to the system, such as a descriptor. Dropping it closes the connection.
    type Socket;

    /// Takes a connection out of this backend, without an event to its peer or to its owner; the id
    /// is dead here from now on. Passes what the connection holds to `bytes`, in order and once.
    /// Sends that were queued since the last poll are among it.
    ///
    /// # Errors
    /// [`ReleaseError`]; then nothing has changed.
    fn release(
        &mut self,
        connection: ConnectionId,
        bytes: &mut dyn FnMut(Held, &[u8]),
    ) -> Result<Released<Self::Socket>, ReleaseError>;

    /// Takes over a connection that another backend released, under the same id, with `queued` as
    /// its send queue, however long. The connection receives, as a new one does.
    ///
    /// O(1) for connections in rising order of their indexes, in a backend that has no others.
    ///
    /// # Errors
    /// [`AdoptError`], with the connection; then nothing has changed.
    fn adopt(
        &mut self,
        released: Released<Self::Socket>,
        queued: &[u8],
    ) -> Result<(), (AdoptError, Released<Self::Socket>)>;

    /// A bound: no id that this backend has given has this generation or a higher one.
    fn generation_bound(&self) -> u32;

    /// Gives no id below generation `bound` from here on. Called with the predecessor's
    /// [`Handover::generation_bound`] after the last [`Handover::adopt`], before anything is
    /// accepted or connected.
    fn raise_generations(&mut self, bound: u32);
}

/// A connection between two backends. Dropping it closes the connection.
#[derive(Debug)]
pub struct Released<S> {
    /// The id that it had, and will have.
    pub id: ConnectionId,
    /// How far its life has come.
    pub phase: Phase,
    /// [`Completion::Sent`](crate::Completion::Sent) is due, when the queue is empty: it had to
    /// wait.
    pub awaits_sent: bool,
    /// What it is to the system.
    pub socket: S,
}

/// How far the life of a released connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Both directions are open.
    Open,
    /// The owner has finished; the queue is to leave, then FIN.
    Finishing,
    /// The owner has finished and FIN has left; the peer's is awaited.
    Finished,
    /// The peer's FIN has come; the queue is to leave, then the connection ends.
    PeerFinished,
    /// As [`Phase::PeerFinished`], and the owner has finished, too.
    BothFinishing,
}

/// Where a backend holds bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// In the send queue: the successor's queue begins with them.
    Queued,
    /// Received, and taken back by [`Backend::unread`]: the owner handles them before anything
    /// newer.
    Unread,
}

/// Why a connection could not be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// The connection is closed, closing or has never existed.
    Gone,
    /// The connection is not open yet, or its owner has not had `Connected`.
    Connecting,
}

/// Why a connection could not be adopted.
#[derive(Debug)]
pub enum AdoptError {
    /// The slot is taken or beyond the table, or the id is one of the past.
    Slot,
    /// The pools or the store of pieces have no room for the queued bytes.
    Memory,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReleaseError::Gone => "the connection has ended",
            ReleaseError::Connecting => "the connection is not open yet",
        })
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::Slot => f.write_str("its slot cannot be used: is the table large enough?"),
            AdoptError::Memory => f.write_str("no room for its queued bytes: use as many blocks as before"),
            AdoptError::Io(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for ReleaseError {}
impl std::error::Error for AdoptError {}
