//! The workers, as the control thread sees them: mailboxes to send to, counts to read.

use gateway_core::address::{Fingerprint, Fingerprints, WorkerId};
use gateway_core::message::Message;
use gateway_core::metrics::WorkerMetrics;
use gateway_core::router::FanoutPlaces;
use netpoll::MailboxSender;
use std::sync::Arc;

/// One in this many places of a mailbox is reserved for messages that must not be lost. Workers
/// leave an eighth to the control thread (`outbox::Outbox`), and this is a part of it.
const ORDER_PARTS: usize = 32;

/// A worker's mailbox was full: nothing was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxFull(pub WorkerId);

/// Why a push was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The worker has no room for more messages.
    MailboxFull(MailboxFull),
    /// The bound of concurrent broadcasts is reached.
    NoFanout,
}

impl From<MailboxFull> for SendError {
    fn from(error: MailboxFull) -> SendError {
        SendError::MailboxFull(error)
    }
}

/// All workers of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    /// By number; at least one.
    senders: Arc<[MailboxSender<Message>]>,
    places: Arc<FanoutPlaces>,
    /// By number; as many.
    metrics: Arc<[Arc<WorkerMetrics>]>,
    names: Fingerprints,
}

impl Workers {
    /// The workers behind these mailboxes.
    ///
    /// # Panics
    /// If there is none, or the lists differ in length.
    pub fn new(
        senders: Vec<MailboxSender<Message>>,
        places: Arc<FanoutPlaces>,
        metrics: Vec<Arc<WorkerMetrics>>,
        names: Fingerprints,
    ) -> Workers {
        assert!(
            !senders.is_empty() && senders.len() == metrics.len(),
            "one mailbox and one set of counts a worker"
        );
        Workers { senders: senders.into(), places, metrics: metrics.into(), names }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.count()).map(|index| WorkerId(index as u8))
    }

    /// The worker that is home to `name`.
    pub fn home(&self, name: Fingerprint) -> WorkerId {
        name.home(self.count())
    }

    /// How names become fingerprints.
    pub fn names(&self) -> &Fingerprints {
        &self.names
    }

    /// Their places for fan-outs.
    pub fn places(&self) -> &FanoutPlaces {
        &self.places
    }

    /// What each counts.
    pub fn metrics(&self) -> &[Arc<WorkerMetrics>] {
        &self.metrics
    }

    /// Messages in each one's mailbox.
    pub fn mailbox_depths(&self) -> impl Iterator<Item = usize> + '_ {
        self.senders.iter().map(MailboxSender::len)
    }

    /// Hands `message` to `worker`.
    ///
    /// # Errors
    /// [`MailboxFull`], also for a worker that does not exist; the message is dropped.
    pub fn send(&self, worker: WorkerId, message: Message) -> Result<(), MailboxFull> {
        let sender = self.senders.get(worker.index()).ok_or(MailboxFull(worker))?;
        sender.send(message).map_err(|_| MailboxFull(worker))
    }

    /// Leaves a push in the worker's mailbox without waking it; [`Workers::wake`] does. Pushes
    /// leave a part of the mailbox to messages that must not be lost: kicks, reloads, the stop,
    /// verdicts on tokens.
    ///
    /// # Errors
    /// As [`Workers::send`].
    pub fn push(&self, worker: WorkerId, message: Message) -> Result<(), MailboxFull> {
        let sender = self.senders.get(worker.index()).ok_or(MailboxFull(worker))?;
        if sender.len() >= sender.capacity() - sender.capacity() / ORDER_PARTS {
            return Err(MailboxFull(worker));
        }
        sender.push(message).map_err(|_| MailboxFull(worker))
    }

    /// Wakes `worker` if it sleeps.
    pub fn wake(&self, worker: WorkerId) {
        if let Some(sender) = self.senders.get(worker.index()) {
            sender.notify();
        }
    }

    /// Connections open on all workers.
    pub fn connections(&self) -> u64 {
        let of =
            |metrics: &Arc<WorkerMetrics>| metrics.connections.iter().map(|gauge| gauge.get()).sum::<u64>();
        self.metrics.iter().map(of).sum()
    }

    /// Sessions logged in on all workers.
    pub fn sessions(&self) -> u64 {
        self.metrics.iter().map(|metrics| metrics.sessions.get()).sum()
    }
}
