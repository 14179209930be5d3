//! A bounded lock-free queue between workers.
//!
//! Many producers, and one consumer that also sleeps in its backend's `poll`. A producer wakes the
//! consumer only when it sleeps, so a busy worker costs its senders no system call. Order holds per
//! producer. A producer or consumer that is preempted, at whatever point, delays only its own
//! message (`sys/ring.rs`).
//!
//! ```text
//!   consumer: prepare_sleep ─ nothing came? ─► poll(wait), else poll(0);  finish_sleep
//!   producer: push, notify ─ consumer sleeps, or is about to? ─► wake
//! ```
//!
//! No wake-up is lost between the two: `sys/sleep_flag.rs` says why, and models explore every order
//! (`netpoll/loom`).

use crate::Waker;
use crate::sync::Arc;
use crate::sys::queue::{Popper, Pusher, bytes_per_message, queue};
use crate::sys::sleep_flag::SleepFlag;

/// The consumer's sleep, as its producers see it.
#[derive(Debug)]
struct Sleep {
    flag: SleepFlag,
    waker: Waker,
}

/// The sending side. Cheap to clone; one per producer.
#[derive(Debug)]
pub struct MailboxSender<T> {
    queue: Pusher<T>,
    sleep: Arc<Sleep>,
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        MailboxSender { queue: self.queue.clone(), sleep: Arc::clone(&self.sleep) }
    }
}

/// The receiving side. Its owner is the thread that sleeps in the backend whose waker was given.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Popper<T>,
    sleep: Arc<Sleep>,
}

/// Bytes of address space that each place in a mailbox for messages of type `T` takes. Resident are
/// those that were in use at one time, and 8 to 16 bytes of each other place.
pub const fn mailbox_bytes<T>() -> usize {
    bytes_per_message::<T>()
}

/// A mailbox for `capacity` messages whose consumer is woken by `waker`.
pub fn mailbox<T>(capacity: usize, waker: Waker) -> (MailboxSender<T>, Mailbox<T>) {
    let sleep = Arc::new(Sleep { flag: SleepFlag::new(), waker });
    let (pusher, popper) = queue(capacity);
    (MailboxSender { queue: pusher, sleep: Arc::clone(&sleep) }, Mailbox { queue: popper, sleep })
}

impl<T> MailboxSender<T> {
    /// The number of messages that the mailbox has room for.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Adds `message` without waking the consumer; [`MailboxSender::notify`] does that once for
    /// several.
    ///
    /// # Errors
    /// The message itself when the mailbox is full.
    pub fn push(&self, message: T) -> Result<(), T> {
        self.queue.push(message)
    }

    /// Wakes the consumer if it sleeps. Returns whether it did.
    pub fn notify(&self) -> bool {
        let slept = self.sleep.flag.take();
        if slept {
            self.sleep.waker.wake();
        }
        slept
    }

    /// [`MailboxSender::push`], then [`MailboxSender::notify`].
    ///
    /// # Errors
    /// The message itself when the mailbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.push(message)?;
        self.notify();
        Ok(())
    }

    /// The number of waiting messages, roughly: some may be on their way in or out.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits, just as roughly.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Mailbox<T> {
    /// Takes the oldest message.
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// The number of waiting messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the memory of the places for messages to the system, unless one waits or is being
    /// put in. A sender may find the mailbox full meanwhile, for some microseconds.
    pub fn trim(&self) {
        self.queue.trim();
    }

    /// Declares that the consumer is about to sleep. False when a message came in the meantime: the
    /// consumer must not sleep.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.sleep.flag.declare();
        if self.queue.is_empty() {
            return true;
        }
        self.finish_sleep();
        false
    }

    /// Declares that the consumer is awake: senders need not wake it.
    pub fn finish_sleep(&self) {
        self.sleep.flag.clear();
    }

    /// A sender to this mailbox.
    pub fn sender(&self) -> MailboxSender<T> {
        MailboxSender { queue: self.queue.pusher(), sleep: Arc::clone(&self.sleep) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_mailbox_hands_the_message_back() {
        let (sender, mailbox) = mailbox(2, Waker::flag());
        assert_eq!((sender.send(1), sender.send(2), sender.send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((mailbox.pop(), mailbox.pop(), mailbox.pop()), (Some(1), Some(2), None));
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let (sender, mailbox) = mailbox(8, Waker::flag());
        sender.push(0).unwrap();
        assert!(!sender.notify());
        assert!(!mailbox.prepare_sleep(), "a message waits");
        mailbox.pop();
        assert!(mailbox.prepare_sleep());
        assert!(sender.notify());
        assert!(!sender.notify());
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        let waker = Waker::event_fd().unwrap();
        let (sender, mailbox) = mailbox(64, waker.clone());
        let total = 200_000_u64;
        let producer = std::thread::spawn(move || {
            for message in 0..total {
                while sender.send(message).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < total {
            while let Some(message) = mailbox.pop() {
                assert_eq!(message, expected);
                expected += 1;
            }
            if expected < total && mailbox.prepare_sleep() {
                assert!(waker.wait(Duration::from_secs(60)), "slept through message {expected}");
                mailbox.finish_sleep();
            }
        }
        producer.join().unwrap();
    }
}
