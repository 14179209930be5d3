//! The queue between workers and the verifier of tokens: one bounded lane a thread.
//!
//! A worker chooses a lane by the connection, and the next one when that is full. Pushing into a
//! lane takes no lock and no allocation; a sleeping thread is woken through its event descriptor.

use super::VerifyRequest;
use netpoll::{Mailbox, MailboxSender, Waker, mailbox};
use std::io;
use std::sync::Arc;

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub struct VerifySender {
    /// At least one.
    lanes: Arc<[MailboxSender<VerifyRequest>]>,
    /// Requests of all lanes at most.
    capacity: usize,
}

impl VerifySender {
    /// Hands a request over. Never blocks, never allocates.
    ///
    /// # Errors
    /// The request itself when all lanes are full: the login is refused as
    /// [`super::AuthError::Overload`].
    pub fn send(&self, request: VerifyRequest) -> Result<(), VerifyRequest> {
        let first = request.address.connection().index();
        let mut request = request;
        for offset in 0..self.lanes.len() {
            match self.lanes[(first + offset) % self.lanes.len()].send(request) {
                Ok(()) => return Ok(()),
                Err(back) => request = back,
            }
        }
        Err(request)
    }

    /// Requests that may come besides those that wait.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len())
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(MailboxSender::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The verifier's end of the queue: a mailbox and its waker for each lane.
#[derive(Debug)]
pub struct VerifyQueue(Vec<(Mailbox<VerifyRequest>, Waker)>);

impl VerifyQueue {
    /// The lanes, one for each thread that checks.
    pub fn into_lanes(self) -> impl Iterator<Item = (Mailbox<VerifyRequest>, Waker)> {
        self.0.into_iter()
    }
}

/// A queue for `requests_max` requests in `threads` lanes.
///
/// # Errors
/// When no descriptor is free.
pub fn verify_queue(threads: usize, requests_max: usize) -> io::Result<(VerifySender, VerifyQueue)> {
    let threads = threads.max(1);
    let mut senders = Vec::new();
    let mut lanes = Vec::new();
    for _ in 0..threads {
        let waker = Waker::event_fd()?;
        let (sender, lane) = mailbox(requests_max.div_ceil(threads).max(1), waker.clone());
        senders.push(sender);
        lanes.push((lane, waker));
    }
    let capacity = requests_max.max(1);
    Ok((VerifySender { lanes: senders.into(), capacity }, VerifyQueue(lanes)))
}
