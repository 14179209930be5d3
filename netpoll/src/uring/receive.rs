//! Receiving: a multishot receive per connection over buffers that all share; idle connections only wait.
//!
//! ```text
//!   armed ── bytes, the kernel goes on ──► armed
//!     │ ├─ bytes, last one (the completion queue overflowed) ──► arm again
//!     │ ├─ no buffer (ENOBUFS) ──► starved ── buffers lent again ──► arm again
//!     │ └─ end, error ──► PeerFinished or Ended
//!     └─ quiet for long: cancel ──► wait for readability ── bytes ──► arm again
//! ```
//!
//! Whether the operation goes on is what the kernel says (`IORING_CQE_F_MORE`), never what the result suggests. A buffer
//! that has left with its bytes is replaced at the next turn if the pool has one: an empty pool empties the ring, and
//! that pauses receiving while the bytes wait in their sockets.

use super::UringBackend;
use super::slot::{State, Todo};
use crate::sys::uring::{Event, tag};
use crate::{CloseReason, Completion, Completions, ConnectionId, Timestamp};
use std::io;
use std::time::Duration;

/// Slots that one turn of the idle sweep looks at, at most.
const SWEEP_MAX: u128 = 1024;

/// The clock hand that finds idle connections: it passes every slot once in `period`, and a connection that has not
/// received between two passes is idle.
pub(super) struct Sweep {
    period: Option<Duration>,
    hand: usize,
    /// When the hand was where it is.
    at: Timestamp,
}

impl Sweep {
    pub(super) fn new(period: Option<Duration>) -> Sweep {
        Sweep { period: period.filter(|period| !period.is_zero()), hand: 0, at: Timestamp::ZERO }
    }

    /// How many slots of `count` the hand passes between its last move and `now`.
    fn advance(&mut self, period: Duration, now: Timestamp, count: usize) -> usize {
        let elapsed = now.since(self.at).as_nanos();
        let steps = elapsed * count as u128 / period.as_nanos();
        if steps > SWEEP_MAX.min(count as u128) {
            self.at = now; // late: it slows down instead of jumping
            return SWEEP_MAX.min(count as u128) as usize;
        }
        if steps > 0 {
            self.at = self.at + Duration::from_nanos((steps * period.as_nanos() / count as u128) as u64);
        }
        steps as usize
    }
}

impl UringBackend {
    /// Lends the kernel a buffer for each that has left.
    pub(super) fn replenish(&mut self) {
        if !self.ring.has_vacancy() {
            return;
        }
        while self.ring.has_vacancy() {
            let Some(buffer) = self.pools.take_to_lend() else { break };
            self.ring.lend(buffer);
        }
        self.ring.publish();
        self.pools.set_receive_lent(self.ring.lent_count() as u32);
    }

    /// Lets as many starved connections receive again as there are buffers for.
    pub(super) fn feed_starved(&mut self) {
        let count = self.starved.len().min(self.ring.lent_count());
        for _ in 0..count {
            let Some(id) = self.starved.pop_front() else { return };
            self.rearm(id);
        }
    }

    fn rearm(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_some_and(|slot| slot.state.receives()) {
            self.counters.rearms += 1;
            self.mark(id, Todo::RECEIVE);
        }
    }

    fn starve(&mut self, id: ConnectionId) {
        self.counters.receive_pauses += 1;
        self.pools.receive_starved();
        if self.starved.len() == self.starved.capacity() {
            // Connections that closed while starved left their ids behind.
            self.starved.retain(|id| self.connections.get(*id).is_some());
        }
        self.starved.push_back(id);
    }

    pub(super) fn note_received(&mut self, event: Event, batch: &mut Completions) {
        let connection = event.id;
        let Some(slot) = self.connections.get_mut(connection) else {
            return self.relend(event);
        };
        if !event.more {
            slot.in_flight.remove(tag::RECEIVE);
        }
        match event.result {
            count @ 1.. => {
                slot.active = true;
                slot.promoting = false;
                self.counters.receives += 1;
                self.counters.receive_bytes += count as u64;
                match event.buffer {
                    Some(id) if slot.state == State::Open => {
                        let buffer = self.ring.take_buffer(id, count as usize);
                        batch.push(Completion::Received { connection, buffer });
                    }
                    _ => self.relend(event), // closing or finishing: what still comes is discarded
                }
                if !event.more {
                    self.receive_stopped(connection);
                }
            }
            0 => {
                self.relend(event);
                self.peer_finished(connection);
            }
            error => {
                self.relend(event);
                self.receive_failed(connection, error);
            }
        }
        if !event.more {
            self.settle(connection);
        }
    }

    fn relend(&mut self, event: Event) {
        if let Some(id) = event.buffer {
            self.ring.relend(id);
            self.relent = true;
        }
    }

    /// A receive has ended, with or without bytes, though the connection goes on.
    fn receive_stopped(&mut self, id: ConnectionId) {
        if let Some(slot) = self.connections.get_mut(id) {
            slot.demoting = false;
        }
        self.rearm(id);
    }

    fn receive_failed(&mut self, id: ConnectionId, error: i32) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        let demoting = std::mem::take(&mut slot.demoting);
        match -error {
            _ if !slot.state.receives() => {}
            libc::ENOBUFS => self.starve(id),
            libc::ECANCELED if demoting && slot.state == State::Open => self.mark(id, Todo::WAIT_READABLE),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.receive_stopped(id),
            _ => self.end(id, reason_of(error)),
        }
    }

    /// The peer's FIN. What is queued for it still leaves: it may have closed only its own side.
    fn peer_finished(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        if slot.state.is_over() {
            return;
        }
        if slot.queue.is_empty() {
            let reason = slot.reason;
            return self.end(id, reason);
        }
        slot.state = State::PeerFinished;
    }

    // --- idle connections ----------------------------------------------------------------------------------------

    /// Moves the clock hand on.
    pub(super) fn sweep_idle(&mut self) {
        let Some(period) = self.sweep.period else { return };
        let count = self.connections.high_water();
        if count == 0 {
            return;
        }
        let now = self.clock.now();
        for _ in 0..self.sweep.advance(period, now, count) {
            self.sweep.hand = (self.sweep.hand + 1) % count;
            if let Some(id) = self.connections.id_at(self.sweep.hand) {
                self.sweep_one(id);
            }
        }
    }

    fn sweep_one(&mut self, id: ConnectionId) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        let idle = !std::mem::take(&mut slot.active);
        let may_move = slot.in_flight.has(tag::RECEIVE) && !slot.demoting && !slot.promoting;
        if idle && slot.state == State::Open && may_move {
            slot.demoting = true;
            self.mark(id, Todo::DEMOTE);
        }
    }

    /// A demoted connection has something to receive (or was closed).
    pub(super) fn note_readable(&mut self, event: Event) {
        let Some(slot) = self.connections.get_mut(event.id) else { return };
        slot.in_flight.remove(tag::READABLE);
        slot.active = true;
        if slot.state.receives() {
            slot.promoting = true;
            self.counters.promotions += 1;
            self.mark(event.id, Todo::RECEIVE);
        }
        self.settle(event.id);
    }
}

/// The reason behind a negated error number.
pub(super) fn reason_of(result: i32) -> CloseReason {
    CloseReason::of_error(&io::Error::from_raw_os_error(-result))
}
