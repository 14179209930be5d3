//! The worker's turn.

use super::{Drain, Turn, Worker};
use crate::alloc_guard::thread_allocations;
use crate::message::{AuditEvent, AuditKind, ControlMessage, Message};
use crate::metrics::EndReason;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, CloseReason, Completion, ConnectionId, Timestamp};
use std::net::SocketAddr;
use std::time::Duration;

/// Messages of other workers handled in a turn at most.
const MESSAGES_PER_TURN: usize = 1024;
/// After so many messages to other workers a batch of completions is interrupted for what they have sent: for each message
/// two may come back, and they wait in the sender's memory where this worker's mailbox is full.
const EXCHANGE_EVERY: usize = 256;
/// Timers handled in a turn at most.
const TIMERS_PER_TURN: usize = 1024;
/// The longest wait: metrics stay fresh and a lost wake-up could not hurt for longer.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Clients of a draining worker sent away in a turn at most.
const DEPARTURES_PER_TURN: usize = 1024;
/// Rooms whose sizes are told to hosts in a turn at most.
const TOTALS_PER_TURN: usize = 1024;
/// How often hosts are told the sizes of rooms.
const TOTALS_EVERY: Duration = Duration::from_secs(1);

impl<B: Backend> Worker<B> {
    /// One turn: waits for at most `wait` (less when something is due earlier), then handles what there is.
    ///
    /// # Errors
    /// Only what makes the backend unusable.
    pub fn turn(&mut self, wait: Duration) -> std::io::Result<Turn> {
        let before = thread_allocations();
        let turned = self.take_turn(wait);
        self.allocations += thread_allocations() - before;
        turned
    }

    fn take_turn(&mut self, wait: Duration) -> std::io::Result<Turn> {
        let wait = self.doze(wait);
        let polled = self.backend.poll(wait, &mut self.batch);
        self.mailbox.finish_sleep();
        polled?;
        let timers_fire = self.take_time(self.batch.len());
        self.pace.relief_looks = 0;
        self.pace.memory = self.context.settings.memory.told();
        self.handle_batch();
        self.relieve_slots();
        self.handle_messages(MESSAGES_PER_TURN);
        self.run_fanouts();
        self.relieve_pressure();
        self.serve_block_requests();
        self.relieve_memory();
        self.give_up_places();
        self.pump_echoes();
        self.expire_timers(timers_fire);
        if timers_fire {
            self.expire_frames();
        }
        self.continue_sweep();
        self.continue_drain();
        self.tell_homes();
        self.handle_local();
        let stopped = self.part_from_others();
        self.post.flush();
        self.release_held();
        self.encoder.release();
        self.use_silence();
        self.finish_turn();
        Ok(if stopped && !self.post.has_waiting() { Turn::Stopped } else { Turn::Running })
    }

    pub(super) fn wait_time(&self, wait: Duration) -> Duration {
        if self.pace.lateness.hurries() {
            return Duration::ZERO; // what has come meanwhile is read before timers fire
        }
        if self.post.has_waiting() || self.is_stopping() {
            return wait.min(Duration::from_millis(1)); // another worker's mailbox is full, or the end is near
        }
        let wait = if self.held.is_empty() { wait } else { wait.min(Duration::from_millis(1)) };
        if !self.shard.fanouts.is_empty() {
            return if self.pace.fanouts_rest { wait.min(Duration::from_millis(1)) } else { Duration::ZERO };
        }
        let wait = wait.min(if self.echo.has_output() { Duration::from_millis(1) } else { WAIT_MAX });
        let totals_left = self.pace.totals_due <= self.pace.now && self.shard.rooms.has_changes();
        let hurries = totals_left || self.drain.is_some() || !self.sweeps.is_empty();
        let wait = if hurries { wait.min(Duration::from_millis(10)) } else { wait };
        let wait = self.until_places(wait);
        self.shard.sessions.timers.next_expiry(self.pace.now, wait)
    }

    fn handle_batch(&mut self) {
        let mut batch = std::mem::replace(&mut self.batch, netpoll::Completions::with_capacity(0));
        for completion in batch.drain() {
            match completion {
                Completion::Received { connection, buffer } => {
                    self.pace.receives += 1;
                    self.received(connection, buffer);
                }
                Completion::Accepted { connection, listener, peer } => {
                    self.accepted(connection, listener.0, peer)
                }
                Completion::Closed { connection, reason } => self.closed(connection, reason),
                // Queues are bounded and need no attention as they drain; and a gateway does not connect.
                Completion::Sent { .. } | Completion::Connected { .. } => {}
            }
            self.handle_local();
            if self.post.handed_over() >= EXCHANGE_EVERY {
                self.post.take_handed_over();
                self.handle_messages(2 * EXCHANGE_EVERY);
            }
        }
        self.batch = batch;
    }

    /// Messages to itself, as soon as they are there: the homes' answers to a login are worth no second turn.
    fn handle_local(&mut self) {
        while let Some(message) = self.post.next_local() {
            self.message(message);
        }
    }

    fn handle_messages(&mut self, max: usize) {
        for _ in 0..max {
            let Some(message) = self.mailbox.pop() else { return };
            self.message(message);
            self.handle_local();
        }
    }

    // --- connections -------------------------------------------------------------------------------------------------

    fn accepted(&mut self, connection: ConnectionId, listener: u8, peer: SocketAddr) {
        let kind = self.context.settings.listeners[usize::from(listener)].kind;
        let websocket = kind != crate::settings::ListenerKind::Tcp;
        let now = self.pace.now;
        self.shard.sessions.insert(connection, (listener, websocket), peer, now);
        let deadline = now + self.reloadable.auth_timeout;
        self.shard.sessions.timers.set(connection.index(), deadline);
        if let Some(count) = self.metrics.accepts.get(usize::from(listener)) {
            count.add(1);
            self.metrics.connections[usize::from(listener)].increment();
        }
        if self.is_stopping() {
            self.abort(connection, CloseCode::SHUTDOWN);
        } else if self.drain.is_some() {
            self.end(connection, CloseCode::SHUTDOWN, "the server is shutting down");
        } else if !self.has_memory_for_one() {
            self.refuse_for_memory(connection);
        }
        self.admit_from_address(connection, peer);
    }

    fn closed(&mut self, connection: ConnectionId, reason: CloseReason) {
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let listener = usize::from(session.listener);
        let end = match session.close_code() {
            Some(code) => EndReason::Code(code),
            None => EndReason::Transport(reason),
        };
        // Whom the server closes is not open any more, and was written down then; at a stop the reason is `local`.
        if session.is_open() {
            self.audit(connection, AuditKind::Disconnected(reason));
        }
        self.leave(connection);
        self.forget_stop(connection);
        self.echo.remove(connection);
        self.stop_lingering(connection);
        self.leave_address(connection);
        self.shard.sessions.remove(&mut self.shard.texts, connection);
        self.metrics.count_end(end);
        if let Some(count) = self.metrics.connections.get(listener) {
            count.decrement();
        }
    }

    pub(crate) fn audit(&self, connection: ConnectionId, kind: AuditKind) {
        if self.context.settings.audit {
            self.tell_control(connection, kind);
        }
    }

    /// Tells the control thread of it, whether there is a journal or not.
    pub(crate) fn tell_control(&self, connection: ConnectionId, kind: AuditKind) {
        let mid = match self.shard.sessions.get(connection).map(|session| session.user()) {
            Some(crate::session::User::Mid(mid)) => mid,
            _ => 0,
        };
        let event = AuditEvent { at: self.pace.now, address: self.address(connection), kind, mid };
        if !self.post.control(ControlMessage::Audit(event)) {
            self.metrics.audit_drops.add(1);
        }
    }

    // --- timers ------------------------------------------------------------------------------------------------------

    fn expire_timers(&mut self, fire: bool) {
        for _ in 0..if fire { TIMERS_PER_TURN } else { 0 } {
            let Some(index) = self.shard.sessions.timers.expire(self.pace.now) else { break };
            self.timer_fired(index);
        }
        let lag = self.shard.sessions.timers.lag(self.pace.now);
        self.metrics.timer_lag_nanos.set(lag.as_nanos() as u64);
    }

    /// How much of the time since then counts for no client, for the worker stood still.
    pub(crate) fn stood_still(&self, since: Timestamp) -> Duration {
        self.pace.lateness.stood_still(since)
    }

    /// Whether listeners are open: neither a drain nor the end has begun.
    pub(crate) fn takes_newcomers(&self) -> bool {
        self.drain.is_none() && !self.is_stopping()
    }

    // --- draining ----------------------------------------------------------------------------------------------------

    pub(crate) fn begin_drain(&mut self, over: Duration) {
        if self.drain.is_none() {
            self.backend.close_listeners();
            let slots = self.shard.sessions.slots();
            self.drain = Some(Drain { started: self.pace.now, over, cursor: 0, slots });
        }
    }

    /// Sends away as many clients as the time passed asks for, evenly over the drain's duration.
    fn continue_drain(&mut self) {
        let Some(mut drain) = self.drain else { return };
        let passed = self.pace.now.since(drain.started).as_secs_f64();
        let share = if drain.over.is_zero() { 1.0 } else { (passed / drain.over.as_secs_f64()).min(1.0) };
        let due = (share * drain.slots as f64).ceil() as usize;
        let due = due.min(drain.cursor + DEPARTURES_PER_TURN);
        while drain.cursor < due {
            if let Some(connection) = self.shard.sessions.at(drain.cursor).map(|session| session.connection) {
                self.send_away(connection);
            }
            drain.cursor += 1;
        }
        self.drain = Some(drain);
    }

    // --- the end of a turn -------------------------------------------------------------------------------------------

    /// Tells the homes of rooms how many members are here.
    pub(crate) fn tell_counts(&mut self) {
        let workers = self.post.workers();
        let worker = self.context.id;
        while let Some(change) = self.shard.rooms.next_count_change() {
            self.post.send(change.room.home(workers), Message::RoomMembers { worker, change });
        }
    }

    /// Tells the homes of rooms how many members are here, and as a home the hosts how many there are.
    fn tell_homes(&mut self) {
        self.tell_counts();
        if self.pace.now < self.pace.totals_due && !self.is_stopping() {
            return;
        }
        let me = self.context.id; // as the home it knows the sum itself, and better than a message that is under way
        for _ in 0..TOTALS_PER_TURN {
            let Some(room) = self.shard.rooms.next_total_change() else {
                self.pace.totals_due = self.pace.now + TOTALS_EVERY;
                return;
            };
            let (name, total) = (self.shard.rooms.name(room), self.shard.rooms.total(room));
            for host in self.shard.rooms.hosts(room).filter(|host| *host != me) {
                self.post.send(host, Message::RoomTotal { room: name, total });
            }
        }
    }

    /// Counts how long peers wait in the backlog because the table is full.
    fn note_accepting(&mut self, now: Timestamp) {
        let was_full_at = std::mem::replace(&mut self.pace.full_at, self.backend.is_full().then_some(now));
        if let Some(at) = was_full_at {
            self.metrics.accept_paused_nanos.add(now.since(at).as_nanos() as u64);
        }
        if was_full_at.is_some() != self.pace.full_at.is_some() {
            self.metrics.accept_pauses.add(u64::from(was_full_at.is_none()));
            self.metrics.accept_paused.set(u64::from(was_full_at.is_none()));
        }
    }

    fn finish_turn(&mut self) {
        let now = self.backend.now();
        self.note_accepting(now);
        let nanos = now.since(self.pace.now).as_nanos() as u64;
        self.metrics.turns.add(1);
        self.metrics.turn_time.record(nanos, 1);
        if self.pace.receives > 0 {
            self.metrics.receive_to_send.record(nanos, std::mem::take(&mut self.pace.receives));
        }
        if now >= self.pace.publish_due {
            self.pace.publish_due = now + Duration::from_millis(100);
            self.publish_metrics();
        }
    }
}
