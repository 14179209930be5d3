//! Two backends on one thread: the server is reached past the kernel, everything else (its HTTP, on
//! the control port) over the kernel's sockets.
//!
//! ```text
//!   connect(server) ──► link: indexes as they are          ids from below `link.index_bound()`
//!   connect(other)  ──► kernel: indexes behind the link's
//! ```
//!
//! The kernel's side is polled rarely, because that is a system call: at once when something was
//! sent over it, otherwise every [`LOOK_EVERY`].

use netpoll::{
    Backend, BackendCounters, BufferPools, Completion, Completions, ConnectError, ConnectionId, Introspect,
    ListenerConfig, ListenerId, PoolId, Priority, Queues, SendError, SendStoreLevel, SharedBuffer, Timestamp,
    Waiting, Waker,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// At most so long an answer over the kernel's sockets stays unseen.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// At most so many completions of the kernel's side per poll.
const BATCH: usize = 64;

/// See the module's text.
pub(crate) struct WithKernel<L, K> {
    link: L,
    kernel: K,
    /// The address that is reached over the link.
    server: IpAddr,
    from_kernel: Completions,
    /// Something is queued for the kernel's side.
    unsent: bool,
    looked_at: Timestamp,
    waiting: Vec<Waiting>,
}

impl<L: Backend, K: Backend> WithKernel<L, K> {
    /// Reaches `server` over `link`, and all other addresses over `kernel`.
    pub(crate) fn new(link: L, kernel: K, server: IpAddr) -> WithKernel<L, K> {
        let slots = link.index_bound() + kernel.index_bound();
        WithKernel {
            link,
            kernel,
            server,
            from_kernel: Completions::with_capacity(BATCH),
            unsent: false,
            looked_at: Timestamp::ZERO,
            waiting: Vec::with_capacity(slots),
        }
    }

    /// The backend that reached the server.
    pub(crate) fn into_link(self) -> L {
        self.link
    }

    /// The kernel side's own id, if the connection is on that side.
    fn of_kernel(&self, id: ConnectionId) -> Option<ConnectionId> {
        let index = id.index().checked_sub(self.link.index_bound())?;
        Some(ConnectionId::new(index as u32, id.generation()))
    }

    fn look_at_kernel(&mut self, batch: &mut Completions) -> io::Result<()> {
        let now = self.link.now();
        if !self.unsent && now.since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        (self.looked_at, self.unsent) = (now, false);
        self.kernel.poll(Duration::ZERO, &mut self.from_kernel)?;
        let bound = self.link.index_bound();
        for completion in self.from_kernel.drain() {
            batch.push(moved(completion, bound));
        }
        Ok(())
    }
}

/// The id behind `bound` slots of the other backend.
fn behind(id: ConnectionId, bound: usize) -> ConnectionId {
    ConnectionId::new((id.index() + bound) as u32, id.generation())
}

fn moved(completion: Completion, bound: usize) -> Completion {
    match completion {
        Completion::Accepted { connection, listener, peer } => {
            Completion::Accepted { connection: behind(connection, bound), listener, peer }
        }
        Completion::Connected { connection } => {
            Completion::Connected { connection: behind(connection, bound) }
        }
        Completion::Received { connection, buffer } => {
            Completion::Received { connection: behind(connection, bound), buffer }
        }
        Completion::Sent { connection } => Completion::Sent { connection: behind(connection, bound) },
        Completion::PeerFinished { connection } => {
            Completion::PeerFinished { connection: behind(connection, bound) }
        }
        Completion::Closed { connection, reason } => {
            Completion::Closed { connection: behind(connection, bound), reason }
        }
    }
}

impl<L: Backend, K: Backend> Backend for WithKernel<L, K> {
    fn listen(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        self.link.listen(config)
    }

    fn set_accepting(&mut self, accepting: bool) {
        self.link.set_accepting(accepting);
    }

    fn close_listeners(&mut self) {
        self.link.close_listeners();
    }

    fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<ConnectionId, ConnectError> {
        if remote.ip() == self.server {
            return self.link.connect(local, remote);
        }
        self.unsent = true;
        let bound = self.link.index_bound();
        self.kernel.connect(local, remote).map(|id| behind(id, bound))
    }

    fn poll(&mut self, wait: Duration, batch: &mut Completions) -> io::Result<()> {
        let before = batch.len();
        let wait = match self.kernel.connection_count() {
            0 => wait,
            _ => {
                batch.admit(BATCH);
                if batch.room() == BATCH {
                    self.look_at_kernel(batch)?;
                }
                if batch.len() > before { Duration::ZERO } else { wait.min(LOOK_EVERY) }
            }
        };
        self.link.poll(wait, batch)?;
        self.waiting.clear();
        self.waiting.extend_from_slice(self.link.waiting());
        let bound = self.link.index_bound();
        let kernel = self.kernel.waiting().iter();
        self.waiting.extend(kernel.map(|one| one.known_as(behind(one.connection, bound))));
        Ok(())
    }

    fn send_as(
        &mut self,
        connection: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<(), SendError> {
        match self.of_kernel(connection) {
            None => self.link.send_as(connection, buffer, priority),
            Some(id) => {
                self.unsent = true;
                self.kernel.send_as(id, buffer, priority)
            }
        }
    }

    fn set_receiving(&mut self, connection: ConnectionId, receiving: bool) {
        match self.of_kernel(connection) {
            None => self.link.set_receiving(connection, receiving),
            Some(id) => self.kernel.set_receiving(id, receiving),
        }
    }

    fn drop_unsent(&mut self, connection: ConnectionId, dropped: &mut dyn FnMut(&[u8])) {
        match self.of_kernel(connection) {
            None => self.link.drop_unsent(connection, dropped),
            Some(id) => self.kernel.drop_unsent(id, dropped),
        }
    }

    fn finish(&mut self, connection: ConnectionId, last: Option<SharedBuffer>) {
        match self.of_kernel(connection) {
            None => self.link.finish(connection, last),
            Some(id) => self.kernel.finish(id, last),
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        match self.of_kernel(connection) {
            None => self.link.close(connection),
            Some(id) => self.kernel.close(id),
        }
    }

    fn pools(&mut self) -> &mut BufferPools {
        self.link.pools()
    }

    fn waker(&self) -> Waker {
        self.link.waker()
    }

    fn now(&self) -> Timestamp {
        self.link.now()
    }
}

impl<L: Backend, K: Backend> Queues for WithKernel<L, K> {
    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        match self.of_kernel(connection) {
            None => self.link.queued_bytes(connection),
            Some(id) => self.kernel.queued_bytes(id),
        }
    }

    fn queued_blocks_of(&self, connection: ConnectionId, pool: PoolId) -> usize {
        match self.of_kernel(connection) {
            None => self.link.queued_blocks_of(connection, pool),
            Some(id) => self.kernel.queued_blocks_of(id, pool),
        }
    }

    fn queued_pieces(&self, connection: ConnectionId) -> usize {
        match self.of_kernel(connection) {
            None => self.link.queued_pieces(connection),
            Some(id) => self.kernel.queued_pieces(id),
        }
    }

    fn send_store(&self) -> SendStoreLevel {
        self.link.send_store()
    }

    fn flight_store(&self) -> SendStoreLevel {
        self.link.flight_store()
    }

    fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> Duration {
        match self.of_kernel(connection) {
            None => self.link.stalled_for(connection, now),
            Some(id) => self.kernel.stalled_for(id, self.kernel.now()),
        }
    }

    fn is_waiting(&self, connection: ConnectionId) -> bool {
        match self.of_kernel(connection) {
            None => self.link.is_waiting(connection),
            Some(id) => self.kernel.is_waiting(id),
        }
    }
}

impl<L: Backend, K: Backend> Introspect for WithKernel<L, K> {
    fn name(&self) -> &'static str {
        self.link.name()
    }

    fn connection_count(&self) -> usize {
        self.link.connection_count() + self.kernel.connection_count()
    }

    fn is_full(&self) -> bool {
        self.link.is_full()
    }

    fn index_bound(&self) -> usize {
        self.link.index_bound() + self.kernel.index_bound()
    }

    fn details(&mut self, report: &mut dyn FnMut(&'static str, u64)) {
        self.link.details(report);
    }

    fn counters(&self) -> BackendCounters {
        self.link.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::BackendConfig;
    use netpoll::epoll::EpollBackend;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Polls until `found` returns true for a completion.
    fn until(
        both: &mut WithKernel<EpollBackend, EpollBackend>,
        mut found: impl FnMut(&Completion) -> bool,
    ) -> Completion {
        let mut batch = Completions::with_capacity(512);
        for _ in 0..5000 {
            both.poll(Duration::from_millis(1), &mut batch).unwrap();
            if let Some(completion) = batch.drain().find(|completion| found(completion)) {
                return completion;
            }
        }
        panic!("it never came");
    }

    #[test]
    fn each_side_keeps_its_connections() {
        let make = || EpollBackend::new(&BackendConfig::small(4)).unwrap();
        let server = TcpListener::bind("127.0.0.9:0").unwrap();
        let control = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut both = WithKernel::new(make(), make(), address.ip());
        let ids = [&server, &control].map(|listener| {
            let id = both.connect(None, listener.local_addr().unwrap()).unwrap();
            until(&mut both, |one| matches!(one, Completion::Connected { connection } if *connection == id));
            id
        });
        assert!(ids[0].index() < both.link.index_bound() && ids[1].index() >= both.link.index_bound());
        assert!(ids.iter().all(|id| id.index() < both.index_bound()));
        assert_eq!((both.link.connection_count(), both.connection_count()), (1, 2));
        for (listener, id) in [&server, &control].into_iter().zip(ids) {
            let (mut peer, _) = listener.accept().unwrap();
            let buffer = both.pools().copy(b"hello").unwrap();
            both.send(id, buffer.freeze()).unwrap();
            let mut batch = Completions::with_capacity(512);
            both.poll(Duration::from_millis(1), &mut batch).unwrap();
            let mut bytes = [0; 5];
            peer.read_exact(&mut bytes).unwrap();
            peer.write_all(b"answer").unwrap();
            let came = until(
                &mut both,
                |one| matches!(one, Completion::Received { connection, .. } if *connection == id),
            );
            assert!(
                matches!(&came, Completion::Received { buffer, .. } if buffer.as_slice() == b"answer"),
                "{came:?}"
            );
            drop(came);
            drop(peer);
            until(&mut both, |one| matches!(one, Completion::Closed { connection, .. } if *connection == id));
        }
        assert_eq!(both.connection_count(), 0);
    }
}
