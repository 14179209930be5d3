//! The wait that several rings of a thread share, and mailboxes over it.
//!
//! Each model fails when the ordering or fence that its comment names is weakened to `Relaxed` or
//! removed.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use netpoll_loom::{SharedWait, Waker, explore, mailbox};
use std::time::Duration;

/// A thread that is woken for a slot wakes up, and finds the slot's bit. Fails without either fence
/// of `sleep_flag.rs`, and with a sleep that looks at the bits before it declares itself.
#[test]
fn no_wake_up_of_a_slot_is_lost() {
    explore(3, || {
        let shared = SharedWait::new().unwrap();
        let waker = Waker::slot(shared.slot(1));
        let other = thread::spawn(move || waker.wake());
        while !shared.take_woken(1) {
            shared.sleep(Duration::MAX, || false).unwrap();
        }
        assert!(!shared.take_woken(0) && !shared.take_woken(1));
        other.join().unwrap();
    });
}

/// What a thread has written before it wakes a slot is visible to the thread that finds the slot's
/// bit. Fails with `Relaxed` in setting the bit, and in taking it.
#[test]
fn a_wake_up_brings_what_was_written_before_it() {
    explore(3, || {
        let shared = SharedWait::new().unwrap();
        let waker = Waker::slot(shared.slot(0));
        let written = Arc::new(UnsafeCell::new(()));
        let theirs = Arc::clone(&written);
        let other = thread::spawn(move || {
            theirs.with_mut(drop);
            waker.wake();
        });
        while !shared.take_woken(0) {
            thread::yield_now();
        }
        written.with(drop); // fails when it races with the write
        other.join().unwrap();
    });
}

/// Two slots that are woken at once: neither bit is lost, although one signal may end the sleep for
/// both. Fails when setting or taking a bit becomes a load and a store.
#[test]
fn two_slots_that_are_woken_at_once() {
    explore(2, || {
        let shared = SharedWait::new().unwrap();
        let others = [0, 1].map(|slot| {
            let waker = Waker::slot(shared.slot(slot));
            thread::spawn(move || waker.wake())
        });
        let mut woken = [false; 2];
        while woken != [true; 2] {
            let seen: Vec<_> = (0..2).filter(|slot| shared.take_woken(*slot)).collect();
            seen.iter().for_each(|slot| woken[*slot] = true);
            if seen.is_empty() {
                shared.sleep(Duration::MAX, || false).unwrap();
            }
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// A message to a member of a ring group, as in `turns.rs` and a worker: two sleeps, one inside the
/// other. The member looks into its mailbox when it is woken and before it begins its wait, the
/// thread at the bits before it sleeps. Fails without either fence, and when a member begins its
/// wait without `prepare_sleep`.
#[test]
fn a_message_to_a_member_of_a_ring_group() {
    explore(2, || {
        let shared = SharedWait::new().unwrap();
        let (sender, inbox) = mailbox(1, Waker::slot(shared.slot(0)));
        let other = thread::spawn(move || sender.send(7).unwrap());
        let heard = loop {
            inbox.finish_sleep();
            if let Some(message) = inbox.pop() {
                break message;
            }
            if !inbox.prepare_sleep() {
                continue;
            }
            while !shared.take_woken(0) {
                shared.sleep(Duration::MAX, || false).unwrap();
            }
        };
        assert_eq!(heard, 7);
        other.join().unwrap();
    });
}
