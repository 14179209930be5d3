//! A bounded queue between threads that stays small while it is short.
//!
//! A ring of messages walks through all of its memory however few it holds: with 4096 places of 112 bytes and fifty
//! workers that is 26 MB, resident for good and cold whenever it is touched. So the ring holds numbers of cells, and the
//! messages lie in cells that a stack gives out: the one that was used last, which is warm, first. Cells that were never
//! needed at the same time are never touched.
//!
//! ```text
//!   push: cell ◄─ free stack (or a fresh one); message into it; its number ─► ring
//!   pop:  number ◄─ ring; message out of the cell; cell ─► free stack
//! ```
//!
//! A number is in one hand at a time: a pusher's, the ring's, a popper's, or the stack's, and only the hand that has it
//! touches the message. The stack's top carries a count of its changes, so that one that was read before a change is
//! never taken for the present one (Treiber, 1986, with IBM's counter).
//!
//! To give memory back all cells that were ever used are taken off the stack. If none is anywhere else, their pages are
//! dropped and they count as never used.
#![allow(unsafe_code)]

use super::pages;
use crossbeam_queue::ArrayQueue;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

struct Cell<T> {
    /// The stack's next cell, in the encoding of [`Top`]; meaningful only while this one is on it.
    next: AtomicU32,
    message: UnsafeCell<MaybeUninit<T>>,
}

/// The top of the stack: changes so far in the upper half, the cell's number and one in the lower; 0 there: empty.
#[repr(align(128))] // its own cache lines: all hands write it
struct Top(AtomicU64);

/// See the module's text.
pub(crate) struct Queue<T> {
    /// Cells with messages, the oldest first.
    order: ArrayQueue<u32>,
    /// Zeros until they are used: pages that the system has not given out yet.
    cells: Box<[Cell<T>]>,
    free: Top,
    /// Cells below it have been used; the others are not on the stack yet.
    touched: AtomicU32,
}

// SAFETY: messages go from thread to thread, one hand at a time (the module's text); nobody gets a reference to one.
unsafe impl<T: Send> Send for Queue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Queue<T> {}

impl<T> Queue<T> {
    /// Bytes that each of the places takes.
    pub(crate) const BYTES_PER_MESSAGE: usize = size_of::<Cell<T>>() + 2 * size_of::<usize>();

    /// Room for `capacity` messages, one at least.
    pub(crate) fn new(capacity: usize) -> Queue<T> {
        assert!(capacity < u32::MAX as usize, "{capacity} messages");
        let cells = Box::<[Cell<T>]>::new_zeroed_slice(capacity);
        Queue {
            order: ArrayQueue::new(capacity),
            // SAFETY: a cell of zeros is a link and room for a message, uninitialised.
            cells: unsafe { cells.assume_init() },
            free: Top(AtomicU64::new(0)),
            touched: AtomicU32::new(0),
        }
    }

    /// Adds the newest.
    ///
    /// # Errors
    /// The message itself when there is no room.
    pub(crate) fn push(&self, message: T) -> Result<(), T> {
        let Some(index) = self.take_free().or_else(|| self.take_fresh()) else { return Err(message) };
        let place = self.cell(index).message.get();
        // SAFETY: the number is in this hand, so nobody else touches the message; there is none to be dropped.
        unsafe { place.write(MaybeUninit::new(message)) };
        // Each number is there once, and there is room for all.
        assert!(self.order.push(index).is_ok(), "a ring with room for every cell");
        Ok(())
    }

    /// Takes the oldest.
    pub(crate) fn pop(&self) -> Option<T> {
        let index = self.order.pop()?;
        let place = self.cell(index).message.get();
        // SAFETY: the number is in this hand, so nobody else touches the message.
        let message = unsafe { place.read() };
        // SAFETY: it came out of the ring, where it goes with a message only; and that is read once, for the number goes on
        // to the stack.
        let message = unsafe { message.assume_init() };
        self.give_back(index);
        Some(message)
    }

    /// Gives the memory of all cells back, unless one is in use. Who pushes meanwhile may find the queue full.
    pub(crate) fn trim(&self) {
        // What is taken is kept in a list of its own, linked as the stack is.
        let (mut taken, mut count) = (0, 0);
        while let Some(index) = self.take_free() {
            self.cell(index).next.store(taken, Ordering::Relaxed);
            (taken, count) = (index + 1, count + 1);
        }
        // Read after the taking, so that what was taken is below it: as many as it says are all there are.
        let touched = self.touched.load(Ordering::Acquire);
        if count < touched || count == 0 {
            while let Some(index) = taken.checked_sub(1) {
                taken = self.cell(index).next.load(Ordering::Relaxed);
                self.give_back(index);
            }
            return;
        }
        let used = &self.cells[..touched as usize];
        // SAFETY: memory that `new` had zeroed and that holds nothing: all numbers below `touched` are in this hand. A link
        // may still be read by one who has seen an old top of the stack; zero is a link, and his change will fail.
        unsafe { pages::release(NonNull::from(used).cast(), size_of_val(used)) };
        let forgotten = self.touched.compare_exchange(touched, 0, Ordering::Release, Ordering::Relaxed);
        if forgotten.is_err() {
            (0..touched).for_each(|index| self.give_back(index)); // a further cell was taken meanwhile
        }
    }

    /// Messages that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.order.capacity()
    }

    /// Messages in it.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn cell(&self, index: u32) -> &Cell<T> {
        &self.cells[index as usize]
    }

    fn take_free(&self) -> Option<u32> {
        let mut top = self.free.0.load(Ordering::Acquire);
        loop {
            let index = (top as u32).checked_sub(1)?;
            // It may have been taken and its link changed meanwhile: then the count has changed, too.
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
        // Release: what the giver did with the cell happened before; acquire: before what the taker does.
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
        while self.pop().is_some() {}
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} of {})", self.len(), self.cells.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn messages_come_out_in_order_and_a_full_queue_hands_back() {
        let queue = Queue::new(3);
        for round in 0..10 {
            for number in 0..3 {
                queue.push(round + number).unwrap();
            }
            assert_eq!((queue.push(99), queue.len()), (Err(99), 3));
            assert_eq!(queue.pop(), Some(round));
            queue.push(round + 3).unwrap();
            assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [1, 2, 3].map(|n| round + n));
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn only_as_many_cells_are_touched_as_messages_wait_at_a_time() {
        let queue = Queue::new(1000);
        for number in 0..5000 {
            queue.push(number).unwrap();
            queue.push(number).unwrap();
            assert_eq!((queue.pop(), queue.pop()), (Some(number), Some(number)));
        }
        assert_eq!(queue.touched.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_trimmed_queue_is_as_new_and_one_in_use_stays() {
        let queue = Queue::new(1000);
        for round in 0..3 {
            for number in 0..1000 {
                queue.push([number; 14]).unwrap();
            }
            for number in 0..999 {
                assert_eq!(queue.pop(), Some([number; 14]));
            }
            queue.trim();
            assert_eq!(queue.touched.load(Ordering::Relaxed), 1000, "one is in use");
            for number in 0..999 {
                queue.push([number; 14]).unwrap();
            }
            assert!(queue.push([0; 14]).is_err(), "round {round}");
            assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 1000);
            queue.trim();
            assert_eq!(queue.touched.load(Ordering::Relaxed), 0);
            queue.trim();
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
        let queue = Queue::new(8);
        for _ in 0..8 {
            assert!(queue.push(Counted(Arc::clone(&drops))).is_ok());
        }
        drop(queue.push(Counted(Arc::clone(&drops))));
        assert_eq!(drops.load(Ordering::Relaxed), 1, "handed back");
        drop((queue.pop(), queue.pop()));
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        drop(queue);
        assert_eq!(drops.load(Ordering::Relaxed), 9);
    }

    /// Each message carries its sender and number twice, so that one that was torn, doubled or lost shows.
    #[test]
    fn many_senders_and_receivers_lose_and_mix_up_nothing() {
        const SENDERS: u64 = 4;
        const COUNT: u64 = 50_000;
        for (capacity, receivers) in [(1, 1), (2, 2), (7, 1), (64, 3)] {
            let queue = Queue::<Box<[u64; 4]>>::new(capacity);
            let taken = AtomicU64::new(0);
            let receive = || {
                let mut last = [0; SENDERS as usize];
                let mut sum = 0;
                while taken.load(Ordering::Relaxed) < SENDERS * COUNT {
                    let Some(message) = queue.pop() else {
                        std::thread::yield_now();
                        continue;
                    };
                    taken.fetch_add(1, Ordering::Relaxed);
                    let [sender, number, again, and_again] = *message;
                    assert_eq!((sender, number), (again, and_again));
                    assert!(last[sender as usize] < number, "in order, as far as one receiver can tell");
                    last[sender as usize] = number;
                    sum += number;
                }
                sum
            };
            let queue = &queue;
            let send = |sender: u64| {
                for number in 1..=COUNT {
                    let mut message = Box::new([sender, number, sender, number]);
                    while let Err(back) = queue.push(message) {
                        message = back;
                        std::thread::yield_now();
                    }
                }
            };
            let trim = || {
                while taken.load(Ordering::Relaxed) < SENDERS * COUNT {
                    queue.trim();
                    std::thread::yield_now();
                }
            };
            let sum: u64 = std::thread::scope(|scope| {
                scope.spawn(trim);
                (0..SENDERS).for_each(|sender| drop(scope.spawn(move || send(sender))));
                let threads: Vec<_> = (0..receivers).map(|_| scope.spawn(receive)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(sum, SENDERS * COUNT * (COUNT + 1) / 2, "capacity {capacity}");
        }
    }
}
