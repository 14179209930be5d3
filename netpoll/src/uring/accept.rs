//! Accepting: one-shot accepts in flight, each into a slot of the table that is reserved for it.
//!
//! Accepts are one-shot because a multishot accept does not return the peer's address. Each accept
//! names the direct descriptor that it will fill: the reserved slot's index. So the kernel's table
//! and ours are one, and the kernel's can't run full (which would cost an accepted connection).
//!
//! Accepts in flight have slots of their own in addition to those of `connections_max`, shared
//! evenly by the listeners, so an accept of a quiet listener takes no connection's slot. A
//! connection that arrives while there are `connections_max` is parked, as if in the backlog, until
//! one ends.
//!
//! Slots reserved for accepts lie anywhere in the table and keep it from starting over
//! ([`ConnectionTable::trim`]). A backend without connections therefore cancels all accepts and
//! arms them again at the first slots; a connection that arrives in between waits in the backlog
//! for a turn.

use super::UringBackend;
use super::slot::Slot;
use super::state::accepts::{ACCEPT_REST, Accept, Listener};
use crate::connection_table::ConnectionTable;
use crate::lifecycle::State;
use crate::sys::socket;
use crate::sys::uring::Event;
use crate::sys::uring::ring::AcceptId;
use crate::{Completion, Completions, ConnectionId, ListenerConfig, ListenerId, Timestamp};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

impl UringBackend {
    /// Live connections, those that are closing included.
    pub(super) fn live_count(&self) -> usize {
        self.common.table.len() - self.accepts.reserved
    }

    pub(super) fn add_listener(&mut self, config: &ListenerConfig) -> io::Result<(ListenerId, SocketAddr)> {
        let id = u8::try_from(self.accepts.listeners.len()).map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let (socket, address) = socket::listen(config)?;
        socket::set_blocking(&socket)?;
        let count = self.accepts.in_flight_max;
        self.ring.add_listener(count);
        let accepts = vec![Accept::Idle; count].into();
        self.accepts.listeners.push(Listener {
            socket: Some(socket),
            accepts,
            idle: (0..count as u32).rev().collect(),
        });
        self.accepts.parked.reserve(count);
        Ok((ListenerId(id), address))
    }

    /// Whether work is left for which no event will come: an accepted peer can be reported because
    /// there is room again, or the ring had no room for accepts to be armed or cancelled.
    pub(super) fn accepts_have_work(&self) -> bool {
        let may_report = !self.accepts.parked.is_empty() && self.live_count() < self.connections_max;
        may_report || self.accepts.stopping || self.accepts.unarmed
    }

    /// Arms idle accepts as far as there is room, or cancels those in flight.
    pub(super) fn drive_accepts(&mut self) {
        if self.accepts.stopping {
            self.accepts.stopping = !self.cancel_accepts();
        }
        if self.accepts.closing {
            self.accepts.accepting = false;
            self.accepts.close_quiet_listeners();
        }
        if self.accepts.renewing {
            self.continue_renewal();
        }
        if !self.accepts.accepting || self.accepts.renewing || self.accepts.listeners.is_empty() {
            return;
        }
        if self.accepts.after != Timestamp::ZERO {
            if self.clock.now() < self.accepts.after {
                return;
            }
            self.accepts.after = Timestamp::ZERO;
        }
        self.accepts.unarmed = false;
        // Round after round, so that the listeners share the room that there is.
        while (0..self.accepts.listeners.len())
            .fold(false, |armed, listener| self.arm_accept(listener) | armed)
        {}
    }

    /// Begins to empty the table so that it can start over, unless it has just done so.
    pub(super) fn renew_table(&mut self) {
        if self.accepts.reserved > 0 && self.common.table.high_water() > self.accepts.reserved {
            self.accepts.renewing = true;
            self.accepts.stopping = true;
        }
    }

    /// Ends the renewal when all accepts are cancelled, or when a connection has come: the next
    /// quiet time will do.
    fn continue_renewal(&mut self) {
        if self.live_count() > 0 {
            self.accepts.renewing = false;
        } else if self.accepts.reserved == 0 {
            self.common.trim_table();
            self.accepts.renewing = false;
        }
    }

    /// Arms one accept of a listener; false when it needs none or there is no room.
    fn arm_accept(&mut self, listener: usize) -> bool {
        // A share of its own: otherwise quiet listeners would collect all accepts.
        let share = (self.accepts.in_flight_max / self.accepts.listeners.len()).max(1);
        let entry = &mut self.accepts.listeners[listener];
        let Some(socket) = &entry.socket else { return false };
        if entry.in_use() >= share {
            return false;
        }
        if !self.ring.reserve(1) {
            self.accepts.unarmed = true;
            return false;
        }
        let Ok(id) = self.common.table.insert(Slot::new(State::Reserved)) else { return false };
        let Some(position) = entry.idle.pop() else {
            self.common.table.remove(id);
            return false;
        };
        let position = position as usize;
        entry.accepts[position] = Accept::InFlight(id);
        self.ring.accept(socket.as_fd(), AcceptId { listener, position }, id.index() as u32);
        self.accepts.reserved += 1;
        true
    }

    /// Cancels all accepts in flight; false when the ring did not take all cancellations yet.
    fn cancel_accepts(&mut self) -> bool {
        for listener in 0..self.accepts.listeners.len() {
            for position in 0..self.accepts.in_flight_max {
                let Accept::InFlight(id) = self.accepts.listeners[listener].accepts[position] else {
                    continue;
                };
                if !self.ring.reserve(1) {
                    return false;
                }
                self.ring.cancel_accept(AcceptId { listener, position });
                self.accepts.listeners[listener].accepts[position] = Accept::Cancelled(id);
            }
        }
        true
    }

    /// Handles the completion of an accept, with or without a connection.
    pub(super) fn note_accept(&mut self, event: Event, batch: &mut Completions) {
        let accept = AcceptId::of(event.id);
        let entry = &mut self.accepts.listeners[accept.listener];
        let (Accept::InFlight(id) | Accept::Cancelled(id)) = entry.accepts[accept.position] else { return };
        if event.result >= 0 {
            entry.accepts[accept.position] = Accept::Parked(id);
            self.accepts.parked.push_back(accept);
            return self.deliver_accepted(batch);
        }
        entry.accepts[accept.position] = Accept::Idle;
        entry.idle.push(accept.position as u32);
        self.common.table.remove(id);
        self.accepts.reserved -= 1;
        self.note_accept_error(-event.result);
        if self.accepts.closing {
            self.accepts.close_quiet_listeners();
        }
    }

    /// accept(2): a shortage pauses accepting, and so does an error that would recur at once (the
    /// listener itself is broken). A network error concerns only the connection at hand.
    fn note_accept_error(&mut self, number: i32) {
        if number == libc::ECANCELED || self.accepts.closing {
            return;
        }
        self.common.counters.accept_errors += 1;
        let transient = [libc::ECONNABORTED, libc::EINTR, libc::EAGAIN, libc::EPROTO, libc::EPERM];
        if !transient.contains(&number) {
            self.accepts.after = self.clock.now() + ACCEPT_REST;
        }
    }

    /// Reports accepted connections, as far as the bound on connections and the batch have room.
    pub(super) fn deliver_accepted(&mut self, batch: &mut Completions) {
        while !batch.is_full() && self.live_count() < self.connections_max {
            let Some(accept) = self.accepts.parked.pop_front() else { return };
            let entry = &mut self.accepts.listeners[accept.listener];
            let Accept::Parked(connection) = entry.accepts[accept.position] else { continue };
            let peer = self.ring.peer(accept).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            entry.accepts[accept.position] = Accept::Idle;
            entry.idle.push(accept.position as u32);
            self.accepts.reserved -= 1;
            open_reserved(&mut self.common.table, connection);
            self.begin_receiving(connection);
            self.common.counters.accepts += 1;
            batch.push(Completion::Accepted {
                connection,
                listener: ListenerId(accept.listener as u8),
                peer,
            });
        }
    }
}

fn open_reserved(connections: &mut ConnectionTable<Slot>, id: ConnectionId) {
    if let Some(slot) = connections.get_mut(id) {
        debug_assert_eq!(slot.life.state, State::Reserved);
        slot.life.state = State::Open;
    }
}
