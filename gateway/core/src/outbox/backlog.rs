//! Messages that wait for room in other workers' mailboxes: a queue for each destination, over one
//! store.
//!
//! Order holds per destination. A destination that takes nothing delays no message to another one.
//!
//! Requests of clients are counted apart from what workers answer: an answer cannot be refused, so
//! it may use the whole store and, beyond the store, the heap; requests are bounded by what
//! [`super::Outbox`] admits.

use crate::address::WorkerId;
use crate::message::Message;
use netpoll::release_spare;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot {
    /// `None` while the slot is free.
    message: Option<Message>,
    /// The next message to the same destination, or the next free slot.
    next: u32,
    is_request: bool,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
    len: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Backlog {
    slots: Vec<Slot>,
    free: u32,
    /// By worker.
    queues: Vec<Queue>,
    len: usize,
    requests: usize,
}

impl Backlog {
    /// Bytes that a message takes.
    pub(super) const BYTES_PER_MESSAGE: usize = size_of::<Slot>();

    /// For so many destinations, with `capacity` messages reserved.
    pub(super) fn new(workers: usize, capacity: usize) -> Backlog {
        let queue = Queue { first: NONE, last: NONE, len: 0 };
        Backlog {
            slots: Vec::with_capacity(capacity),
            free: NONE,
            queues: vec![queue; workers],
            len: 0,
            requests: 0,
        }
    }

    /// Messages that wait, for all destinations.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Messages that wait for one destination.
    pub(super) fn len_to(&self, worker: WorkerId) -> usize {
        self.queues[worker.index()].len as usize
    }

    /// Requests of clients among the messages that wait.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Adds the newest message to `worker`.
    pub(super) fn push_back(&mut self, worker: WorkerId, message: Message, is_request: bool) {
        let index = self.take_slot(Slot { message: Some(message), next: NONE, is_request });
        let queue = &mut self.queues[worker.index()];
        match queue.last {
            NONE => queue.first = index,
            last => self.slots[last as usize].next = index,
        }
        queue.last = index;
        queue.len += 1;
        self.len += 1;
        self.requests += usize::from(is_request);
    }

    /// Puts a message back as the oldest to `worker`.
    pub(super) fn push_front(&mut self, worker: WorkerId, message: Message, is_request: bool) {
        let first = self.queues[worker.index()].first;
        let index = self.take_slot(Slot { message: Some(message), next: first, is_request });
        let queue = &mut self.queues[worker.index()];
        queue.first = index;
        if queue.last == NONE {
            queue.last = index;
        }
        queue.len += 1;
        self.len += 1;
        self.requests += usize::from(is_request);
    }

    /// Takes the oldest message to `worker`, and whether it is a client's request.
    pub(super) fn pop(&mut self, worker: WorkerId) -> Option<(Message, bool)> {
        let queue = &mut self.queues[worker.index()];
        let index = queue.first;
        let slot = self.slots.get_mut(index as usize)?;
        let message = slot.message.take()?;
        queue.first = std::mem::replace(&mut slot.next, self.free);
        self.free = index;
        if queue.first == NONE {
            queue.last = NONE;
        }
        queue.len -= 1;
        self.len -= 1;
        self.requests -= usize::from(slot.is_request);
        Some((message, slot.is_request))
    }

    fn take_slot(&mut self, slot: Slot) -> u32 {
        let index = self.free;
        match self.slots.get_mut(index as usize) {
            Some(free) => {
                self.free = free.next;
                *free = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// Gives the memory back when nothing waits.
    pub(super) fn trim(&mut self) {
        if self.len == 0 && !self.slots.is_empty() {
            self.slots.clear();
            self.free = NONE;
            release_spare(&mut self.slots);
        }
    }

    /// Every slot is in the queue of one destination, or free; the counts agree with the queues.
    ///
    /// # Panics
    /// When that does not hold.
    pub(super) fn invariants(&self) {
        let (mut used, mut requests) = (0, 0);
        for queue in &self.queues {
            let (mut index, mut count, mut last) = (queue.first, 0, NONE);
            while let Some(slot) = self.slots.get(index as usize) {
                assert!(slot.message.is_some(), "slot {index} waits and is free");
                count += 1;
                assert!(count as usize <= self.slots.len(), "waiting messages go round in circles");
                requests += usize::from(slot.is_request);
                (last, index) = (index, slot.next);
            }
            assert_eq!((count, last), (queue.len, queue.last), "messages to one destination");
            used += count as usize;
        }
        assert_eq!((used, requests), (self.len, self.requests), "messages that wait");
        let (mut index, mut free) = (self.free, 0);
        while let Some(slot) = self.slots.get(index as usize) {
            assert!(slot.message.is_none(), "slot {index} is free and waits");
            free += 1;
            assert!(free <= self.slots.len(), "free slots go round in circles");
            index = slot.next;
        }
        assert_eq!(used + free, self.slots.len(), "waiting messages and free slots");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpoll::ConnectionId;

    fn numbered(number: u64) -> Message {
        let (_, connection) = ConnectionId::unpack(number);
        Message::Granted { connection }
    }

    fn number(message: &Message) -> u64 {
        match message {
            Message::Granted { connection } => connection.pack(0),
            other => panic!("{other:?}"),
        }
    }

    fn pop(backlog: &mut Backlog, worker: u8) -> Option<u64> {
        backlog.pop(WorkerId(worker)).map(|(message, _)| number(&message))
    }

    #[test]
    fn order_holds_per_destination_and_slots_are_used_again() {
        let mut backlog = Backlog::new(3, 4);
        for round in 0..5 {
            let base = round * 100;
            for offset in 0..3 {
                backlog.push_back(WorkerId(0), numbered(base + offset), true);
                backlog.push_back(WorkerId(2), numbered(base + 10 + offset), false);
            }
            assert_eq!((backlog.len(), backlog.requests(), backlog.len_to(WorkerId(2))), (6, 3, 3));
            backlog.invariants();
            assert_eq!(pop(&mut backlog, 2), Some(base + 10));
            backlog.push_front(WorkerId(2), numbered(base + 10), false);
            let all: Vec<_> = std::iter::from_fn(|| pop(&mut backlog, 2)).collect();
            assert_eq!(all, [10, 11, 12].map(|offset| base + offset));
            assert_eq!((pop(&mut backlog, 1), backlog.len_to(WorkerId(0))), (None, 3));
            backlog.invariants();
            while pop(&mut backlog, 0).is_some() {}
            assert_eq!((backlog.len(), backlog.requests()), (0, 0));
            assert_eq!(backlog.slots.len(), 6, "no more than waited at a time");
        }
        backlog.trim();
        backlog.invariants();
        assert!(backlog.slots.is_empty());
    }
}
