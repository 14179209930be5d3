//! Receiving: a multishot receive per connection over buffers that all share; idle connections only
//! wait.
//!
//! ```text
//!   accepted ─► armed; where quiet ones are demoted: ─► wait for readability
//!   armed ── bytes, the kernel goes on ──► armed
//!     │ ├─ bytes, last one (the completion queue overflowed) ──► arm again
//!     │ ├─ no buffer (ENOBUFS) ──► starved ── a buffer lent again ──► receive once ──► arm again,
//!     │ │                                                     or starved while others are
//!     │ └─ end, error ──► PeerFinished or Ended
//!     └─ quiet for long: cancel ──► wait for readability ── bytes ──► receive once ──► wait again
//!                                                        └─ and again soon ──► arm again
//! ```
//!
//! # Ends without an event
//!
//! When bytes and a reset arrive together, the kernel (6.18; mended in later ones) wakes the
//! multishot receive once, delivers the bytes, sees that nothing more can be read and waits for a
//! wake-up that has already been. The connection would live until its owner gives up on it. So each
//! connection that has received is listed, and a moment after its last bytes the ring asks once
//! what a receive would return.
//!
//! # Rules
//!
//! Whether the operation goes on is what the kernel says (`IORING_CQE_F_MORE`), never what the
//! result suggests. A buffer that has left with its bytes is replaced at the next turn if the pool
//! has one: an empty pool empties the ring, and that pauses receiving while the bytes wait in their
//! sockets. A receive that found no buffer while the pool has some is armed again at the next turn,
//! with more lent (`lending`). What arrives after the owner's `finish` is discarded without a
//! buffer, as far as time has paid for that (`discarding`). A receive of a connection that the
//! owner has stopped is cancelled; what it had received by then is reported.

use super::UringBackend;
use super::slot::{Idling, Slot, Suspicion, Todo};
use crate::lifecycle::{PeerFinish, State};
use crate::sys::uring::{Event, tag};
use crate::{CloseReason, Completion, Completions, ConnectionId};
use std::io;

/// At most so many connections are looked at in one poll.
const LOOKS_MAX: usize = 1024;

impl UringBackend {
    /// Begins the first wait of an accepted connection. Where quiet connections wait in the cheaper
    /// way, it begins there: a multishot receive, armed for a login and cancelled when the
    /// connection falls quiet after it, costs more than the login's own receive.
    pub(super) fn begin_receiving(&mut self, id: ConnectionId) {
        if self.receives.sweep.period.is_none() {
            return self.mark(id, Todo::RECEIVE);
        }
        if let Some(slot) = self.common.table.get_mut(id) {
            slot.idling = Idling::Demoting;
            self.common.counters.demotions += 1;
            self.mark(id, Todo::WAIT_READABLE);
        }
    }

    /// Lends the kernel the buffers that it should have and does not have.
    pub(super) fn replenish(&mut self) {
        let left = self.ring.lent_count();
        self.receives.lending.review(left, self.ring.waiting());
        while self.ring.lent_count() < self.receives.lending.wanted() {
            let Some(buffer) = self.common.pools.take_to_lend() else { break };
            self.ring.lend(buffer);
        }
        let lent = self.ring.lent_count();
        self.receives.lending.replenished(lent);
        if lent > left {
            self.ring.publish();
        }
        self.common.pools.set_receive_lent(lent as u32);
    }

    /// Resumes as many starved connections as there are buffers for.
    pub(super) fn feed_starved(&mut self) {
        let count = self.receives.starved.line.len().min(self.ring.lent_count());
        // Those that have had a buffer and stand in line again find none without a receive that
        // fails.
        let is_dry = count == 0 && !self.receives.starved.line.is_empty();
        if is_dry && !self.receives.starved.is_dry && self.common.pools.receive_starved() {
            self.common.counters.receive_pauses += 1;
        }
        self.receives.starved.is_dry = is_dry;
        for _ in 0..count {
            let Some(id) = self.receives.starved.line.pop_front() else { return };
            match self.common.table.get_mut(id) {
                Some(slot) if slot.idling == Idling::StoppedInLine => slot.idling = Idling::Stopped,
                _ => self.rearm(id),
            }
        }
    }

    fn rearm(&mut self, id: ConnectionId) {
        let reads = |slot: &Slot| slot.life.state.receives() && !slot.is_left_unread();
        if self.common.table.get(id).is_some_and(reads) {
            self.common.counters.rearms += 1;
            self.mark(id, Todo::RECEIVE);
        }
    }

    fn starve(&mut self, id: ConnectionId) {
        if self.common.pools.receive_starved() {
            self.common.counters.receive_pauses += 1;
        } else {
            self.common.counters.lend_shortages += 1;
            self.receives.lending.grow();
        }
        if let Some(slot) = self.common.table.get_mut(id)
            && slot.idling != Idling::Sampling
        {
            slot.idling = Idling::Starved;
        }
        self.push_starved(id);
    }

    fn push_starved(&mut self, id: ConnectionId) {
        if self.receives.starved.line.len() == self.receives.starved.line.capacity() {
            // Connections that closed while starved left their ids in the list.
            self.receives.starved.line.retain(|id| self.common.table.get(*id).is_some());
        }
        self.receives.starved.line.push_back(id);
    }

    pub(super) fn note_received(&mut self, event: Event, batch: &mut Completions) {
        let connection = event.id;
        let Some(slot) = self.common.table.get_mut(connection) else {
            return self.relend(event);
        };
        if !event.more {
            slot.in_flight.remove(tag::RECEIVE);
        }
        match event.result {
            count @ 1.. => {
                let is_over = slot.life.state != State::Open;
                let sampled = slot.idling == Idling::Sampling && !is_over;
                slot.idling = match slot.idling {
                    kept @ (Idling::Stopped | Idling::StoppedInLine | Idling::Starved) => kept,
                    _ if sampled => Idling::Sampled,
                    _ => Idling::Active,
                };
                match slot.suspicion {
                    // The wait for readability that follows reports ends, too.
                    _ if sampled => {}
                    Suspicion::None if self.receives.suspects.list(connection) => {
                        slot.suspicion = Suspicion::Listed
                    }
                    Suspicion::None => {}
                    Suspicion::Listed => slot.suspicion = Suspicion::Renewed,
                    Suspicion::Renewed => {}
                }
                self.common.counters.receives += 1;
                self.common.counters.receive_bytes += count as u64;
                match event.buffer {
                    Some(id) if !is_over => {
                        let buffer = self.ring.take_buffer(id, count as usize);
                        batch.push(Completion::Received { connection, buffer });
                    }
                    _ => self.relend(event), // closing or finishing: what still comes is discarded
                }
                if sampled {
                    self.mark(connection, Todo::WAIT_READABLE);
                } else if is_over {
                    self.discarded(connection, event.more);
                } else if !event.more {
                    self.receive_stopped(connection);
                }
            }
            0 => {
                self.relend(event);
                self.peer_finished(connection, batch);
            }
            error => {
                self.relend(event);
                self.receive_failed(connection, error);
            }
        }
        if !event.more {
            self.report_end_if_last(connection);
        }
    }

    /// Handles the peer's FIN. Its receive is at its end, also where the owner has stopped.
    fn peer_finished(&mut self, connection: ConnectionId, batch: &mut Completions) {
        match self.common.peer_finished(connection, batch) {
            PeerFinish::Nothing => {}
            // The next poll sends what the owner queues, then asks for the end.
            PeerFinish::Reported => self.mark(connection, Todo::SEND),
            PeerFinish::End(reason) => self.end(connection, reason),
        }
    }

    /// Bytes were discarded of a connection that was finished. A receive that goes on by
    /// itself is ended: discards go one by one, as they are paid for.
    fn discarded(&mut self, id: ConnectionId, goes_on: bool) {
        if !self.common.table.get(id).is_some_and(|slot| slot.life.state.receives()) {
            return; // it is closing, and pays for nothing more
        }
        if goes_on {
            self.mark(id, Todo::DEMOTE);
        } else if self.common.discards.goes_on(id, self.clock.now()) {
            self.rearm(id);
        }
    }

    /// Lets those in line discard as far as that is paid for.
    pub(super) fn resume_discards(&mut self) {
        while let Some(id) = self.common.discards.next(|| self.clock.now()) {
            self.rearm(id);
        }
    }

    fn relend(&mut self, event: Event) {
        if let Some(id) = event.buffer {
            self.ring.relend(id);
            self.receives.relent = true;
        }
    }

    /// Handles the end of a receive, with or without bytes, on a connection that goes on. One that
    /// was fed a buffer is fed the next one behind the others, while any is starved: a receive
    /// that goes on by itself would take the buffers that the others wait for.
    fn receive_stopped(&mut self, id: ConnectionId) {
        let is_fed = |slot: &Slot| slot.idling == Idling::Starved && slot.life.state == State::Open;
        if !self.receives.starved.line.is_empty() && self.common.table.get(id).is_some_and(is_fed) {
            return self.push_starved(id);
        }
        if let Some(slot) = self.common.table.get_mut(id).filter(|slot| !slot.idling.is_stopped()) {
            slot.idling = Idling::Active;
        }
        self.rearm(id);
    }

    fn receive_failed(&mut self, id: ConnectionId, error: i32) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        let demoting = slot.idling == Idling::Demoting;
        let sampling = slot.idling == Idling::Sampling && slot.life.state == State::Open;
        match -error {
            _ if !slot.life.state.receives() => {}
            // The resume arms it again.
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN if slot.is_left_unread() => {}
            libc::ENOBUFS if slot.life.state == State::Open => self.starve(id),
            libc::ENOBUFS => self.rearm(id),
            libc::ECANCELED if demoting && slot.life.state == State::Open => {
                self.common.counters.demotions += 1;
                self.mark(id, Todo::WAIT_READABLE)
            }
            libc::EAGAIN | libc::EINTR if sampling => {
                slot.idling = Idling::Demoting;
                self.mark(id, Todo::WAIT_READABLE)
            }
            libc::EAGAIN if slot.idling == Idling::Starved => {
                slot.idling = Idling::Active; // it has had all that was there
                self.rearm(id)
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive_stopped(id),
            _ => self.end(id, reason_of(error)),
        }
    }

    // --- ends without an event ---

    /// Looks at connections that have been quiet for a moment since they received.
    pub(super) fn look_at_suspects(&mut self) {
        self.receives.suspects.exchange(|| self.clock.now());
        for _ in 0..LOOKS_MAX {
            let Some(id) = self.receives.suspects.pop() else { return };
            let Some(slot) = self.common.table.get_mut(id) else { continue };
            let again = std::mem::replace(&mut slot.suspicion, Suspicion::None) == Suspicion::Renewed;
            if again && self.receives.suspects.list(id) {
                slot.suspicion = Suspicion::Listed;
                continue;
            }
            if slot.life.state == State::Open && slot.in_flight.has(tag::RECEIVE) {
                self.mark(id, Todo::LOOK);
            }
        }
    }

    /// Handles the answer to what a receive would return now. Bytes are ignored: the armed receive
    /// delivers them.
    pub(super) fn note_look(&mut self, event: Event, batch: &mut Completions) {
        let connection = event.id;
        let Some(slot) = self.common.table.get_mut(connection) else { return };
        slot.in_flight.remove(tag::LOOK);
        if slot.life.state == State::Open && slot.in_flight.has(tag::RECEIVE) {
            match -event.result {
                0 => self.peer_finished(connection, batch),
                ..0 | libc::EAGAIN | libc::EINTR | libc::ECANCELED => {}
                _ => self.end(connection, reason_of(event.result)),
            }
        }
        self.report_end_if_last(connection);
    }

    // --- idle connections ---

    /// Moves the clock hand on.
    pub(super) fn sweep_idle(&mut self) {
        let Some(period) = self.receives.sweep.period else { return };
        let count = self.common.table.high_water();
        if count == 0 {
            return;
        }
        let now = self.clock.now();
        for _ in 0..self.receives.sweep.advance(period, now, count) {
            self.receives.sweep.hand = (self.receives.sweep.hand + 1) % count;
            if let Some(id) = self.common.table.id_at(self.receives.sweep.hand) {
                self.sweep_one(id);
            }
        }
    }

    fn sweep_one(&mut self, id: ConnectionId) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        match slot.idling {
            Idling::Active => slot.idling = Idling::Quiet,
            Idling::Quiet if slot.life.state == State::Open && slot.in_flight.has(tag::RECEIVE) => {
                slot.idling = Idling::Demoting;
                self.mark(id, Todo::DEMOTE);
            }
            Idling::Sampled => slot.idling = Idling::Demoting,
            Idling::Quiet | Idling::Demoting | Idling::Sampling | Idling::Promoting => {}
            Idling::Starved | Idling::Stopped | Idling::StoppedInLine => {}
        }
    }

    // --- stopped connections ---

    /// Leaves the socket unread from now on, or resumes. A receive in flight is cancelled. A wait
    /// for readability may end by itself, and leads to nothing while the connection is stopped.
    pub(super) fn change_receiving(&mut self, id: ConnectionId, receiving: bool) {
        let Some(slot) = self.common.table.get_mut(id) else { return };
        match (slot.idling.is_stopped(), receiving) {
            (false, false) => {
                slot.idling = if slot.is_in_line() { Idling::StoppedInLine } else { Idling::Stopped };
                self.mark(id, Todo::DEMOTE);
            }
            (true, true) => self.resume(id),
            _ => {}
        }
    }

    fn resume(&mut self, id: ConnectionId) {
        let is_short = !self.receives.starved.line.is_empty();
        let Some(slot) = self.common.table.get_mut(id) else { return };
        let before = std::mem::replace(&mut slot.idling, Idling::Active);
        let goes_on = slot.in_flight.has(tag::RECEIVE) && slot.todo.has(Todo::DEMOTE);
        match () {
            // Its end was held back.
            () if slot.life.state == State::PeerFinished => self.mark(id, Todo::SEND),
            () if before == Idling::StoppedInLine => slot.idling = Idling::Starved,
            // The receive is armed at once, or when the cancellation (or the wait for readability)
            // has ended. One that is still armed goes on.
            () if !is_short || goes_on || slot.in_flight.has(tag::READABLE) => self.mark(id, Todo::RECEIVE),
            // The end of the receive that is being cancelled puts it in line.
            () if slot.in_flight.has(tag::RECEIVE) => slot.idling = Idling::Starved,
            () => {
                slot.idling = Idling::Starved;
                self.push_starved(id);
            }
        }
    }

    /// Handles readability of a demoted connection, which has bytes or was closed.
    pub(super) fn note_readable(&mut self, event: Event) {
        let Some(slot) = self.common.table.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::READABLE);
        if slot.life.state.receives() && !slot.is_left_unread() {
            if slot.idling == Idling::Demoting {
                slot.idling = Idling::Sampling;
                self.common.counters.samples += 1;
            } else {
                slot.idling = Idling::Promoting;
                self.common.counters.promotions += 1;
            }
            self.receives.readable = true;
            self.mark(event.id, Todo::RECEIVE);
        }
        self.report_end_if_last(event.id);
    }
}

/// The reason that a negated error number stands for.
pub(super) fn reason_of(result: i32) -> CloseReason {
    CloseReason::of_error(&io::Error::from_raw_os_error(-result))
}
