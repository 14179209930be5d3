//! Bounded hand-over between workers, without a lock.
//!
//! It is not lock-free in the strict sense: a sender or receiver that is preempted between taking its place in the ring of
//! numbers and filling it (two instructions, `crossbeam_queue::ArrayQueue`) makes those that reach that place spin, then
//! yield, until it runs again.
//!
//! Many producers, one consumer that also sleeps in its backend's `poll`. A producer wakes it only when it sleeps,
//! so a busy worker costs its senders no system call. Order holds per producer.
//!
//! The sleep protocol (a store, a fence, then a look at the other side's variable, on both sides):
//!
//! ```text
//!   consumer: sleeping = true; fence; queue empty? → poll(wait) : poll(0); sleeping = false
//!   producer: push; fence; sleeping.swap(false)? → wake
//! ```

use crate::sys::queue::Queue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::Waker;

#[derive(Debug)]
struct Shared<T> {
    queue: Queue<T>,
    sleeping: AtomicBool,
    waker: Waker,
}

/// The sending side. Cheap to clone; one per producer.
#[derive(Debug)]
pub struct MailboxSender<T>(Arc<Shared<T>>);

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        MailboxSender(Arc::clone(&self.0))
    }
}

/// The receiving side, owned by the thread that sleeps in the backend whose waker was given.
#[derive(Debug)]
pub struct Mailbox<T>(Arc<Shared<T>>);

/// Bytes of address space that each place in a mailbox for messages of type `T` takes; resident become those that are
/// needed at a time, and 16 bytes of each.
pub const fn mailbox_bytes<T>() -> usize {
    Queue::<T>::BYTES_PER_MESSAGE
}

/// A mailbox for `capacity` messages whose consumer is woken by `waker`.
pub fn mailbox<T>(capacity: usize, waker: Waker) -> (MailboxSender<T>, Mailbox<T>) {
    let shared = Arc::new(Shared { queue: Queue::new(capacity), sleeping: AtomicBool::new(false), waker });
    (MailboxSender(Arc::clone(&shared)), Mailbox(shared))
}

impl<T> MailboxSender<T> {
    /// Messages that the mailbox has room for.
    pub fn capacity(&self) -> usize {
        self.0.queue.capacity()
    }

    /// Hands `message` over without waking the consumer; [`MailboxSender::notify`] does that once for several.
    ///
    /// # Errors
    /// The message itself when the mailbox is full.
    pub fn push(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)
    }

    /// Wakes the consumer if it sleeps. Returns whether it did.
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        let slept = self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::Relaxed);
        if slept {
            self.0.waker.wake();
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

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

impl<T> Mailbox<T> {
    /// The oldest message.
    pub fn pop(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }

    /// Gives the memory of the places for messages back, unless one waits or is being put in. A sender may find the mailbox
    /// full meanwhile, for some microseconds.
    pub fn trim(&self) {
        self.0.queue.trim();
    }

    /// Declares that the consumer is about to sleep; false when a message came in the meantime and it must not.
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.0.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.queue.is_empty() {
            return true;
        }
        self.finish_sleep();
        false
    }

    /// Declares that the consumer is awake: senders need not wake it.
    pub fn finish_sleep(&self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
    }

    /// A sender to this mailbox.
    pub fn sender(&self) -> MailboxSender<T> {
        MailboxSender(Arc::clone(&self.0))
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
