//! What a worker has to say to others: itself, other workers, the control thread, the verifier.

use super::message::{ControlMessage, Message, VerifyRequest};
use crate::address::WorkerId;
use crate::auth::VerifySender;
use crate::control::ControlSender;
use netpoll::{Fifo, MailboxSender};

/// The ways out of a worker.
#[derive(Debug)]
pub struct Ports {
    /// Mailboxes of all workers, this one's included.
    pub workers: Vec<MailboxSender<Message>>,
    /// The control thread's.
    pub control: ControlSender,
    /// The verifier's, where tokens are asked for.
    pub verifier: Option<VerifySender>,
}

/// Outgoing messages of one worker.
///
/// A message to the worker itself waits in a queue of its own and is handled in the same turn. One that finds another
/// worker's mailbox full waits here, with all later ones behind it so that order holds, and is tried again each turn.
/// Nothing is ever dropped: while much is waiting ([`Post::is_congested`]) the worker refuses clients' requests that
/// would add to it.
#[derive(Debug)]
pub struct Post {
    me: WorkerId,
    ports: Ports,
    local: Fifo<Message>,
    waiting: Fifo<(WorkerId, Message)>,
    waiting_max: usize,
    /// Workers that got something this turn and may have to be woken.
    touched: Vec<bool>,
    waits: u64,
}

impl Post {
    /// For worker `me`, with room for `waiting_max` messages that wait.
    pub fn new(me: WorkerId, ports: Ports, waiting_max: usize) -> Post {
        let touched = vec![false; ports.workers.len()];
        // Clients' requests are refused above `waiting_max`; what sessions that end must still say comes on top.
        let waiting = Fifo::with_capacity(2 * waiting_max);
        Post { me, ports, local: Fifo::with_capacity(waiting_max), waiting, waiting_max, touched, waits: 0 }
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.ports.workers.len()
    }

    /// This worker.
    pub fn me(&self) -> WorkerId {
        self.me
    }

    /// Whether so much is waiting that nothing avoidable should be added.
    pub fn is_congested(&self) -> bool {
        self.waiting.len() >= self.waiting_max || self.local.len() >= self.waiting_max
    }

    /// Sends `message` to `worker`, or to this worker itself.
    pub fn send(&mut self, worker: WorkerId, message: Message) {
        if worker == self.me {
            self.local.push_back(message);
        } else {
            self.send_remote(worker, message);
        }
    }

    fn send_remote(&mut self, worker: WorkerId, message: Message) {
        if self.waiting.is_empty() {
            match self.ports.workers[worker.index()].push(message) {
                Ok(()) => self.touched[worker.index()] = true,
                Err(message) => {
                    self.waits += 1;
                    self.waiting.push_back((worker, message));
                }
            }
        } else {
            self.waits += 1;
            self.waiting.push_back((worker, message));
        }
    }

    /// The next message to this worker itself.
    pub fn next_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    /// Tries again what waits, and wakes the workers that got something. Call it at the end of a turn.
    pub fn flush(&mut self) {
        while let Some((worker, message)) = self.waiting.pop_front() {
            if let Err(message) = self.ports.workers[worker.index()].push(message) {
                self.waiting.push_front((worker, message));
                break;
            }
            self.touched[worker.index()] = true;
        }
        for (worker, touched) in self.touched.iter_mut().enumerate() {
            if std::mem::take(touched) {
                self.ports.workers[worker].notify();
            }
        }
    }

    /// Gives the memory of the queues back, as far as they are empty.
    pub fn trim(&mut self) {
        self.local.trim();
        self.waiting.trim();
    }

    /// Whether messages wait for room in another worker's mailbox.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether any message is here, to this worker itself or to another.
    pub fn has_any(&self) -> bool {
        self.has_waiting() || self.has_local()
    }

    /// Whether messages to this worker itself wait.
    pub fn has_local(&self) -> bool {
        !self.local.is_empty()
    }

    /// Messages that had to wait so far.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Tells the control thread; false when its mailbox is full (it will time the request out).
    pub fn control(&self, message: ControlMessage) -> bool {
        self.ports.control.send(message).is_ok()
    }

    /// Tokens that the verifier takes besides those that wait for it.
    pub fn verifier_room(&self) -> usize {
        self.ports.verifier.as_ref().map_or(0, VerifySender::room)
    }

    /// Asks the verifier.
    ///
    /// # Errors
    /// The request itself when there is no verifier or it has too much to do.
    pub fn verify(&self, request: VerifyRequest) -> Result<(), VerifyRequest> {
        match &self.ports.verifier {
            Some(verifier) => verifier.send(request),
            None => Err(request),
        }
    }
}
