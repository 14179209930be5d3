//! What a worker has to say to others: itself, other workers, the control thread, the verifier.

mod backlog;

use crate::address::WorkerId;
use crate::message::{ControlMessage, ControlSender, Message, VerifyNumber, VerifyRequest, VerifySender};
use crate::router::FanoutPlaces;
use backlog::Backlog;
use netpoll::{ConnectionId, Fifo, MailboxSender};
use std::sync::Arc;

/// Messages that an outbox has reserved, for each request of a client that may wait in it.
const OUTBOX_PARTS: usize = 2;

/// Bytes that a worker's outgoing messages reserve, where so many requests may wait.
pub(crate) const fn reserved_bytes(requests_max: usize) -> usize {
    requests_max * (size_of::<Message>() + OUTBOX_PARTS * Backlog::BYTES_PER_MESSAGE)
}

/// The ways out of a worker.
#[derive(Debug)]
pub struct Peers {
    /// Mailboxes of all workers, this one's included.
    pub workers: Vec<MailboxSender<Message>>,
    /// The control thread's.
    pub control: ControlSender,
    /// Places for fan-outs, one for all workers and the control thread.
    pub places: Arc<FanoutPlaces>,
    /// The verifier's, where tokens are asked for.
    pub verifier: Option<VerifySender>,
}

/// Outgoing messages of one worker.
///
/// ```text
///   to this worker   local ──► handled in the same turn, between completions
///   to another one   its mailbox, up to 7/8 ── is full ──► backlog ─► tried again each turn,
///                                                                     in order per destination
/// ```
///
/// Nothing is ever dropped. Answers and what sessions that end must still say wait without a bound
/// of their own; requests of clients are bounded, so that the connection that posts most is the one
/// that waits or is refused:
///
/// * While a destination takes what comes, nothing is counted and no request is refused.
/// * Behind a full mailbox one input of a connection adds at most a quarter of what is left of the
///   destination's calm part, which is a third of what requests have free ([`Outbox::admits`]).
/// * Beyond the calm part a connection that posts is left unread afterwards
///   ([`Outbox::is_pressed`], `handler::backpressure`), and one input adds at most a 256th of what
///   is free, one message at least. So it takes some hundred connections, each with its one small
///   post, to fill the rest, while the destination takes nothing at all.
#[derive(Debug)]
pub struct Outbox {
    me: WorkerId,
    peers: Peers,
    local: Fifo<Message>,
    backlog: Backlog,
    /// Requests of clients that may wait.
    requests_max: usize,
    /// By worker.
    credits: Vec<Credit>,
    /// Messages that workers leave in a mailbox at most, and how many of those a worker takes for
    /// itself at a time.
    mailbox_part: usize,
    credit_max: usize,
    /// The connection that the input at hand is of, as far as it has posted to a full mailbox.
    poster: Option<Poster>,
    waits: u64,
    /// Messages handed to other workers since they were last asked for.
    handed_over: usize,
}

/// What is known of another worker's mailbox.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    /// Places that this worker may fill before it looks at the mailbox again.
    left: u32,
    /// It got something this turn and may have to be woken.
    touched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Poster {
    connection: ConnectionId,
    /// Messages that it may still add with this input.
    left: usize,
}

/// A part of a mailbox is for the control thread and the verifier: workers leave one in so many
/// places.
const RESERVE_PARTS: usize = 8;
/// Places that a worker takes at a time without looking at the mailbox again, at most.
const CREDIT_MAX: usize = 64;
/// A destination's calm part is one in so many of the places that requests have free.
const CALM_PARTS: usize = 3;
/// An input adds at most one in so many of what is left of the calm part.
const SHARES: usize = 4;
/// The same of all that is free, where the calm part is used up; and at most so many messages.
const PRESSED_SHARES: usize = 256;
const PRESSED_MAX: usize = 16;

impl Outbox {
    /// For worker `me`, with room for `requests_max` requests of clients that wait.
    pub fn new(me: WorkerId, peers: Peers, requests_max: usize) -> Outbox {
        let workers = peers.workers.len();
        let places = peers.workers.iter().map(MailboxSender::capacity).min().unwrap_or(1);
        let reserve = (places / RESERVE_PARTS).max(1);
        Outbox {
            me,
            local: Fifo::with_capacity(requests_max),
            // What cannot be refused comes on top.
            backlog: Backlog::new(workers, OUTBOX_PARTS * requests_max),
            requests_max,
            credits: vec![Credit::default(); workers],
            mailbox_part: places.saturating_sub(reserve).max(1),
            // What all workers have taken for themselves is less than half of the reserve.
            credit_max: (reserve / (2 * workers)).clamp(1, CREDIT_MAX),
            peers,
            poster: None,
            waits: 0,
            handed_over: 0,
        }
    }

    /// Places for fan-outs at all workers.
    pub fn places(&self) -> &FanoutPlaces {
        &self.peers.places
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.peers.workers.len()
    }

    /// This worker.
    pub fn me(&self) -> WorkerId {
        self.me
    }

    // --- requests of clients ---------------------------------------------------------------------

    /// Whether messages to `worker` arrive without waiting, as far as this worker knows.
    #[inline]
    pub fn is_free(&self, worker: WorkerId) -> bool {
        if worker == self.me {
            self.local.len() < self.requests_max
        } else {
            self.backlog.len_to(worker) == 0
        }
    }

    /// Whether one more request of a connection may wait for `to`, or is handed over at once.
    /// `is_held`: the connection is left unread already.
    pub fn admits(&mut self, from: ConnectionId, is_held: bool, to: WorkerId) -> bool {
        if self.is_free(to) {
            return true;
        }
        if to == self.me || self.free_places() == 0 {
            return false;
        }
        let left = match self.poster {
            Some(poster) if poster.connection == from => poster.left,
            _ if is_held => 1,
            _ => self.share(to),
        };
        self.poster = Some(Poster { connection: from, left: left.saturating_sub(1) });
        left > 0
    }

    /// Whether so much waits for `to` that connections which post to it are to be left unread.
    pub fn is_pressed(&self, to: WorkerId) -> bool {
        self.backlog.len_to(to) > self.calm_part()
    }

    /// Whether so little waits for `to` that connections which were left unread may post again.
    pub fn is_calm(&self, to: WorkerId) -> bool {
        self.backlog.len_to(to) <= self.calm_part() / 2
    }

    /// Requests that may be added before none is admitted any more.
    fn free_places(&self) -> usize {
        self.requests_max.saturating_sub(self.backlog.requests())
    }

    fn calm_part(&self) -> usize {
        self.free_places() / CALM_PARTS
    }

    fn share(&self, to: WorkerId) -> usize {
        let calm = self.calm_part().saturating_sub(self.backlog.len_to(to)) / SHARES;
        calm.max((self.free_places() / PRESSED_SHARES).clamp(1, PRESSED_MAX))
    }

    // --- messages --------------------------------------------------------------------------------

    /// Sends what a client asked for, after [`Outbox::admits`].
    pub fn request(&mut self, worker: WorkerId, message: Message) {
        self.post(worker, message, true);
    }

    /// Sends `message` to `worker`, or to this worker itself.
    pub fn send(&mut self, worker: WorkerId, message: Message) {
        self.post(worker, message, false);
    }

    fn post(&mut self, worker: WorkerId, message: Message, is_request: bool) {
        if worker == self.me {
            return self.local.push_back(message);
        }
        let handed =
            if self.backlog.len_to(worker) == 0 { self.hand_over(worker, message) } else { Err(message) };
        if let Err(message) = handed {
            self.waits += 1;
            self.backlog.push_back(worker, message, is_request);
        }
    }

    /// Leaves a message in a worker's mailbox; hands it back when workers have filled their part of
    /// it.
    fn hand_over(&mut self, worker: WorkerId, message: Message) -> Result<(), Message> {
        let sender = &self.peers.workers[worker.index()];
        let credit = &mut self.credits[worker.index()];
        if credit.left == 0 {
            let free = self.mailbox_part.saturating_sub(sender.len());
            credit.left = free.min(self.credit_max) as u32;
            if credit.left == 0 {
                return Err(message);
            }
        }
        sender.push(message)?;
        credit.left -= 1;
        credit.touched = true;
        self.handed_over += 1;
        Ok(())
    }

    /// Messages handed to other workers since this was last asked for.
    pub fn take_handed_over(&mut self) -> usize {
        std::mem::take(&mut self.handed_over)
    }

    /// The same, without beginning anew.
    #[inline]
    pub fn handed_over(&self) -> usize {
        self.handed_over
    }

    /// The next message to this worker itself.
    #[inline]
    pub fn next_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    /// Tries again what waits, and wakes the workers that got something. Call it at the end of a
    /// turn.
    pub fn flush(&mut self) {
        self.poster = None;
        for index in 0..self.credits.len() {
            let worker = WorkerId(index as u8);
            if self.backlog.len_to(worker) > 0 {
                self.try_again(worker);
            }
            if std::mem::take(&mut self.credits[index].touched) {
                self.peers.workers[index].notify();
            }
        }
    }

    fn try_again(&mut self, worker: WorkerId) {
        while let Some((message, is_request)) = self.backlog.pop(worker) {
            if let Err(message) = self.hand_over(worker, message) {
                return self.backlog.push_front(worker, message, is_request);
            }
        }
    }

    /// Gives the memory of the queues back, as far as they are empty.
    pub fn trim(&mut self) {
        self.local.trim();
        self.backlog.trim();
    }

    /// What holds between two turns.
    ///
    /// # Panics
    /// When it does not.
    pub fn invariants(&self) {
        self.backlog.invariants();
        // The first one to find a mailbox full is admitted before that is known.
        let bound = self.requests_max + self.credits.len();
        assert!(self.backlog.requests() <= bound, "more requests wait than are admitted");
    }

    /// Whether messages wait for room in another worker's mailbox.
    pub fn has_waiting(&self) -> bool {
        self.backlog.len() > 0
    }

    /// Whether any message is here, to this worker itself or to another.
    pub fn has_any(&self) -> bool {
        self.has_waiting() || self.has_local()
    }

    /// Whether messages to this worker itself wait.
    pub fn has_local(&self) -> bool {
        !self.local.is_empty()
    }

    /// Requests of clients that wait, and how many may.
    pub fn requests_level(&self) -> (usize, usize) {
        (self.backlog.requests(), self.requests_max)
    }

    /// Messages that had to wait so far.
    pub fn waits(&self) -> u64 {
        self.waits
    }

    /// Tells the control thread; false when its mailbox is full (it will time the request out).
    pub fn control(&self, message: ControlMessage) -> bool {
        self.peers.control.send(message).is_ok()
    }

    /// Tokens that the verifier takes besides those that wait for it.
    pub fn verifier_room(&self) -> usize {
        self.peers.verifier.as_ref().map_or(0, VerifySender::room)
    }

    /// Asks the verifier.
    ///
    /// # Errors
    /// The request itself when there is no verifier or it has too much to do.
    pub fn verify(&self, request: VerifyRequest) -> Result<VerifyNumber, VerifyRequest> {
        match &self.peers.verifier {
            Some(verifier) => verifier.send(request),
            None => Err(request),
        }
    }

    /// Withdraws a token from the verifier: its connection has ended.
    pub fn withdraw(&self, number: VerifyNumber) {
        if let Some(verifier) = &self.peers.verifier {
            verifier.withdraw(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ControlSender;
    use crate::router::places::FanoutSizes;
    use netpoll::{Mailbox, Waker, mailbox};

    const REQUESTS_MAX: usize = 4096;

    fn connection(number: usize) -> ConnectionId {
        ConnectionId::unpack((number as u64) << 32 | 1).1
    }

    fn message(number: usize) -> Message {
        Message::Granted { connection: connection(number) }
    }

    fn number(message: &Message) -> usize {
        match message {
            Message::Granted { connection } => connection.index(),
            other => panic!("{other:?}"),
        }
    }

    fn outbox(workers: usize, capacity: usize) -> (Outbox, Vec<Mailbox<Message>>) {
        let (senders, mailboxes) = (0..workers).map(|_| mailbox(capacity, Waker::flag())).unzip();
        let control: ControlSender = mailbox(4, Waker::flag()).0;
        let places = Arc::new(FanoutPlaces::new(workers, FanoutSizes::of(8)));
        let peers = Peers { workers: senders, control, places, verifier: None };
        (Outbox::new(WorkerId(0), peers, REQUESTS_MAX), mailboxes)
    }

    /// A connection asks so often in one input; returns how often it is admitted.
    fn ask(outbox: &mut Outbox, from: usize, to: WorkerId, held: &mut [bool], times: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..times {
            if outbox.admits(connection(from), held[from], to) {
                outbox.request(to, message(from));
                admitted += 1;
            }
            held[from] |= !outbox.is_free(to) && outbox.is_pressed(to);
        }
        outbox.invariants();
        admitted
    }

    #[test]
    fn a_full_mailbox_delays_no_message_to_another_worker() {
        let (mut outbox, mailboxes) = outbox(3, 64);
        (0..200).for_each(|number| outbox.send(WorkerId(1), message(number)));
        outbox.send(WorkerId(2), message(7));
        assert!(!outbox.is_free(WorkerId(1)) && outbox.is_free(WorkerId(2)));
        assert_eq!(mailboxes[2].pop().as_ref().map(number), Some(7));
        // And what waits comes in its order, however it is taken.
        let mut received = vec![];
        while received.len() < 200 {
            received
                .extend(std::iter::from_fn(|| mailboxes[1].pop()).take(13).map(|message| number(&message)));
            outbox.flush();
            outbox.invariants();
        }
        assert_eq!(received, (0..200).collect::<Vec<_>>());
        assert!(!outbox.has_any());
    }

    #[test]
    fn workers_leave_a_part_of_a_mailbox_to_the_control_thread() {
        for (workers, capacity) in [(2, 4096), (2, 64), (8, 512), (50, 4096)] {
            let (senders, mailboxes): (Vec<_>, Vec<_>) =
                (0..workers).map(|_| mailbox(capacity, Waker::flag())).unzip();
            let all = (1..workers).map(|id| {
                let control: ControlSender = mailbox(4, Waker::flag()).0;
                let places = Arc::new(FanoutPlaces::new(workers, FanoutSizes::of(8)));
                let peers = Peers { workers: senders.clone(), control, places, verifier: None };
                Outbox::new(WorkerId(id as u8), peers, REQUESTS_MAX)
            });
            let mut all: Vec<Outbox> = all.collect();
            // In turns, so that each has taken places for itself when the mailbox becomes full.
            for _ in 0..2 * capacity {
                all.iter_mut().for_each(|outbox| outbox.send(WorkerId(0), message(0)));
            }
            let filled = mailboxes[0].len();
            assert!(filled <= capacity - capacity / 16, "{workers} workers: {filled} of {capacity}");
            assert!(filled >= capacity / 2, "{workers} workers: {filled} of {capacity}");
        }
    }

    #[test]
    fn a_hundred_floods_leave_room_for_those_that_post_now_and_then() {
        let (mut outbox, mailboxes) = outbox(2, REQUESTS_MAX);
        let to = WorkerId(1);
        let mut held = vec![false; 1000];
        let mut refused = 0;
        for from in 0..100 {
            // Several inputs of each, for it is left unread only when these have been handled.
            for input in 0..4 {
                refused += 700 - ask(&mut outbox, from + input * 100 % 400, to, &mut held, 700);
            }
        }
        assert!(refused > 100 * 700, "those who post much are refused");
        // The destination still takes nothing.
        for from in 400..700 {
            assert_eq!(ask(&mut outbox, from, to, &mut held, 1), 1, "bystander {from}");
        }
        // When it has taken everything nothing is refused any more.
        while outbox.has_waiting() {
            while mailboxes[1].pop().is_some() {}
            outbox.flush();
        }
        assert!(outbox.is_calm(to) && outbox.is_free(to));
        assert_eq!(ask(&mut outbox, 1, to, &mut held, 700), 700);
    }

    #[test]
    fn answers_wait_without_costing_requests_their_room() {
        let (mut outbox, _mailboxes) = outbox(2, 64);
        (0..3 * REQUESTS_MAX).for_each(|number| outbox.send(WorkerId(1), message(number)));
        let mut held = vec![false; 200];
        for from in 0..200 {
            assert_eq!(ask(&mut outbox, from, WorkerId(1), &mut held, 1), 1);
        }
        assert!(held.iter().all(|held| *held), "they are slowed");
    }
}
