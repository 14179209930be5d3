//! A bounded queue between threads that stays small while it is short.
//!
//! A ring of messages walks through all of its memory however few it holds: with 4096 places of 112
//! bytes and fifty workers that is 26 MB, resident for good and cold whenever it is touched. So the
//! ring holds numbers of cells, and the messages lie in cells that a stack gives out: the one that
//! was used last, which is warm, first. Cells that were never needed at the same time are never
//! touched.
//!
//! ```text
//!   push: cell ◄─ free stack (or a fresh one); message into it; its number ─► ring
//!   pop:  number ◄─ ring; message out of the cell; cell ─► free stack
//! ```
//!
//! A number has one holder at a time: a pusher, the ring, a popper, or the stack. Only the holder
//! touches the message. The stack's top carries a count of its changes, so a top that was read
//! before a change is never taken for the present one (Treiber, 1986, with IBM's counter).
//!
//! To return memory, all cells that were ever used are taken off the stack. If none is anywhere
//! else, their pages are dropped and they count as never used.
#![allow(unsafe_code)]

use super::pages;
use super::ring::Ring;
use super::zeroed::zeroed_slice;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, UnsafeCell};
use std::cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

struct Cell<T> {
    /// The stack's next cell, in the encoding of [`Top`]; meaningful only while this cell is on the
    /// stack.
    next: AtomicU32,
    message: UnsafeCell<MaybeUninit<T>>,
}

/// The top of the stack: the number of changes in the upper half; the cell's number plus one, or 0
/// for an empty stack, in the lower.
#[repr(align(128))] // its own cache lines: all hands write it
struct Top(AtomicU64);

/// See the module's text.
struct Queue<T> {
    /// Cells with messages, the oldest first.
    order: Ring,
    /// Zeros until they are used: pages that the system has not given out yet.
    cells: Box<[Cell<T>]>,
    free: Top,
    /// Cells below it have been used; the others are not on the stack yet.
    touched: AtomicU32,
}

// SAFETY: messages go from thread to thread with one holder at a time (the module's text); no
// reference to one exists.
unsafe impl<T: Send> Send for Queue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Queue<T> {}

/// Bytes that each of the places for messages of type `T` takes at most.
pub(crate) const fn bytes_per_message<T>() -> usize {
    size_of::<Cell<T>>() + 2 * Ring::PLACE_BYTES
}

/// A queue with room for `capacity` messages, by its two ends.
pub(crate) fn queue<T>(capacity: usize) -> (Pusher<T>, Popper<T>) {
    let queue = Arc::new(Queue::new(capacity));
    (Pusher(Arc::clone(&queue)), Popper { queue, not_shared: PhantomData })
}

/// The sending end, for any number of threads.
pub(crate) struct Pusher<T>(Arc<Queue<T>>);

impl<T> Clone for Pusher<T> {
    fn clone(&self) -> Self {
        Pusher(Arc::clone(&self.0))
    }
}

impl<T> Pusher<T> {
    /// Adds the newest message.
    ///
    /// # Errors
    /// The message itself when there is no room.
    pub(crate) fn push(&self, message: T) -> Result<(), T> {
        self.0.push(message)
    }

    /// Messages that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.0.cells.len()
    }

    /// The number of messages, roughly: some may be on their way in or out.
    pub(crate) fn len(&self) -> usize {
        self.0.order.len()
    }
}

/// The receiving end, for one thread at a time: there is one, and two threads can't share it.
pub(crate) struct Popper<T> {
    queue: Arc<Queue<T>>,
    not_shared: PhantomData<cell::Cell<()>>,
}

impl<T> Popper<T> {
    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<T> {
        // SAFETY: the only popper of its queue, and not `Sync`.
        unsafe { self.queue.pop() }
    }

    /// Whether there is nothing to pop.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.order.is_empty()
    }

    /// The number of messages: all that have been pushed, and perhaps not some that are on their
    /// way in.
    pub(crate) fn len(&self) -> usize {
        self.queue.order.len().max(usize::from(!self.is_empty()))
    }

    /// Returns the memory of all cells to the system, unless one is in use. A push meanwhile may
    /// find the queue full.
    pub(crate) fn trim(&self) {
        self.queue.trim();
    }

    /// A sending end of this queue.
    pub(crate) fn pusher(&self) -> Pusher<T> {
        Pusher(Arc::clone(&self.queue))
    }
}

impl<T> Queue<T> {
    fn new(capacity: usize) -> Queue<T> {
        assert!(capacity < u32::MAX as usize, "{capacity} messages");
        let cell = || Cell { next: AtomicU32::new(0), message: UnsafeCell::new(MaybeUninit::uninit()) };
        Queue {
            order: Ring::new(capacity),
            // SAFETY: a cell of zeros is a link to nothing, and room for a message, uninitialized.
            cells: unsafe { zeroed_slice(capacity, cell) },
            free: Top(AtomicU64::new(0)),
            touched: AtomicU32::new(0),
        }
    }

    fn push(&self, message: T) -> Result<(), T> {
        let Some(index) = self.take_free().or_else(|| self.take_fresh()) else { return Err(message) };
        self.cell(index).message.with_mut(|place| {
            // SAFETY: this thread holds the number, so no other touches the message; there is none
            // to be dropped.
            unsafe { place.write(MaybeUninit::new(message)) };
        });
        // Each number exists once, and there is room for all.
        assert!(self.order.push(index), "a ring with room for every cell");
        Ok(())
    }

    /// Takes the oldest message.
    ///
    /// # Safety
    /// One thread at a time: two at once might get the same message.
    unsafe fn pop(&self) -> Option<T> {
        let index = self.order.pop()?;
        let message = self.cell(index).message.with(|place| {
            // SAFETY: this thread holds the number, so no other touches the message.
            unsafe { place.read() }
        });
        // SAFETY: the number came out of the ring, into which it goes with a message only; and the
        // message is read once, because the number goes on to the stack.
        let message = unsafe { message.assume_init() };
        self.give_back(index);
        Some(message)
    }

    fn trim(&self) {
        // The cells taken are kept in a list of their own, linked as the stack is.
        let (mut taken, mut count) = (0, 0);
        while let Some(index) = self.take_free() {
            self.cell(index).next.store(taken, Ordering::Relaxed);
            (taken, count) = (index + 1, count + 1);
        }
        // Read after the taking, so every cell taken is below it: when as many were taken, they are
        // all.
        let touched = self.touched.load(Ordering::Acquire);
        if count < touched || count == 0 {
            while let Some(index) = taken.checked_sub(1) {
                taken = self.cell(index).next.load(Ordering::Relaxed);
                self.give_back(index);
            }
            return;
        }
        let used = &self.cells[..touched as usize];
        // SAFETY: memory that `new` had zeroed and that holds nothing: this thread holds all
        // numbers below `touched`. Another thread that has seen an old top of the stack may still
        // read a link; zero is a valid link, and the exchange of that thread will fail.
        unsafe { pages::release(NonNull::from(used).cast(), size_of_val(used)) };
        let forgotten = self.touched.compare_exchange(touched, 0, Ordering::Release, Ordering::Relaxed);
        if forgotten.is_err() {
            (0..touched).for_each(|index| self.give_back(index)); // another cell is in use
        }
    }

    fn cell(&self, index: u32) -> &Cell<T> {
        &self.cells[index as usize]
    }

    fn take_free(&self) -> Option<u32> {
        let mut top = self.free.0.load(Ordering::Acquire);
        loop {
            let index = (top as u32).checked_sub(1)?;
            // The cell may have been taken and its link changed meanwhile: then the count has
            // changed, too.
            let next = self.cell(index).next.load(Ordering::Relaxed);
            match self.change(top, next) {
                Ok(_) => return Some(index),
                Err(now) => top = now,
            }
        }
    }

    fn give_back(&self, index: u32) {
        let mut top = self.free.0.load(Ordering::Relaxed);
        loop {
            self.cell(index).next.store(top as u32, Ordering::Relaxed);
            match self.change(top, index + 1) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Replaces the stack's top, if it is still `top`.
    fn change(&self, top: u64, to: u32) -> Result<u64, u64> {
        let new = ((top >> 32) as u32).wrapping_add(1);
        let new = u64::from(new) << 32 | u64::from(to);
        // Release: what the giver did with the cell happened before. Acquire: before what the taker
        // does.
        self.free.0.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn take_fresh(&self) -> Option<u32> {
        let bound = self.cells.len() as u32;
        let next = |touched: u32| (touched < bound).then_some(touched + 1);
        // Acquire: a trim that made the cell fresh again happened before.
        self.touched.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).ok()
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // SAFETY: borrowed mutably, so no other thread has it.
        while unsafe { self.pop() }.is_some() {}
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} of {})", self.order.len(), self.cells.len())
    }
}

impl<T> fmt::Debug for Pusher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Debug for Popper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn messages_come_out_in_order_and_a_full_queue_hands_back() {
        let (pusher, popper) = queue(3);
        for round in 0..10 {
            for number in 0..3 {
                pusher.push(round + number).unwrap();
            }
            assert_eq!((pusher.push(99), pusher.len(), popper.len()), (Err(99), 3, 3));
            assert_eq!(popper.pop(), Some(round));
            pusher.push(round + 3).unwrap();
            assert_eq!(std::iter::from_fn(|| popper.pop()).collect::<Vec<_>>(), [1, 2, 3].map(|n| round + n));
            assert!(popper.is_empty());
        }
    }

    #[test]
    fn only_as_many_cells_are_touched_as_messages_wait_at_a_time() {
        let (pusher, popper) = queue(1000);
        for number in 0..5000 {
            pusher.push(number).unwrap();
            pusher.push(number).unwrap();
            assert_eq!((popper.pop(), popper.pop()), (Some(number), Some(number)));
        }
        assert_eq!(popper.queue.touched.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_trimmed_queue_is_as_new_and_one_in_use_stays() {
        let (pusher, popper) = queue(1000);
        for round in 0..3 {
            for number in 0..1000 {
                pusher.push([number; 14]).unwrap();
            }
            for number in 0..999 {
                assert_eq!(popper.pop(), Some([number; 14]));
            }
            popper.trim();
            assert_eq!(popper.queue.touched.load(Ordering::Relaxed), 1000, "one is in use");
            for number in 0..999 {
                pusher.push([number; 14]).unwrap();
            }
            assert!(pusher.push([0; 14]).is_err(), "round {round}");
            assert_eq!(std::iter::from_fn(|| popper.pop()).count(), 1000);
            popper.trim();
            assert_eq!(popper.queue.touched.load(Ordering::Relaxed), 0);
            popper.trim();
        }
    }

    #[test]
    fn every_message_is_dropped_once() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let (pusher, popper) = queue(8);
        for _ in 0..8 {
            assert!(pusher.push(Counted(Arc::clone(&drops))).is_ok());
        }
        drop(pusher.push(Counted(Arc::clone(&drops))));
        assert_eq!(drops.load(Ordering::Relaxed), 1, "handed back");
        drop((popper.pop(), popper.pop()));
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        drop(popper);
        assert_eq!(drops.load(Ordering::Relaxed), 3, "a sender is left");
        drop(pusher);
        assert_eq!(drops.load(Ordering::Relaxed), 9);
    }

    /// Each message carries its sender and number twice, so that a torn, doubled or lost one shows.
    #[test]
    fn many_senders_lose_and_mix_up_nothing_while_memory_is_given_back() {
        const SENDERS: u64 = 4;
        const COUNT: u64 = 10_000;
        for capacity in [1, 2, 7, 64] {
            let (pusher, popper) = queue::<Box<[u64; 4]>>(capacity);
            let all = AtomicU64::new(0);
            let receive = |popper: Popper<Box<[u64; 4]>>| {
                let mut last = [0; SENDERS as usize];
                for _ in 0..SENDERS * COUNT {
                    let message = loop {
                        match popper.pop() {
                            Some(message) => break message,
                            None => std::thread::yield_now(),
                        }
                    };
                    let [sender, number, again, and_again] = *message;
                    assert_eq!((sender, number), (again, and_again), "capacity {capacity}");
                    assert_eq!(last[sender as usize] + 1, number, "in the order of its sender");
                    last[sender as usize] = number;
                }
                all.store(1, Ordering::Relaxed);
                assert!(popper.pop().is_none());
            };
            let send = &|sender: u64| {
                for number in 1..=COUNT {
                    let mut message = Box::new([sender, number, sender, number]);
                    while let Err(back) = pusher.push(message) {
                        message = back;
                        std::thread::yield_now();
                    }
                }
            };
            let trim = || {
                while all.load(Ordering::Relaxed) == 0 {
                    pusher.0.trim();
                    std::thread::yield_now();
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(trim);
                (0..SENDERS).for_each(|sender| drop(scope.spawn(move || send(sender))));
                scope.spawn(|| receive(popper));
            });
        }
    }
}
