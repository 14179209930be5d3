//! Pushes to many that wait for a fan-out.
//!
//! A push to one connection is delivered as it is read; one to a room or to everyone takes a fan-out, of which there are so many.
//! While they are all taken, such pushes wait here, in their order. What comes behind them in the mailbox does not: logins,
//! answers and messages to users go on however much is to be said to rooms.
//!
//! A room that has its share of the fan-outs waits apart, so that others do not wait behind it. Its pushes have half of the
//! places here; beyond that they are lost, and counted.

use crate::address::Fingerprint;
use crate::worker::message::Message;
use netpoll::Fifo;

/// The pushes that wait. [`Message::DeliverRoom`] and [`Message::ToAll`] only.
#[derive(Debug)]
pub struct Bulk {
    waiting: Fifo<Message>,
    /// Of rooms that have their share.
    heavy: Fifo<Message>,
    waiting_max: usize,
}

impl Bulk {
    /// Room for so many.
    pub fn with_capacity(waiting_max: usize) -> Bulk {
        let heavy = Fifo::with_capacity(waiting_max / 2);
        Bulk { waiting: Fifo::with_capacity(waiting_max - waiting_max / 2), heavy, waiting_max }
    }

    /// Whether one more has room, of whatever room it is.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < self.waiting_max - self.waiting_max / 2
    }

    /// Whether one more has room of a room that has its share.
    pub fn has_heavy_room(&self) -> bool {
        self.heavy.len() < self.waiting_max / 2
    }

    /// Whether so many wait that nothing avoidable should be added.
    pub fn is_crowded(&self) -> bool {
        self.len() >= self.waiting_max.div_ceil(4)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.heavy.is_empty()
    }

    /// Whether none waits but those of rooms that have their share.
    pub fn has_only_heavy(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.heavy.len()
    }

    /// Keeps a push behind the others. Its caller has made sure that there is room.
    pub fn push(&mut self, message: Message) {
        debug_assert!(matches!(message, Message::DeliverRoom { .. } | Message::ToAll { .. }));
        self.waiting.push_back(message);
    }

    /// Keeps a push of a room that has its share. Its caller has made sure that there is room.
    pub fn push_heavy(&mut self, message: Message) {
        debug_assert!(matches!(message, Message::DeliverRoom { .. }));
        self.heavy.push_back(message);
    }

    /// The first.
    pub fn pop(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    /// The first of those of rooms that have their share, unless `waits` says that its room still has.
    pub fn pop_heavy(&mut self, waits: impl FnOnce(Fingerprint) -> bool) -> Option<Message> {
        let message = self.heavy.pop_front()?;
        match &message {
            Message::DeliverRoom { room, .. } if waits(*room) => {
                self.heavy.push_front(message);
                None
            }
            _ => Some(message),
        }
    }

    /// Gives the memory back when none waits.
    pub fn trim(&mut self) {
        self.waiting.trim();
        self.heavy.trim();
    }
}
