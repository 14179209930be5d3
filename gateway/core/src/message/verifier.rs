//! The queue between workers and the verifier of tokens: one bounded lane a thread.
//!
//! ```text
//!   worker ─ the only token of its address ► first ─┐ 3 of these,
//!          └ a further one of its address ► rest  ─┴ 1 of those ─► withdrawn? ─ no ─► checked
//! ```
//!
//! A worker chooses a lane by the connection, and the next one when that is full. Pushing into a
//! lane takes no lock and no allocation; a sleeping thread is woken through its event descriptor.
//!
//! A check costs some ten microseconds, more than anything else of a login. So addresses that have
//! many logins under way do not keep one that has a single login waiting, and a token is withdrawn
//! when its connection ends: it is dropped unchecked when its turn comes.

use super::VerifyRequest;
use netpoll::{Mailbox, MailboxSender, Waker, mailbox};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens of `first` that are checked for each of `rest` while both have some.
const FIRST_PER_REST: u8 = 3;

/// Tokens that are checked no more, by their numbers.
///
/// A number is kept at its place modulo the length until another one is withdrawn there; the
/// token of the number that was there is checked in vain.
#[derive(Debug)]
struct Withdrawn {
    next: AtomicU32,
    numbers: Box<[AtomicU32]>,
}

impl Withdrawn {
    fn new(requests_max: usize) -> Withdrawn {
        // No number is withdrawn at first: 0 is none.
        Withdrawn {
            next: AtomicU32::new(1),
            numbers: (0..requests_max.max(1)).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn place(&self, number: VerifyNumber) -> &AtomicU32 {
        &self.numbers[number.0 as usize % self.numbers.len()]
    }
}

/// Number of a token at the verifier. Numbers return after 2^32 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyNumber(pub u32);

#[derive(Debug)]
struct Numbered {
    number: VerifyNumber,
    request: VerifyRequest,
}

/// The two queues of a lane.
#[derive(Clone, Debug)]
struct LaneSender {
    first: MailboxSender<Numbered>,
    rest: MailboxSender<Numbered>,
}

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub struct VerifySender {
    /// At least one.
    lanes: Arc<[LaneSender]>,
    /// Requests of all lanes at most.
    capacity: usize,
    withdrawn: Arc<Withdrawn>,
}

impl VerifySender {
    /// Bytes that a request takes in the queue; it has a place in either queue of its lane.
    pub const BYTES_PER_REQUEST: usize = 2 * (size_of::<Numbered>() + 8) + size_of::<AtomicU32>();

    /// Hands a request over. Never blocks, never allocates.
    ///
    /// # Errors
    /// The request itself when all lanes are full: the login is refused as
    /// [`super::AuthError::Overload`].
    pub fn send(&self, request: VerifyRequest) -> Result<VerifyNumber, VerifyRequest> {
        if self.room() == 0 {
            return Err(request);
        }
        let index = request.address.connection().index();
        let is_first = request.pending.is_only();
        let number = VerifyNumber(self.withdrawn.next.fetch_add(1, Ordering::Relaxed));
        let mut numbered = Numbered { number, request };
        for offset in 0..self.lanes.len() {
            let lane = &self.lanes[(index + offset) % self.lanes.len()];
            let queue = if is_first { &lane.first } else { &lane.rest };
            match queue.send(numbered) {
                Ok(()) => return Ok(number),
                Err(back) => numbered = back,
            }
        }
        Err(numbered.request)
    }

    /// Withdraws the token of a connection that has ended. One that is being checked, or was, is
    /// not affected.
    pub fn withdraw(&self, number: VerifyNumber) {
        self.withdrawn.place(number).store(number.0, Ordering::Relaxed);
    }

    /// Requests that may come besides those that wait.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len())
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.first.len() + lane.rest.len()).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one thread of the verifier checks.
#[derive(Debug)]
pub struct VerifyLane {
    first: Mailbox<Numbered>,
    rest: Mailbox<Numbered>,
    /// Tokens of `first` taken since the last one of `rest`.
    firsts: u8,
    withdrawn: Arc<Withdrawn>,
}

/// The next request of a lane.
#[derive(Debug)]
pub enum NextRequest {
    /// To be checked.
    Check(VerifyRequest),
    /// Its connection has ended.
    Withdrawn(VerifyRequest),
}

impl VerifyLane {
    /// Takes the next request; `None` when none waits.
    pub fn pop(&mut self) -> Option<NextRequest> {
        let is_rests_turn = self.firsts >= FIRST_PER_REST;
        let early = if is_rests_turn { self.rest.pop() } else { None };
        let from_rest = early.is_some();
        let numbered = match early.or_else(|| self.first.pop()) {
            Some(numbered) => {
                self.firsts = if from_rest { 0 } else { self.firsts.saturating_add(1) };
                numbered
            }
            None => {
                self.firsts = 0;
                self.rest.pop()?
            }
        };
        let Numbered { number, request } = numbered;
        let is_withdrawn = self.withdrawn.place(number).load(Ordering::Relaxed) == number.0;
        Some(if is_withdrawn { NextRequest::Withdrawn(request) } else { NextRequest::Check(request) })
    }

    /// Declares that the thread is about to sleep. False when a request came in the meantime: it
    /// must not sleep.
    pub fn prepare_sleep(&self) -> bool {
        if !self.first.prepare_sleep() {
            return false;
        }
        let may_sleep = self.rest.prepare_sleep();
        if !may_sleep {
            self.first.finish_sleep();
        }
        may_sleep
    }

    /// Declares that the thread is awake.
    pub fn finish_sleep(&self) {
        self.first.finish_sleep();
        self.rest.finish_sleep();
    }
}

/// The verifier's end of the queue: each lane with its waker.
#[derive(Debug)]
pub struct VerifyQueue(Vec<(VerifyLane, Waker)>);

impl VerifyQueue {
    /// The lanes, one for each thread that checks.
    pub fn into_lanes(self) -> impl Iterator<Item = (VerifyLane, Waker)> {
        self.0.into_iter()
    }
}

/// A queue for `requests_max` requests in `threads` lanes.
///
/// # Errors
/// When no descriptor is free.
pub fn verify_queue(threads: usize, requests_max: usize) -> io::Result<(VerifySender, VerifyQueue)> {
    let threads = threads.max(1);
    let capacity = requests_max.max(1);
    let withdrawn = Arc::new(Withdrawn::new(capacity));
    let mut senders = Vec::new();
    let mut lanes = Vec::new();
    for _ in 0..threads {
        let waker = Waker::event_fd()?;
        let queue = || mailbox(capacity.div_ceil(threads), waker.clone());
        let ((first_sender, first), (rest_sender, rest)) = (queue(), queue());
        senders.push(LaneSender { first: first_sender, rest: rest_sender });
        lanes.push((VerifyLane { first, rest, firsts: 0, withdrawn: Arc::clone(&withdrawn) }, waker));
    }
    Ok((VerifySender { lanes: senders.into(), capacity, withdrawn }, VerifyQueue(lanes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, WorkerId};
    use crate::message::{PendingLogins, VerifyRequest};
    use crate::sources::Sources;
    use netpoll::{BackendConfig, BufferPools, ConnectionId};

    struct World {
        sender: VerifySender,
        lane: VerifyLane,
        sources: Arc<Sources>,
        logins: Arc<PendingLogins>,
        pools: BufferPools,
    }

    fn world(requests_max: usize) -> World {
        let (sender, queue) = verify_queue(1, requests_max).unwrap();
        let sources = Arc::new(Sources::new(64));
        World {
            sender,
            lane: queue.into_lanes().next().unwrap().0,
            logins: PendingLogins::new(Arc::clone(&sources)),
            sources,
            pools: BufferPools::new(&BackendConfig::small(64).pools).unwrap(),
        }
    }

    impl World {
        /// Connection `index` logs in from an address that ends in `from`.
        fn ask(&mut self, index: u32, from: u8) -> Result<VerifyNumber, VerifyRequest> {
            let pending = self.logins.begin(self.sources.source([192, 0, 2, from].into()));
            let address = Address::new(WorkerId(0), ConnectionId::new(index, 1));
            let body = self.pools.copy(b"{}").unwrap();
            self.sender.send(VerifyRequest { address, pending, sequence: 1, body })
        }

        /// The connections with tokens that are checked, in order, and how many are not.
        fn drain(&mut self) -> (Vec<usize>, usize) {
            let (mut checked, mut withdrawn) = (vec![], 0);
            while let Some(next) = self.lane.pop() {
                match next {
                    NextRequest::Check(request) => checked.push(request.address.connection().index()),
                    NextRequest::Withdrawn(_) => withdrawn += 1,
                }
            }
            (checked, withdrawn)
        }
    }

    #[test]
    fn a_token_whose_connection_has_ended_is_not_checked() {
        let mut world = world(8);
        for _ in 0..5 {
            let numbers: Vec<VerifyNumber> =
                (0..6).map(|index| world.ask(index, index as u8).unwrap()).collect();
            for gone in [0, 2, 5] {
                world.sender.withdraw(numbers[gone]);
            }
            assert_eq!(world.drain(), (vec![1, 3, 4], 3));
            assert_eq!(world.logins.due(), 0, "none counts any longer");
        }
    }

    #[test]
    fn an_address_with_one_login_waits_for_none_with_many() {
        let mut world = world(64);
        for index in 0..40 {
            world.ask(index, 1).unwrap();
        }
        world.ask(100, 2).unwrap();
        world.ask(101, 3).unwrap();
        let (checked, _) = world.drain();
        // The first of the address with many, and then the others.
        assert_eq!(checked[..4], [0, 100, 101, 1]);
        assert_eq!(checked.len(), 42);
        // Addresses with one login each leave a quarter to those with many.
        for index in 0..8 {
            world.ask(index, 1).unwrap();
        }
        for index in 100..120 {
            world.ask(index, index as u8).unwrap();
        }
        let (checked, _) = world.drain();
        assert_eq!(checked[..8], [0, 100, 101, 1, 102, 103, 104, 2]);
    }

    #[test]
    fn the_queue_is_full_at_its_bound_whatever_waits_in_it() {
        let mut world = world(8);
        let sent = (0..20).filter(|index| world.ask(*index, (*index % 3) as u8).is_ok()).count();
        assert_eq!((sent, world.sender.room()), (8, 0));
    }
}
