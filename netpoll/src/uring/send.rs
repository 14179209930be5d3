//! Sending: one submission per connection and turn, silent when the socket takes it all.
//!
//! A send is tried while it is submitted (`MSG_DONTWAIT`), completes silently when all bytes were
//! taken, and posts one completion when they were not. So no send is ever under way between two
//! turns, and two can't overtake each other; what remains to be found out is how a send *ended*.
//! Silence means success only once every completion that could say otherwise has been looked at,
//! and those may lie behind others that the batch had no room for. Hence:
//!
//! ```text
//!   flush:   fresh ── all submitted, no overflow: note the queue's end (`mark`) ──► confirming
//!   reap:    a failed send is resolved by its completion
//!   confirm: reaped past `mark` ── every send in `confirming` that is not resolved was taken whole
//! ```
//!
//! Both steps are made wherever they may have become possible: after entering the kernel, and after
//! reaping. Neither takes a system call. So a send stays unconfirmed only while completions lie
//! unread, the kernel has not consumed a submission, or the completion queue overflows. What waits
//! behind an unconfirmed send (further bytes, FIN, `Sent`) cannot leave yet, so the ring does not
//! wait either until the send is confirmed (`Sends::awaited`).
//!
//! Why that is right: when `io_uring_enter` has consumed a submission, its send has been tried and
//! a failure is posted, to the completion queue or, if that is full, to the kernel's overflow list.
//! The kernel moves the list to the queue in order and clears `IORING_SQ_CQ_OVERFLOW` only when it
//! is empty. So with all submissions consumed and the flag clear, the failures of all sends before
//! lie in the queue ahead of its tail, and a reader that has reaped up to that tail has seen them.
//! Until then the connection starts no other send, and its pieces stay queued.
//!
//! A serial number ties an entry of the lists to its send: an entry whose send was resolved by a
//! completion in the meantime confirms nothing, in particular not a later send of the same
//! connection.
//!
//! A connection whose socket took less waits for `POLLOUT`, as under epoll: a waiting send would
//! own its payload for as long as the peer likes, and closing would have to wait for its
//! cancellation.

use super::UringBackend;
use super::receive::reason_of;
use super::slot::{Slot, Todo};
use crate::ConnectionId;
use crate::lifecycle::{Emptied, State};
use crate::sys::uring::{Event, tag};

impl UringBackend {
    /// Submits the front of a connection's queue.
    pub(super) fn flush_one(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        if !slot.life.state.sends() || slot.life.send_waits {
            return; // what ends the wait marks the connection again
        }
        if slot.offered > 0 {
            self.sends.await_confirmation(); // its confirmation marks the connection again
            return;
        }
        let pieces = &self.common.pieces;
        let offered = match slot.life.queue.front(pieces) {
            None => return self.queue_emptied(id),
            Some(only) if slot.life.queue.is_single() => {
                self.ring.send(id, only);
                only.len()
            }
            Some(_) => self.ring.send_all(id, pieces.iter(slot.life.queue.list())),
        };
        slot.serial = self.sends.track(id);
        slot.offered = offered as u32;
        if slot.life.state != State::Open || slot.life.is_waiting() || offered < slot.life.queue.bytes() {
            self.sends.await_confirmation();
        }
        self.common.counters.sends += 1;
    }

    /// Confirms the sends that have become certain, and notes the point at which those that the
    /// kernel has consumed since will be. Called whenever the kernel was entered or completions
    /// were reaped.
    pub(super) fn confirm_sends(&mut self) {
        loop {
            if let Some(mark) = self.sends.certain_at() {
                if self.ring.reaped() < mark {
                    return;
                }
                self.complete_confirmed();
            }
            if !self.sends.has_fresh() {
                return self.sends.all_confirmed();
            }
            if self.ring.is_overflowing() || !self.ring.all_submitted() {
                return;
            }
            self.sends.begin_confirming(self.ring.reaped() + self.ring.waiting() as u64);
        }
    }

    /// Completes the sends in `confirming`, whose failures would have been seen.
    fn complete_confirmed(&mut self) {
        while let Some(sent) = self.sends.pop_certain() {
            let Some(slot) = self.common.table.get_mut(sent.id) else { continue };
            if slot.serial != sent.serial || slot.offered == 0 || slot.life.state.is_over() {
                continue;
            }
            let offered = std::mem::take(&mut slot.offered) as usize;
            let left = slot.life.queue.bytes() - offered;
            self.common.sent(sent.id, offered);
            if left == 0 {
                self.queue_emptied(sent.id);
            } else {
                self.mark(sent.id, Todo::SEND);
            }
        }
    }

    /// Handles a send that failed or fell short.
    pub(super) fn note_send(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        if slot.life.state.is_over() {
            return;
        }
        let offered = std::mem::take(&mut slot.offered);
        match event.result {
            taken @ 0.. => {
                let taken = offered.min(taken as u32) as usize;
                self.common.sent(event.id, taken);
                self.send_must_wait(event.id);
            }
            error if error == -libc::EAGAIN => self.send_must_wait(event.id),
            error if error == -libc::EINTR => self.mark(event.id, Todo::SEND),
            error => self.end(event.id, reason_of(error)),
        }
    }

    fn send_must_wait(&mut self, id: ConnectionId) {
        self.common.send_must_wait(id, || self.clock.now());
        self.mark(id, Todo::WAIT_WRITABLE);
    }

    pub(super) fn note_writable(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::WRITABLE);
        slot.life.send_waits = false;
        self.mark(event.id, Todo::SEND);
        self.report_end_if_last(event.id);
    }

    fn queue_emptied(&mut self, id: ConnectionId) {
        let peer_finished = |slot: &Slot| slot.life.state == State::PeerFinished;
        if self.sends.holds_ends() && self.common.table.get(id).is_some_and(peer_finished) {
            return self.mark(id, Todo::SEND); // the next poll asks again
        }
        match self.common.queue_emptied(id) {
            Emptied::Nothing => {}
            Emptied::Shut => self.mark(id, Todo::SHUTDOWN),
            Emptied::End(reason) => self.end(id, reason),
        }
    }
}
