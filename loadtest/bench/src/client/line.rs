//! The transport under the generator.

use crate::tally::Resent;
use netpoll::{Backend, BufferPools, Completions, ConnectError, ConnectionId, SendError, SharedBuffer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A transport for bytes: every backend, and a bare port, where a frame is all there is.
pub trait Line {
    /// Begins a connection; `Connected` follows.
    ///
    /// # Errors
    /// Those of [`Backend::connect`].
    fn connect(&mut self, from: Option<SocketAddr>, to: SocketAddr) -> Result<ConnectionId, ConnectError>;

    /// Sends what is queued, and appends what arrived within `wait`.
    ///
    /// # Errors
    /// What makes the transport unusable.
    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()>;

    /// Queues bytes for the next poll.
    ///
    /// # Errors
    /// Those of [`Backend::send`].
    fn send(&mut self, connection: ConnectionId, bytes: SharedBuffer) -> Result<(), SendError>;

    /// The pools that blocks for outgoing bytes come from.
    fn pools(&mut self) -> &mut BufferPools;

    /// How long it has had something to do so far, where it polls: then processor time says
    /// nothing.
    fn busy(&mut self) -> Option<Duration>;

    /// What it has retransmitted so far, where it is a TCP that counts that.
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
