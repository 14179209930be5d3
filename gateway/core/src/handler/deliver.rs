//! Pushes on their way to sessions.

use super::Handler;
use super::state::reserve::{Delivery, PUSH_SIZE_MAX};
use crate::address::{Address, Fingerprint};
use crate::context::{Context, Policy};
use crate::io::Io;
use crate::listener::Framing;
use crate::memory::Level;
use crate::message::{EncodedPush, Exclude, MessageClass, Origin};
use crate::metrics::{OperationClass, SlowReason};
use crate::router::fanout::{Progress, Target};
use crate::router::{Fanouts, HostedRooms};
use crate::session::{Session, Sessions};
use crate::settings::SlowConsumer;
use gateway_proto::codes::ErrorCode;
use netpoll::{Backend, ConnectionId, Priority, Queues, SendError, Timestamp};

/// The lowest operation that accept sets filter.
const FILTERED_MIN: i32 = 1000;

/// Fan-outs of a worker that keep what their pushes lie in: they end within a turn or two. Further
/// ones wait.
const FANOUTS_BY_REFERENCE: usize = 16;
/// Bytes of a push that is copied when it has to wait; a larger one only while receive buffers are
/// low. The same as the default of `memory.copy_break_bytes`.
const COPIED_SIZE_MAX: usize = 512;

/// What became of a push at one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    /// It is queued.
    Queued,
    /// It is not for this session: excluded, filtered, or closed.
    NotMeant,
    /// Its queue, or what all queues share, is full.
    NoRoom,
    /// What all queues share is full, and the receiver has taken all that its socket was given: in
    /// the next turn there is room.
    Later,
}

/// What one delivery needs of the worker, apart from the stores that a fan-out walks through.
struct Outlet<'w, B: Backend> {
    context: &'w Context,
    policy: &'w Policy,
    io: &'w mut Io<B>,
    sessions: &'w Sessions,
    state: &'w mut Delivery,
    now: Timestamp,
    /// Memory is short: see [`Level::Shed`].
    sheds: bool,
    /// A delivery that finds the store full may wait for the next turn.
    may_wait: bool,
}

impl<B: Backend> Outlet<'_, B> {
    /// Hands the push to one session. Room pushes are not `filtered`, as in goim.
    fn deliver(
        &mut self,
        session: &Session,
        push: &EncodedPush,
        exclude: Exclude,
        filtered: bool,
    ) -> Delivered {
        let connection = session.connection;
        if !session.is_open() || exclude.address == Some(Address::new(self.context.id, connection)) {
            return Delivered::NotMeant;
        }
        let filtered = filtered && push.operation() >= FILTERED_MIN;
        if filtered && !self.sessions.accept_sets.accepts(session.accepts(), push.operation()) {
            return Delivered::NotMeant;
        }
        if self.sheds && self.sheds_for_memory(connection, push) {
            self.io.metrics.memory_drops.add(u64::from(push.frames()));
            self.io.metrics.count_drop(push, false);
            return Delivered::NoRoom;
        }
        let bytes = match session.framing {
            Framing::WebSocket => push.for_websocket(),
            Framing::Tcp => push.for_tcp(),
        };
        let sent = self.io.send(connection, bytes, self.priority(push));
        match sent.or_else(|refused| self.send_from_reserve(connection, push, refused)) {
            Ok(()) => {
                let frames = u64::from(push.frames());
                self.io.metrics.deliveries[push.class() as usize].add(frames);
                self.io.metrics.count_sent_frames(OperationClass::Push, frames, push.frames_size());
                Delivered::Queued
            }
            Err(SendError::Closed(_)) => Delivered::NotMeant,
            Err(SendError::Full(_)) => {
                self.refused(connection, push);
                Delivered::NoRoom
            }
            // Other connections' queues fill the store, so this one is not to blame, whatever its
            // class says.
            Err(SendError::Exhausted(_)) => {
                if self.may_wait && !self.io.queues().is_waiting(connection) {
                    return Delivered::Later;
                }
                self.io.metrics.store_refusals.add(1);
                self.io.metrics.count_drop(push, false);
                Delivered::NoRoom
            }
        }
    }

    /// A push to many that was refused is queued all the same while the receiver keeps up, and such
    /// pushes alone have not filled their part of its queue (`super::reserve`).
    ///
    /// # Errors
    /// `refused`.
    fn send_from_reserve(
        &mut self,
        connection: ConnectionId,
        push: &EncodedPush,
        refused: SendError,
    ) -> Result<(), SendError> {
        let bytes = match &refused {
            SendError::Full(bytes) => bytes,
            SendError::Exhausted(bytes) if !self.may_wait || self.io.queues().is_waiting(connection) => bytes,
            SendError::Exhausted(_) | SendError::Closed(_) => return Err(refused),
        };
        let is_for_many = matches!(push.class(), MessageClass::Room | MessageClass::Broadcast);
        if !is_for_many || bytes.len() > PUSH_SIZE_MAX {
            return Err(refused);
        }
        let (queued, part) = (
            self.io.queues().queued_bytes(connection),
            self.priority(push).bytes_max(self.context.settings.send_queue_bytes_max),
        );
        let fills_its_part = queued <= part && queued + bytes.len() > part;
        let is_slow = self.io.queues().stalled_for(connection, self.now) >= self.policy.slow_consumer_timeout;
        if fills_its_part || is_slow || !self.state.reserve.take(connection, bytes.len(), self.now) {
            return Err(refused);
        }
        let copy = self.io.pools().copy(bytes).filter(|copy| copy.capacity() <= PUSH_SIZE_MAX);
        let Some(copy) = copy else { return Err(refused) };
        self.io.send(connection, copy.freeze(), Priority::Reply).map_err(|_| refused)
    }

    /// Memory is short: what may be dropped is not queued behind what a slow receiver has not taken
    /// yet.
    fn sheds_for_memory(&self, connection: ConnectionId, push: &EncodedPush) -> bool {
        self.policy.slow_consumer(push.class()) == SlowConsumer::Drop
            && self.io.queues().is_waiting(connection)
    }

    /// What a push may take of its receiver's queue.
    fn priority(&self, push: &EncodedPush) -> Priority {
        match (push.class(), self.policy.slow_consumer(push.class())) {
            (MessageClass::Reply, _) => Priority::Reply,
            (_, SlowConsumer::Close) => Priority::Push,
            (_, SlowConsumer::Drop) => Priority::Droppable,
        }
    }

    /// The receiver's queue is full: the policy for the class decides. A queue that a burst has
    /// filled makes no receiver slow: its socket is slow when it has taken nothing for a time.
    fn refused(&mut self, connection: ConnectionId, push: &EncodedPush) {
        let may_close = self.policy.slow_consumer(push.class()) == SlowConsumer::Close;
        let closes = may_close
            && self.io.queues().stalled_for(connection, self.now) >= self.policy.slow_consumer_timeout;
        self.io.metrics.count_drop(push, closes);
        if closes && self.state.slow.len() < self.state.slow.capacity() {
            self.state.slow.push(connection);
        }
    }
}

impl<B: Backend> Handler<B> {
    /// The way out for deliveries, beside the tables that a fan-out walks through.
    fn outlet(&mut self) -> (Outlet<'_, B>, &mut Fanouts, &mut HostedRooms) {
        let outlet = Outlet {
            context: &self.context,
            policy: &self.policy,
            io: &mut self.io,
            sessions: &self.shard.sessions,
            state: &mut self.delivery,
            now: self.turn.now,
            sheds: self.memory.state.level >= Level::Shed,
            may_wait: false,
        };
        (outlet, &mut self.shard.fanouts, &mut self.shard.hosted_rooms)
    }

    /// Delivers to one connection; says whether it got the push, or why there was no room for it.
    pub(crate) fn deliver(&mut self, connection: ConnectionId, push: &EncodedPush) -> Result<u32, ErrorCode> {
        let (mut outlet, _, _) = self.outlet();
        let session = outlet.sessions.get(connection);
        let delivered = session.map(|session| outlet.deliver(session, push, Exclude::default(), true));
        self.close_stalled_receivers();
        match delivered {
            Some(Delivered::Queued) => Ok(1),
            Some(Delivered::NoRoom | Delivered::Later) => Err(ErrorCode::BUSY),
            Some(Delivered::NotMeant) | None => Ok(0),
        }
    }

    /// Sessions that a push to everyone is for: those that accept its operation.
    fn accepting_count(&self, operation: i32) -> u32 {
        let sessions = &self.shard.sessions;
        match operation >= FILTERED_MIN {
            true => sessions.accept_sets.users_of(operation),
            false => sessions.open_count() as u32,
        }
    }

    /// Delivers to all sessions here, in slices.
    pub(crate) fn deliver_to_all(&mut self, push: EncodedPush, rate: u32, origin: Origin) {
        let receivers = self.accepting_count(push.operation());
        self.fan_out(Target::Everyone, push, Exclude::default(), rate);
        self.report(origin, Ok(receivers));
    }

    /// Delivers to the room's members here, in slices.
    pub(crate) fn deliver_room(&mut self, name: Fingerprint, push: EncodedPush, exclude: Exclude) {
        match self.shard.hosted_rooms.find(name) {
            Some(room) => self.fan_out(Target::Room(room), push, exclude, 0),
            None => self.outbox.places().return_room(self.context.id, name),
        }
    }

    /// A push that waits for later turns, copied into a block of its size where it is small or
    /// receive buffers are low, and as it is otherwise: one of 64 bytes may lie in a receive buffer
    /// of its sender's, or of another worker's, that is missing to all connections there.
    pub(super) fn copy_out(&mut self, push: EncodedPush) -> EncodedPush {
        push.kept(|bytes| {
            let (kept, is_copy) = self.io.pools().retain(bytes, COPIED_SIZE_MAX);
            self.io.metrics.waiting_copies.add(u64::from(is_copy));
            kept
        })
    }

    /// Begins a fan-out. Its sender has taken a place for it, so there is room.
    fn fan_out(&mut self, target: Target, push: EncodedPush, exclude: Exclude, rate: u32) {
        let now = self.turn.now;
        let rate = if self.turn.is_stopping() { 0 } else { rate };
        self.turn.fanouts_rest = false;
        let waits = self.shard.fanouts.len() >= FANOUTS_BY_REFERENCE;
        let push = if waits { self.copy_out(push) } else { push };
        let pushed =
            self.shard.fanouts.push(&mut self.shard.hosted_rooms, target, (push, exclude), rate, now);
        debug_assert!(pushed.is_ok(), "a push to many has a place");
        if let Err(push) = pushed {
            self.io.metrics.count_drop(&push, false);
        }
    }

    /// A slice of the fan-outs.
    pub(crate) fn run_fanouts(&mut self) {
        if self.shard.fanouts.is_empty() {
            return;
        }
        let slice = self.slice();
        let position = (self.shard.sessions.slots(), self.turn.now);
        let (mut outlet, fanouts, rooms) = self.outlet();
        let made = fanouts.run(rooms, position, slice, |delivery| {
            let session = outlet.sessions.at(delivery.session as usize);
            let delivered = session
                .map(|session| outlet.deliver(session, delivery.push, delivery.exclude, delivery.filtered));
            // The first of a turn never waits, so no receiver holds the others up.
            outlet.may_wait = true;
            if delivered == Some(Delivered::Later) { Progress::Again } else { Progress::Done }
        });
        self.turn.fanouts_rest = made == 0;
        self.close_stalled_receivers();
    }

    /// Deliveries of this turn: a quarter while others speak, for they wait until what is queued
    /// here has been handed over.
    fn slice(&self) -> usize {
        let slice = self.context.settings.fanout_slice;
        if self.turn.receives > 0 { (slice / 4).max(1) } else { slice }
    }

    fn close_stalled_receivers(&mut self) {
        while let Some(connection) = self.delivery.slow.pop() {
            self.close_slow(connection, SlowReason::Stalled);
        }
    }
}
