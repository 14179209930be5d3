//! What all backends have in common: the life of a connection, from its first state to the `Closed`
//! that ends it.
//!
//! ```text
//!   Reserved ─► Open ─► Finishing ─► Finished ─► Ended (─► Closing)   queue, FIN, peer's FIN
//!   Connecting ─┘└────► PeerFinished ──────────► Ended (─► Closing)   peer's FIN, queue, end
//! ```
//!
//! The peer's FIN is reported behind the bytes before it. The connection ends in a later poll: once
//! the owner has had the batch, receives (a stop holds the end back), and has nothing queued.
//!
//! A backend moves bytes. [`Common`] keeps what waits to be sent, decides which state follows, and
//! remembers what is to be reported. The system calls (or submissions) that belong to a step are
//! the backend's: methods here return what is to be done.
//!
//! Invariants: a connection is in the waiting list (`Life::place`) from the first send that its
//! socket did not take whole until its queue is empty or it has ended. A connection that has ended
//! has nothing queued.

mod handover;

use crate::connection_table::ConnectionTable;
use crate::discarding::Discards;
use crate::fifo::Fifo;
use crate::send_queue::SendQueue;
use crate::{
    BackendConfig, BackendCounters, BufferPools, CloseReason, Completion, Completions, ConnectionId,
    LastCopy, Phase, PieceStore, PoolId, PoolSet, Priority, Refusal, ReleaseError, SendError, SendStoreLevel,
    SharedBuffer, Timestamp, Waiting,
};
use std::io;
use std::time::Duration;

/// The state of a connection. See the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// io_uring only: the slot is kept free for an accept in flight.
    Reserved,
    Connecting,
    Open,
    Finishing,
    Finished,
    PeerFinished,
    /// `Closed` is to be reported; with io_uring, the close is to be submitted.
    Ended,
    /// io_uring only: the close is submitted, and completions of operations in flight are
    /// outstanding.
    Closing,
}

impl State {
    pub(crate) fn receives(self) -> bool {
        matches!(self, State::Open | State::Finishing | State::Finished)
    }

    pub(crate) fn sends(self) -> bool {
        matches!(self, State::Open | State::Finishing | State::PeerFinished)
    }

    pub(crate) fn takes_sends(self) -> bool {
        matches!(self, State::Connecting | State::Open | State::PeerFinished)
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, State::Ended | State::Closing)
    }
}

/// The place of a connection that is not in the waiting list.
const NOWHERE: u32 = u32::MAX;

/// The part of a connection's slot that all backends have.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) state: State,
    /// The reason that `Closed` will have: `Local` once the owner has finished, whichever side
    /// ended first.
    reason: CloseReason,
    /// The socket took less than was offered. Room to send ends this.
    pub(crate) send_waits: bool,
    /// Index in the waiting list.
    place: u32,
    pub(crate) queue: SendQueue,
}

const _: () = assert!(size_of::<Life>() == 20);

impl Life {
    pub(crate) fn new(state: State) -> Life {
        let reason = CloseReason::PeerClosed;
        Life { state, reason, send_waits: false, place: NOWHERE, queue: SendQueue::new() }
    }

    /// The life of an adopted connection.
    pub(crate) fn resumed(phase: Phase) -> Life {
        let (state, reason) = match phase {
            Phase::Open => (State::Open, CloseReason::PeerClosed),
            Phase::Finishing => (State::Finishing, CloseReason::Local),
            Phase::Finished => (State::Finished, CloseReason::Local),
            Phase::PeerFinished => (State::PeerFinished, CloseReason::PeerClosed),
            Phase::BothFinishing => (State::PeerFinished, CloseReason::Local),
        };
        Life { reason, ..Life::new(state) }
    }

    /// How far the life has come, for a successor.
    fn phase(&self) -> Result<Phase, ReleaseError> {
        Ok(match (self.state, self.reason) {
            (State::Open, _) => Phase::Open,
            (State::Finishing, _) => Phase::Finishing,
            (State::Finished, _) => Phase::Finished,
            (State::PeerFinished, CloseReason::Local) => Phase::BothFinishing,
            (State::PeerFinished, _) => Phase::PeerFinished,
            (State::Connecting, _) => return Err(ReleaseError::Connecting),
            (State::Reserved | State::Ended | State::Closing, _) => return Err(ReleaseError::Gone),
        })
    }

    pub(crate) fn reason(&self) -> CloseReason {
        self.reason
    }

    /// Whether the socket has taken less than was offered, and the queue has not been empty since.
    pub(crate) fn is_waiting(&self) -> bool {
        self.place != NOWHERE
    }

    /// Whether the owner may send more.
    fn awaits_sent(&self) -> bool {
        match self.state {
            State::Open => true,
            State::PeerFinished => self.reason != CloseReason::Local,
            _ => false,
        }
    }
}

/// A backend's slot: a [`Life`] and what the backend adds to it.
pub(crate) trait Slot {
    fn life(&self) -> &Life;
    fn life_mut(&mut self) -> &mut Life;
    /// Whether the owner has stopped receiving.
    fn is_stopped(&self) -> bool;
}

/// A fact to report that did not come out of a receive or an accept.
#[derive(Clone, Copy)]
pub(crate) enum Notice {
    Connected(ConnectionId),
    Sent(ConnectionId),
    Closed(ConnectionId, CloseReason),
}

impl From<Notice> for Completion {
    fn from(notice: Notice) -> Completion {
        match notice {
            Notice::Connected(connection) => Completion::Connected { connection },
            Notice::Sent(connection) => Completion::Sent { connection },
            Notice::Closed(connection, reason) => Completion::Closed { connection, reason },
        }
    }
}

/// What follows when a queue runs empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emptied {
    Nothing,
    /// The last message has left: FIN is to follow.
    Shut,
    /// Both sides have finished.
    End(CloseReason),
}

/// What follows from the peer's FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerFinish {
    /// It was known, or the queue comes first.
    Nothing,
    /// The FIN is reported; whether the connection ends is asked again in the next poll.
    Reported,
    /// Both sides have finished.
    End(CloseReason),
}

/// What follows from the owner's `finish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The connection is closing already, or gone.
    Ignored,
    /// The connection was never open, so there is no peer to send to.
    End,
    /// What is queued is to be sent, and what the peer still sends is to be received.
    Flush,
}

/// Connections with their queues, and the facts to be reported about them.
pub(crate) struct Common<S> {
    pub(crate) table: ConnectionTable<S>,
    /// Facts to be reported before anything else.
    pub(crate) notices: Fifo<Notice>,
    pub(crate) pieces: PieceStore,
    pub(crate) discards: Discards,
    waiting: Vec<Waiting>,
    /// The present, as precisely as the waiting list needs it: see [`Common::note_time`].
    now: Timestamp,
    moved: LastCopy,
    pub(crate) pools: BufferPools,
    pub(crate) counters: BackendCounters,
    send_queue_bytes_max: usize,
    copy_break: usize,
}

impl<S: Slot> Common<S> {
    /// Bytes of user space that a connection takes here, including its entries in the lists.
    pub(crate) const BYTES_PER_CONNECTION: usize =
        ConnectionTable::<S>::BYTES_PER_SLOT + 2 * size_of::<Notice>() + size_of::<Waiting>();

    /// Reserves everything that `config` names, for `slots` connections.
    pub(crate) fn new(config: &BackendConfig, slots: usize) -> io::Result<Common<S>> {
        Ok(Common {
            table: ConnectionTable::with_capacity(slots),
            // For each connection at most one Closed, and one Connected or Sent before it.
            notices: Fifo::with_capacity(2 * slots),
            pieces: PieceStore::new(slots, config.send_pieces_shared),
            discards: Discards::new(slots),
            waiting: Vec::with_capacity(slots),
            now: Timestamp::ZERO,
            moved: LastCopy::default(),
            pools: BufferPools::new(&config.pools)?,
            counters: BackendCounters::default(),
            send_queue_bytes_max: config.send_queue_bytes_max,
            copy_break: config.copy_break,
        })
    }

    /// Returns the memory of what is empty to the system.
    pub(crate) fn trim(&mut self) {
        self.trim_table();
        self.notices.trim();
        self.pieces.trim();
        self.discards.trim();
        crate::release_spare(&mut self.waiting);
        self.pools.trim();
    }

    /// Lets the table start over if it is empty.
    pub(crate) fn trim_table(&mut self) {
        self.counters.renewals += u64::from(self.table.trim());
    }

    // --- sending ---

    /// Queues a send and returns the slot, in which the backend notes that there is something to
    /// do.
    pub(crate) fn queue(
        &mut self,
        id: ConnectionId,
        buffer: SharedBuffer,
        priority: Priority,
    ) -> Result<&mut S, SendError> {
        let Some(slot) = self.table.get_mut(id).filter(|slot| slot.life().state.takes_sends()) else {
            return Err(SendError::Closed(buffer));
        };
        let life = slot.life_mut();
        let mut bytes_max = priority.bytes_max(self.send_queue_bytes_max);
        let pushed = if life.is_waiting() {
            let Common { pools, moved, counters, copy_break, .. } = self;
            let (copy_break, copies) = (*copy_break, &mut counters.send_copies);
            if priority.is_of_others() {
                bytes_max = bytes_max.min(pools.waiting_bytes_max());
                let keep = |buffer| moved.keep_if_plenty(buffer, pools, copy_break, copies);
                life.queue.push(&mut self.pieces, buffer, bytes_max, priority, keep)
            } else if life.queue.append_answer(&mut self.pieces, &buffer, bytes_max, (pools, copy_break)) {
                *copies += 1;
                return Ok(slot);
            } else {
                let queued = life.queue.bytes();
                let keep = |buffer| {
                    let (kept, copied) = pools.retain_answer(buffer, copy_break, queued);
                    *copies += u64::from(copied);
                    Ok(kept)
                };
                life.queue.push(&mut self.pieces, buffer, bytes_max, priority, keep)
            }
        } else {
            life.queue.push(&mut self.pieces, buffer, bytes_max, priority, Ok)
        };
        match pushed {
            Ok(()) => Ok(slot),
            Err((Refusal::Queue, buffer)) => Err(SendError::Full(buffer)),
            Err((Refusal::Store, buffer)) => Err(SendError::Exhausted(buffer)),
        }
    }

    /// Queues `last`, and accepts nothing after it: the owner has finished.
    pub(crate) fn finish(&mut self, id: ConnectionId, last: Option<SharedBuffer>) -> Finish {
        let Some(slot) = self.table.get_mut(id).filter(|slot| slot.life().state.takes_sends()) else {
            return Finish::Ignored;
        };
        let life = slot.life_mut();
        if let Some(last) = last {
            // A full store of pieces loses the last message, not the close. An empty queue always
            // gets a piece.
            let _ = life.queue.push(&mut self.pieces, last, usize::MAX, Priority::Last, Ok);
        }
        life.reason = CloseReason::Local;
        match life.state {
            State::Connecting => return Finish::End,
            State::Open => life.state = State::Finishing,
            _ => {} // the peer has finished already: gone when the queue is empty
        }
        Finish::Flush
    }

    /// Drops what is queued behind the first `offered` bytes, of which the socket may have taken
    /// some, and behind the piece that is next; passes it to `dropped`. The last message of an
    /// owner that has finished stays.
    pub(crate) fn drop_unsent(&mut self, id: ConnectionId, offered: usize, dropped: &mut dyn FnMut(&[u8])) {
        if let Some(slot) = self.table.get_mut(id).filter(|slot| slot.life().state.takes_sends()) {
            slot.life_mut().queue.cut_behind(&mut self.pieces, offered, dropped);
        }
    }

    /// Drops the first `count` queued bytes: the socket has taken them.
    pub(crate) fn sent(&mut self, id: ConnectionId, count: usize) {
        let Some(slot) = self.table.get_mut(id) else { return };
        self.counters.send_bytes += count as u64;
        let life = slot.life_mut();
        life.queue.advance(&mut self.pieces, count);
        if count > 0 && life.is_waiting() {
            self.waiting[life.place as usize] = Waiting::new(id, self.now);
        }
    }

    /// Ends a round of sends, before the wait: the copy that was made last is no longer kept.
    pub(crate) fn end_sends(&mut self) {
        self.moved.clear();
    }

    /// Sets the present to what `now` returns: before sends are tried, and again before their
    /// results are taken in. Calls `now` only while a connection waits.
    pub(crate) fn note_time(&mut self, now: impl FnOnce() -> Timestamp) {
        self.end_sends();
        if !self.waiting.is_empty() {
            self.now = now();
        }
    }

    /// Notes that the socket took less than was offered.
    pub(crate) fn send_must_wait(&mut self, id: ConnectionId, now: impl FnOnce() -> Timestamp) {
        let Some(slot) = self.table.get_mut(id) else { return };
        slot.life_mut().send_waits = true;
        if !slot.life().is_waiting() {
            self.now = now();
            self.begin_waiting(id);
        }
        let Some(slot) = self.table.get_mut(id) else { return };
        let life = slot.life_mut();
        self.counters.send_waits += 1;
        self.counters.send_copies += life.queue.retain(&mut self.pieces, &mut self.pools, self.copy_break);
    }

    /// Handles an empty queue: the socket has taken everything. Where the peer has finished, the
    /// owner has had every batch that was reported.
    pub(crate) fn queue_emptied(&mut self, id: ConnectionId) -> Emptied {
        let Some(slot) = self.table.get_mut(id) else { return Emptied::Nothing };
        let is_stopped = slot.is_stopped();
        let life = slot.life_mut();
        match life.state {
            State::Open => {
                self.report_sent(id);
                Emptied::Nothing
            }
            State::Finishing => {
                life.state = State::Finished;
                self.stop_waiting(id);
                Emptied::Shut
            }
            State::PeerFinished if life.reason == CloseReason::Local || !is_stopped => {
                Emptied::End(life.reason)
            }
            State::PeerFinished => {
                self.report_sent(id);
                Emptied::Nothing // the resume asks again
            }
            _ => Emptied::Nothing,
        }
    }

    /// The queue is empty again: reports that, if it had to wait.
    fn report_sent(&mut self, id: ConnectionId) {
        if self.is_waiting(id) {
            self.stop_waiting(id);
            self.notices.push_back(Notice::Sent(id));
        }
    }

    fn begin_waiting(&mut self, id: ConnectionId) {
        let Some(slot) = self.table.get_mut(id) else { return };
        slot.life_mut().place = self.waiting.len() as u32;
        self.waiting.push(Waiting::new(id, self.now));
    }

    fn stop_waiting(&mut self, id: ConnectionId) {
        let Some(life) = self.table.get_mut(id).map(Slot::life_mut).filter(|life| life.is_waiting()) else {
            return;
        };
        let place = std::mem::replace(&mut life.place, NOWHERE);
        self.waiting.swap_remove(place as usize);
        let moved = self.waiting.get(place as usize);
        if let Some(moved) = moved.and_then(|moved| self.table.get_mut(moved.connection)) {
            moved.life_mut().place = place;
        }
    }

    /// Whether a connection is in the waiting list.
    pub(crate) fn is_waiting(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|slot| slot.life().is_waiting())
    }

    /// The waiting list: each connection once, in no order.
    pub(crate) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// How long the socket of a connection in the waiting list has taken nothing.
    pub(crate) fn stalled_for(&self, id: ConnectionId, now: Timestamp) -> Duration {
        let place = self.table.get(id).map_or(NOWHERE, |slot| slot.life().place);
        self.waiting.get(place as usize).map_or(Duration::ZERO, |waiting| waiting.stalled_for(now))
    }

    /// Pieces queued for a connection.
    pub(crate) fn queued_pieces(&self, id: ConnectionId) -> usize {
        self.table.get(id).map_or(0, |slot| self.pieces.count(slot.life().queue.list()))
    }

    /// How full the shared part of the store of pieces is.
    pub(crate) fn send_store(&self) -> SendStoreLevel {
        let shares = self.pieces.shares();
        SendStoreLevel { used: shares.used(), max: shares.max() }
    }

    /// Bytes queued for a connection.
    pub(crate) fn queued_bytes(&self, id: ConnectionId) -> usize {
        self.table.get(id).map_or(0, |slot| slot.life().queue.bytes())
    }

    /// Bytes of the blocks of `pools` that wait for a connection.
    pub(crate) fn queued_blocks(&self, id: ConnectionId, pools: PoolSet) -> usize {
        let Some(slot) = self.table.get(id) else { return 0 };
        let is_counted = |piece: &SharedBuffer| self.pools.is_shared_of(piece, pools);
        self.pieces.block_bytes(slot.life().queue.list(), is_counted)
    }

    /// Bytes of the blocks of `pool`, which may belong to another owner, that wait for a
    /// connection.
    pub(crate) fn queued_blocks_of(&self, id: ConnectionId, pool: PoolId) -> usize {
        let Some(slot) = self.table.get(id) else { return 0 };
        let is_counted = |piece: &SharedBuffer| piece.pool() == pool;
        self.pieces.block_bytes(slot.life().queue.list(), is_counted)
    }

    // --- ending ---

    /// Handles the peer's FIN, which lies behind all of its bytes: reports it to an owner that has
    /// not finished. Called with room in the batch.
    pub(crate) fn peer_finished(&mut self, id: ConnectionId, batch: &mut Completions) -> PeerFinish {
        let Some(life) = self.table.get_mut(id).map(Slot::life_mut) else { return PeerFinish::Nothing };
        match life.state {
            State::Open => {
                life.state = State::PeerFinished;
                batch.push(Completion::PeerFinished { connection: id });
                PeerFinish::Reported
            }
            State::Finishing if !life.queue.is_empty() => {
                life.state = State::PeerFinished;
                PeerFinish::Nothing
            }
            State::Finishing | State::Finished => PeerFinish::End(life.reason),
            _ => PeerFinish::Nothing,
        }
    }

    /// Drops what is queued; false when the connection has ended before.
    pub(crate) fn end(&mut self, id: ConnectionId, reason: CloseReason) -> bool {
        let Some(slot) = self.table.get_mut(id) else { return false };
        let life = slot.life_mut();
        if life.state.is_over() || life.state == State::Reserved {
            return false;
        }
        life.state = State::Ended;
        life.reason = reason;
        life.queue.clear(&mut self.pieces);
        self.stop_waiting(id);
        true
    }

    /// The next fact to report.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        loop {
            match self.notices.pop_front()? {
                // A finished or closed connection does not need `Sent`.
                Notice::Sent(id) if !self.table.get(id).is_some_and(|slot| slot.life().awaits_sent()) => {}
                notice => return Some(notice),
            }
        }
    }
}

/// The methods of [`crate::Queues`], for a backend with a field `common`.
macro_rules! common_queues {
    () => {
        fn queued_bytes(&self, connection: ConnectionId) -> usize {
            self.common.queued_bytes(connection)
        }

        fn queued_blocks(&self, connection: ConnectionId, pools: $crate::PoolSet) -> usize {
            self.common.queued_blocks(connection, pools)
        }

        fn queued_blocks_of(&self, connection: ConnectionId, pool: $crate::PoolId) -> usize {
            self.common.queued_blocks_of(connection, pool)
        }

        fn queued_pieces(&self, connection: ConnectionId) -> usize {
            self.common.queued_pieces(connection)
        }

        fn send_store(&self) -> $crate::SendStoreLevel {
            self.common.send_store()
        }

        fn waiting(&self) -> &[$crate::Waiting] {
            self.common.waiting()
        }

        fn stalled_for(&self, connection: ConnectionId, now: Timestamp) -> std::time::Duration {
            self.common.stalled_for(connection, now)
        }

        fn is_waiting(&self, connection: ConnectionId) -> bool {
            self.common.is_waiting(connection)
        }
    };
}

pub(crate) use common_queues;

#[cfg(test)]
mod tests;
