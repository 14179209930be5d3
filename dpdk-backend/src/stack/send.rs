//! What the owner of a stack sends, and what of it is queued.

use super::Stack;
use netpoll::{ConnectionId, PoolId, PoolSet, Priority, SendStoreLevel, SharedBuffer, Timestamp, Waiting};

impl Stack {
    /// Queues a buffer behind earlier ones. It leaves at the next poll.
    ///
    /// # Errors
    /// [`netpoll::SendError`], with the buffer.
    pub fn send(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        buffer: SharedBuffer,
    ) -> Result<(), netpoll::SendError> {
        self.send_as(now, connection, buffer, Priority::Reply)
    }

    /// The same, with the part of queue and store that `priority` may use.
    ///
    /// # Errors
    /// [`netpoll::SendError`], with the buffer.
    pub fn send_as(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), netpoll::SendError> {
        let (tcp, mut context) = self.context(now);
        tcp.send(&mut context, connection, buffer, priority)
    }

    /// Drops the queued pieces of which no byte has been sent, and passes them to `dropped`.
    pub fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.tcp.drop_unbegun(connection, dropped);
    }

    /// Pieces of the store that a connection keeps.
    pub fn queued_pieces(&self, connection: ConnectionId) -> usize {
        self.tcp.queued_pieces(connection)
    }

    /// Bytes of the blocks of `pools` that a connection keeps.
    pub fn queued_blocks(&self, connection: ConnectionId, pools: PoolSet) -> usize {
        self.tcp.queued_blocks(connection, &self.pools, pools)
    }

    /// Whether a connection keeps more than `bytes_max`, or very many pieces.
    pub(crate) fn may_be_slow(&self, connection: ConnectionId, bytes_max: usize) -> bool {
        self.tcp.may_be_slow(connection, bytes_max)
    }

    /// Bytes of the blocks of `pool` that a connection keeps.
    pub fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize {
        self.tcp.queued_blocks_of(connection, pool)
    }

    /// How full the shared part of the store of pieces is.
    pub fn send_store(&self) -> SendStoreLevel {
        let shares = self.tcp.send_shares();
        SendStoreLevel { used: shares.used(), max: shares.max() }
    }

    /// How full the store of segments in flight is.
    pub fn flight_store(&self) -> SendStoreLevel {
        self.tcp.flight_level()
    }

    /// A connection that keeps bytes, with the time at which some of them were last acknowledged,
    /// or first sent.
    pub(crate) fn waiting(&self, connection: ConnectionId) -> Option<Waiting> {
        let progress = u64::from(self.tcp.progress_ms(connection)?);
        Some(Waiting::new(connection, Timestamp::from_nanos(progress * 1_000_000)))
    }
}
