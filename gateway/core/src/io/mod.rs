//! The worker's only exit for bytes: its backend, the encoder of frames that the server writes
//! itself, and their counts.
//!
//! The backend is private to this module. What leaves a worker leaves by [`Io::send`],
//! [`Io::send_last`] or [`Io::finish`]; what handlers read of queues they read through
//! [`Io::queues`], by which nothing can be sent.

mod encoder;

use encoder::Encoder;
pub(crate) use encoder::rewrite_in_place;

use crate::listener::Framing;
use crate::metrics::WorkerMetrics;
use gateway_proto::frame::Header;
use gateway_proto::websocket::Opcode;
use netpoll::{
    Backend, Buffer, BufferPools, Completions, ConnectionId, Introspect, Priority, Queues, SendError,
    SharedBuffer, SharesThread, Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

/// The backend, and what is needed to hand bytes to it.
#[derive(Debug)]
pub(crate) struct Io<B: Backend> {
    backend: B,
    encoder: Encoder,
    pub(crate) metrics: Arc<WorkerMetrics>,
}

impl<B: Backend> Io<B> {
    pub(crate) fn new(backend: B, metrics: Arc<WorkerMetrics>) -> Io<B> {
        Io { backend, encoder: Encoder::default(), metrics }
    }

    // --- bytes to a connection -------------------------------------------------------------------

    /// Queues bytes for a connection, as far as `priority` allows.
    ///
    /// # Errors
    /// [`SendError`], with the bytes.
    #[inline]
    pub(crate) fn send(
        &mut self,
        connection: ConnectionId,
        bytes: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        self.backend.send_as(connection, bytes, priority)
    }

    /// Queues the last bytes and goes on receiving ([`Backend::send_last`]).
    ///
    /// # Errors
    /// [`SendError`], with the bytes.
    pub(crate) fn send_last(
        &mut self,
        connection: ConnectionId,
        last: SharedBuffer,
    ) -> Result<(), SendError> {
        self.backend.send_last(connection, last)
    }

    /// Drops what is queued and has not begun to leave, whole sends only; passes it to `dropped`
    /// ([`Backend::drop_unsent`]).
    pub(crate) fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.backend.drop_unsent(connection, dropped);
    }

    /// Sends what is queued, then `last`, then FIN ([`Backend::finish`]).
    pub(crate) fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        self.backend.finish(connection, last);
    }

    /// Ends a connection now and drops what is queued ([`Backend::close`]).
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.backend.close(connection);
    }

    // --- frames that the server writes -----------------------------------------------------------

    /// Writes a frame; `body` fills the `header.body_size` bytes of its body. `None` when no block
    /// is free.
    #[inline]
    pub(crate) fn frame(
        &mut self,
        framing: Framing,
        header: Header,
        body: impl FnOnce(&mut [u8]),
    ) -> Option<SharedBuffer> {
        self.encoder.frame(self.backend.pools(), framing, header, body)
    }

    /// Writes a WebSocket control frame. `None` when no block is free or the payload is over 125
    /// bytes.
    pub(crate) fn control_frame(&mut self, opcode: Opcode, payload: &[u8]) -> Option<SharedBuffer> {
        self.encoder.control(self.backend.pools(), opcode, payload)
    }

    /// Copies bytes into a block. `None` when no block is free.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<SharedBuffer> {
        self.encoder.bytes(self.backend.pools(), bytes)
    }

    /// Releases the block that frames are written to: an idle worker holds none.
    pub(crate) fn release_block(&mut self) {
        self.encoder.release();
    }

    /// The buffers of the backend.
    #[inline]
    pub(crate) fn pools(&mut self) -> &mut BufferPools {
        self.backend.pools()
    }

    // --- bytes from a connection -----------------------------------------------------------------

    /// Leaves a connection's socket unread, or reads it again ([`Backend::set_receiving`]).
    pub(crate) fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        self.backend.set_receiving(connection, receiving);
    }

    /// Returns received bytes, to be delivered again ([`Backend::unread`]).
    ///
    /// # Errors
    /// The bytes, where the backend does not take them.
    pub(crate) fn unread(
        &mut self,
        connection: ConnectionId,
        buffer: Buffer,
        size: usize,
    ) -> Result<(), Buffer> {
        self.backend.unread(connection, buffer, size)
    }

    /// Whether bytes of the connection were returned and not delivered again since.
    #[inline]
    pub(crate) fn has_unread(&self, connection: ConnectionId) -> bool {
        self.backend.has_unread(connection)
    }

    // --- the backend as a whole ------------------------------------------------------------------

    /// What waits in queues, and what the backend counts.
    #[inline]
    pub(crate) fn queues(&self) -> &(impl Queues + Introspect + use<B>) {
        &self.backend
    }

    /// The present, on the backend's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.backend.now()
    }

    /// Submits what is queued and waits for completions ([`Backend::poll`]).
    ///
    /// # Errors
    /// Only what makes the backend unusable.
    pub(crate) fn poll(&mut self, wait: Duration, batch: &mut Completions) -> std::io::Result<()> {
        self.backend.poll(wait, batch)
    }

    /// Closes all listeners ([`Backend::close_listeners`]).
    pub(crate) fn close_listeners(&mut self) {
        self.backend.close_listeners();
    }

    /// Returns memory of emptied tables and pools ([`Backend::trim`]).
    pub(crate) fn trim(&mut self) {
        self.backend.trim();
    }

    /// The backend itself, for the thread's owner, tests and simulations.
    pub(crate) fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }
}

impl<B: SharesThread> Io<B> {
    /// Does what a poll does before it waits ([`SharesThread::flush_before_wait`]).
    ///
    /// # Errors
    /// Only what makes the backend unusable.
    pub(crate) fn flush_before_wait(&mut self, wait: Duration) -> std::io::Result<Duration> {
        self.backend.flush_before_wait(wait)
    }
}
