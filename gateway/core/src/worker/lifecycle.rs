//! What concerns the worker as a whole: sweeps over all connections, the drain, the shutdown, and
//! memory that is given back.

use super::drain::Drain;
use super::shutdown::Shutdown;
use super::sweep::Sweeps;
use crate::handler::Handler;
use crate::message::{KickTarget, Message};
use netpoll::{Backend, Timestamp};

/// How long the worker has been without connections. The default: one was there just now.
#[derive(Debug, Default)]
pub(super) struct IdleTrim {
    /// When tables are looked at next.
    pub(super) due: Option<Timestamp>,
    /// The backend has given back what it has.
    pub(super) backend_is_trimmed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) drain: Option<Drain>,
    pub(super) sweeps: Sweeps,
    pub(super) shutdown: Shutdown,
    pub(super) idle_trim: IdleTrim,
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            drain: None,
            sweeps: Sweeps::new(),
            shutdown: Shutdown::default(),
            idle_trim: IdleTrim::default(),
        }
    }

    /// Handles one message, and those to this worker itself that follow from it.
    pub(super) fn message<B: Backend>(&mut self, handler: &mut Handler<B>, message: Message) {
        match message {
            Message::Kick { target: KickTarget::Many(filter), code, reason, ticket } => {
                self.sweeps.begin(handler, filter, (code, reason), ticket);
            }
            Message::Drain { over } => {
                self.drain.get_or_insert_with(|| Drain::begin(handler, over));
            }
            Message::Stop => self.shutdown.begin(handler),
            Message::Shutdown(phase) => self.shutdown.heard(phase),
            message => handler.message(message),
        }
        handler.handle_local();
    }

    /// A part of the first sweep, and of the drain.
    pub(super) fn advance<B: Backend>(&mut self, handler: &mut Handler<B>) {
        self.sweeps.advance(handler);
        if let Some(drain) = &mut self.drain {
            drain.advance(handler);
        }
    }

    /// Whether a part of a sweep or of the drain is due in the next turn.
    pub(super) fn is_busy(&self) -> bool {
        self.drain.is_some() || !self.sweeps.is_empty()
    }
}
