//! What a framing is: how a stream of bytes is cut into units, and what a frame is when it has
//! been.

use super::Handler;
use crate::session::{Open, Packed, Session, Sessions};
use gateway_proto::frame::Header;
use gateway_proto::preface::Preface;
use netpoll::{Backend, Buffer, ConnectionId};

/// What a block holds besides the payload of a message: the header of its last fragment, or a
/// control frame between two.
const BESIDE_A_MESSAGE: usize = 160;

/// The largest message that is put together in a block of `block` bytes.
pub const fn message_size_bound(block: usize) -> usize {
    block.saturating_sub(BESIDE_A_MESSAGE)
}

/// One frame: `buffer` ends with it, and its body begins at `body_start`. The header comes last: it
/// ends with padding, and a field behind that would be copied together with it, in pieces.
#[repr(C)]
pub(super) struct Frame {
    pub(super) body_start: usize,
    pub(super) buffer: Buffer,
    pub(super) header: Header,
}

impl Frame {
    /// Its body.
    pub(super) fn body(&self) -> &[u8] {
        &self.buffer.as_slice()[self.body_start..]
    }
}

/// The sender of a frame.
pub(super) enum Sender {
    /// A logged-in client.
    Open(Open),
    /// A connection that has not begun to log in.
    Unauthenticated(Packed),
}

impl Sender {
    #[inline]
    pub(super) fn connection(&self) -> ConnectionId {
        match self {
            Sender::Open(open) => open.connection(),
            Sender::Unauthenticated(connection) => connection.connection(),
        }
    }
}

/// What becomes of the next bytes of a connection.
pub(super) enum Intake {
    /// Frames are handled.
    From(Sender),
    /// A login is under way: bytes wait in the carry until it is answered.
    Waits,
    /// The connection is ending: bytes are discarded.
    Over,
}

impl From<Option<Open>> for Intake {
    fn from(open: Option<Open>) -> Intake {
        open.map_or(Intake::Over, |open| Intake::From(Sender::Open(open)))
    }
}

/// What a framing found at the front of the bytes.
pub(super) enum Front<U> {
    /// A whole unit of `size` bytes.
    Whole { size: usize, unit: U },
    /// More bytes are needed: so many from the start.
    Incomplete { needed: usize },
}

/// A framing: how a stream of bytes is cut into units, which are frames over TCP and WebSocket
/// frames over WebSocket.
pub(super) trait Cut<B: Backend> {
    /// What is known of a unit besides its size.
    type Unit;
    /// What a sender may send.
    type Limits;
    /// Why bytes are no unit.
    type Error;

    /// What this sender may send.
    fn limits(handler: &mut Handler<B>, sender: &Sender) -> Self::Limits;

    /// Looks at the front of received bytes.
    fn look(
        sessions: &mut Sessions,
        sender: &Sender,
        limits: &Self::Limits,
        bytes: &mut [u8],
    ) -> Result<Front<Self::Unit>, Self::Error>;

    /// Looks at the front of the bytes in the session's carry.
    fn look_at_carry(session: &mut Session, limits: &Self::Limits) -> Result<Front<Self::Unit>, Self::Error>;

    /// Handles a unit, which is all of `buffer`.
    fn unit(handler: &mut Handler<B>, sender: Sender, buffer: Buffer, unit: Self::Unit) -> Intake;

    /// Handles the unit at the front of the session's carry.
    fn unit_in_carry(handler: &mut Handler<B>, sender: Sender, size: usize, unit: Self::Unit) -> Intake;

    /// Ends a connection that sent bytes which are no unit; `preface`: the other protocol that they
    /// begin like, if they do.
    fn refuse(
        handler: &mut Handler<B>,
        connection: ConnectionId,
        error: Self::Error,
        preface: Option<Preface>,
    );
}
