//! The gateway on a backend that notes when an answer is queued ([`crate::dispatch`]).

use super::gateway;
use crate::dispatch::DelayServer;
use netpoll::{
    Backend, BackendCounters, Buffer, BufferPools, Completions, ConnectError, ConnectionId, Introspect,
    ListenerConfig, ListenerId, PoolId, PoolSet, Priority, Queues, SendError, SendStoreLevel, SharedBuffer,
    Timestamp, Waiting, Waker,
};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn serve_epoll() -> io::Result<()> {
    let (settings, backend) = gateway::epoll()?;
    gateway::serve(settings, Stamped { backend, delays: DelayServer::start()? }, |_| ())
}

pub(super) fn serve_uring() -> io::Result<()> {
    let (settings, backend) = gateway::uring()?;
    gateway::serve(settings, Stamped { backend, delays: DelayServer::start()? }, |_| ())
}

/// A backend under an owner that echoes: answers carry the stamps of their requests.
struct Stamped<B> {
    backend: B,
    delays: DelayServer,
}

impl<B: Backend> Backend for Stamped<B> {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        self.backend.listen(config)
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.backend.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.backend.close_listeners();
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        self.backend.connect(local, remote)
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        self.backend.poll(wait, batch)
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        self.delays.record(&buffer);
        self.backend.send_as(connection, buffer, priority)
    }

    fn unread(&mut self, connection: ConnectionId, buffer: Buffer, size: usize) -> Result<(), Buffer> {
        self.backend.unread(connection, buffer, size)
    }

    fn has_unread(&self, connection: ConnectionId) -> bool {
        self.backend.has_unread(connection)
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        self.backend.set_receiving(connection, receiving);
    }

    fn send_last(&mut self, connection: ConnectionId, last: SharedBuffer) -> Result<(), SendError> {
        self.backend.send_last(connection, last)
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        self.backend.drop_unsent(connection, dropped);
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        self.backend.finish(connection, last);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.backend.close(connection);
    }

    fn trim(&mut self) {
        self.backend.trim();
    }

    fn pools(&mut self) -> &mut BufferPools {
        self.backend.pools()
    }

    fn waker(&self) -> Waker {
        self.backend.waker()
    }

    fn now(&self) -> Timestamp {
        self.backend.now()
    }
}

impl<B: Backend> Queues for Stamped<B> {
    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.backend.queued_bytes(connection)
    }

    fn queued_blocks(&self, connection: ConnectionId, pools: PoolSet) -> usize {
        self.backend.queued_blocks(connection, pools)
    }

    fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize {
        self.backend.queued_blocks_of(connection, pool)
    }

    fn queued_pieces(&self, connection: ConnectionId) -> usize {
        self.backend.queued_pieces(connection)
    }

    fn send_store(&self) -> SendStoreLevel {
        self.backend.send_store()
    }

    fn flight_store(&self) -> SendStoreLevel {
        self.backend.flight_store()
    }

    fn waiting(&self) -> &[Waiting] {
        self.backend.waiting()
    }

    fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> Duration {
        self.backend.stalled_for(connection, now)
    }

    fn is_waiting(&self, connection: ConnectionId) -> bool {
        self.backend.is_waiting(connection)
    }
}

impl<B: Backend> Introspect for Stamped<B> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn connection_count(&self) -> usize {
        self.backend.connection_count()
    }

    fn is_full(&self) -> bool {
        self.backend.is_full()
    }

    fn index_bound(&self) -> usize {
        self.backend.index_bound()
    }

    fn counters(&self) -> BackendCounters {
        self.backend.counters()
    }

    fn details(&mut self, report: &mut dyn FnMut(&'static str, u64)) {
        self.backend.details(report);
    }
}
