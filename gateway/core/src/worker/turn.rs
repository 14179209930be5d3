//! The worker's turn.

use super::lifecycle::Lifecycle;
use super::{Turn, Worker};
use crate::alloc_guard::thread_allocations;
use crate::handler::Handler;
use crate::message::Message;
use netpoll::{Backend, Completion, Mailbox};
use std::time::Duration;

/// Messages of other workers handled in a turn at most.
const MESSAGES_PER_TURN: usize = 1024;
/// After so many messages to other workers a batch of completions is interrupted for what they have
/// sent: for each message two may come back, and they wait in the sender's memory where this
/// worker's mailbox is full.
const EXCHANGE_EVERY: usize = 256;
/// The longest wait: metrics stay fresh and a lost wake-up could not hurt for longer.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// The wait while something is retried: another worker's mailbox is full, an echo's queue is, the
/// end is near.
const RETRY: Duration = Duration::from_millis(1);
/// The wait while a sweep, a drain or the rooms' totals go on in slices.
const SLICE: Duration = Duration::from_millis(10);

impl<B: Backend> Worker<B> {
    /// One turn: waits for at most `wait` (less when something is due earlier), then handles what
    /// there is.
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
        let wait = self.begin_wait(wait);
        let polled = self.handler.io.poll(wait, &mut self.batch);
        self.inbox.finish_sleep();
        polled?;
        let timers_fire = self.handler.begin_turn(self.batch.len());
        self.handle_batch();
        let handler = &mut self.handler;
        handler.work_off();
        handler.relieve_slots();
        handle_messages(handler, &self.inbox, &mut self.lifecycle, MESSAGES_PER_TURN);
        handler.run_fanouts();
        handler.relieve();
        handler.pump_echoes();
        handler.expire(timers_fire);
        self.lifecycle.advance(handler);
        handler.report_room_sizes();
        handler.handle_local();
        let stopped = self.lifecycle.shutdown.advance(handler);
        handler.outbox.flush();
        handler.release_held();
        handler.io.release_block();
        self.trim_when_idle();
        self.publish();
        let is_over = stopped && !self.handler.outbox.has_waiting();
        Ok(if is_over { Turn::Stopped } else { Turn::Running })
    }

    /// How long the next poll may wait.
    pub(super) fn wait_time(&self, wait: Duration) -> Duration {
        let handler = &self.handler;
        let (turn, shard) = (&handler.turn, &handler.shard);
        if turn.lateness.reads_first() {
            return Duration::ZERO; // what has come meanwhile is read before timers fire
        }
        if !turn.backlog.is_empty() {
            return Duration::ZERO;
        }
        if handler.outbox.has_waiting() || turn.is_stopping() {
            return wait.min(RETRY);
        }
        let wait = if handler.held.is_empty() { wait } else { wait.min(RETRY) };
        if !shard.fanouts.is_empty() {
            return if turn.fanouts_rest { wait.min(RETRY) } else { Duration::ZERO };
        }
        let wait = wait.min(if handler.echo.has_work() { RETRY } else { WAIT_MAX });
        let totals_left = turn.totals_due <= turn.now
            && (shard.hosted_rooms.has_changes() || shard.home_rooms.has_changes());
        let wait = if totals_left || self.lifecycle.is_busy() { wait.min(SLICE) } else { wait };
        shard.sessions.timers.next_expiry(turn.now, handler.until_places(wait))
    }

    fn handle_batch(&mut self) {
        for completion in self.batch.drain() {
            let handler = &mut self.handler;
            match completion {
                Completion::Received { connection, buffer } => {
                    handler.turn.receives += 1;
                    handler.received(connection, buffer);
                }
                Completion::Accepted { connection, listener, peer } => {
                    handler.accepted(connection, listener.0, peer);
                }
                Completion::PeerFinished { connection } => handler.peer_finished(connection),
                Completion::Closed { connection, reason } => handler.closed(connection, reason),
                // It has read all of its answers.
                Completion::Sent { connection } => {
                    handler.still_awaits_uptake(connection);
                }
                Completion::Connected { .. } => {} // a gateway does not connect
            }
            handler.handle_local();
            if handler.outbox.handed_over() >= EXCHANGE_EVERY {
                handler.outbox.take_handed_over();
                handle_messages(handler, &self.inbox, &mut self.lifecycle, 2 * EXCHANGE_EVERY);
            }
        }
    }
}

/// Messages of other workers and of the control thread, at most `max`.
fn handle_messages<B: Backend>(
    handler: &mut Handler<B>,
    inbox: &Mailbox<Message>,
    lifecycle: &mut Lifecycle,
    max: usize,
) {
    for _ in 0..max {
        let Some(message) = inbox.pop() else { return };
        lifecycle.message(handler, message);
    }
}
