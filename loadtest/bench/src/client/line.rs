//! What the generator asks of the way that its bytes go.

use crate::tally::Resent;
use netpoll::{Backend, BufferPools, Completions, ConnectError, ConnectionId, SendError, SharedBuffer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A way for bytes: every backend, and a port by itself, where a frame is all there is.
pub trait Line {
    /// Begins a connection; `Connected` follows.
    ///
    /// # Errors
    /// Those of [`Backend::connect`].
    fn connect(&mut self, from: Option<SocketAddr>, to: SocketAddr) -> Result<ConnectionId, ConnectError>;

    /// Sends what is queued, and appends what came in within `wait`.
    ///
    /// # Errors
    /// What makes the line unusable.
    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()>;

    /// Queues bytes for the next poll.
    ///
    /// # Errors
    /// Those of [`Backend::send`].
    fn send(&mut self, connection: ConnectionId, bytes: SharedBuffer) -> Result<(), SendError>;

    /// Where blocks for bytes to be sent come from.
    fn pools(&mut self) -> &mut BufferPools;

    /// How long it had something to do so far, where it polls: then processor time says nothing.
    fn busy(&mut self) -> Option<Duration>;

    /// What it sent again so far, where it is a TCP that counts that.
    fn resent(&mut self) -> Option<Resent>;
}

impl<B: Backend> Line for B {
    fn connect(&mut self, from: Option<SocketAddr>, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        Backend::connect(self, from, to)
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        Backend::poll(self, wait, batch)
    }

    fn send(&mut self, connection: ConnectionId, bytes: SharedBuffer) -> Result<(), SendError> {
        Backend::send(self, connection, bytes)
    }

    fn pools(&mut self) -> &mut BufferPools {
        Backend::pools(self)
    }

    fn busy(&mut self) -> Option<Duration> {
        let mut busy = None;
        self.details(&mut |name, count| {
            if name == "busy_nanos" {
                busy = Some(Duration::from_nanos(count));
            }
        });
        busy
    }

    fn resent(&mut self) -> Option<Resent> {
        let (mut segments, mut probes) = (None, 0);
        self.details(&mut |name, count| match name {
            "retransmits" => segments = Some(count),
            "tail_loss_probes" => probes = count,
            _ => {}
        });
        segments.map(|segments| Resent { segments, probes })
    }
}
