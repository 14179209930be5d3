//! When buffers run short: who goes, and who may not be asked to.
//!
//! The order under pressure (DESIGN): droppable messages are dropped by the bound of each queue; then, of those whose end
//! gives blocks of the very pool back that is short:
//!
//! 1. who holds a block for a frame that has not come whole: those that have not logged in, then the others, the oldest
//!    first;
//! 2. the slowest consumers;
//!
//! and only when nobody of them is there is the request at hand refused. A request that no pool could ever serve makes
//! nobody go, and one of a connection that has not logged in only others that have not. Those are also held to half of a
//! pool among them: beyond that the newest takes the place of the oldest.
//!
//! Before all that, a client whose bytes find no block waits for one where the backend can let it: there blocks are away until
//! peers acknowledge them, and come home although nobody goes (docs/decisions/0010).

use crate::session::{Carry, Instant16, Phase, PoolExhausted, Session};
use crate::worker::Worker;
use gateway_proto::codes::CloseCode;
use netpoll::{Backend, Buffer, BufferPools, ConnectionId, PoolSet};
use std::time::Duration;

/// A queue below it keeps too little to be worth a connection.
const QUEUE_WORTH_CLOSING: usize = 16 << 10;

/// Connections closed in one turn at most, or for one request.
const CLOSES_MAX: usize = 4;

/// A frame that has begun within this time is let come while its pool is short but not empty.
const FRAME_GRACE: Duration = Duration::from_secs(1);

/// Frames looked at in a turn at most, for their time.
const FRAMES_PER_TURN: usize = 1024;
/// How often that is.
const FRAMES_EVERY: Duration = Duration::from_millis(50);

impl<B: Backend> Worker<B> {
    /// Closes who holds most while a pool is nearly empty.
    pub(crate) fn relieve_pressure(&mut self) {
        for _ in 0..CLOSES_MAX {
            let short = self.backend.pools().short();
            if short.is_empty() {
                return;
            }
            let now = self.pace.now.as_nanos();
            let graceful = netpoll::Timestamp::from_nanos(now.saturating_sub(FRAME_GRACE.as_nanos() as u64));
            let late = Instant16::of(graceful);
            if !self.shed_carrier(short, |session| session.carry.since() < late) && !self.close_slowest(short)
            {
                return;
            }
        }
    }

    /// Gives `buffer`, of which `count` bytes are to be carried, back to the backend when no block is free for them and it takes
    /// it: then they come again. Else the buffer. Those that have not logged in do not wait: they hold little, and make room
    /// among themselves.
    pub(crate) fn wait_for_block(
        &mut self,
        connection: ConnectionId,
        buffer: Buffer,
        count: usize,
    ) -> Option<Buffer> {
        let session = self.shard.sessions.get(connection).filter(|session| session.phase == Phase::Open);
        let Some(size) = session.and_then(|session| session.carry.block_for(count)) else {
            return Some(buffer);
        };
        let pools = self.backend.pools();
        if pools.free_for(size, 1) > 0 || pools.fitting(size).is_empty() {
            return Some(buffer);
        }
        self.backend.put_back(connection, buffer, size).err()
    }

    /// Lets a connection's carry grow to `size` bytes by `grow`, which is called again when somebody has made room. Ends
    /// the connection when there is none.
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
            let crowded = self.backend.pools().half_taken(size);
            self.shed_carrier(crowded, |other| is_stranger(other) && other.connection != connection);
        }
        for _ in 0..=CLOSES_MAX {
            let Some(session) = self.shard.sessions.get_mut(connection) else { return };
            let begins = session.carry.is_empty();
            if grow(&mut session.carry, self.backend.pools()).is_ok() {
                if begins {
                    self.shard.sessions.list_carrier(connection, Instant16::of(self.pace.now));
                }
                return;
            }
            let pools = self.backend.pools().fitting(size);
            let may_go =
                |other: &Session| other.connection != connection && (!stranger || is_stranger(other));
            if !self.shed_carrier(pools, may_go) && (stranger || !self.close_slowest(pools)) {
                break;
            }
        }
        self.end(connection, CloseCode::OVERLOAD, "no buffer is free");
    }

    /// Ends the first connection for which `may_go` holds of those that hold a block of `pools` for a frame that has not
    /// come whole. False when there is none.
    fn shed_carrier(&mut self, pools: PoolSet, may_go: impl Fn(&Session) -> bool) -> bool {
        if pools.is_empty() || !self.shard.sessions.has_carriers() {
            return false;
        }
        let own: &BufferPools = self.backend.pools();
        let holds = |session: &Session| session.carry.block().is_some_and(|block| own.is_of(block, pools));
        let first = self.shard.sessions.first_carrier(|session| may_go(session) && holds(session));
        let Some(connection) = first else { return false };
        self.metrics.shed_frames.add(1);
        self.end(connection, CloseCode::OVERLOAD, "buffers are short, and a frame has not come whole");
        true
    }

    /// Closes the connection with the most blocks of `pools` among those whose peers have taken less than they were
    /// offered, without a word (its queue would have to wait for one), so that its buffers are free at once. False when no
    /// queue is worth it.
    fn close_slowest(&mut self, pools: PoolSet) -> bool {
        let waiting = self.backend.waiting().iter().map(|id| (self.backend.queued_blocks(*id, pools), *id));
        let worth_it = waiting.filter(|(held, _)| *held >= QUEUE_WORTH_CLOSING);
        let slowest = worth_it.max_by_key(|(held, _)| *held);
        let Some((_, connection)) = slowest else { return false };
        if self.abort_slow(connection) {
            self.metrics.pressure_closes.add(1);
        }
        true
    }

    /// Ends a slow consumer without a word. False when it was ending anyway: then it has its reason, and is counted by it.
    pub(crate) fn abort_slow(&mut self, connection: ConnectionId) -> bool {
        let lives =
            self.shard.sessions.get(connection).is_some_and(|session| session.phase != Phase::Closing);
        self.metrics.slow_closes.add(u64::from(lives));
        self.abort(connection, CloseCode::SLOW_CONSUMER);
        lives
    }

    /// Ends connections that have begun a frame, or a message in fragments, and take too long to complete it. Those that
    /// have not logged in have the time of the login.
    pub(crate) fn expire_frames(&mut self) {
        let now = self.pace.now;
        if now < self.pace.frames_due || !self.shard.sessions.has_carriers() {
            return;
        }
        self.pace.frames_due = now + FRAMES_EVERY;
        let nanos = now.as_nanos().checked_sub(self.reloadable.frame_timeout.as_nanos() as u64);
        let Some(nanos) = nanos else { return };
        let deadline = Instant16::of(netpoll::Timestamp::from_nanos(nanos));
        let mut count = FRAMES_PER_TURN;
        while let Some(connection) = self.shard.sessions.overdue_carrier(deadline, &mut count) {
            self.metrics.late_frames.add(1);
            self.end(connection, CloseCode::IDLE_TIMEOUT, "a frame was begun and not completed in time");
        }
    }
}
