//! What a backend holds and has done, in numbers.

/// Questions about a backend as a whole, for metrics, readiness and tables that run parallel to its
/// own.
pub trait Introspect {
    /// The backend's name, as configured and as a metric label.
    fn name(&self) -> &'static str;

    /// Live connections, those that are closing included.
    fn connection_count(&self) -> usize;

    /// Whether new peers wait in the backlog because the backend holds `connections_max`
    /// connections. False while accepting is off.
    fn is_full(&self) -> bool;

    /// Bound of the index of every [`ConnectionId`](crate::ConnectionId) of this backend: the size
    /// for tables that run parallel to its own. It may exceed `connections_max`, by connections
    /// that were accepted and are not reported yet.
    fn index_bound(&self) -> usize;

    /// What the backend has done since it was made.
    fn counters(&self) -> BackendCounters;

    /// Passes what only this backend counts to `report`, each under a name that never changes.
    fn details(&mut self, _report: &mut dyn FnMut(&'static str, u64)) {}
}

/// What a backend has done since it was made. Plain numbers: their owner publishes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Waits in the kernel (epoll_wait, io_uring_enter), or rounds of polling.
    pub polls: u64,
    /// Completions or events that the polls returned.
    pub events: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that failed. The listener pauses a little after a shortage of descriptors or memory.
    pub accept_errors: u64,
    /// Receives that brought bytes.
    pub receives: u64,
    /// Bytes received, those included that were discarded after the owner had finished.
    pub receive_bytes: u64,
    /// Times that receiving paused because no buffer was free.
    pub receive_pauses: u64,
    /// Times that a receive found none of the buffers lent to the kernel, though others were free.
    /// Each time the kernel is lent one more (io_uring only).
    pub lend_shortages: u64,
    /// Receive operations armed again after they had ended by themselves.
    pub rearms: u64,
    /// Send operations handed to the kernel.
    pub sends: u64,
    /// Bytes that the sends took.
    pub send_bytes: u64,
    /// Times that a peer took less than was offered and its queue had to wait.
    pub send_waits: u64,
    /// Waiting pieces copied to a smaller block.
    pub send_copies: u64,
    /// Completion-queue overflows (io_uring only).
    pub overflows: u64,
    /// Connections moved to a cheaper kind of waiting: idle ones and, where there is one, new ones.
    pub demotions: u64,
    /// Demoted connections that received once and went on waiting cheaply: their clients sent
    /// something after a long time.
    pub samples: u64,
    /// Demoted connections that traffic moved back.
    pub promotions: u64,
    /// Times that the table of connections, empty for a while, was made anew
    /// ([`Backend::trim`](crate::Backend::trim)): one heap allocation each, and the only ones after
    /// the start.
    pub renewals: u64,
}
