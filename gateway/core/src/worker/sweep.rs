//! Closing many connections at once, some in each turn: a kick of all, or of those that came with
//! certain tokens.

use crate::handler::Handler;
use crate::message::{Filter, Origin};
use crate::session::{Phase, Session};
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{Backend, Fifo, SharedBuffer};

/// Slots looked at in a turn at most.
const SLOTS_PER_TURN: usize = 1024;

/// Sweeps that may wait for one another. The control thread orders no further one before a sweep is
/// reported.
pub const SWEEPS_MAX: usize = 8;

/// A sweep and how far it is.
#[derive(Debug)]
struct Sweep {
    filter: Filter,
    code: CloseCode,
    reason: Option<SharedBuffer>,
    ticket: u64,
    /// The next slot, and how many connections were closed.
    cursor: usize,
    closed: u32,
}

impl Filter {
    fn includes(self, session: &Session) -> bool {
        let is_logged_in = matches!(session.phase, Phase::Registering | Phase::Open);
        match self {
            Filter::All => session.phase != Phase::Closing,
            Filter::TokenKey(number) => is_logged_in && number > 0 && session.key_number() == number,
            Filter::IssuedBefore(time) => is_logged_in && session.issued_at > 0 && session.issued_at < time,
        }
    }
}

/// The sweeps of a worker, one after the other.
#[derive(Debug)]
pub(super) struct Sweeps(Fifo<Sweep>);

impl Sweeps {
    pub(super) fn new() -> Sweeps {
        Sweeps(Fifo::with_capacity(SWEEPS_MAX))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins a sweep behind those that are under way.
    pub(super) fn begin<B: Backend>(
        &mut self,
        handler: &mut Handler<B>,
        filter: Filter,
        (code, reason): (CloseCode, Option<SharedBuffer>),
        ticket: u64,
    ) {
        if self.0.len() == SWEEPS_MAX {
            return handler.report(Origin::Control { ticket }, Err(ErrorCode::BUSY));
        }
        self.0.push_back(Sweep { filter, code, reason, ticket, cursor: 0, closed: 0 });
    }

    /// A part of the first sweep.
    pub(super) fn advance<B: Backend>(&mut self, handler: &mut Handler<B>) {
        let Some(mut sweep) = self.0.pop_front() else { return };
        let end = handler.shard.sessions.slots().min(sweep.cursor + SLOTS_PER_TURN);
        while sweep.cursor < end {
            let session = handler.shard.sessions.at(sweep.cursor);
            if let Some(session) = session.filter(|session| sweep.filter.includes(session)) {
                handler.kick(session.connection, sweep.code, sweep.reason.as_ref());
                sweep.closed += 1;
            }
            sweep.cursor += 1;
        }
        if sweep.cursor < handler.shard.sessions.slots() {
            self.0.push_front(sweep);
        } else {
            handler.report(Origin::Control { ticket: sweep.ticket }, Ok(sweep.closed));
        }
    }
}
