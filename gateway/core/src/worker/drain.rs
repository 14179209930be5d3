//! A drain: clients are sent away, evenly over its duration, and the listeners are closed.

use crate::handler::{Handler, Stage};
use netpoll::{Backend, Timestamp};
use std::time::Duration;

/// Clients that are sent away in a turn at most.
const DEPARTURES_PER_TURN: usize = 1024;

/// A draining worker's progress.
#[derive(Debug)]
pub(super) struct Drain {
    started: Timestamp,
    over: Duration,
    /// Slots visited so far, and slots to visit.
    cursor: usize,
    slots: usize,
}

impl Drain {
    /// Closes the listeners; what is connected now leaves within `over`.
    pub(super) fn begin<B: Backend>(handler: &mut Handler<B>, over: Duration) -> Drain {
        handler.io.close_listeners();
        if handler.turn.stage == Stage::Serving {
            handler.turn.stage = Stage::Draining;
        }
        Drain { started: handler.turn.now, over, cursor: 0, slots: handler.shard.sessions.slots() }
    }

    /// Sends away as many clients as the time passed asks for.
    pub(super) fn advance<B: Backend>(&mut self, handler: &mut Handler<B>) {
        let passed = handler.turn.now.since(self.started).as_secs_f64();
        let share = if self.over.is_zero() { 1.0 } else { (passed / self.over.as_secs_f64()).min(1.0) };
        let due = (share * self.slots as f64).ceil() as usize;
        let due = due.min(self.cursor + DEPARTURES_PER_TURN);
        while self.cursor < due {
            if let Some(session) = handler.shard.sessions.at(self.cursor) {
                handler.send_away(session.connection);
            }
            self.cursor += 1;
        }
    }
}
