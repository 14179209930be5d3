//! The control block: the state of an idle connection, in two cache lines.
//!
//! The first line decides about a received segment. The second answers. What exists only while
//! something is in flight, queued or out of order is in an [`crate::tcp::tables::active::Active`]
//! block.
//!
//! ```text
//!   SynSent ─► Established ─► FinWait1 ─► FinWait2 ─► (record in TIME-WAIT)
//!      └► SynReceived ─┘ │          └► Closing ─┘
//!      (simultaneous)    └► CloseWait ─► LastAck ─► gone
//! ```
//!
//! An `Ended` block has an end that was not reported to the owner yet, or owes its peer a reset.
//! Passive opens have no block before the handshake is complete: they are in the SYN cache.

use crate::tcp::tables::active::Active;
use crate::tcp::tables::index::BlockIndex;
use crate::tcp::tables::marks::{Mark, Marks};
use crate::time::Now;
use crate::wire::Ip;
use crate::wire::flow::Tuple;
use netpoll::{FixedSlab, Slot};

/// The state of a connection (RFC 9293, 3.3.2). LISTEN, TIME-WAIT and the passive SYN-RECEIVED have
/// records of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Not in use.
    #[default]
    Free,
    /// Closed. The owner has to get a report, or the peer a reset.
    Ended,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
}

impl State {
    /// Whether the peer may still send data.
    pub(crate) fn receives(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Whether queued data may leave.
    pub(crate) fn sends(self) -> bool {
        matches!(
            self,
            State::Established | State::CloseWait | State::FinWait1 | State::Closing | State::LastAck
        )
    }

    /// Whether the handshake is complete and the connection has not ended.
    pub(crate) fn is_synchronized(self) -> bool {
        !matches!(self, State::Free | State::Ended | State::SynSent)
    }
}

/// A timer's place in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerNode {
    pub(crate) next: BlockIndex,
    pub(crate) previous: BlockIndex,
    /// The time at which it fires, in milliseconds.
    pub(crate) due_ms: u32,
}

/// The list of a timer that is not set.
pub(crate) const UNLISTED: u16 = u16::MAX;

impl TimerNode {
    pub(crate) const UNSET: TimerNode =
        TimerNode { next: BlockIndex::NONE, previous: BlockIndex::NONE, due_ms: 0 };
}

/// The receiving side's sequence numbers (RFC 9293, 3.3.1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Receiving {
    /// RCV.NXT: the next sequence number expected.
    pub(crate) nxt: u32,
    /// `nxt` when the last acknowledgement left (RFC 7323: Last.ACK.sent).
    pub(crate) wup: u32,
    /// The window that it announced: the right edge is `wup + wnd`.
    pub(crate) wnd: u32,
}

/// The sending side's sequence numbers (RFC 9293, 3.3.1).
///
/// Invariant: `una ≤ nxt`, modulo 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sending {
    /// SND.UNA: the oldest unacknowledged sequence number.
    pub(crate) una: u32,
    /// SND.NXT: the next sequence number to send.
    pub(crate) nxt: u32,
    /// SND.WND: the peer's window, in bytes.
    pub(crate) wnd: u32,
    /// SND.WL1: the sequence number of the segment that carried the window.
    pub(crate) wl1: u32,
    /// The largest window that the peer ever announced.
    pub(crate) wnd_max: u32,
}

/// Timestamps (RFC 7323).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamps {
    /// TS.Recent: the peer's timestamp to be echoed.
    pub(crate) recent: u32,
    /// Added to the clock in timestamps that leave.
    pub(crate) offset: u32,
}

/// The round-trip time, in microseconds (RFC 6298).
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    /// SRTT.
    pub(crate) smoothed_us: u32,
    /// RTTVAR.
    pub(crate) variation_us: u32,
    /// The smallest one measured.
    pub(crate) min_us: u32,
}

impl Default for RoundTrip {
    fn default() -> RoundTrip {
        RoundTrip { smoothed_us: 0, variation_us: 0, min_us: u32::MAX }
    }
}

/// One connection.
///
/// Invariant: `active` is [`Slot::NONE`] if and only if nothing is in flight, queued or out of
/// order and no timer but keepalive runs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct ControlBlock {
    pub(crate) state: State,
    /// The peer's window scale in the low half, ours in the high.
    pub(crate) scales: u8,
    /// Payload bytes of a full segment, options subtracted.
    pub(crate) mss: u16,
    pub(crate) marks: Marks,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) listener: u8,
    /// The index of our address among the interface's.
    pub(crate) local_index: u8,
    /// Timeouts since the last valid measurement of the round trip (RFC 6298, 5.5).
    pub(crate) backoff: u8,
    /// Keepalive or window probes in a row.
    pub(crate) probes: u8,
    pub(crate) rcv: Receiving,
    pub(crate) snd: Sending,
    pub(crate) stamps: Stamps,
    /// The time of the last received segment, in milliseconds.
    pub(crate) received_ms: u32,
    /// The time at which data was last sent, in milliseconds.
    pub(crate) sent_ms: u32,
    // --- second line ---
    pub(crate) remote: Ip,
    pub(crate) rtt: RoundTrip,
    /// Congestion window in bytes.
    pub(crate) cwnd: u32,
    /// Slow-start threshold in bytes.
    pub(crate) ssthresh: u32,
    /// Index of the active block, or [`Slot::NONE`].
    pub(crate) active: Slot<Active>,
    pub(crate) timer: TimerNode,
    /// The wheel's list that the timer is in, or [`UNLISTED`].
    pub(crate) timer_slot: u16,
    /// The neighbor that frames are sent to: its place in the interface's table.
    pub(crate) neighbor: u16,
    /// The number of times that the slot was freed.
    pub(crate) generation: u32,
    /// The time at which the oldest unacknowledged payload is acknowledged, in milliseconds. For an
    /// orphan, which accepts no payload: the time at which it is given up.
    pub(crate) ack_due_ms: u32,
}

// An idle connection is two cache lines and its share of the flow table.
const _: () = assert!(size_of::<ControlBlock>() == 128);
const _: () = assert!(std::mem::offset_of!(ControlBlock, remote) == 64);

impl Default for ControlBlock {
    fn default() -> ControlBlock {
        ControlBlock {
            state: State::Free,
            scales: 0,
            mss: 536,
            marks: Marks::default(),
            local_port: 0,
            remote_port: 0,
            listener: 0,
            local_index: 0,
            backoff: 0,
            probes: 0,
            rcv: Receiving::default(),
            snd: Sending::default(),
            stamps: Stamps::default(),
            received_ms: 0,
            sent_ms: 0,
            remote: Ip::UNSPECIFIED,
            rtt: RoundTrip::default(),
            cwnd: 0,
            ssthresh: u32::MAX,
            active: Slot::NONE,
            timer: TimerNode::UNSET,
            timer_slot: UNLISTED,
            neighbor: u16::MAX,
            generation: 0,
            ack_due_ms: 0,
        }
    }
}

impl ControlBlock {
    #[inline]
    pub(crate) fn has(&self, marks: impl Mark) -> bool {
        self.marks.has(marks)
    }

    #[inline]
    pub(crate) fn set(&mut self, marks: impl Mark) {
        self.marks.set(marks);
    }

    #[inline]
    pub(crate) fn clear(&mut self, marks: impl Mark) {
        self.marks.clear(marks);
    }

    /// Sets `mark` and returns whether it was set before.
    pub(crate) fn test_and_set(&mut self, mark: impl Mark) -> bool {
        let before = self.has(mark);
        self.set(mark);
        before
    }

    pub(crate) fn tuple(&self, local: Ip) -> Tuple {
        Tuple { remote: self.remote, local, remote_port: self.remote_port, local_port: self.local_port }
    }

    pub(crate) fn send_scale(&self) -> u8 {
        self.scales & 0xf
    }

    pub(crate) fn receive_scale(&self) -> u8 {
        self.scales >> 4
    }

    /// Bytes of the announced window that the peer has not used.
    pub(crate) fn window_left(&self) -> u32 {
        crate::tcp::seq::ahead(self.rcv.nxt, self.rcv.wup.wrapping_add(self.rcv.wnd))
    }

    /// RFC 5961, 7: whether an unexpected segment may be answered now. At most one answer in 512 ms
    /// per connection, as in Linux. The clock has 7 bits, so that once in 65 s one answer may be
    /// missing for half a second; its cause is repeated.
    pub(crate) fn may_answer(&mut self, now: Now) -> bool {
        self.marks.note_answer(now)
    }

    /// Sequence numbers in flight.
    pub(crate) fn flight(&self) -> u32 {
        self.snd.nxt.wrapping_sub(self.snd.una)
    }
}

/// All control blocks. The owner's connections come first, with the owner's indexes. Orphans
/// follow. Memory of both is touched when it is first used.
#[derive(Debug)]
pub(crate) struct Table {
    connections: FixedSlab<ControlBlock>,
    orphans: FixedSlab<ControlBlock>,
    /// Lower indexes are connections', the others are orphans'.
    first_orphan: u32,
    /// The generation of blocks that are used for the first time since the last [`Table::trim`]:
    /// above that of any earlier id.
    first_generation: u32,
}

impl Table {
    pub(crate) fn new(connections_max: usize, orphans_max: usize) -> Table {
        assert!(connections_max + orphans_max < u32::MAX as usize);
        Table {
            connections: FixedSlab::new(connections_max),
            orphans: FixedSlab::new(orphans_max),
            first_orphan: connections_max as u32,
            first_generation: 0,
        }
    }

    /// Takes a block for a connection: the one that was freed last.
    pub(crate) fn take_connection(&mut self) -> Option<BlockIndex> {
        let generation = self.first_generation;
        let slot = self.connections.acquire(|| ControlBlock { generation, ..ControlBlock::default() })?;
        Some(BlockIndex::new(slot.index()))
    }

    pub(crate) fn take_orphan(&mut self) -> Option<BlockIndex> {
        let slot = self.orphans.acquire(ControlBlock::default)?;
        Some(BlockIndex::new(self.first_orphan + slot.index()))
    }

    /// Frees a block. The next connection in its slot has another generation.
    pub(crate) fn free(&mut self, index: BlockIndex) {
        let block = &mut self[index];
        *block = ControlBlock { generation: block.generation.wrapping_add(1), ..ControlBlock::default() };
        match index.get().checked_sub(self.first_orphan) {
            None => self.connections.release(Slot::new(index.get())),
            Some(orphan) => self.orphans.release(Slot::new(orphan)),
        }
    }

    /// While there is no connection: resets their blocks, and returns the memory. No list may name
    /// one of them.
    pub(crate) fn trim(&mut self) {
        if self.connection_count() > 0 {
            return;
        }
        let past = self.connections.slots().iter().map(|block| block.generation);
        self.first_generation = past.max().unwrap_or(self.first_generation);
        self.connections.trim();
    }

    /// Whether a connection can be taken.
    pub(crate) fn has_room(&self) -> bool {
        !self.connections.is_full()
    }

    /// Connections of the owner, including those with an end that was not reported yet.
    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn orphan_count(&self) -> usize {
        self.orphans.len()
    }

    /// Indexes of all blocks that were ever used, including orphans'.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = BlockIndex> + use<> {
        let (connections, orphans) =
            (self.connections.slots().len() as u32, self.orphans.slots().len() as u32);
        (0..connections).chain(self.first_orphan..self.first_orphan + orphans).map(BlockIndex::new)
    }

    /// The block of an owner's index, if the generation is current.
    pub(crate) fn inner(&self, outer: usize, generation: u32) -> Option<BlockIndex> {
        let block = self.connections.slots().get(outer)?;
        let is_current = block.generation == generation && block.state != State::Free;
        is_current.then_some(BlockIndex::new(outer as u32))
    }
}

impl std::ops::Index<BlockIndex> for Table {
    type Output = ControlBlock;
    #[inline]
    fn index(&self, index: BlockIndex) -> &ControlBlock {
        match self.connections.get(Slot::new(index.get())) {
            Some(block) => block,
            None => &self.orphans[Slot::new(index.get() - self.first_orphan)],
        }
    }
}

impl std::ops::IndexMut<BlockIndex> for Table {
    #[inline]
    fn index_mut(&mut self, index: BlockIndex) -> &mut ControlBlock {
        match self.connections.get_mut(Slot::new(index.get())) {
            Some(block) => block,
            None => &mut self.orphans[Slot::new(index.get() - self.first_orphan)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_past_stay_dead_after_a_trim() {
        let mut table = Table::new(3, 1);
        let mut past = vec![];
        for round in 0..5 {
            let taken: Vec<_> = (0..1 + round % 3).map(|_| table.take_connection().unwrap()).collect();
            for index in taken {
                table[index].state = State::Established;
                past.push((index, table[index].generation));
                table.trim(); // a connection exists: no effect
                assert_eq!(
                    table.inner(past[past.len() - 1].0.get() as usize, past[past.len() - 1].1),
                    Some(index)
                );
                table.free(index);
            }
            table.trim();
            assert_eq!(table.indexes().count(), 0);
        }
        let index = table.take_connection().unwrap();
        table[index].state = State::Established;
        assert!(
            past.iter().all(|(outer, generation)| table.inner(outer.get() as usize, *generation).is_none())
        );
    }
}
