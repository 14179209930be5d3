//! Pushes on their way to sessions.

use crate::address::{Address, Fingerprint, WorkerId};
use crate::memory::Level;
use crate::metrics::{OperationClass, SlowReason, WorkerMetrics};
use crate::router::fanout::Target;
use crate::session::Session;
use crate::session::Sessions;
use crate::settings::Reloadable;
use crate::settings::SlowConsumer;
use crate::worker::Worker;
use crate::worker::message::{Exclude, Message, MessageClass, Push};
use netpoll::{Backend, ConnectionId, Priority, SendError, Timestamp};

/// The lowest operation that accept sets filter.
const FILTERED_MIN: i32 = 1000;

/// What one delivery needs of the worker, apart from the stores that a fan-out walks through.
struct Outlet<'w, B> {
    me: WorkerId,
    backend: &'w mut B,
    sessions: &'w Sessions,
    reloadable: &'w Reloadable,
    metrics: &'w WorkerMetrics,
    slow: &'w mut Vec<ConnectionId>,
    now: Timestamp,
    /// Memory is short: see [`Level::Shed`].
    sheds: bool,
}

impl<B: Backend> Outlet<'_, B> {
    /// Hands the push to one session; says whether it took it. Room pushes are not `filtered`, as in goim.
    fn deliver(&mut self, session: &Session, push: &Push, exclude: Exclude, filtered: bool) -> bool {
        let connection = session.connection;
        if !session.is_open() || exclude.address == Some(Address::new(self.me, connection)) {
            return false;
        }
        let filtered = filtered && push.operation >= FILTERED_MIN;
        if filtered && !self.sessions.accept_sets.accepts(session.accepts, push.operation) {
            return false;
        }
        if self.sheds && self.sheds_for_memory(connection, push) {
            self.metrics.memory_drops.add(u64::from(push.frames));
            self.metrics.count_drop(push, false);
            return false;
        }
        let outer = usize::from(push.websocket_header);
        let bytes = match session.websocket {
            true => push.bytes.clone(),
            false => push.bytes.slice(outer, push.bytes.len()),
        };
        match self.backend.send_as(connection, bytes, self.priority(push)) {
            Ok(()) => {
                let frames = u64::from(push.frames);
                self.metrics.deliveries[push.class as usize].add(frames);
                self.metrics.count_sent_frames(OperationClass::Push, frames, push.bytes.len() - outer);
                true
            }
            Err(SendError::Closed(_)) => false,
            Err(SendError::Full(_)) => {
                self.refused(connection, push);
                false
            }
            // Other connections' queues fill the store, so this one is not to blame, whatever its class says.
            Err(SendError::Exhausted(_)) => {
                self.metrics.store_refusals.add(1);
                self.metrics.count_drop(push, false);
                false
            }
        }
    }

    /// Memory is short: what may be dropped is not queued behind what a slow receiver has not taken yet.
    fn sheds_for_memory(&self, connection: ConnectionId, push: &Push) -> bool {
        self.reloadable.slow_consumer(push.class) == SlowConsumer::Drop && self.backend.is_waiting(connection)
    }

    /// What a push may take of its receiver's queue.
    fn priority(&self, push: &Push) -> Priority {
        match (push.class, self.reloadable.slow_consumer(push.class)) {
            (MessageClass::Reply, _) => Priority::Reply,
            (_, SlowConsumer::Close) => Priority::Push,
            (_, SlowConsumer::Drop) => Priority::Droppable,
        }
    }

    /// The receiver's queue is full: the policy for the class decides. A queue that a burst has filled makes no receiver slow: its
    /// socket is slow when it has taken nothing for a time.
    fn refused(&mut self, connection: ConnectionId, push: &Push) {
        let may_close = self.reloadable.slow_consumer(push.class) == SlowConsumer::Close;
        let closes = may_close
            && self.backend.stalled_for(connection, self.now) >= self.reloadable.slow_consumer_timeout;
        self.metrics.count_drop(push, closes);
        if closes && self.slow.len() < self.slow.capacity() {
            self.slow.push(connection);
        }
    }
}

impl<B: Backend> Worker<B> {
    /// Delivers to one connection; says whether it took the push.
    pub(crate) fn deliver(&mut self, connection: ConnectionId, push: &Push) -> bool {
        let mut outlet = Outlet {
            me: self.context.id,
            backend: &mut self.backend,
            sessions: &self.shard.sessions,
            reloadable: &self.reloadable,
            metrics: &self.metrics,
            slow: &mut self.slow,
            now: self.pace.now,
            sheds: self.pace.memory.level >= Level::Shed,
        };
        let session = self.shard.sessions.get(connection);
        let taken = session.is_some_and(|session| outlet.deliver(session, push, Exclude::default(), true));
        self.close_slow();
        taken
    }

    /// Sessions that a push to everyone is for: those that accept its operation.
    fn accepting_count(&self, operation: i32) -> u32 {
        let sessions = &self.shard.sessions;
        match operation >= FILTERED_MIN {
            true => sessions.accept_sets.users_of(operation),
            false => sessions.open_count() as u32,
        }
    }

    /// A push to many begins when there is a fan-out for it, behind those that wait.
    pub(crate) fn bulk(&mut self, message: Message) {
        let shard = &mut self.shard;
        if let Message::DeliverRoom { room, push, .. } = &message
            && let Some(room) = shard.rooms.find(*room)
            && shard.rooms.has_share(room, shard.fanouts.share())
        {
            if shard.bulk.has_heavy_room() {
                shard.rooms.count_heavy(room, true);
                return shard.bulk.push_heavy(message);
            }
            self.metrics.bulk_drops.add(1);
            return self.metrics.count_drop(push, false);
        }
        if shard.bulk.has_only_heavy() && shard.fanouts.has_room() {
            self.begin_bulk(message);
        } else {
            shard.bulk.push(message);
        }
    }

    /// Begins as many of the pushes that wait as there are fan-outs for.
    fn continue_bulk(&mut self) {
        while self.shard.fanouts.has_room() {
            let Some(message) = self.shard.bulk.pop() else { break };
            self.begin_bulk(message);
        }
        while self.shard.fanouts.has_room() {
            let shard = &mut self.shard;
            let (rooms, share) = (&shard.rooms, shard.fanouts.share());
            let waits = |room| rooms.find(room).is_some_and(|room| rooms.queued(room) >= share);
            let Some(message) = shard.bulk.pop_heavy(waits) else { return };
            if let Message::DeliverRoom { room, .. } = &message
                && let Some(room) = shard.rooms.find(*room)
            {
                shard.rooms.count_heavy(room, false);
            }
            self.begin_bulk(message);
        }
    }

    fn begin_bulk(&mut self, message: Message) {
        match message {
            Message::ToAll { push, rate, origin } => {
                let receivers = self.accepting_count(push.operation);
                self.fan_out(Target::Everyone, push, Exclude::default(), rate);
                self.report(origin, Some(receivers));
            }
            Message::DeliverRoom { room, push, exclude } => self.deliver_room(room, push, exclude),
            _ => debug_assert!(false, "not a push to many"),
        }
    }

    /// Delivers to the room's members here, in slices.
    fn deliver_room(&mut self, name: Fingerprint, push: Push, exclude: Exclude) {
        let Some(room) = self.shard.rooms.find(name) else { return };
        self.fan_out(Target::Room(room), push, exclude, 0);
    }

    /// Begins a fan-out. Its caller has made sure that there is room.
    fn fan_out(&mut self, target: Target, push: Push, exclude: Exclude, rate: u32) {
        let now = self.pace.now;
        let rate = if self.is_stopping() { 0 } else { rate };
        self.pace.fanouts_rest = false;
        let pushed = self.shard.fanouts.push(&mut self.shard.rooms, target, (push, exclude), rate, now);
        if let Err(push) = pushed {
            self.metrics.count_drop(&push, false);
        }
    }

    /// A slice of the fan-outs.
    pub(crate) fn run_fanouts(&mut self) {
        if self.shard.fanouts.is_empty() {
            return;
        }
        let slice = self.slice();
        let position = (self.shard.sessions.slots(), self.pace.now);
        let mut outlet = Outlet {
            me: self.context.id,
            backend: &mut self.backend,
            sessions: &self.shard.sessions,
            reloadable: &self.reloadable,
            metrics: &self.metrics,
            slow: &mut self.slow,
            now: self.pace.now,
            sheds: self.pace.memory.level >= Level::Shed,
        };
        let made = self.shard.fanouts.run(&mut self.shard.rooms, position, slice, |delivery| {
            if let Some(session) = outlet.sessions.at(delivery.session as usize) {
                outlet.deliver(session, delivery.push, delivery.exclude, delivery.filtered);
            }
        });
        self.pace.fanouts_rest = made == 0;
        self.close_slow();
        self.continue_bulk();
    }

    /// Deliveries of this turn: a quarter while others speak, for they wait until what is queued here has been handed over.
    fn slice(&self) -> usize {
        let slice = self.context.settings.fanout_slice;
        if self.pace.receives > 0 { (slice / 4).max(1) } else { slice }
    }

    fn close_slow(&mut self) {
        while let Some(connection) = self.slow.pop() {
            self.end_slow(connection, SlowReason::Stalled);
        }
    }
}
