//! The mailbox: its queue of cells, its ring of numbers, and the sleep of its consumer.
//!
//! Each model fails when the ordering or fence that its comment names is weakened to `Relaxed` or
//! removed. The ring's counts are Acquire and Release for an exchange that fails and reads an old
//! value; loom's never does, so no model needs them.

use loom::thread;
use netpoll_loom::{Mailbox, MailboxSender, Waker, explore, mailbox};
use std::time::Duration;

fn pair(capacity: usize) -> (Waker, MailboxSender<Box<u32>>, Mailbox<Box<u32>>) {
    let waker = Waker::flag();
    let (sender, mailbox) = mailbox(capacity, waker.clone());
    (waker, sender, mailbox)
}

/// Pops, and sleeps while the mailbox is empty. A lost wake-up is a deadlock.
fn next(waker: &Waker, mailbox: &Mailbox<Box<u32>>) -> u32 {
    loop {
        if let Some(message) = mailbox.pop() {
            return *message;
        }
        if mailbox.prepare_sleep() {
            waker.wait(Duration::MAX);
            mailbox.finish_sleep();
        }
    }
}

/// A consumer that goes to sleep while a message arrives wakes up. Fails without either fence of
/// `sleep_flag.rs` (each may be removed alone), with `prepare_sleep` that does not look again, and
/// with the ring's exchange at `Relaxed` (the message's bytes race).
#[test]
fn no_wake_up_is_lost() {
    explore(3, || {
        let (waker, sender, mailbox) = pair(1);
        let producer = thread::spawn(move || sender.send(Box::new(7)).unwrap());
        assert_eq!(next(&waker, &mailbox), 7);
        producer.join().unwrap();
    });
}

/// Two producers, of which one may be interrupted at any point: both messages arrive, each once,
/// and the consumer never sleeps over one.
#[test]
fn two_producers_and_a_sleeper() {
    explore(2, || {
        let (waker, sender, mailbox) = pair(2);
        let senders = [sender.clone(), sender];
        let producers = [1, 2]
            .into_iter()
            .zip(senders)
            .map(|(number, sender)| thread::spawn(move || sender.send(Box::new(number)).unwrap()));
        let producers: Vec<_> = producers.collect();
        let sum = next(&waker, &mailbox) + next(&waker, &mailbox);
        assert_eq!(sum, 3);
        assert!(mailbox.pop().is_none() && mailbox.is_empty());
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

/// Messages of one producer arrive in its order, lap after lap, in a ring with one place. A push
/// that finds the ring full is right. Fails with `Relaxed` in the exchange of the stack's top
/// (`queue.rs`), or of the ring's place.
#[test]
fn one_place_is_used_again_and_again_in_order() {
    explore(3, || {
        let (waker, sender, mailbox) = pair(1);
        let producer = thread::spawn(move || {
            let mut refused = 0;
            for number in 1..=2 {
                if let Err(message) = sender.send(Box::new(number)) {
                    refused += *message;
                }
            }
            refused
        });
        let first = next(&waker, &mailbox);
        assert_eq!(first, 1, "there was room for the first");
        let refused = producer.join().unwrap();
        let second = mailbox.pop().map_or(0, |message| *message);
        assert_eq!(refused + second, 2, "the second arrived or was handed back");
    });
}

/// Sums of what was sent and of what arrived: each message once.
fn all(mailbox: &Mailbox<Box<u32>>) -> u32 {
    std::iter::from_fn(|| mailbox.pop()).map(|message| *message).sum()
}

/// `number` when there was room for it.
fn sent(sender: &MailboxSender<Box<u32>>, number: u32) -> u32 {
    if sender.push(Box::new(number)).is_ok() { number } else { 0 }
}

/// Cells that are taken, returned and taken again by two producers at once: no message is lost,
/// doubled or torn, and a ring with a place for each cell is never full. Fails with an exchange of
/// the stack's top that is not both Acquire and Release, when a cell is returned before it is read
/// (`queue.rs`), and when a place is looked at and filled in two steps (`ring.rs`).
#[test]
fn cells_go_round_between_two_producers() {
    explore(2, || {
        let (_, sender, mailbox) = pair(2);
        let before = sent(&sender, 1) + sent(&sender, 2);
        let other = sender.clone();
        let producers =
            [(sender, 4), (other, 8)].map(|(sender, number)| thread::spawn(move || sent(&sender, number)));
        let mut came = all(&mailbox);
        let sent: u32 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        came += all(&mailbox);
        assert_eq!(came, before + sent);
    });
}

/// A producer that is preempted while it takes a cell, and goes on when that cell is the top of the
/// stack again, with another below it (ABA): no cell with a message in it is given out. Fails when
/// the top's count of changes does not count.
#[test]
fn a_cell_in_use_is_never_given_out() {
    explore(2, || {
        let (_, sender, mailbox) = pair(2);
        let mut total = sent(&sender, 1) + sent(&sender, 2);
        let mut came = all(&mailbox);
        let other = sender.clone();
        let producer = thread::spawn(move || sent(&other, 4));
        total += sent(&sender, 8) + sent(&sender, 16);
        came += mailbox.pop().map_or(0, |message| *message);
        total += sent(&sender, 32) + producer.join().unwrap();
        came += all(&mailbox);
        assert_eq!(came, total);
    });
}

/// Memory is returned while messages arrive: they arrive, or come back to their sender, and no cell
/// is written before it has been read. Fails with `Relaxed` in the exchange of `touched` (`trim`)
/// or in `take_fresh`, when `trim` does not compare counts, and when it sets `touched`
/// unconditionally.
#[test]
fn memory_is_given_back_beside_pushes() {
    explore(3, || {
        let (_, sender, mailbox) = pair(2);
        let before = sent(&sender, 1);
        let producer =
            thread::spawn(move || [2, 4, 8].map(|number| sent(&sender, number)).iter().sum::<u32>());
        let mut came = mailbox.pop().map_or(0, |message| *message);
        mailbox.trim();
        let total = before + producer.join().unwrap();
        came += all(&mailbox);
        mailbox.trim();
        assert!(mailbox.pop().is_none());
        assert_eq!(came, total);
    });
}

/// The last end to be dropped drops the waiting messages.
#[test]
fn messages_that_wait_are_dropped_by_the_last_end() {
    explore(3, || {
        let (_, sender, mailbox) = pair(1);
        let message = loom::sync::Arc::new(());
        let weight = message.clone();
        drop((sender, mailbox));
        let waker = Waker::flag();
        let (sender, mailbox) = netpoll_loom::mailbox(1, waker);
        let producer = thread::spawn(move || sender.send(weight).unwrap());
        drop(mailbox);
        producer.join().unwrap();
        assert_eq!(loom::sync::Arc::strong_count(&message), 1);
    });
}
