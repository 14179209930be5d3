//! Closing many connections at once, some in each turn: a kick of all, or of those that came with certain tokens.

use super::Worker;
use crate::message::{Filter, Origin};
use crate::session::{Phase, Session};
use gateway_proto::codes::{CloseCode, ErrorCode};
use netpoll::{Backend, SharedBuffer};

/// Slots looked at in a turn at most.
const SLOTS_PER_TURN: usize = 1024;

/// Sweeps that may wait for one another. The control thread orders no further one before a sweep is reported.
pub(crate) const SWEEPS_MAX: usize = 8;

/// A sweep and how far it is.
#[derive(Debug)]
pub(crate) struct Sweep {
    filter: Filter,
    code: CloseCode,
    reason: Option<SharedBuffer>,
    ticket: u64,
    /// The next slot, and how many connections were closed.
    cursor: usize,
    closed: u32,
}

impl Filter {
    fn is_of(self, session: &Session) -> bool {
        let is_logged_in = matches!(session.phase, Phase::Registering | Phase::Open);
        match self {
            Filter::All => session.phase != Phase::Closing,
            Filter::TokenKey(number) => is_logged_in && number > 0 && session.key_number() == number,
            Filter::IssuedBefore(time) => is_logged_in && session.issued_at > 0 && session.issued_at < time,
        }
    }
}

impl<B: Backend> Worker<B> {
    /// Begins a sweep behind those that are under way.
    pub(crate) fn begin_sweep(
        &mut self,
        filter: Filter,
        code: CloseCode,
        reason: Option<SharedBuffer>,
        ticket: u64,
    ) {
        if self.sweeps.len() == SWEEPS_MAX {
            return self.report(Origin::Control { ticket }, Err(ErrorCode::BUSY));
        }
        self.sweeps.push_back(Sweep { filter, code, reason, ticket, cursor: 0, closed: 0 });
    }

    /// A part of the first sweep.
    pub(super) fn continue_sweep(&mut self) {
        let Some(mut sweep) = self.sweeps.pop_front() else { return };
        let end = self.shard.sessions.slots().min(sweep.cursor + SLOTS_PER_TURN);
        while sweep.cursor < end {
            let session = self.shard.sessions.at(sweep.cursor).filter(|session| sweep.filter.is_of(session));
            if let Some(connection) = session.map(|session| session.connection) {
                self.kick(connection, sweep.code, sweep.reason.as_ref());
                sweep.closed += 1;
            }
            sweep.cursor += 1;
        }
        if sweep.cursor < self.shard.sessions.slots() {
            self.sweeps.push_front(sweep);
        } else {
            self.report(Origin::Control { ticket: sweep.ticket }, Ok(sweep.closed));
        }
    }
}
