//! Frames that have not come whole, when buffers run short: which connections go, and which may not
//! be asked to.
//!
//! Under pressure droppable messages are dropped by the bound of each queue; then connections that
//! hold blocks of the very pool that is short are closed in the order that `relief` has: an
//! incomplete frame has a second while there is a receiver to close that hogs the pool; and only
//! when there is none of them is the request at hand refused.
//!
//! A request that no pool could ever serve makes no connection go, and one of a connection that has
//! not logged in only others that have not. Those are also held to half of a pool among them:
//! beyond that the newest takes the place of the oldest.
//!
//! Before all that, bytes that find no block wait for one where the backend can let them: there
//! blocks are away until peers acknowledge them, and return although no connection ends
//! (docs/decisions/0010).

use super::Handler;
use super::goodbye::Goodbye;
use super::state::relief::{Bearers, CLOSES_MAX};
use crate::session::{Carry, CoarseInstant, Phase, PoolExhausted, Session};
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, Buffer, BufferPools, ConnectionId, PoolSet};
use std::time::Duration;

/// A frame that has begun within this time is let come while its pool is short but not empty.
const FRAME_GRACE: Duration = Duration::from_secs(1);

/// Frames looked at in a turn at most, for their time.
const FRAMES_PER_TURN: usize = 1024;
/// How often that is.
const FRAMES_EVERY: Duration = Duration::from_millis(50);

fn is_before(session: &Session, instant: CoarseInstant) -> bool {
    session.carry.since().compare(instant).is_lt()
}

impl<B: Backend> Handler<B> {
    /// Ends the first connection with a frame that has had its time, of those of `bearers` that
    /// hold a block of `pools`. False when there is none.
    pub(super) fn shed_late_carrier(&mut self, pools: PoolSet, bearers: Bearers) -> bool {
        let late = self.late();
        self.shed_partial_frame(pools, |session| bearers.include(session) && is_before(session, late))
    }

    /// A frame that began before this has had its time.
    pub(super) fn late(&self) -> CoarseInstant {
        let now = self.turn.now.as_nanos();
        CoarseInstant::of(netpoll::Timestamp::from_nanos(now.saturating_sub(FRAME_GRACE.as_nanos() as u64)))
    }

    /// Gives `buffer`, of which `count` bytes are to be carried, back to the backend when no block
    /// is free for them and it takes it: then they come again. Else the buffer. Those that have not
    /// logged in do not wait: they hold little, and make room among themselves.
    pub(crate) fn wait_for_block(
        &mut self,
        connection: ConnectionId,
        buffer: Buffer,
        count: usize,
    ) -> Option<Buffer> {
        // Later bytes that wait in the backlog would overtake these.
        let may_wait = |session: &&Session| session.phase == Phase::Open && session.flow.waiting() == 0;
        let session = self.shard.sessions.get(connection).filter(may_wait);
        let Some(size) = session.and_then(|session| session.carry.block_for(count)) else {
            return Some(buffer);
        };
        let pools = self.io.pools();
        if pools.free_for(size, 1) > 0 || pools.fitting(size).is_empty() {
            return Some(buffer);
        }
        let received = buffer.len();
        let refused = self.io.unread(connection, buffer, size).err();
        if refused.is_none() {
            self.return_bytes(connection, received);
        }
        refused
    }

    /// Lets a connection's carry grow to `size` bytes by `grow`, which is called again when another
    /// connection has made room. Ends the connection when there is none.
    pub(crate) fn grow_carry(
        &mut self,
        connection: ConnectionId,
        size: usize,
        mut grow: impl FnMut(&mut Carry, &mut BufferPools) -> Result<(), PoolExhausted>,
    ) {
        let is_stranger = |session: &Session| session.phase != Phase::Open;
        let Some(session) = self.shard.sessions.get(connection) else { return };
        let capacity = session.carry.block().map_or(0, Buffer::capacity);
        let stranger = is_stranger(session);
        if stranger && capacity < size {
            let crowded = self.io.pools().half_taken(size);
            // What receivers hold of the pool is no fault of those that log in.
            if self.carried_bytes(crowded, is_stranger) * 2 >= self.io.pools().bytes_of(crowded) {
                self.shed_partial_frame(crowded, |other| {
                    is_stranger(other) && other.connection != connection
                });
            }
        }
        for _ in 0..=CLOSES_MAX {
            let Some(session) = self.shard.sessions.get_mut(connection) else { return };
            if session.phase == Phase::Closing {
                return;
            }
            let begins = session.carry.is_empty();
            if grow(&mut session.carry, self.io.pools()).is_ok() {
                if begins {
                    self.shard.sessions.list_partial_frame(connection, CoarseInstant::of(self.turn.now));
                }
                return;
            }
            let pools = self.io.pools().fitting(size);
            let others = |other: &Session| other.connection != connection && is_stranger(other);
            let has_room = match stranger {
                true => self.shed_partial_frame(pools, others),
                false => self.make_room_in_pools(pools, connection, Self::end_for_block),
            };
            if !has_room {
                break;
            }
        }
        self.close(connection, Goodbye::Closed(CloseCode::OVERLOAD, &"no buffer is free"));
    }

    /// Ends the first connection for which `may_go` holds of those that hold a block of `pools` for
    /// a frame that has not come whole. False when there is none.
    fn shed_partial_frame(&mut self, pools: PoolSet, may_go: impl Fn(&Session) -> bool) -> bool {
        let Some(connection) = self.find_partial_frame(pools, may_go) else { return false };
        self.shed(connection, Self::end_for_block);
        true
    }

    /// Ends a connection with an incomplete frame, by `end`.
    pub(super) fn shed(&mut self, connection: ConnectionId, end: fn(&mut Self, ConnectionId)) {
        self.io.metrics.shed_frames.add(1);
        end(self, connection);
    }

    pub(super) fn end_for_block(&mut self, connection: ConnectionId) {
        self.relief.is_closing = true;
        self.close(
            connection,
            Goodbye::Closed(CloseCode::OVERLOAD, &"buffers are short, and a frame has not come whole"),
        );
        self.relief.is_closing = false;
    }

    /// The same without a word, which would need a block.
    pub(super) fn abort_for_block(&mut self, connection: ConnectionId) {
        self.close(connection, Goodbye::Silent(CloseCode::OVERLOAD));
    }

    /// The first connection but `asker` of `bearers` that holds a block of `pools` for a frame that
    /// has not come whole, and that began before `late` if that is given.
    pub(super) fn carrier_but(
        &mut self,
        asker: ConnectionId,
        pools: PoolSet,
        bearers: Bearers,
        late: Option<CoarseInstant>,
    ) -> Option<ConnectionId> {
        self.find_partial_frame(pools, |session| {
            let is_late = late.is_none_or(|late| is_before(session, late));
            session.connection != asker && bearers.include(session) && is_late
        })
    }

    /// Bytes of blocks of `pools` that connections hold for frames that have not come whole, of
    /// those for which `counts` holds.
    fn carried_bytes(&mut self, pools: PoolSet, counts: impl Fn(&Session) -> bool) -> usize {
        if pools.is_empty() {
            return 0;
        }
        let own: &BufferPools = self.io.pools();
        let holds = |session: &Session| session.carry.block().is_some_and(|block| own.is_of(block, pools));
        self.shard.sessions.carried_bytes(|session| counts(session) && holds(session))
    }

    /// The pools of `pools` of which frames that have not come whole hold at least half: what
    /// receivers hold is no fault of clients that send slowly.
    pub(super) fn hogged_by_frames(&mut self, pools: PoolSet) -> PoolSet {
        let mut hogged = PoolSet::default();
        if !self.shard.sessions.has_partial_frames() {
            return hogged;
        }
        for pool in pools.each() {
            if self.carried_bytes(pool, |_| true) * 2 >= self.io.pools().bytes_of(pool).max(1) {
                hogged = hogged.with(pool);
            }
        }
        hogged
    }

    fn find_partial_frame(
        &mut self,
        pools: PoolSet,
        may_go: impl Fn(&Session) -> bool,
    ) -> Option<ConnectionId> {
        if pools.is_empty() || !self.shard.sessions.has_partial_frames() {
            return None;
        }
        let own: &BufferPools = self.io.pools();
        let holds = |session: &Session| session.carry.block().is_some_and(|block| own.is_of(block, pools));
        self.shard.sessions.first_partial_frame(|session| may_go(session) && holds(session))
    }

    /// Ends connections that have begun a frame, or a message in fragments, and take too long to
    /// complete it. Those that have not logged in have the time of the login.
    pub(crate) fn expire_frames(&mut self) {
        let now = self.turn.now;
        if now < self.turn.frames_due || !self.shard.sessions.has_partial_frames() {
            return;
        }
        self.turn.frames_due = now + FRAMES_EVERY;
        let nanos = now.as_nanos().checked_sub(self.policy.frame_timeout.as_nanos() as u64);
        let Some(nanos) = nanos else { return };
        let deadline = CoarseInstant::of(netpoll::Timestamp::from_nanos(nanos));
        let mut count = FRAMES_PER_TURN;
        while let Some(connection) = self.shard.sessions.overdue_partial_frame(deadline, &mut count) {
            self.io.metrics.late_frames.add(1);
            self.close(
                connection,
                Goodbye::Closed(CloseCode::IDLE_TIMEOUT, &"a frame was begun and not completed in time"),
            );
        }
    }
}
