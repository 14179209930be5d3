//! The end of a worker: none leaves while another may still want something of it.
//!
//! A worker is a home for the names of others' connections, so it goes on with its turns after its
//! own connections are gone. Two phases are announced, and messages between two workers keep their
//! order:
//!
//! 1. [`ShutdownPhase::NoConnection`]: no request follows from this host.
//! 2. [`ShutdownPhase::NothingMore`]: this home has heard that of all; no answer follows from it.
//!
//! A worker that has heard both of all others has an empty mailbox for good and empty tables. A
//! worker that died announces nothing; the others wait for it for [`PATIENCE`]. The verifier
//! answers each token that it was given, so a worker also waits for the verdicts that are due,
//! although their connections are gone.

use crate::address::WorkerId;
use crate::handler::{Handler, Stage};
use crate::message::{Message, ShutdownPhase};
use netpoll::{Backend, Introspect, Timestamp};
use std::time::Duration;

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a stopping worker is.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    since: Option<Timestamp>,
    /// Phases announced.
    announced: u8,
    /// Workers that have announced each phase.
    heard: [usize; 2],
}

impl Shutdown {
    /// Closes everything; the end comes when the other workers have done so, too.
    pub(super) fn begin<B: Backend>(&mut self, handler: &mut Handler<B>) {
        self.since.get_or_insert(handler.turn.now);
        handler.turn.stage = Stage::Stopping;
        handler.io.close_listeners();
        handler.shard.fanouts.hurry();
        for index in 0..handler.shard.sessions.slots() {
            if let Some(session) = handler.shard.sessions.at(index) {
                // Its `Closed` gives up what it holds, and is audited.
                handler.io.close(session.connection);
            }
        }
    }

    /// Another worker has announced a phase.
    pub(super) fn heard(&mut self, phase: ShutdownPhase) {
        self.heard[phase as usize] += 1;
    }

    /// Announces what can be announced at the end of this turn; true when this was the last one.
    pub(super) fn advance<B: Backend>(&mut self, handler: &mut Handler<B>) -> bool {
        let Some(since) = self.since else { return false };
        if handler.io.queues().connection_count() > 0 {
            return false;
        }
        let others = handler.outbox.workers() - 1;
        if self.announced == 0 && owes_nothing(handler) {
            self.announce(handler, ShutdownPhase::NoConnection);
        }
        if self.announced == 1 && self.heard[0] >= others && owes_nothing(handler) {
            self.announce(handler, ShutdownPhase::NothingMore);
        }
        let complete = self.announced == 2
            && self.heard[1] >= others
            && owes_nothing(handler)
            && handler.shard.fanouts.is_empty()
            && !handler.outbox.has_waiting();
        complete || handler.turn.now >= since + PATIENCE
    }

    fn announce<B: Backend>(&mut self, handler: &mut Handler<B>, phase: ShutdownPhase) {
        self.announced += 1;
        for worker in (0..handler.outbox.workers() as u8).map(WorkerId) {
            if worker != handler.outbox.me() {
                handler.outbox.send(worker, Message::Shutdown(phase));
            }
        }
    }
}

/// Whether no message, room count, sum or verdict is still due.
fn owes_nothing<B: Backend>(handler: &Handler<B>) -> bool {
    !handler.outbox.has_local()
        && !handler.shard.hosted_rooms.has_changes()
        && !handler.shard.home_rooms.has_changes()
        && handler.shard.receipts.is_empty()
        && handler.verdicts.due() == 0
}
