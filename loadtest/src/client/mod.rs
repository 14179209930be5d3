//! The client side of a connection, without IO: what to send first, how to read what arrives, what
//! a message looks like.
//!
//! [`Protocol`] is the small seam between the workers, which move bytes and keep time, and the
//! server's protocol. [`goim`] is goim's over TCP and WebSocket; [`raw`] is bare bytes and bare
//! WebSocket messages, for floors.

pub(crate) mod feed;
pub(crate) mod goim;
pub(crate) mod raw;
pub(crate) mod template;
pub(crate) mod websocket;

use crate::plan::FlowPlan;
use gateway_proto::websocket::Decoder;
use template::Template;

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No socket.
    Closed,
    /// The TCP handshake is under way.
    Connecting,
    /// The WebSocket handshake is under way.
    Upgrading,
    /// The auth frame was sent.
    Authenticating,
    /// Further rooms are being joined.
    Joining,
    /// Everything may be sent.
    Ready,
    /// This side has asked for its close.
    Leaving,
}

/// What a protocol remembers of a connection: 20 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) decoder: Decoder,
    pub(crate) stage: Stage,
    /// Joins without an answer.
    pub(crate) joins_due: u8,
}

impl Link {
    pub(crate) fn new() -> Link {
        Link { decoder: Decoder::default(), stage: Stage::Closed, joins_due: 0 }
    }
}

/// How much of the input was read, and how much is needed to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) consumed: usize,
    /// Bytes from `consumed` on that allow progress; 0 when nothing is left.
    pub(crate) needed: usize,
}

/// A notice of the server that is not about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The server closes, with this code (0: none given).
    Closing(u16),
    /// The server refused a request.
    Refused(u16),
    /// The server asks the client to reconnect later.
    Reconnect,
    /// A WebSocket ping was answered.
    Ping,
}

/// A rule that the server broke. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

/// Counts a frame that never came whole.
pub(crate) const HALF_FRAME: &str = "half_frame";

/// How a payload came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Without a frame.
    Bare,
    /// As the answer to an echo, with this sequence.
    Echo(u32),
    /// As a push, with this sequence.
    Push(u32),
    /// In a frame of an operation that was not to be expected; that is counted already.
    Stray,
}

/// Receiver of what a protocol reads.
pub(crate) trait Sink {
    /// A payload.
    fn message(&mut self, carrier: Carrier, payload: &[u8]);
    /// The answer to an echo, of so many bytes, too few for a stamp: its sequence tells which.
    fn short_echo(&mut self, sequence: u32, size: usize);
    /// The answer to a publication.
    fn publish_reply(&mut self, sequence: u32, accepted: bool);
    /// The answer to a heartbeat.
    fn heartbeat_reply(&mut self, sequence: u32);
    /// A rule that the server broke, without harm to what follows.
    fn broken(&mut self, rule: &'static str);
    /// Another notice.
    fn notice(&mut self, notice: Notice);
    /// Bytes that the protocol has to send to the server (a pong).
    fn owe(&mut self, bytes: &[u8]);
}

/// The server's protocol, from the client's side.
pub(crate) trait Protocol: Clone + Send + 'static {
    /// Writes what connection `index` sends at its present stage, moves it on, and returns the
    /// size. Called when the socket is connected, and again whenever [`Protocol::receive`] moved
    /// the stage on and it is not ready.
    fn hello(&self, index: u32, link: &mut Link, out: &mut Vec<u8>);

    /// Reads the whole units in `input`.
    ///
    /// # Errors
    /// The first violation of the protocol.
    fn receive(
        &self,
        index: u32,
        link: &mut Link,
        input: &mut [u8],
        sink: &mut impl Sink,
    ) -> Result<Progress, Violation>;

    /// The bytes of a flow's messages.
    fn template(&self, flow: &FlowPlan) -> Template;

    /// The heartbeat's bytes, if the protocol has one.
    fn heartbeat(&self) -> Option<Template>;
}
